"""Plans, makes and takes back a change of one assistant's file."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, get_args
from urllib.parse import urlsplit

from credentials_provider.assistants.clients import Delivery
from credentials_provider.assistants.documents import (
    Change,
    FormattingError,
    UnparsableError,
    changed,
    entries_of,
)
from credentials_provider.errors import (
    ConfigurationError,
    CredentialsProviderError,
    StorageError,
)
from credentials_provider.files import make_folders, not_written, write_whole
from credentials_provider.permissions import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.assistants.clients import Client

BACKUP = ".before-credentials-provider"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LONGEST_NAME = 64
_LARGEST = 1 << 26  # bytes; some assistants keep their history in the same file
_OURS = ("mcp-bridge", "headers-json")
# Claude Code gives a helper ten seconds; whoever waits for another run's renewal waits as well.
_HELPER_DEADLINE = "7s"
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{10}[A-Za-z0-9._~+/=-]*")


class NotWrittenError(CredentialsProviderError):
    """The file was left as it is, because changing it would lose what its owner wrote."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to become of a file; `before` is None where there is none yet."""

    path: str
    before: str | None = field(repr=False)
    after: str = field(repr=False)

    @property
    def has_changes(self) -> bool:
        return self.after != (self.before or "")


class Launch(NamedTuple):
    """What an assistant starts for an identity's token: absolute, complete without an environment.

    `start` and `options` are of `run.launching`.
    """

    start: list[str]
    identity: str
    header: str
    options: list[str]

    def helper(self) -> str:
        """The command for a shell that prints the headers with a valid token."""
        words = [*self.start, "token", self.identity, "--format", "headers-json"]
        words += ["--deadline", _HELPER_DEADLINE, *self._header(), *self.options]
        return shlex.join(words) if os.name == "posix" else subprocess.list2cmdline(words)

    def bridge(self, url: str) -> list[str]:
        """The command that speaks MCP on its standard streams for the server at `url`."""
        words = [*self.start, "mcp-bridge", "--identity", self.identity]
        return [*words, *self._header(), *self.options, url]

    def _header(self) -> list[str]:
        return ["--header-name", self.header] if self.header != "Authorization" else []


def check_name(name: str) -> str:
    """A server's name, as every client takes it.

    Raises:
        ConfigurationError: it is none.

    """
    if not re.fullmatch(f"[A-Za-z0-9_-]{{1,{_LONGEST_NAME}}}", name):
        raise ConfigurationError(
            f"{name[:80]!r} cannot be a server's name",
            hint=f"Letters, digits, _ and -, {_LONGEST_NAME} at most: --server NAME=URL",
        )
    return name


