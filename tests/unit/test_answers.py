"""Which answer is a token fit to replace the old one: each refusal by one hostile answer."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest

from credentials_provider.entra.answers import body_kind, checked, json_object, whole_seconds
from credentials_provider.identities.identity import Identity
from credentials_provider.minting import Failure, Minted
from credentials_provider.policy import LONGEST_LIFE
from credentials_provider.transport.connections import Answer
from unit.making import CLIENT, GATEWAY, NOW, TENANT

LIFE = 3600
ROUNDING = 5
CLAIMS: dict[str, Any] = {"tid": TENANT, "azp": CLIENT, "exp": NOW + LIFE}


def token(**changes: object) -> str:
    claims = {name: each for name, each in {**CLAIMS, **changes}.items() if each is not None}
    parts = [json.dumps(each).encode() for each in ({"alg": "RS256"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in parts), "c"])


def answered(
    changes: dict[str, Any] | None = None,
    *,
    skew: float | None = None,
    tenant: str = TENANT,
    **claims: Any,
) -> Minted | str:
    """What becomes of an answer with these changes, and of a token with these claims."""
    fields = {"access_token": token(**claims), "token_type": "Bearer", "expires_in": LIFE}
    result = {name: each for name, each in {**fields, **(changes or {})}.items() if each != "none"}
    answer = Answer(200, {}, b"", NOW + 0.5, skew)
    identity = Identity("ci", tenant, CLIENT, f"api://{GATEWAY}/.default")
    found = checked(result, answer, identity, lambda why: Failure("bad_response", why, ""))
    return found.message if isinstance(found, Failure) else found


@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        ({}, {}),
        ({"token_type": "bearer"}, {}),
        ({"token_type": "none"}, {}),
        ({"expires_in": str(LIFE)}, {}),
        ({}, {"tid": TENANT.upper(), "azp": CLIENT.upper()}),
        ({}, {"azp": None, "appid": CLIENT}),
        ({}, {"tid": None, "azp": None}),
    ],
)
def test_a_good_answer_is_taken(changes: dict[str, Any], claims: dict[str, Any]) -> None:
    """It may leave out what the rest of it makes up for."""
    minted = answered(changes, **claims)
    assert isinstance(minted, Minted)
    assert (minted.issued_at, minted.expires_in, minted.refresh_in) == (NOW, LIFE, None)


@pytest.mark.parametrize(
    ("changes", "claims", "why"),
    [
        ({"access_token": "opaque"}, {}, "no_access_token"),
        ({"access_token": ""}, {}, "no_access_token"),
        ({"access_token": f"{token()}\r\nX-Evil: 1"}, {}, "no_access_token"),
        ({"access_token": f"{token()} "}, {}, "no_access_token"),
        ({"access_token": f"{token()}\u00e9"}, {}, "no_access_token"),
        ({"token_type": "pop"}, {}, "no_access_token"),
        ({}, {"tid": GATEWAY}, "wrong_tenant"),
        ({}, {"azp": GATEWAY}, "wrong_client"),
        ({}, {"azp": None, "appid": GATEWAY}, "wrong_client"),
        ({}, {"azp": GATEWAY, "appid": CLIENT}, "wrong_client"),
        ({}, {"exp": NOW}, "expired"),
        ({}, {"exp": NOW - LIFE}, "expired"),
        ({"expires_in": "none"}, {"exp": None}, "no_expiry"),
        ({"expires_in": 0}, {"exp": None}, "no_expiry"),
        ({"expires_in": -1}, {"exp": None}, "no_expiry"),
        ({"expires_in": True}, {"exp": None}, "no_expiry"),
        ({"expires_in": "soon"}, {"exp": None}, "no_expiry"),
    ],
)
def test_an_answer_that_cannot_replace_a_token_is_refused(
    changes: dict[str, Any], claims: dict[str, Any], why: str
) -> None:
    """What could end a header, is for somebody else, has expired, or never ends."""
    assert answered(changes, **claims) == why


def test_a_tenant_that_was_asked_for_by_its_domain_cannot_be_compared() -> None:
    """The client is all the same."""
    assert isinstance(answered(tenant="contoso.onmicrosoft.com", tid=GATEWAY), Minted)
    assert answered(tenant="contoso.onmicrosoft.com", azp=GATEWAY) == "wrong_client"


@pytest.mark.parametrize(
    ("expires_in", "exp", "skew", "life"),
    [
        (LIFE, LIFE - ROUNDING + 1, None, LIFE),
        (LIFE, LIFE - ROUNDING - 1, None, LIFE - ROUNDING - 2),
        (LIFE, LIFE - ROUNDING, 0.5, LIFE),
        (LIFE, LIFE - ROUNDING - 1, 0.5, LIFE - ROUNDING - 1),
        (LIFE, 2 * LIFE, None, LIFE),
        ("none", LIFE, None, LIFE - 1),
        (LONGEST_LIFE + 1, None, None, LONGEST_LIFE),
        (LONGEST_LIFE, None, None, LONGEST_LIFE),
        # A clock that is an hour ahead, or behind, of the provider's
        (LIFE, 0, 3600.0, LIFE),
        ("none", 0, 3600.0, LIFE - 1),
        ("none", 2 * LIFE, -3600.0, LIFE - 1),
    ],
)
def test_a_life_is_the_shorter_of_what_answer_and_token_say(
    expires_in: object, exp: int | None, skew: float | None, life: int
) -> None:
    """But for a rounding; by the provider's own clock; and never more than is believed."""
    claimed = None if exp is None else NOW + exp
    minted = answered({"expires_in": expires_in}, skew=skew, exp=claimed)
    assert isinstance(minted, Minted)
    assert minted.expires_in == life


def test_a_token_that_has_expired_by_the_providers_clock_is_refused() -> None:
    """Ours is an hour behind: it would look fresh. The last moment counts."""
    assert answered(skew=-3600.0, exp=NOW + 3600) == "expired"
    assert answered(skew=0.5, exp=NOW) == "expired"
    assert isinstance(answered(skew=0.5, exp=NOW + 1), Minted)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((1, 1), (3599, 3599), (3599.9, 3599), ("3599", 3599), ("3599.0", 3599)),
        *((0, None), (-1, None), ("", None), ("x", None), (None, None), ([1], None)),
        *((True, None), (math.nan, None), (math.inf, None), ("1e400", None), (10**400, None)),
        *((10 * 366 * 86400 - 1, 10 * 366 * 86400 - 1), (10 * 366 * 86400, None)),
    ],
)
def test_seconds_are_a_sensible_number_or_none(value: object, seconds: int | None) -> None:
    assert whole_seconds(value) == seconds


@pytest.mark.parametrize(
    ("body", "found"),
    [
        *((b'{"a": 1}', {"a": 1}), (b"[]", None), (b"", None), (b"\xff", None)),
        *((b"[" * 100_000, None), (b"{", None)),
    ],
    ids=range(6),
)
def test_a_body_is_an_object_or_none(body: bytes, found: object) -> None:
    assert json_object(Answer(200, {}, body, NOW, None)) == found


@pytest.mark.parametrize(
    ("headers", "body", "word"),
    [
        ({}, b"  <html>", "html"),
        ({"content-type": "text/html"}, b"Sign in", "html"),
        ({"content-type": "text/plain"}, b"Sign in", "not_json"),
        ({}, b"", "not_json"),
    ],
)
def test_a_page_in_place_of_json_is_called_one(
    headers: dict[str, str], body: bytes, word: str
) -> None:
    """A portal that wants a sign-in has another cure than a broken server."""
    assert body_kind(Answer(200, headers, body, NOW, None)) == word
