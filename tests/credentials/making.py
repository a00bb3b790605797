"""Certificates, keys and federated tokens to prove an identity with."""

from __future__ import annotations

import functools
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from credentials_provider.emulator import Federated

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificateIssuerPrivateKeyTypes,
        PrivateKeyTypes,
    )

DAY = timedelta(days=1)
PASSWORD = "pässword of the key+/="
ISSUER = "https://oidc.example.com/cluster"
SUBJECT = "system:serviceaccount:agents:ci"
AUDIENCE = "api://AzureADTokenExchange"


@functools.cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """One of several keys, made once a process: they take long."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    key: CertificateIssuerPrivateKeyTypes | None = None,
    *,
    begin: timedelta = -DAY,
    end: timedelta = 365 * DAY,
) -> x509.Certificate:
    """A self-signed one; `begin` and `end` count from now."""
    key = key or rsa_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ci")])
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .sign(key, hashes.SHA256())
    )


def pem(found: x509.Certificate) -> str:
    return found.public_bytes(Encoding.PEM).decode()


def key_pem(key: PrivateKeyTypes | None = None, password: str | None = None) -> str:
    how = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return (key or rsa_key()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


def pfx(found: x509.Certificate, password: str | None = None) -> bytes:
    how = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return pkcs12.serialize_key_and_certificates(b"ci", rsa_key(), found, None, how)


def public_pem(key: rsa.RSAPrivateKey | None = None) -> str:
    public = (key or rsa_key()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def trust(**changes: str) -> Federated:
    """What an app trusts, with a change."""
    return Federated(
        **{"issuer": ISSUER, "subject": SUBJECT, "public_key": public_pem(), **changes}
    )


def federated_token(key: rsa.RSAPrivateKey | None = None, **changes: Any) -> str:
    """What a platform writes to a file; a change to None removes a claim."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "sub": SUBJECT,
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        **changes,
    }
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key or rsa_key(), algorithm="RS256", headers={"kid": "one"})
