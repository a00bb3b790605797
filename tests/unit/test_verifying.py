"""`verify` refuses each forgery by its own guard: one hostile token for every line that refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from credentials_provider.diagnostics.inspection.decoding import find_token
from credentials_provider.diagnostics.inspection.verifying import Expectation, verify
from credentials_provider.minting import Failure
from credentials_provider.transport.connections import Answer

if TYPE_CHECKING:
    from credentials_provider.diagnostics.http import HttpClient
    from credentials_provider.diagnostics.inspection.verifying import Verification

NOW = 1_800_000_000
BASE = "https://login.example"
TENANT = "6f1d3c52-8c0e-4a7b-9d15-2b7c6a40e9f3"
OTHER = "9d0c7e51-1f0a-4d1e-8a52-3d3a1a6f5b77"
KEY = rsa.generate_private_key(65537, 2048)
CLAIMS: dict[str, Any] = {
    "iss": f"{BASE}/{TENANT}/v2.0",
    "tid": TENANT,
    "azp": "14c8ccfc-dc9c-4397-aa1e-37461544567d",
    "aud": "7f1b2c3d-0000-4000-8000-00000000feed",
    "nbf": NOW - 300,
    "exp": NOW + 3600,
}
EXPECTED = Expectation("ci", TENANT, CLAIMS["azp"], (f"api://{CLAIMS['aud']}", CLAIMS["aud"]))


def public_key(**changes: str) -> dict[str, str]:
    """The key as the provider publishes it."""
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    return {**jwk, "kid": "k1", **changes}


class Provider:
    """Answers by URL in place of the login host; what it was asked for stands in `asked`."""

    def __init__(self, **answers: object) -> None:
        self.answers = {
            f"/{TENANT}/discovery/v2.0/keys": {"keys": [public_key()]},
            f"/{OTHER}/discovery/v2.0/keys": {"keys": [public_key()]},
            "/corp.example/v2.0/.well-known/openid-configuration": {"issuer": CLAIMS["iss"]},
            **{path.replace("__", "/"): answer for path, answer in answers.items()},
        }
        self.asked: list[str] = []

    def get(self, url: str) -> Answer | Failure:
        assert url.startswith(BASE)
        path = url.removeprefix(BASE)
        self.asked.append(path)
        answer = self.answers.get(path)
        if isinstance(answer, Failure):
            return answer
        status = 200 if path in self.answers else 404
        return Answer(status, {}, json.dumps(answer).encode(), NOW, None)


def signed(claims: dict[str, Any], key: Any = KEY, alg: str = "RS256", kid: str = "k1") -> str:
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None},
        key,
        alg,
        headers={"kid": kid},
    )


def verified(
    text: str, expected: Expectation | None = EXPECTED, provider: Provider | None = None
) -> Verification:
    token = find_token(text)
    assert token is not None
    return verify(token, BASE, expected, cast("HttpClient", provider or Provider()), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"iss": f"https://sts.windows.net/{TENANT}/", "azp": None, "appid": CLAIMS["azp"]},
        {"aud": ["something", f"api://{CLAIMS['aud']}"]},
        {"azp": CLAIMS["azp"].upper()},
        {"nbf": NOW},
    ],
)
def test_an_honest_token_is_verified(changes: dict[str, Any]) -> None:
    """V1 and v2, an audience in a list, capitals, and its first second."""
    found = verified(signed({**CLAIMS, **changes}))
    assert (found.ok, found.signed) == (True, True), found.seen


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iss": f"{BASE}/{OTHER}/v2.0"}, "the issuer"),
        ({"iss": f"https://evil.example/{TENANT}/v2.0"}, "the issuer"),
        ({"iss": None}, "the issuer"),
        ({"tid": OTHER}, "its tenant is"),
        ({"azp": OTHER}, "its application is"),
        ({"azp": None}, "its application is"),
        ({"aud": OTHER}, "its audience is"),
        ({"aud": None}, "its audience is"),
        ({"aud": [OTHER]}, "its audience is"),
        ({"exp": NOW}, "it has expired"),
        ({"exp": None}, "it has no expiry"),
        ({"nbf": NOW + 1}, "it is not valid yet"),
    ],
)
def test_a_signed_token_that_says_something_else_is_refused(
    changes: dict[str, Any], words: str
) -> None:
    """The provider signs tokens of everybody with the same key."""
    found = verified(signed({**CLAIMS, **changes}))
    assert (found.ok, found.signed) == (False, True)
    assert words in found.seen


def test_a_signature_that_is_not_the_tenants_is_refused() -> None:
    """By another key, altered, with another algorithm, or with a key that is not published."""
    good = signed(CLAIMS)
    head, _, tail = good.split(".")
    altered = f"{head}.{signed({**CLAIMS, 'roles': ['admin']}).split('.')[1]}.{tail}"
    stranger = signed(CLAIMS, rsa.generate_private_key(65537, 2048))
    for text, words in (
        (altered, "does not match the tenant's keys"),
        (stranger, "does not match the tenant's keys"),
        (signed(CLAIMS, "k" * 32, "HS256"), "the algorithm is HS256"),
        (signed(CLAIMS, kid="k2"), "is not one of the tenant's keys"),
    ):
        found = verified(text)
        assert (found.ok, found.signed) == (False, False), text
        assert words in found.seen
    broken = Provider(**{f"/{TENANT}/discovery/v2.0/keys": {"keys": [public_key(n="x")]}})
    assert verified(good, provider=broken).signed is False


@pytest.mark.parametrize(
    "answer",
    [
        Failure("unreachable", "no route", "go"),
        {"keys": []},
        {"keys": None},
        {"keys": ["x", {"kty": "EC", "kid": "k1"}]},
        [],
    ],
)
def test_without_keys_nothing_is_said_about_the_signature(answer: object) -> None:
    """Neither right nor wrong."""
    keys = Provider(**{f"/{TENANT}/discovery/v2.0/keys": answer})
    found = verified(signed(CLAIMS), provider=keys)
    assert (found.ok, found.signed) == (False, None)


def test_a_domain_is_resolved_at_the_configured_host() -> None:
    """Else a token of any tenant would pass for one of that domain."""
    named = Expectation("ci", "corp.example", EXPECTED.client_id, EXPECTED.audiences)
    assert verified(signed(CLAIMS), named).ok
    other = signed({**CLAIMS, "tid": OTHER, "iss": f"{BASE}/{OTHER}/v2.0"})
    assert not verified(other, named).ok
    unknown = Expectation("ci", "nobody.example", EXPECTED.client_id, EXPECTED.audiences)
    assert (verified(signed(CLAIMS), unknown).ok, "which tenant") == (False, "which tenant")
    assert "which tenant" in verified(signed(CLAIMS), unknown).seen
    down = Provider(
        **{
            "/corp.example/v2.0/.well-known/openid-configuration": Failure(
                "unreachable", "no route", "go"
            )
        }
    )
    assert verified(signed(CLAIMS), named, down).seen == "no route"


def test_without_an_expectation_it_only_says_who_signed() -> None:
    """Of a tenant that the token names itself; a stranger's tenant signs as well as ours."""
    found = verified(signed({**CLAIMS, "tid": OTHER, "iss": f"{BASE}/{OTHER}/v2.0"}), None)
    assert (found.ok, found.signed) == (False, True)
    assert found.seen.startswith(f"signed by {BASE} for tenant {OTHER}; ")
    for tid in (None, "corp.example", "../common"):
        found = verified(signed({**CLAIMS, "tid": tid}), None)
        assert found.seen == "the token names no tenant of Entra ID"


def test_the_token_does_not_choose_where_the_keys_come_from() -> None:
    """With an expectation, not even its tenant is asked about."""
    provider = Provider()
    verified(signed({**CLAIMS, "tid": OTHER}), provider=provider)
    assert provider.asked == [f"/{TENANT}/discovery/v2.0/keys"]
