"""The two kinds of credentials that Microsoft Graph can renew, as a rotation sees them.

Both answer the same questions:

- `in_use`: those at Graph that can be a credential of an entry;
- `make`: make the new one at Graph and in its file, or go on where that was interrupted;
- `changes`: of an entry, so that it uses the new one;
- `remove`: remove some at Graph.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from credentials_provider.entra.graph import HINT_LENGTH
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.fields import (
    CERTIFICATE_FIELDS,
    EXPIRY_FIELD,
    ROTATED,
    SECRET_KINDS,
    day_of,
)
from credentials_provider.lifecycle.proving import checked
from credentials_provider.permissions import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.credentials.resolver import Credential
    from credentials_provider.entra.graph import Application, Credentials, Key, Password
    from credentials_provider.lifecycle.journal import Rotation
    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

_BITS = 3072
_EXPONENT = 65537
_LONGEST_NAME = 64  # bytes of a common name; RFC 5280 appendix A.1 says characters
_EARLY = timedelta(minutes=5)  # for clocks that are behind


@dataclass(frozen=True)
class Secrets:
    """Client secrets: the old one stays in the entry as `…_previous` until it is removed."""

    settings: Settings
    suffix = ""
    alike = SECRET_KINDS

    def in_use(
        self, known: Credentials, credential: Credential, entry: Entry
    ) -> Sequence[Password | Key]:
        hint = str(credential.for_msal)[:HINT_LENGTH]
        found = [each for each in known.passwords if each.hint == hint]
        place = str(entry.fields.get("client_secret_file"))  # a rotation's ends as its name does
        return [
            each for each in found if place.endswith(f"~{each.name.rpartition(' ')[2]}")
        ] or found

    def make(self, application: Application, rotation: Rotation, end: float) -> Rotation:
        path = editing.full_path(self.settings, rotation.place)
        if os.path.exists(path) and rotation.new_key_id:
            return rotation
        known = checked(application.credentials(to_change=True))
        # Those that a run made which ended before it wrote the key id down: nothing uses them.
        lost = {each.key_id for each in known.passwords if each.name == rotation.label}
        self.remove(application, lost)
        made = checked(application.add_password(rotation.label, end))
        editing.keep(self.settings, rotation.place, made.secret)
        return replace(rotation, new_key_id=made.key_id, ends_at=made.end)

    def changes(self, entry: Entry, rotation: Rotation) -> dict[str, Any]:
        field = next(kind for kind in SECRET_KINDS if kind in entry.fields)
        previous = field.replace("client_secret", "client_secret_previous")
        return {
            previous: entry.fields[field],
            field: None,
            rotation.field: rotation.place,
            EXPIRY_FIELD: day_of(rotation.ends_at) if rotation.ends_at else None,
        }

    def remove(self, application: Application, key_ids: set[str]) -> None:
        for key_id in sorted(key_ids):
            checked(application.remove_password(key_id))


@dataclass(frozen=True)
class Certificates:
    """Certificates: made here, and only the certificate goes to Graph."""

    settings: Settings
    name: str  # of the identity
    now: float  # epoch seconds
    suffix = ".pem"
    alike = ("certificate_file",)

    def in_use(
        self, known: Credentials, credential: Credential, entry: Entry
    ) -> Sequence[Password | Key]:
        del entry
        assert isinstance(credential.for_msal, dict)  # noqa: S101  a certificate's always is
        der, _ = _read(credential.for_msal["public_certificate"])
        return [each for each in known.keys if _same(each, der)]

    def make(self, application: Application, rotation: Rotation, end: float) -> Rotation:
        content = read_file(editing.full_path(self.settings, rotation.place))
        if content is None:
            pem = make_certificate(self.name, self.now, end)
            editing.keep(self.settings, rotation.place, pem)
        else:
            pem = content.text()
        der, ends_at = _read(pem)
        known = checked(application.credentials(to_change=True))
        if not any(_same(each, der) for each in known.keys):
            checked(application.set_keys(known.keys, der, rotation.label))
            known = checked(application.credentials(to_change=True))
        key_id = next((each.key_id for each in known.keys if _same(each, der)), None)
        return replace(rotation, new_key_id=key_id, ends_at=ends_at)

    def changes(self, entry: Entry, rotation: Rotation) -> dict[str, Any]:
        del entry
        return {rotation.field: rotation.place, **dict.fromkeys(CERTIFICATE_FIELDS)}

    def remove(self, application: Application, key_ids: set[str]) -> None:
        known = checked(application.credentials(to_change=True))
        kept = [each for each in known.keys if each.key_id not in key_ids]
        if len(kept) < len(known.keys):
            checked(application.set_keys(kept))


def kind_of(settings: Settings, entry: Entry, field: str, now: float) -> Secrets | Certificates:
    """How an identity's credential is rotated.

    Raises:
        ConfigurationError: it is of a kind that is not rotated.

    """
    if field in ROTATED:
        certificate = field == "certificate_file"
        return Certificates(settings, entry.name, now) if certificate else Secrets(settings)
    raise ConfigurationError(
        f"{entry.name} has {field}: there is nothing to rotate",
        hint="Name identities with a client secret or a certificate on this machine.",
    )


def make_certificate(name: str, now: float, end: float) -> str:
    """Private key and self-signed certificate, PEM; `now` and its `end` in epoch seconds."""
    key = rsa.generate_private_key(_EXPONENT, _BITS)
    short = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, short)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now, timezone.utc) - _EARLY)
        .not_valid_after(datetime.fromtimestamp(end, timezone.utc))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (private + certificate.public_bytes(Encoding.PEM)).decode()


def _read(pem: str) -> tuple[bytes, float]:
    """The certificate of a PEM text as Graph takes it (DER), and its end in epoch seconds."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return certificate.public_bytes(Encoding.DER), certificate.not_valid_after_utc.timestamp()


def _same(key: Key, der: bytes) -> bool:
    """Whether Graph's entry is this certificate: it tells the certificate, or its thumbprint."""
    thumbprint = hashlib.sha1(der, usedforsecurity=False)
    shown = str(key.document.get("customKeyIdentifier") or "")
    return key.document.get("key") == base64.b64encode(der).decode() or shown in {
        base64.b64encode(thumbprint.digest()).decode(),
        thumbprint.hexdigest().upper(),
    }