def check_url(url: str) -> str:
    """A server's address that a token may be sent to: https, or this machine.

    Raises:
        ConfigurationError: it is none.

    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    odd = not url.isascii() or not url.isprintable() or " " in url
    if odd or not host or port == 0 or parts.username is not None:
        problem = "is not an address of a server"
    elif parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        problem = "would send the token unencrypted"
    else:
        return url
    shown = url.rpartition("@")[2]  # a password may stand before it
    raise ConfigurationError(f"{shown[:200]!r} {problem}", hint="Example: https://host/path/mcp")


def delivery_of(client: Client, asked: Delivery | None) -> Delivery:
    """How the token gets there: as asked, else by the bridge where the client can start one.

    Raises:
        ConfigurationError: the client does not support it.

    """
    ways: tuple[Delivery, ...] = get_args(Delivery)
    supported = [way for way in ways if getattr(client, way) is not None]
    if asked is None or asked in supported:
        return asked or supported[0]
    raise ConfigurationError(
        f"{client.title} does not support --{asked}", hint=f"It supports: {', '.join(supported)}."
    )


def entries_for(
    client: Client, delivery: Delivery, servers: Mapping[str, str], launch: Launch, token: str
) -> dict[str, dict[str, Any]]:
    """Entries for servers by name and address; the token itself stands in static ones alone."""
    found = {}
    for name, url in servers.items():
        line = launch.bridge(url)
        values = {
            "$name": name,
            "$url": url,
            "$line": line,
            "$command": line[0],
            "$args": line[1:],
            "$helper": launch.helper(),
            "$headers": {launch.header: f"Bearer {token}"},
        }
        found[name] = client.entry(delivery, values)
    return found


def plan_edit(path: str, client: Client, entries: Mapping[str, Mapping[str, Any] | None]) -> Edit:
    """What the file is to become.

    Raises:
        ConfigurationError: the file is broken, or has a server of this name that is not ours.
        NotWrittenError: comments or layout would not survive.

    """
    before = _text_of(path)
    try:
        found = entries_of(before or "", client.form, client.root)
        for name, entry in entries.items():
            if name in found and not _is_ours(found[name], entry):
                raise ConfigurationError(
                    f"{path} has another server named {name}",
                    hint="Choose another name, or remove that one first.",
                )
        after = changed(before or "", client.form, Change(client.root, entries))
    except UnparsableError as error:
        raise ConfigurationError(
            f"{path} cannot be read by {client.title}: {error}",
            hint="Repair or remove it. It was left as it is.",
        ) from None
    except FormattingError as error:
        raise NotWrittenError(
            f"{path} was left as it is: {error}",
            hint="Remove the entries there yourself."
            if None in entries.values()
            else "Put the entry that is printed above there yourself.",
        ) from None
    return Edit(path, before, after)


def _text_of(path: str) -> str | None:
    content = read_file(path, maximum=_LARGEST)
    return content.text("utf-8") if content else None


def _is_ours(found: Any, wanted: Mapping[str, Any] | None) -> bool:
    """Whether an entry came from here: it starts this program, or is for the same server."""
    if not isinstance(found, dict):
        return False
    if any(mark in str(found) for mark in _OURS):
        return True
    if wanted is None:
        return "'Bearer eyJ" in str(found)  # as every token of Entra begins
    words = str(list(wanted.values()))  # a bridge has the address among its arguments
    keys = ("url", "serverUrl", "httpUrl", "uri")
    return any(key in found and repr(found[key]) in words for key in keys)


def apply_edit(edit: Edit) -> str | None:
    """Write the file whole, for its owner's eyes only; the path of a copy that was made of it.

    The first copy stays: it is what its owner had before we came. A file that holds a token is not
    copied. A symbolic link stays one: what it leads to is written. A mode stricter than 0600 stays.

    Raises:
        StorageError: it could not be written; what was there is there still.

    """
    path = os.path.realpath(edit.path)
    backup = None
    try:
        make_folders(os.path.dirname(path))
        mode = stat.S_IMODE(os.stat(path).st_mode) if edit.before is not None else 0o600
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}",
            hint="Check owner and permissions of its folder, or name another file with --file.",
        ) from None
    if edit.before and not os.path.lexists(path + BACKUP) and not _TOKEN.search(edit.before):
        backup = path + BACKUP
        write_whole(backup, edit.before)
    write_whole(path, edit.after, mode & 0o600)
    return backup


def undo_edit(edit: Edit, backup: str | None) -> None:
    """Put back what `apply_edit` has changed.

    Raises:
        StorageError: it could not be written.
        NotWrittenError: another program has changed the file since.

    """
    path = os.path.realpath(edit.path)
    if _text_of(path) != edit.after:
        raise NotWrittenError(
            f"{path} was changed by another program in the meantime, and was left as it is",
            hint="Remove the entries with --remove.",
        )
    try:
        if edit.before is not None:
            write_whole(path, edit.before, stat.S_IMODE(os.stat(path).st_mode) & 0o600)
        else:
            os.unlink(path)
        if backup is not None:
            os.unlink(backup)
    except OSError as error:
        raise not_written(path, error) from None


def diff(edit: Edit) -> str:
    """The change as a unified diff, without what follows `Bearer`."""
    import difflib

    lines = difflib.unified_diff(
        (edit.before or "").splitlines(keepends=True),
        edit.after.splitlines(keepends=True),
        edit.path,
        edit.path,
        n=1,
    )
    text = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
    return _TOKEN.sub("…", text)
