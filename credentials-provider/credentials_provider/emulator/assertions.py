"""Client assertions (RFC 7523): signed with a registered certificate's key, or by a trusted issuer.

The checks and their order follow what Entra ID answers, as far as that is documented:
https://learn.microsoft.com/entra/identity-platform/certificate-credentials
https://learn.microsoft.com/entra/workload-id/workload-identity-federation
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from credentials_provider.emulator.aadsts import EntraError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from credentials_provider.emulator.apps import App, Federated

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LEEWAY = 300
"""Seconds by which the client's clock may be off."""

_CERTIFICATE_ALGORITHMS = ("RS256", "PS256")


def check_assertion(
    app: App, assertion: str, kind: str, *, audiences: Collection[str], now: float
) -> None:
    """Let a valid assertion pass; `audiences` are the token endpoint's names, `now` epoch seconds.

    Raises EntraError as Entra ID would refuse it.
    """
    if kind != ASSERTION_TYPE:
        raise EntraError(900144, parameter="client_assertion_type")
    try:
        header = jwt.get_unverified_header(assertion)
        claims = jwt.decode(assertion, options={"verify_signature": False, "verify_exp": False})
    except jwt.PyJWTError:
        raise EntraError(50027) from None
    if "x5t" in header or "x5t#S256" in header or claims.get("iss") == app.client_id:
        _check_certificate(app, assertion, header, claims, audiences=audiences, now=now)
    else:
        _check_federated(app.federated, assertion, claims, now=now)


def _check_certificate(
    app: App,
    assertion: str,
    header: dict[str, Any],
    claims: dict[str, Any],
    *,
    audiences: Collection[str],
    now: float,
) -> None:
    certificate = _registered(app, header, now)
    if header["alg"] not in _CERTIFICATE_ALGORITHMS:
        raise EntraError(50012)
    if certificate.not_valid_after_utc.timestamp() <= now:
        raise EntraError(700027, reason="The key used is expired.")
    if not _signed(assertion, certificate.public_key(), header["alg"]):
        raise EntraError(700027, reason="The signature does not match the key.")
    if claims.get("iss") != claims.get("sub"):
        raise EntraError(50048)
    if str(claims.get("iss")).lower() != app.client_id.lower():
        raise EntraError(700021)
    if claims.get("aud") not in audiences:
        raise EntraError(50012)
    if not claims.get("jti"):
        raise EntraError(900144, parameter="jti")
    _check_times(claims, now)


def _registered(app: App, header: dict[str, Any], now: float) -> x509.Certificate:
    """The registered certificate that the header's thumbprint names."""
    added = (each.content for each in app.keys if each.works_at <= now)
    for pem in (*app.certificates, *added):
        certificate = x509.load_pem_x509_certificate(pem.encode())
        names = {
            "x5t#S256": _thumbprint(certificate, hashes.SHA256()),
            "x5t": _thumbprint(certificate, hashes.SHA1()),  # noqa: S303 - RFC 7515 §4.1.7
        }
        given = {name: header[name].rstrip("=") for name in names if name in header}
        if given and all(names[name] == value for name, value in given.items()):
            return certificate
    raise EntraError(700027)


def _check_federated(
    trusted: Iterable[Federated], assertion: str, claims: dict[str, Any], *, now: float
) -> None:
    """Issuer, subject and audience of one federated credential, letter by letter; then the rest."""
    candidates = list(trusted)
    if not candidates:
        raise EntraError(70021)
    for name, code in (("issuer", 700211), ("subject", 700213), ("audience", 700212)):
        claimed = claims.get({"issuer": "iss", "subject": "sub", "audience": "aud"}[name])
        names = claimed if isinstance(claimed, list) else [claimed]
        fitting = [each for each in candidates if getattr(each, name) in names]
        if not fitting:
            folded = {str(each).lower() for each in names}
            alike = any(getattr(each, name).lower() in folded for each in candidates)
            raise EntraError(7002138 if alike else code)
        candidates = fitting
    key = load_pem_public_key(candidates[0].public_key.encode())
    if not _signed(assertion, key, "RS256"):
        raise EntraError(50012)
    _check_times(claims, now)


def _check_times(claims: dict[str, Any], now: float) -> None:
    begin, end = claims.get("nbf", claims.get("iat", now)), claims.get("exp")
    if not isinstance(end, (int, float)) or not begin - LEEWAY <= now <= end + LEEWAY:
        raise EntraError(700024)


def _signed(assertion: str, key: PublicKeyTypes, algorithm: str) -> bool:
    try:
        jwt.PyJWS().decode(assertion, key, algorithms=[algorithm])  # type: ignore[arg-type]
    except jwt.PyJWTError:
        return False
    return True


def _thumbprint(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> str:
    return base64.urlsafe_b64encode(certificate.fingerprint(algorithm)).rstrip(b"=").decode()
