"""A token is found in whatever holds one, and its claims are told in plain words."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from credentials_provider.diagnostics.inspection.decoding import (
    Token,
    application,
    described,
    find_token,
    groups_of,
)


def text_of(claims: dict[str, Any]) -> str:
    parts = (json.dumps(each).encode() for each in ({"alg": "RS256", "kid": "k1"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in parts), "c"])


TEXT, OTHER = text_of({"sub": "found"}), text_of({"sub": "other"})


def told(**claims: Any) -> dict[str, str]:
    return dict(described(Token("", {"alg": "RS256", "kid": "k1"}, claims)))


@pytest.mark.parametrize(
    "content",
    [
        f"{TEXT}\n",
        f"  Bearer  {TEXT}\n",
        json.dumps(TEXT),
        json.dumps({"token": TEXT}),
        json.dumps({"tokens": {"access_token": TEXT}}),
        json.dumps({"token_data": {"access_token": TEXT}}),
        json.dumps({"token": OTHER, "access_token": TEXT}),
        json.dumps({"access_token": "", "tokens": {"token": TEXT}}),
        json.dumps({"tokens": [OTHER], "token_data": {"token": TEXT}}),
    ],
)
def test_a_token_is_found_where_the_registrys_readers_find_it(content: str) -> None:
    """Flat before nested, `access_token` before `token`, and nothing empty."""
    token = find_token(content)
    assert token is not None
    assert (token.text, token.claims, token.header["kid"]) == (TEXT, {"sub": "found"}, "k1")
    assert "found" not in repr(token) + str(token)
    assert TEXT not in repr(token)
    assert "k1" not in repr(token)


@pytest.mark.parametrize(
    "content", ["", "x", "[" * 100_000, "[1]", "5", '{"access_token": 5}', '{"token": [1]}']
)
def test_what_holds_no_token_has_none(content: str) -> None:
    """Nor does it end the program."""
    assert find_token(content) is None


def test_the_claims_of_both_versions_are_told() -> None:
    """By the names that each version has for them."""
    second = told(
        ver="2.0",
        azp="me",
        appid="not",
        azpacr="1",
        aud=["a", "b"],
        tid="t",
        iss="i",
        roles=["r1", "r2"],
        groups="g1",
        sub="s",
        scp=True,
    )
    assert second == {
        "version": "v2 (2.0)",
        "application": "me",
        "credential": "client secret",
        "audience": "a, b",
        "tenant": "t",
        "issuer": "i",
        "roles": "r1, r2",
        "groups": "g1",
        "sub": "s",
        "scp": "true",
        "signed with": "RS256, key k1",
    }
    first = told(ver="1.0", appid="me", appidacr="2", aud="a")
    assert first["version"] == "v1 (1.0)"
    assert first["application"] == "me"
    assert first["credential"] == "certificate or assertion"


def test_what_is_absent_or_unknown_is_told_as_it_is() -> None:
    """An absent claim is none, another provider's is shown."""
    nothing = told()
    signed = nothing.pop("signed with")
    assert (signed, {*nothing.values()}) == ("RS256, key k1", {"none"})
    assert told(ver="3.0")["version"] == "3.0"
    assert told(azpacr=7)["credential"] == "7"
    assert told(roles={"a": 1})["roles"] == '{"a": 1}'
    assert application({"client_id": "registry"}) == "registry"


def test_too_many_groups_are_told_and_only_those() -> None:
    """Other claims can be left out of a token the same way."""
    assert told(_claim_names={"groups": "src1"})["groups"] == "more than 200: not in the token"
    assert told(_claim_names={"roles": "src1"})["groups"] == "none"


@pytest.mark.parametrize("groups", ["", [], None, 5])
def test_roles_count_where_the_groups_are_empty(groups: object) -> None:
    """Whatever their type."""
    assert groups_of({"groups": groups, "roles": ["r1", 2]}) == ["r1", "2"]
