"""A new value for an identity's client secret: proven first, then put in the old one's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import editing, rules
from credentials_provider.identities.fields import (
    CREDENTIAL_KINDS,
    EXPIRY_FIELD,
    PREVIOUS_KINDS,
    SECRET_KINDS,
)
from credentials_provider.identities.reading import make_entry, read_entries, select
from credentials_provider.lifecycle.proving import prove

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings


class Replaced(NamedTuple):
    """Where a secret is now, and the field and value that named the old one and is left."""

    place: str
    before: tuple[str, str] | None


def replace_secret(
    settings: Settings,
    name: str,
    secret: str,
    *,
    expires_on: str | None = None,
    wait: float = 0.0,
    progress: Callable[[str], None],
) -> Replaced:
    """Prove a new client secret by a token, then let the identity use it and drop the old one.

    Args:
        settings: where the identities are.
        name: of one identity; whatever is wrong with its present secret does not matter.
        secret: the new value.
        expires_on: its last day, YYYY-MM-DD; None: not known.
        wait: as in `prove`.
        progress: as in `prove`.

    Raises:
        LifecycleError: it got no token; nothing was changed.
        ConfigurationError: there is no such identity, or it has another kind of credential.

    """
    if problem := rules.secret(secret):
        raise ConfigurationError(f"the client secret {problem}", hint=editing.VALUE_HINT)
    entry = find(settings, name)
    field = _secret_field(entry)
    left_out = {*SECRET_KINDS, *PREVIOUS_KINDS}
    fields = {name: value for name, value in entry.fields.items() if name not in left_out}
    new = make_entry(entry.index, {**fields, "client_secret": secret}, settings)
    prove(settings, new, wait=wait, progress=progress)
    value = entry.fields[field]
    if field == "client_secret_file" and editing.is_own_alone(settings, value, name):
        editing.keep(settings, value, secret)  # the entry names it already
        changes, place, before = {}, value, None
    else:
        place = editing.free_place(settings, name)
        editing.keep(settings, place, secret)
        changes = {field: None, "client_secret_file": place}
        before = (field, value) if field in {"client_secret_env", "client_secret_file"} else None
    editing.update(settings, name, {**changes, EXPIRY_FIELD: expires_on})
    return Replaced(place, before)


def find(settings: Settings, name: str) -> Entry:
    """The one entry of a name.

    Raises:
        ConfigurationError: there is none, or more than one.

    """
    file = read_entries(settings)
    entry, *others = select(file.entries, [name], file.path)
    if others or entry.problems:
        raise ConfigurationError(f"{file.path} has mistakes", problems=entry.problems)
    return entry


def _secret_field(entry: Entry) -> str:
    field = next((kind for kind in SECRET_KINDS if kind in entry.fields), None)
    if field == "client_secret_keyvault":
        raise ConfigurationError(
            f"{entry.name} takes its secret from a Key Vault",
            hint="Add a new version of the secret there: every run reads the newest one.",
        )
    if field is None:
        other = next((kind for kind in CREDENTIAL_KINDS if kind in entry.fields), "no credential")
        raise ConfigurationError(
            f"{entry.name} has {other} and no client secret",
            hint="To change the kind of its credential, remove the identity and add it again.",
        )
    return field
