"""Secrets that other users of this machine can read: told, or refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from credentials_provider.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings


def exposed_dotenv(settings: Settings, entries: Sequence[Entry]) -> str | None:
    """The warning about a `.env` that others can read and that holds a secret of these entries."""
    environment = settings.environment
    if environment.open_file is None:
        return None
    used = {
        value
        for entry in entries
        for field, value in entry.fields.items()
        if field.endswith("_env") and isinstance(value, str)
    }
    if settings.client_secret in {entry.fields.get("client_secret") for entry in entries}:
        used.add("ENTRA_CLIENT_SECRET")
    if not any(environment.in_dotenv(name) for name in used):
        return None
    return _closed_by("chmod 600", environment.open_file)


def refuse_exposed(settings: Settings, entries: Sequence[Entry]) -> None:
    """Hold identities file, output folder and `.env` to be their owner's alone.

    Raises:
        ConfigurationError: naming each of them that group or others may read or write.

    """
    found = [
        _closed_by(command, path)
        for command, path in (
            ("chmod 600", settings.identities_file),
            ("chmod 700", settings.output_dir),
        )
        if _is_open(path)
    ]
    if dotenv := exposed_dotenv(settings, entries):
        found.append(dotenv)
    if found:
        raise ConfigurationError(
            "other users can read secrets (--strict-permissions); nothing was requested",
            hint="Run these commands, or leave out --strict-permissions to be warned only.",
            problems=[Problem(each) for each in found],
        )


def _is_open(path: str) -> bool:
    try:
        return os.name == "posix" and bool(os.stat(path).st_mode & 0o077)
    except OSError:  # what is missing is told by who needs it
        return False


def _closed_by(command: str, path: str) -> str:
    return f"{path} can be read by other users of this machine; run: {command} {path}"
