"""TLS for everything that this program connects to, and the authorities that it trusts."""

from __future__ import annotations

import os
import ssl
import sys

from credentials_provider.errors import ConfigurationError
from credentials_provider.transport.sockets import TimedTlsSocket

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_REASONS = {
    "unknown_ca": (2, 19, 20, 21, 27, 28),
    "self_signed": (18,),
    "not_yet_valid": (9,),
    "expired": (10,),
    "hostname": (62, 64),
    "other_key": (4, 6, 7, 24, 29, 30, 31),
    "not_an_authority": (32, 37, 79),
    "purpose": (26, 39),
    "too_long": (22, 25, 38, 55),
    "revoked": (23,),
    "revocation_list": (3, 5, 8, 11, 12, 15, 16, 33, 35, 36, 44, 54),
    "other_names": (47, 48),
    "weak": (66, 67, 68),
    "strict": tuple(range(80, 95)),
    "malformed": (13, 14, 34, 41, 42, 45, 46, 49, 51, 52, 53),
}
_BY_CODE = {code: reason for reason, codes in _REASONS.items() for code in codes}


def untrusted_reason(error: ssl.SSLCertVerificationError) -> str:
    """Why a certificate was refused, in a word that `explanations` explains."""
    return _BY_CODE.get(error.verify_code, "other")


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Whom to trust: the bundle's authorities, else the system's, else certifi's.

    `SSLKEYLOGFILE` is not obeyed: it would put all that is needed to read the secrets into a file.

    Raises:
        ConfigurationError: the bundle cannot be used.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = TimedTlsSocket
    if ca_bundle is None:
        if sys.version_info >= (3, 13):  # as ssl.create_default_context
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        _load_system(context)
        return context
    # An authority that the user names need not keep the rules for public ones (key identifiers,
    # critical flags), and one in the middle of a chain will do: as in curl, pip and requests.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        is_folder = os.path.isdir(ca_bundle)
        context.load_verify_locations(**{"capath" if is_folder else "cafile": ca_bundle})
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"the CA bundle {ca_bundle} cannot be used: {_why(ca_bundle, error)}",
            hint="Name a PEM file with the certification authorities to trust.",
        ) from None
    return context


def _load_system(context: ssl.SSLContext) -> None:
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    paths = ssl.get_default_verify_paths()
    if os.name == "posix" and not (paths.cafile or (paths.capath and os.listdir(paths.capath))):
        import certifi  # only where the system has no authorities

        context.load_verify_locations(certifi.where())


def _why(path: str, error: OSError) -> str:
    """What the file is instead of PEM."""
    if not isinstance(error, ssl.SSLError):
        return error.strerror or type(error).__name__
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError:
        start = b""
    if start[:1] == b"\x30":
        return "it is in DER, not PEM; convert it with openssl x509 -inform der -in FILE -out PEM"
    if start[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "it is UTF-16 text; save it as ASCII"
    return "it holds no certificate that can be read"
