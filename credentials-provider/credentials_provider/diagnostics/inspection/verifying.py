"""Whether a token is genuine: the provider signed it, and it is the expected identity's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from credentials_provider.diagnostics.http import json_object
from credentials_provider.diagnostics.inspection.decoding import application, audiences, shown
from credentials_provider.identities.rules import is_guid
from credentials_provider.minting import Failure
from credentials_provider.settings import CLOUDS
from credentials_provider.tokens.claims import epoch_claim

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.diagnostics.http import HttpClient
    from credentials_provider.diagnostics.inspection.decoding import Token

_STS = {CLOUDS["china"]: "https://sts.chinacloudapi.cn"}  # who issues v1 tokens, by login host


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an identity's token has to say: its tenant (GUID or domain), client and audiences."""

    identity_name: str
    tenant_id: str
    client_id: str
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """`ok`: the signature is right and the token is what was expected. Else `seen` says why not.

    `signed`: whether the signature is right, whatever else is wrong; None: it was not checked.
    """

    seen: str
    signed: bool | None = None
    ok: bool = False


def verify(
    token: Token, login_base_url: str, expected: Expectation | None, client: HttpClient, now: float
) -> Verification:
    """Check signature and issuer at the configured login host, then the token against `expected`.

    The token decides nothing about where the keys come from. Its own tenant is only used where
    none is expected, and then the token is never vouched for.
    """
    tenant = _tenant(token, login_base_url, expected, client)
    if isinstance(tenant, Verification):
        return tenant
    checked = _check_signature(token, login_base_url, tenant, client)
    if not checked.signed:
        return checked
    issuer = token.claims.get("iss")
    if issuer not in issuers(login_base_url, tenant):
        seen = f"the signature is right, but the issuer {shown(issuer)} is not tenant {tenant}"
        return Verification(seen, signed=True)
    signer = f"signed by {login_base_url} for tenant {tenant}"
    if expected is None:
        seen = (
            f"{signer}; there is no identity to compare it with: name one with --identity to have "
            "tenant, application and audience checked"
        )
        return Verification(seen, signed=True)
    if wrong := _difference(token.claims, tenant, expected, now):
        return Verification(f"{signer}, but {wrong}", signed=True)
    seen = f"{signer}; application, audience and times are those of {expected.identity_name}"
    return Verification(seen, signed=True, ok=True)


def issuers(login_base_url: str, tenant: str) -> tuple[str, str]:
    """The issuers of a tenant's tokens at a login host, v2 and v1."""
    sts = _STS.get(login_base_url, "https://sts.windows.net")
    return f"{login_base_url}/{tenant}/v2.0", f"{sts}/{tenant}/"


def _tenant(
    token: Token, login_base_url: str, expected: Expectation | None, client: HttpClient
) -> str | Verification:
    """The GUID of the tenant whose keys count."""
    if expected is None:
        claimed = token.claims.get("tid")
        if isinstance(claimed, str) and is_guid(claimed):
            return claimed.lower()
        return Verification("the token names no tenant of Entra ID", signed=False)
    if is_guid(expected.tenant_id):
        return expected.tenant_id.lower()
    # https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
    domain = quote(expected.tenant_id, safe="")
    answer = client.get(f"{login_base_url}/{domain}/v2.0/.well-known/openid-configuration")
    if isinstance(answer, Failure):
        return Verification(answer.message)
    issuer = str(json_object(answer).get("issuer"))
    found = issuer.removeprefix(f"{login_base_url}/").removesuffix("/v2.0")
    if is_guid(found):
        return found.lower()
    return Verification(
        f"{login_base_url} does not say which tenant {shown(expected.tenant_id)} is"
    )


def _check_signature(token: Token, base: str, tenant: str, client: HttpClient) -> Verification:
    """Check the signature by the tenant's keys (RFC 7515, RFC 7517); never `ok`."""
    import jwt  # only where asked for

    algorithm = token.header.get("alg")
    if algorithm != "RS256":
        return Verification(
            f"the algorithm is {shown(algorithm)}; the provider signs with RS256", signed=False
        )
    answer = client.get(f"{base}/{quote(tenant, safe='')}/discovery/v2.0/keys")
    if isinstance(answer, Failure):
        return Verification(answer.message)
    keys = json_object(answer).get("keys")
    listed = keys if isinstance(keys, list) else []
    found = [key for key in listed if isinstance(key, dict) and key.get("kty") == "RSA"]
    if not found:
        return Verification(f"{base} has no keys for tenant {tenant} (HTTP {answer.status})")
    kid = token.header.get("kid")
    key = next((each for each in found if each.get("kid") == kid), None)
    if key is None:
        return Verification(f"key {shown(kid)} is not one of the tenant's keys", signed=False)
    try:
        jwt.PyJWS().decode(token.text, jwt.PyJWK(key, algorithm="RS256"), algorithms=["RS256"])
    except jwt.InvalidSignatureError:
        return Verification("the signature does not match the tenant's keys", signed=False)
    except jwt.PyJWTError:
        return Verification(
            "the key or the token cannot be used to check the signature", signed=False
        )
    return Verification("", signed=True)


def _difference(
    claims: Mapping[str, Any], tenant: str, expected: Expectation, now: float
) -> str | None:
    """The first thing that differs from the identity's definition, or makes the token useless."""
    if str(claims.get("tid")).lower() != tenant:
        return f"its tenant is {shown(claims.get('tid'))}, not {tenant}"
    client = application(claims)
    if str(client).lower() != expected.client_id.lower():
        return f"its application is {shown(client)}, not {expected.client_id}"
    found = audiences(claims)
    if not {each.lower() for each in found} & {each.lower() for each in expected.audiences}:
        return (
            f"its audience is {', '.join(map(shown, found)) or 'none'}, not "
            f"{' or '.join(expected.audiences)} (--audience names another one)"
        )
    end, begin = epoch_claim(claims, "exp"), epoch_claim(claims, "nbf") or 0
    if end is None or end <= now:
        return "it has expired" if end else "it has no expiry"
    return "it is not valid yet" if begin > now else None
