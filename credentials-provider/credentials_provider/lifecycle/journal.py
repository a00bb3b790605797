"""What is under way with an identity, written down so that a killed run can go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.fields import SECRETS_FOLDER
from credentials_provider.identities.rules import composed
from credentials_provider.permissions import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from credentials_provider.settings import Settings

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Journal(Generic[Kept]):
    """The private files, one for each identity, that hold the fields of one dataclass.

    `what` is in the file's name, `version` in the file, and `cure` where it cannot be read.
    """

    make: Callable[..., Kept]
    what: str
    version: str
    cure: str

    def read(self, settings: Settings, name: str) -> Kept | None:
        """What is under way; None where nothing is.

        Raises:
            ConfigurationError: the file cannot be read, or is not of this version.

        """
        path = self._path(settings, name)
        content = read_file(path)
        if content is None:
            return None
        try:
            return self.make(**json.loads(content.text())[self.version])
        except (ValueError, KeyError, TypeError, RecursionError):
            message = f"{path} is not what this program wrote"
            raise ConfigurationError(message, hint=self.cure) from None

    def write(self, settings: Settings, name: str, kept: Any) -> None:
        """Write down how far it has come.

        Raises:
            StorageError: it cannot be written.

        """
        text = json.dumps({self.version: asdict(kept)})
        editing.keep(settings, self._path(settings, name), text)

    def close(self, settings: Settings, name: str) -> None:
        """Forget what is over.

        Raises:
            StorageError: its file cannot be deleted.

        """
        editing.discard([self._path(settings, name)])

    def _path(self, settings: Settings, name: str) -> str:
        place = f"{SECRETS_FOLDER}/{composed(name)}~{self.what}"  # no identity can be called so
        return editing.full_path(settings, place)


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
    old_files: Sequence[str] = ()
    new_key_id: str | None = None
    ends_at: float | None = None
    remove_at: float | None = None

    @property
    def field(self) -> str:
        """The field that names its credential in an entry."""
        return "certificate_file" if self.place.endswith(".pem") else "client_secret_file"


ROTATIONS = Journal(
    Rotation,
    "rotation",
    "rotation 1",
    "It says which rotation is under way. Compare the application's secrets with the identity's, "
    "then delete the file.",
)
