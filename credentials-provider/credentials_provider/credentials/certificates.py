"""A certificate with its key, from PEM or PFX, checked before it is used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)

from credentials_provider.errors import SecretUnavailableError
from credentials_provider.identities.fields import day_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_KEY = re.compile(
    rb"-----BEGIN (?P<kind>[A-Z0-9 ]*PRIVATE KEY)-----.+?-----END (?P=kind)-----", re.DOTALL
)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_PASSWORD = "Name its password with certificate_password_env or certificate_password_file."  # noqa: S105  a sentence
_BOTH = (
    "Put the private key and its certificate into one PEM file or a PFX, or name the key's own "
    "file with certificate_key_file."
)


def load_certificate(
    content: bytes, password: str | None, now: float
) -> tuple[dict[str, Any], float]:
    """What msal takes of a certificate with its key, and when it ends, in epoch seconds.

    A chain's other certificates are left out.

    Args:
        content: a PEM or PFX file's.
        password: of the key or the PFX; one for a key that has none is not needed.
        now: epoch seconds.

    Raises:
        SecretUnavailableError: it cannot be used; the message stands behind the file's name.

    """
    secret = password.encode() if password else None
    load = _from_pem if b"-----BEGIN " in content else _from_pfx
    key, certificates = load(content, secret)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SecretUnavailableError("has no RSA key", "Make an RSA key: Entra ID takes no other.")
    mine = _public(key)
    found = next((each for each in certificates if _public(each) == mine), None)
    if found is None:
        raise SecretUnavailableError("holds a certificate of another key: they do not match", _BOTH)
    begin, end = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    if end <= now:
        raise SecretUnavailableError(
            f"holds a certificate that expired on {day_of(end)}",
            "Make a new one and upload it in App registrations > (your app) > "
            "Certificates & secrets.",
        )
    if begin > now:
        raise SecretUnavailableError(
            f"holds a certificate that is not valid before {day_of(begin)}",
            "Check this machine's clock.",
        )
    pem = found.public_bytes(Encoding.PEM).decode()
    return {"private_key": key, "public_certificate": pem}, end


def first_end(content: bytes) -> float | None:
    """When the first certificate of a PEM file to end does so, epoch seconds; None: it has none."""
    try:
        found = [x509.load_pem_x509_certificate(each) for each in _CERTIFICATE.findall(content)]
    except ValueError:
        return None
    return min((each.not_valid_after_utc.timestamp() for each in found), default=None)


def _from_pem(
    content: bytes, password: bytes | None
) -> tuple[PrivateKeyTypes, list[x509.Certificate]]:
    block = _KEY.search(content)
    if block is None:
        raise SecretUnavailableError("holds no private key", _BOTH)
    encrypted = b"ENCRYPTED" in block[0]
    if encrypted and not password:
        raise SecretUnavailableError("is encrypted and there is no password for it", _PASSWORD)
    try:
        key = load_pem_private_key(block[0], password if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if encrypted:
            raise SecretUnavailableError(
                "cannot be decrypted: wrong password, or damaged", _PASSWORD
            ) from None
        raise SecretUnavailableError("holds a private key that cannot be read", _BOTH) from None
    blocks = _CERTIFICATE.findall(content)
    if not blocks:
        raise SecretUnavailableError("holds no certificate", _BOTH)
    try:
        return key, [x509.load_pem_x509_certificate(each) for each in blocks]
    except ValueError:
        raise SecretUnavailableError("holds a certificate that cannot be read", _BOTH) from None


def _from_pfx(
    content: bytes, password: bytes | None
) -> tuple[PrivateKeyTypes, list[x509.Certificate]]:
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(content, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        kind = "of this" if password else "without a"
        raise SecretUnavailableError(
            f"is neither PEM nor a PFX {kind} password", _PASSWORD
        ) from None
    if key is None:
        raise SecretUnavailableError("holds no private key", _BOTH)
    if certificate is None and not others:
        raise SecretUnavailableError("holds no certificate", _BOTH)
    return key, [*([certificate] if certificate else []), *others]


def _public(holder: rsa.RSAPrivateKey | x509.Certificate) -> bytes | None:
    try:
        return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):  # of a kind that is not RSA, as in a chain
        return None
