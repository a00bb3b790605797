"""A line for each token that is handed out, where somebody asks for it: who got it and when.

A token without its line is not handed out. It stays in its file, so nothing is lost: who asks again
gets it once the line can be written.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.errors import ConfigurationError, CredentialsProviderError, StorageError
from credentials_provider.files import lock_file
from credentials_provider.permissions import check_links, check_owner, open_to_read
from credentials_provider.tokens.store import iso

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.run.access import ValidToken
    from credentials_provider.settings import Settings

SYSLOG = "/var/run/syslog" if sys.platform == "darwin" else "/dev/log"
_AUTHPRIV, _INFO = 10, 6  # RFC 5424 section 6.2.1
_TIMEOUT = 5.0  # seconds for syslog, or for another process that is writing its line
_POLL = 0.01  # seconds from one look at a busy lock to the next
_CURE = "Check its space, owner and permissions. The token stays in its file."


class Client(NamedTuple):
    """The process at the other end of a unix socket."""

    uid: int
    pid: int


class Audit:
    """Writes the lines of one command.

    Raises:
        ConfigurationError: no line can be written; nothing was requested.

    """

    def __init__(self, settings: Settings, command: str, *, syslog: str = SYSLOG) -> None:
        self._command = command
        self._places: list[tuple[str, Callable[[str], None]]] = []
        if settings.audit_file:
            path = os.path.abspath(settings.audit_file)
            self._places.append((path, lambda line: _append(path, line)))
        if settings.audit_syslog:
            self._places.append((f"syslog ({syslog})", lambda line: _send(syslog, line)))
        try:
            self._write("")
        except StorageError as error:
            raise ConfigurationError(error.message, hint=error.hint) from None

    def record(self, name: str, access: ValidToken, client: Client | None = None) -> None:
        """Write that this identity's token is handed out, to another process or to our own caller.

        Raises:
            CredentialsProviderError: the line could not be written: the token must not go out.

        """
        document = {
            "event": "token",
            "time": iso(time.time()),
            "command": self._command,
            "identity": name,
            "expires_at": iso(access.expires_on),
            "uid": os.getuid() if hasattr(os, "getuid") else None,
            "pid": os.getpid(),
            "parent_pid": os.getppid(),
            "parent": _name_of(os.getppid()),
        }
        if client is not None:
            document |= {"client_uid": client.uid, "client_pid": client.pid}
            document["client"] = _name_of(client.pid)
        self._write(json.dumps(document))

    @staticmethod
    def client(connection: socket.socket) -> Client | None:
        """Who is at the other end; None where that is not known (unix(7))."""
        if not hasattr(socket, "SO_PEERCRED") or connection.family != socket.AF_UNIX:
            return None
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid = (int.from_bytes(found[at : at + 4], sys.byteorder) for at in (0, 4))
        return Client(uid, pid)

    def _write(self, line: str) -> None:
        place = ""
        try:
            for place, write in self._places:  # noqa: B007  the one that fails
                write(line)
        # Windows has no AF_UNIX.
        except (OSError, AttributeError, CredentialsProviderError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise StorageError(
                f"no token is handed out: its audit line cannot be written to {place}: {why}",
                hint=_CURE,
            ) from None


def _append(path: str, line: str) -> None:
    """In one write, so that lines of several processes do not mix; no line: only look."""
    if os.name == "posix":
        check_links(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for flag in ("O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK"):  # no waiting for a pipe's reader
        flags |= getattr(os, flag, 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        found = os.fstat(descriptor)
        if os.name == "posix":
            check_owner(path, found)
        if not line:
            return
        data = f"{line}\n".encode()
        if stat.S_ISREG(found.st_mode):
            _lock(descriptor)
            if _is_cut(path):
                data = b"\n" + data
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.EIO, "only a part of it was written")
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Keep other processes out: what is the last line now must be so when ours is written."""
    ends_at = time.monotonic() + _TIMEOUT
    while lock_file(descriptor, exclusive=True) is False:
        if time.monotonic() >= ends_at:
            raise OSError(errno.EAGAIN, "another process keeps it locked")
        time.sleep(_POLL)


def _is_cut(path: str) -> bool:
    """Whether the last line has no end: the disk was full when it was written."""
    with contextlib.suppress(OSError), open(open_to_read(path), "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
    return False  # it is empty, or only its owner may read it


def _send(address: str, line: str) -> None:
    """As syslog(3) does it, but a failure is an error; RFC 3164 section 4.1."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_TIMEOUT)
        sock.connect(address)
        if line:
            at = time.strftime("%b %e %H:%M:%S")
            tag = f"credentials-provider[{os.getpid()}]"
            sock.sendall(f"<{_AUTHPRIV * 8 + _INFO}>{at} {tag}: {line}".encode())


def _name_of(pid: int) -> str | None:
    with (
        contextlib.suppress(OSError),
        open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file,
    ):
        return file.read().strip()
    if os.name != "posix":
        return None
    line = ["/bin/ps", "-o", "comm=", "-p", str(pid)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(line, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603  words of ours
        return os.path.basename(done.stdout.strip()) or None
    return None
