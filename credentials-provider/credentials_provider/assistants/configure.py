"""One assistant's file: which entries it is to have, and what that makes of its text."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from credentials_provider.assistants.documents import (
    BrokenError,
    Change,
    FormattingError,
    changed,
    entries_of,
)
from credentials_provider.errors import (
    ConfigurationError,
    CredentialsProviderError,
    StorageError,
)
from credentials_provider.files import make_folders, write_private, write_whole
from credentials_provider.permissions import read_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credentials_provider.assistants.clients import Client
    from credentials_provider.assistants.program import Launch

Way = Literal["helper", "bridge", "static"]
BACKUP = ".before-credentials-provider"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_LONGEST_NAME = 64
_OURS = ("mcp-bridge", "headers-json")


class Unwritten(CredentialsProviderError):  # noqa: N818  a refusal rather than an error
    """The file was left as it is, because changing it would lose what its owner wrote."""


class Edit(NamedTuple):
    """What is to become of a file; `before` is None where there is none yet."""

    path: str
    before: str | None
    after: str

    @property
    def changes(self) -> bool:
        return self.after != (self.before or "")

    def __repr__(self) -> str:
        return f"Edit({self.path!r})"


def check_name(name: str) -> str:
    """A server's name, as every client takes it.

    Raises:
        ConfigurationError: it is none.

    """
    if not name or len(name) > _LONGEST_NAME or not _NAME_CHARACTERS.issuperset(name):
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


def way_of(client: Client, asked: Way | None) -> Way:
    """How the token gets there: as asked, else by the best way that never goes stale.

    Raises:
        ConfigurationError: the client has no such way.

    """
    ways: dict[Way, object] = {
        "helper": client.helper,
        "bridge": client.bridge,
        "static": client.static,
    }
    for way, shape in ways.items():
        if shape is not None and asked in {None, way}:
            return way
    raise ConfigurationError(
        f"{client.title} has no {asked} way to a remote server",
        hint=f"It has: {', '.join(way for way, shape in ways.items() if shape is not None)}.",
    )


def live_entries(
    client: Client, way: Way, servers: Mapping[str, str], launch: Launch
) -> dict[str, dict[str, Any]]:
    """Entries for servers by name and address whose token never goes stale."""
    if way == "helper" and client.helper is not None:
        return {name: client.helper(url, launch.helper()) for name, url in servers.items()}
    if client.bridge is None:
        raise AssertionError("a way that the client does not have")
    return {name: client.bridge(name, launch.bridge(url)) for name, url in servers.items()}


def static_entries(
    client: Client, servers: Mapping[str, str], header: str, token: str
) -> dict[str, Any]:
    """Entries that hold the token itself."""
    if client.static is None:
        raise AssertionError("a way that the client does not have")
    headers = {header: f"Bearer {token}"}
    entries = {name: client.static(url, dict(headers)) for name, url in servers.items()}
    if client.root:
        return entries
    if len(entries) != 1:  # no servers by name: the fields of one stand alone
        raise ConfigurationError(
            f"{client.title}: takes one server", hint="Name it: --server NAME=URL, once."
        )
    return next(iter(entries.values()))


def plan_edit(path: str, client: Client, entries: Mapping[str, Mapping[str, Any] | None]) -> Edit:
    """What the file is to become.

    Raises:
        ConfigurationError: the file is broken, or has a server of this name that is not ours.
        Unwritten: comments or layout would not survive.

    """
    before = _read(path)
    try:
        found = entries_of(before or "", client.form, client.root)
        for name, entry in entries.items():
            if client.root and name in found and not _is_ours(found[name], entry):
                raise ConfigurationError(
                    f"{path} has another server named {name}",
                    hint="Choose another name, or remove that one first.",
                )
        after = changed(before or "", client.form, Change(client.root, entries))
    except BrokenError as error:
        raise ConfigurationError(
            f"{path} cannot be read by {client.title}: {error}",
            hint="Repair or remove it. It was left as it is.",
        ) from None
    except FormattingError as error:
        raise Unwritten(
            f"{path} was left as it is: {error}",
            hint="Put the entry that is printed above there yourself.",
        ) from None
    return Edit(path, before, after)


def _is_ours(found: Any, wanted: Mapping[str, Any] | None) -> bool:
    """Whether an entry came from here: it starts this program, or is for the same server."""
    if not isinstance(found, dict):
        return False
    if any(mark in str(found) for mark in _OURS):
        return True
    if wanted is None:
        return "'Bearer " in str(found)
    addresses = {str(found.get(key)) for key in ("url", "serverUrl", "uri") if key in found}
    return bool(addresses & {str(value) for value in wanted.values()})


def _read(path: str) -> str | None:
    content = read_file(path)
    return content.text("utf-8") if content else None


def apply_edit(edit: Edit) -> str | None:
    """Write the file whole, for its owner's eyes only; the path of what was there before.

    A symbolic link stays one: what it leads to is written. A mode stricter than 0600 stays.

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
    if edit.before is not None:
        backup = path + BACKUP
        write_private(backup, edit.before)
    write_whole(path, edit.after, mode & 0o600)
    return backup


def diff(edit: Edit) -> str:
    """The change as a unified diff, without what follows `Bearer`."""
    import difflib  # noqa: PLC0415
    import re  # noqa: PLC0415

    lines = difflib.unified_diff(
        (edit.before or "").splitlines(keepends=True),
        edit.after.splitlines(keepends=True),
        edit.path,
        edit.path,
        n=1,
    )
    text = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
    return re.sub(r"eyJ[A-Za-z0-9._~+/=-]+", "…", text)


def unique(servers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Servers by name.

    Raises:
        ConfigurationError: two have the same one.

    """
    found: dict[str, str] = {}
    for name, url in servers:
        if found.setdefault(name, url) != url:
            raise ConfigurationError(
                f"two servers are named {name}",
                hint="Give each a name of its own: --server NAME=URL",
            )
    return found
