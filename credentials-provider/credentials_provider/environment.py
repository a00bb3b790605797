"""The process environment over a `.env` file, which is read and never executed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from credentials_provider.errors import ConfigurationError, quoted
from credentials_provider.permissions import is_open, read_file

if TYPE_CHECKING:
    from collections.abc import Mapping

_READ_HERE = (
    *("AUTH_PROVIDER", "ENTRA_TENANT_ID", "ENTRA_CLIENT_ID", "ENTRA_CLIENT_SECRET"),
    *("ENTRA_LOGIN_BASE_URL", "ENTRA_APPLICATION_ID_URI", "ENTRA_SCOPE"),
)


class Environment:
    """The process environment over a `.env` file; empty values count as absent.

    It holds secrets: it has no repr of its content.
    """

    def __init__(
        self,
        process: Mapping[str, str],
        dotenv: Mapping[str, str],
        *,
        path: str = os.devnull,
        named: bool = False,
        open_file: str | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self._notes = notes or {}
        self._process = process
        self._dotenv = dotenv
        self.path = path  # of the `.env`, whether or not it is there
        self.file = path if dotenv else None  # the `.env`, where it holds anything
        self._named = named  # by the user, for this run
        self.open_file = open_file  # the `.env`, where other users can read it

    def get(self, name: str) -> str | None:
        return self._process.get(name) or self._dotenv.get(name) or None

    def get_named(self, name: str) -> str | None:
        """As `get`, for what decides where a secret goes: not from a file that nobody named.

        Raises:
            ConfigurationError: the `.env` of the default place has it.

        """
        if self._named or self._process.get(name) or not self._dotenv.get(name):
            return self.get(name)
        raise ConfigurationError(
            f"{name} is set in {self.path}, which nobody named: it decides where secrets go",
            hint=f"Add --env-file {quoted(self.path)}, or set {name} in the environment.",
        )

    def notes(self, *names: str) -> tuple[str, ...]:
        """Of these variables, whose value in `.env` is not what stands there: where, and why."""
        return tuple(
            self._notes[each]
            for each in names
            if each in self._notes and not self._process.get(each)
        )

    def in_dotenv(self, name: str) -> bool:
        return bool(self._dotenv.get(name))

    def in_process_alone(self, name: str) -> bool:
        """Whether a process that reads the same `.env` elsewhere would not have this value."""
        value = self._process.get(name)
        return bool(value) and value != self._dotenv.get(name)

    def __repr__(self) -> str:
        return "Environment(…)"


def read_dotenv(
    path: str, process: Mapping[str, str], *, named: bool
) -> tuple[Environment, tuple[str, ...]]:
    """The values of a `.env` file, as python-dotenv reads them, and warnings.

    Args:
        path: the null device stands for an empty file.
        process: the environment, which is over the file's values.
        named: by the user: the file must be there, and may say where secrets go.

    Raises:
        ConfigurationError: it is not there though it was named, or cannot be read.

    """
    # A folder of that name may be a virtual environment.
    if path == os.devnull or (not named and os.path.isdir(path)):
        return Environment(process, {}, path=path), ()
    content = read_file(path)
    if content is None:
        if not named:
            return Environment(process, {}, path=path), ()
        raise ConfigurationError(
            f"--env-file: there is no file {path}", hint="Name the .env file, or leave it out."
        )
    # Imported only where there is a file: a run with nothing due starts a third faster without.
    from credentials_provider.dotenv_file import parsed

    known, warnings, notes = parsed(path, content.text())
    environment = Environment(
        process,
        known,
        path=path,
        named=named,
        open_file=path if is_open(content.mode) else None,
        notes=notes,
    )
    return environment, (*warnings, *environment.notes(*_READ_HERE))
