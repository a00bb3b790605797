"""A new key with a certificate of its own, for an identity that proves itself by one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_BITS = 3072
_EXPONENT = 65537
_LONGEST_NAME = 64  # bytes of a common name; RFC 5280 appendix A.1 says characters
_EARLY = timedelta(minutes=5)  # for clocks that are behind


def make_certificate(name: str, now: float, life: float) -> str:
    """Private key and self-signed certificate, PEM; it ends `life` seconds after `now` (epoch)."""
    key = rsa.generate_private_key(_EXPONENT, _BITS)
    short = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, short)])
    begin = datetime.fromtimestamp(now, timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _EARLY)
        .not_valid_after(begin + timedelta(seconds=life))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (private + certificate.public_bytes(Encoding.PEM)).decode()


def der(pem: str) -> bytes:
    """The certificate of a PEM text, as Graph takes it."""
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def end(pem: str) -> float:
    """When the certificate of a PEM text ends, epoch seconds."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()
