"""Who else could get at secrets: other users of this machine, and the programs that we start."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from credentials_provider.errors import ConfigurationError, Problem, quoted
from credentials_provider.identities.fields import LITERALS
from credentials_provider.permissions import is_open_at, open_folder_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

# What a program needs to find its files, its language and its network. Nothing of ours: a hook or
# a tool of the system has no use for what this process knows.
_ALLOWED = {
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSH_AUTH_SOCK"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "CREDENTIALS_PROVIDER_HOME"),
    *("SYSTEMROOT", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "TEMP", "TMP"),
}
_PR_SET_DUMPABLE = 4  # prctl(2)
_ALLOWED_PREFIXES = ("LC_", "XDG_")
# Where secrets of Entra ID usually stand; those that the identities name come on top.
_SECRET_VARIABLES = {
    "ENTRA_CLIENT_SECRET",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PASSWORD",
    "AZURE_PASSWORD",
}


def allowed(process: Mapping[str, str], names: Iterable[str] = ()) -> dict[str, str]:
    """The environment for a program that we start: what is on the list, and these names."""
    wanted = {*names}
    return {
        name: value
        for name, value in process.items()
        if name in wanted or name.upper() in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)
    }


def without_secrets(
    process: Mapping[str, str], entries: Iterable[Entry], settings: Settings
) -> dict[str, str]:
    """The environment for a command of the user's own: all but the secrets of identities."""
    entries = list(entries)
    names = _variables(entries) | _SECRET_VARIABLES
    values = _literals(entries) | {settings.client_secret}
    return {
        name: value
        for name, value in process.items()
        if name not in names and (not value or value not in values)
    }


def keep_out_of_dumps() -> None:
    """Let no crash write this process's memory, with the secrets in it, to a disk (core(5))."""
    with contextlib.suppress(ImportError, OSError, ValueError, AttributeError):
        if sys.platform == "linux":  # a handler that gets the dump by a pipe minds no limit
            import ctypes  # only where secrets are read

            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        else:
            import resource  # Windows has none

            _, most = resource.getrlimit(resource.RLIMIT_CORE)
            resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def exposed_dotenv(settings: Settings, entries: Sequence[Entry]) -> str | None:
    """The warning about a `.env` that others can read and that holds a secret of these entries."""
    environment = settings.environment
    if environment.open_file is None:
        return None
    used = _variables(entries)
    if settings.client_secret in _literals(entries):
        used.add("ENTRA_CLIENT_SECRET")
    if not any(environment.in_dotenv(name) for name in used):
        return None
    return _closed_by("chmod 600", environment.open_file)


def refuse_exposed(settings: Settings, entries: Sequence[Entry]) -> None:
    """Refuse an identities file, output folder or `.env` that other users can read or write.

    Raises:
        ConfigurationError: naming each of them that group or others may read or write.

    """
    found = [
        _closed_by(command, path)
        for command, path in (
            ("chmod 600", settings.identities_file),
            ("chmod 700", settings.output_dir),
        )
        if is_open_at(path)
    ]
    found += [
        f"every user of this machine can replace {path}; run: chmod o-w {quoted(folder)}"
        for path in (settings.identities_file, settings.environment.path)
        if os.path.exists(path) and (folder := open_folder_of(path))
    ]
    if dotenv := exposed_dotenv(settings, entries):
        found.append(dotenv)
    if found:
        raise ConfigurationError(
            "other users can read secrets (--strict-permissions); nothing was requested",
            hint="Run these commands, or leave out --strict-permissions to be warned only.",
            problems=[Problem(each) for each in found],
        )


def _variables(entries: Iterable[Entry]) -> set[str]:
    """The variables in which entries, validated or not, say that a secret is."""
    return {
        value
        for entry in entries
        for field, value in entry.fields.items()
        if field.endswith("_env") and isinstance(value, str)
    }


def _literals(entries: Iterable[Entry]) -> set[str]:
    """The secrets that stand in entries, validated or not."""
    values = (entry.fields.get(field) for entry in entries for field in LITERALS)
    return {value for value in values if isinstance(value, str)}


def _closed_by(command: str, path: str) -> str:
    return f"{path} can be read by other users of this machine; run: {command} {quoted(path)}"
