"""App-only access tokens: the signing key, its public set, the claims."""

from __future__ import annotations

import base64
import functools
from typing import TYPE_CHECKING, Any

import jwt
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from jwt.utils import base64url_encode

from credentials_provider.emulator.apps import derived_guid, is_guid
from credentials_provider.emulator.wire import json_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.emulator.apps import App
    from credentials_provider.emulator.wire import Call

BACKDATED = 300
"""Seconds by which Entra ID puts `iat` and `nbf` before the moment of issue."""

GRAPH = "https://graph.microsoft.com"
_MOST_GROUPS = 200


class SigningKey:
    """An RSA key with its certificate, as Entra ID publishes them."""

    def __init__(self) -> None:
        pair = trustme.CA().issue_cert(
            "accounts.accesscontrol.windows.net", key_type=trustme.KeyType.RSA
        )
        key = load_pem_private_key(pair.private_key_pem.bytes(), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError("trustme made no RSA key")
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(pair.cert_chain_pems[0].bytes())
        # RFC 7515 §4.1.7 defines x5t as the SHA-1 fingerprint; Entra ID's kid is the same.
        self.kid = base64url(self._certificate.fingerprint(hashes.SHA1()))  # noqa: S303  Entra's own

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        return self._key.public_key()

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The claims as a JWS, RS256."""
        headers = {"x5t": self.kid, "kid": self.kid}
        return jwt.encode(dict(claims), self._key, "RS256", headers)

    def jwk(self, issuer: str) -> dict[str, object]:
        """The public key as an entry of the key set."""
        numbers = jwt.algorithms.RSAAlgorithm.to_jwk(self.public_key, as_dict=True)
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": numbers["n"],
            "e": numbers["e"],
            "x5c": [base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()],
            "cloud_instance_name": "microsoftonline.com",
            "issuer": issuer,
        }


@functools.cache
def signing_key() -> SigningKey:
    """One key for the process: to make an RSA key takes most of the time of a start."""
    return SigningKey()


def issuer(base_url: str, tenant_guid: str, version: int) -> str:
    """Who signs: v2 tokens name the login host, v1 tokens Microsoft's old name for it."""
    if version == 1:
        return f"https://sts.windows.net/{tenant_guid}/"
    return f"{base_url}/{tenant_guid}/v2.0"


def audience(resource: str, version: int) -> str:
    """Whom the token is for: v1 names the resource as it was asked for, v2 its client id.

    The client id is the GUID in an `api://GUID` URI, else one derived from the URI.
    """
    if version == 1:
        return resource
    name = resource.removeprefix("api://").partition("/")[0]
    return name.lower() if is_guid(name) else derived_guid(resource)


def app_claims(
    call: Call, app: App, tenant_guid: str, resource: str, *, lifetime: int, unique: str, acr: str
) -> dict[str, object]:
    """The claims of an app-only token issued now for `lifetime` seconds.

    `acr`: how the app proved itself, "1" with a secret, "2" with an assertion.
    """
    version, now, base_url = app.token_version, int(call.now), call.base_url
    roles = [*app.roles, *(app.graph_roles if resource == GRAPH else ())]
    client = (
        {"appid": app.client_id, "appidacr": acr, "idp": issuer(base_url, tenant_guid, 1)}
        if version == 1
        else {"azp": app.client_id, "azpacr": acr}
    )
    return {
        "aud": audience(resource, version),
        "iss": issuer(base_url, tenant_guid, version),
        "iat": now - BACKDATED,
        "nbf": now - BACKDATED,
        "exp": now + lifetime,
        "aio": base64url(unique.encode()),
        **client,
        **_group_claims(app, tenant_guid),
        **({"idtyp": "app"} if app.idtyp else {}),
        "oid": app.object_id,
        "rh": f"1.{unique[:8]}",
        **({"roles": roles} if roles else {}),
        "sub": app.object_id,
        "tid": tenant_guid,
        "uti": base64url(bytes.fromhex(unique.replace("-", ""))),
        "ver": f"{version}.0",
    }


def bearer_claims(
    call: Call, resource: str | None, header: str = "authorization"
) -> dict[str, Any] | None:
    """The claims of a header's token, if it is a valid one for that resource (None: for any)."""
    scheme, _, token = call.request.headers.get(header, "").partition(" ")
    try:
        payload = jwt.PyJWS().decode(token, signing_key().public_key, algorithms=["RS256"])
    except jwt.PyJWTError:
        return None
    claims = json_object(payload)
    fits = resource is None or claims["aud"] in {audience(resource, each) for each in (1, 2)}
    return claims if scheme.lower() == "bearer" and fits and claims["exp"] > call.now else None


def _group_claims(app: App, tenant_guid: str) -> dict[str, object]:
    if not app.groups:
        return {}
    if len(app.groups) <= _MOST_GROUPS:
        return {"groups": list(app.groups)}
    principal = f"https://graph.windows.net/{tenant_guid}/servicePrincipals/{app.object_id}"
    return {
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": f"{principal}/getMemberObjects"}},
    }


def base64url(raw: bytes) -> str:
    """Base64 as in a JWT."""
    return base64url_encode(raw).decode()
