"""Client assertions (RFC 7523): signed with a registered certificate's key, or by a trusted issuer.

The checks and their order follow what Entra ID answers, as far as that is documented:
https://learn.microsoft.com/entra/identity-platform/certificate-credentials
https://learn.microsoft.com/entra/workload-id/workload-identity-federation
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from credentials_provider.emulator.aadsts import EntraError
from credentials_provider.emulator.tokens import base64url

if TYPE_CHECKING:
    from collections.abc import Collection

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from credentials_provider.emulator.apps import App, Federated
    from credentials_provider.emulator.wire import Call

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LEEWAY = 300
"""Seconds by which the client's clock may be off."""

_AUDIENCES = ("oauth2/v2.0/token", "oauth2/token", "v2.0")
_CERTIFICATE_ALGORITHMS = ("RS256", "PS256")
_THUMBPRINTS = {"x5t#S256": hashes.SHA256(), "x5t": hashes.SHA1()}  # noqa: S303 - RFC 7515 §4.1.7


def check_assertion(call: Call, app: App, tenant: str) -> None:
    """Let a valid assertion pass. Raises EntraError as Entra ID would refuse it."""
    form = call.request.form
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise EntraError(900144, parameter="client_assertion_type")
    assertion = form["client_assertion"]
    try:
        token = jwt.decode_complete(assertion, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise EntraError(50027) from None
    header, claims = token["header"], token["payload"]
    if header.keys() & _THUMBPRINTS or claims.get("iss") == app.client_id:
        _check_signature(app, assertion, header, call.now)
        names = {tenant, call.tenant}
        _check_own(
            app, claims, {f"{call.base_url}/{name}/{p}" for name in names for p in _AUDIENCES}
        )
    else:
        _check_federated(app.federated, assertion, claims)
    begin, end = claims.get("nbf", claims.get("iat", call.now)), claims.get("exp")
    if not isinstance(end, (int, float)) or not begin - LEEWAY <= call.now <= end + LEEWAY:
        raise EntraError(700024)


def _check_signature(app: App, assertion: str, header: dict[str, Any], now: float) -> None:
    certificate = _registered(app, header, now)
    if header["alg"] not in _CERTIFICATE_ALGORITHMS:
        raise EntraError(50012)
    if certificate.not_valid_after_utc.timestamp() <= now:
        raise EntraError(700027, reason="The key used is expired.")
    if not _signed(assertion, certificate.public_key(), header["alg"]):
        raise EntraError(700027, reason="The signature does not match the key.")


def _registered(app: App, header: dict[str, Any], now: float) -> x509.Certificate:
    """The registered certificate that the header's thumbprints name."""
    given = {name: header[name].rstrip("=") for name in _THUMBPRINTS if name in header}
    for each in app.all_keys:
        certificate = x509.load_pem_x509_certificate(each.content.encode())
        own = {name: base64url(certificate.fingerprint(_THUMBPRINTS[name])) for name in given}
        if given and given == own and each.works_at <= now:
            return certificate
    raise EntraError(700027)


def _check_own(app: App, claims: dict[str, Any], audiences: Collection[str]) -> None:
    """The claims of an assertion that the application signed itself."""
    if claims.get("iss") != claims.get("sub"):
        raise EntraError(50048)
    if str(claims.get("iss")).lower() != app.client_id.lower():
        raise EntraError(700021)
    if claims.get("aud") not in audiences:
        raise EntraError(50012)
    if not claims.get("jti"):
        raise EntraError(900144, parameter="jti")


def _check_federated(
    candidates: Collection[Federated], assertion: str, claims: dict[str, Any]
) -> None:
    """Issuer, subject and audience of one federated credential, letter by letter; its signature."""
    if not candidates:
        raise EntraError(70021)
    for name, claim, code in (
        ("issuer", "iss", 700211),
        ("subject", "sub", 700213),
        ("audience", "aud", 700212),
    ):
        claimed = claims.get(claim)
        names = claimed if isinstance(claimed, list) else [claimed]
        fitting = [each for each in candidates if getattr(each, name) in names]
        if not fitting:
            folded = {str(each).lower() for each in names}
            alike = any(getattr(each, name).lower() in folded for each in candidates)
            raise EntraError(7002138 if alike else code)
        candidates = fitting
    key = load_pem_public_key(next(iter(candidates)).public_key.encode())
    if not _signed(assertion, key, "RS256"):
        raise EntraError(50012)


def _signed(assertion: str, key: PublicKeyTypes, algorithm: str) -> bool:
    try:
        jwt.PyJWS().decode(assertion, key, algorithms=[algorithm])  # type: ignore[arg-type]
    except jwt.PyJWTError:
        return False
    return True
