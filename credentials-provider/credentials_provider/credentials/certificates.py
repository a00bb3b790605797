"""A certificate with its key, from PEM or PFX, checked before it is used."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)

if TYPE_CHECKING:
    from typing import NoReturn

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


class CertificateError(Exception):
    """What is wrong, to stand behind the file's name, and what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that fits its key and is valid now. Its repr shows neither."""

    key: rsa.RSAPrivateKey = field(repr=False)
    pem: str = field(repr=False)
    expires_on: float  # epoch seconds
    thumbprint: str  # SHA-256, hexadecimal


def load_certificate(content: bytes, password: str | None, now: float) -> Certificate:
    """The key and the certificate that belongs to it; a chain's other certificates are left out.

    Args:
        content: a PEM or PFX file's.
        password: of the key or the PFX; one for a key that has none is not needed.
        now: epoch seconds.

    Raises:
        CertificateError: it cannot be used.

    """
    secret = password.encode() if password else None
    load = _from_pem if b"-----BEGIN " in content else _from_pfx
    key, certificates = load(content, secret)
    if not isinstance(key, rsa.RSAPrivateKey):
        _refuse("has no RSA key", "Make an RSA key: Entra ID takes no other.")
    mine = _public(key)
    found = next((each for each in certificates if _public(each) == mine), None)
    if found is None:
        _refuse("holds a certificate of another key: they do not match", _BOTH)
    begin, end = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    day = found.not_valid_after_utc.date().isoformat()
    if end <= now:
        _refuse(
            f"holds a certificate that expired on {day}",
            "Make a new one and upload it in App registrations > (your app) > "
            "Certificates & secrets.",
        )
    if begin > now:
        day = found.not_valid_before_utc.date().isoformat()
        _refuse(
            f"holds a certificate that is not valid before {day}", "Check this machine's clock."
        )
    pem = found.public_bytes(Encoding.PEM).decode()
    return Certificate(key, pem, end, found.fingerprint(hashes.SHA256()).hex())


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
        _refuse("holds no private key", _BOTH)
    encrypted = b"ENCRYPTED" in block[0]
    if encrypted and not password:
        _refuse("is encrypted and there is no password for it", _PASSWORD)
    try:
        key = load_pem_private_key(block[0], password if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if encrypted:
            _refuse("cannot be decrypted: wrong password, or damaged", _PASSWORD)
        _refuse("holds a private key that cannot be read", _BOTH)
    blocks = _CERTIFICATE.findall(content)
    if not blocks:
        _refuse("holds no certificate", _BOTH)
    try:
        return key, [x509.load_pem_x509_certificate(each) for each in blocks]
    except ValueError:
        _refuse("holds a certificate that cannot be read", _BOTH)


def _from_pfx(
    content: bytes, password: bytes | None
) -> tuple[PrivateKeyTypes, list[x509.Certificate]]:
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(content, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if password:
            _refuse("is neither PEM nor a PFX of this password", _PASSWORD)
        _refuse("is neither PEM nor a PFX without a password", _PASSWORD)
    if key is None:
        _refuse("holds no private key", _BOTH)
    if certificate is None and not others:
        _refuse("holds no certificate", _BOTH)
    return key, [*([certificate] if certificate else []), *others]


def _public(holder: rsa.RSAPrivateKey | x509.Certificate) -> bytes | None:
    try:
        return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):  # of a kind that is not RSA, as in a chain
        return None


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise CertificateError(problem, remedy)
