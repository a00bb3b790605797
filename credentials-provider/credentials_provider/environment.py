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
    known, warnings, notes = _parsed(path, content.text())
    environment = Environment(
        process,
        known,
        path=path,
        named=named,
        open_file=path if is_open(content.mode) else None,
        notes=notes,
    )
    return environment, (*warnings, *environment.notes(*_READ_HERE))


def _parsed(path: str, text: str) -> tuple[dict[str, str], tuple[str, ...], Mapping[str, str]]:
    """Values, warnings, and notes by variable about values that are not read as written."""
    # Imported only where there is a file: a run with nothing due starts a third faster without.
    import io
    import logging

    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    from credentials_provider.dotenv_notes import changed_values

    logging.getLogger("dotenv").addHandler(logging.NullHandler())
    bindings = list(parse_stream(io.StringIO(text)))
    bad = [str(binding.original.line) for binding in bindings if binding.error]
    unread = f"{path}: line {', '.join(bad)} is ignored: write NAME=value"
    warnings = (unread,) if bad else ()
    values = dotenv_values(stream=io.StringIO(text))
    known = {name: value for name, value in values.items() if value is not None}
    return known, warnings, changed_values(path, bindings, values)


def dotenv_with(text: str, values: Mapping[str, str]) -> str:
    """The text of a `.env` with more variables at its end.

    Raises:
        ConfigurationError: one of them is there with another value, or could not be read back.

    """
    import io

    from dotenv import dotenv_values

    present = dotenv_values(stream=io.StringIO(text))
    new = text if not text or text.endswith("\n") else f"{text}\n"
    for name, value in values.items():
        if present.get(name) not in {None, "", value}:
            raise ConfigurationError(
                f"{name} is in the .env file already, with another value",
                hint="Remove it there, or move the secrets into files: leave out --to env.",
            )
        if present.get(name) != value:
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            new += f"{name}='{quoted}'\n"
    read = dotenv_values(stream=io.StringIO(new))
    if bad := [name for name, value in values.items() if read.get(name) != value]:
        raise ConfigurationError(
            f"the .env file cannot hold the characters of {' or '.join(bad)}",
            hint="Move the secrets into files: leave out --to env.",
        )
    return new
