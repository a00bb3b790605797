"""What is under way with an identity, written down so that a killed run can go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypeVar

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.fields import SECRETS_FOLDER
from credentials_provider.permissions import read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.settings import Settings

Kept = TypeVar("Kept")
_VERSION = "rotation 1"


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation under way. It holds no secret: names, places and key ids alone.

    `label` names the new credential at Graph, and `place` is its file. `old_files` are those of the
    old credential that go with it. Times in epoch seconds; `remove_at` is known once the identity
    uses the new credential.
    """

    label: str
    place: str
    old_key_id: str | None
    old_files: list[str] = field(default_factory=list)
    new_key_id: str | None = None
    ends_at: float | None = None
    remove_at: float | None = None


def _place(name: str) -> str:
    return f"{SECRETS_FOLDER}/{name}~rotation"  # no identity can be called so


def read(settings: Settings, name: str) -> Rotation | None:
    """The rotation of an identity that is under way.

    Raises:
        ConfigurationError: it cannot be read.

    """
    cure = (
        "It says which rotation is under way. Compare the application's secrets with the "
        "identity's, then delete the file."
    )
    return load(settings, _place(name), _VERSION, Rotation, cure)


def load(
    settings: Settings, place: str, version: str, make: Callable[..., Kept], cure: str
) -> Kept | None:
    """What `make` makes of the fields in a file of ours; None where there is no file.

    Raises:
        ConfigurationError: it cannot be read, or is not of that version.

    """
    path = editing.full_path(settings, place)
    content = read_file(path)
    if content is None:
        return None
    try:
        return make(**json.loads(content.text())[version])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigurationError(f"{path} is not what this program wrote", hint=cure) from None


def write(settings: Settings, name: str, rotation: Rotation) -> None:
    """Write down how far a rotation has come.

    Raises:
        StorageError: it cannot be written.

    """
    editing.keep(settings, _place(name), json.dumps({_VERSION: asdict(rotation)}))


def close(settings: Settings, name: str) -> None:
    """Forget a rotation that is over.

    Raises:
        StorageError: its file cannot be deleted.

    """
    editing.discard([editing.full_path(settings, _place(name))])
