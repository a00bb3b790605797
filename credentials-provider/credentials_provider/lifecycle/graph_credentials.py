"""The two kinds of credentials that Microsoft Graph can renew, as a rotation sees them.

Both answer the same questions:

- `listed`: those of this kind at Graph; `in_use`: those that can be the identity's present one;
- `make`: make the new one at Graph and in its file, or go on where that was interrupted;
- `changes`: of the entry, so that it uses the new one; `leftovers`: what it loses at the end;
- `remove`: remove some at Graph.
"""

from __future__ import annotations

import base64
import dataclasses
import os
from typing import TYPE_CHECKING, Any

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.fields import (
    CERTIFICATE_FIELDS,
    EXPIRY_FIELD,
    PREVIOUS_KINDS,
    ROTATED,
    SECRET_KINDS,
    day_of,
)
from credentials_provider.lifecycle import new_certificate
from credentials_provider.lifecycle.proving import LifecycleError
from credentials_provider.minting import Failure
from credentials_provider.permissions import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.credentials.resolver import Credential
    from credentials_provider.entra.graph import Application, Credentials, Key, Password
    from credentials_provider.lifecycle.journal import Rotation
    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings


class Secrets:
    """Client secrets: the old one stays in the entry as `…_previous` until it is removed."""

    suffix = ""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def listed(self, known: Credentials) -> Sequence[Password | Key]:
        return known.passwords

    def in_use(
        self, known: Credentials, credential: Credential, entry: Entry
    ) -> list[Password | Key]:
        from credentials_provider.entra.graph import HINT_LENGTH  # msal

        hint = str(credential.for_msal)[:HINT_LENGTH]
        found = [each for each in known.passwords if each.hint == hint]
        place = str(entry.fields.get("client_secret_file"))  # a rotation's ends as its name does
        mine = [each for each in found if place.endswith(f"~{each.name.rpartition(' ')[2]}")]
        return [*(mine or found)]

    def make(self, application: Application, rotation: Rotation, path: str, end: float) -> Rotation:
        if os.path.exists(path) and rotation.new_key_id:
            return rotation
        known = checked(application.credentials(to_change=True))
        # Those that a run made which ended before it wrote the key id down: nothing uses them.
        lost = {each.key_id for each in known.passwords if each.name == rotation.label}
        self.remove(application, lost)
        made = checked(application.add_password(rotation.label, end))
        editing.keep(self._settings, rotation.place, made.secret)
        return dataclasses.replace(rotation, new_key_id=made.key_id, ends_at=made.end)

    def changes(self, entry: Entry, rotation: Rotation) -> dict[str, Any]:
        field = next(kind for kind in SECRET_KINDS if kind in entry.fields)
        previous = field.replace("client_secret", "client_secret_previous")
        return {
            previous: entry.fields[field],
            field: None,
            "client_secret_file": rotation.place,
            EXPIRY_FIELD: day_of(rotation.ends_at) if rotation.ends_at else None,
        }

    def remove(self, application: Application, key_ids: set[str]) -> None:
        for key_id in sorted(key_ids):
            checked(application.remove_password(key_id))

    def leftovers(self, entry: Entry) -> dict[str, Any]:
        return {kind: None for kind in PREVIOUS_KINDS if kind in entry.fields}


class Certificates:
    """Certificates: made here, and only the certificate goes to Graph."""

    suffix = ".pem"

    def __init__(self, settings: Settings, name: str, now: float) -> None:
        self._settings = settings
        self._name = name
        self._now = now

    def listed(self, known: Credentials) -> Sequence[Password | Key]:
        return known.keys

    def in_use(
        self, known: Credentials, credential: Credential, entry: Entry
    ) -> list[Password | Key]:
        del entry
        assert isinstance(credential.for_msal, dict)  # noqa: S101  a certificate's always is
        return [
            each
            for each in known.keys
            if _same(each, new_certificate.der(credential.for_msal["public_certificate"]))
        ]

    def make(self, application: Application, rotation: Rotation, path: str, end: float) -> Rotation:
        content = read_file(path)
        if content is None:
            pem = new_certificate.make_certificate(self._name, self._now, end - self._now)
            editing.keep(self._settings, rotation.place, pem)
        else:
            pem = content.text()
        der = new_certificate.der(pem)
        known = checked(application.credentials(to_change=True))
        if not any(_same(each, der) for each in known.keys):
            checked(application.set_keys(known.keys, der, rotation.label))
            known = checked(application.credentials(to_change=True))
        mine = next((each for each in known.keys if _same(each, der)), None)
        key_id = mine.key_id if mine else None
        return dataclasses.replace(rotation, new_key_id=key_id, ends_at=new_certificate.end(pem))

    def changes(self, entry: Entry, rotation: Rotation) -> dict[str, Any]:
        del entry
        return {"certificate_file": rotation.place, **dict.fromkeys(CERTIFICATE_FIELDS)}

    def remove(self, application: Application, key_ids: set[str]) -> None:
        known = checked(application.credentials(to_change=True))
        kept = [each for each in known.keys if each.key_id not in key_ids]
        if len(kept) < len(known.keys):
            checked(application.set_keys(kept))

    def leftovers(self, entry: Entry) -> dict[str, Any]:
        del entry
        return {}


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


def checked(result: Any) -> Any:
    """What Graph answered.

    Raises:
        LifecycleError: Graph refused, or did not answer.

    """
    if isinstance(result, Failure):
        raise LifecycleError(result.message, result.remedy, transient=result.transient)
    return result


def _same(key: Password | Key, der: bytes) -> bool:
    """Whether Graph's entry is this certificate: it tells the certificate, or its thumbprint."""
    import hashlib

    document: Any = getattr(key, "document", {})
    thumbprint = hashlib.sha1(der, usedforsecurity=False)
    shown = str(document.get("customKeyIdentifier") or "")
    return document.get("key") == base64.b64encode(der).decode() or shown in {
        base64.b64encode(thumbprint.digest()).decode(),
        thumbprint.hexdigest().upper(),
    }
