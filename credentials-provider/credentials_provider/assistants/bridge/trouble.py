"""Why a message did not get through, in the words of this program, with what its user can do."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from credentials_provider.assistants.bridge.messages import (
    SERVER_ERROR,
    error_line,
    reason_in,
    redacted,
)
from credentials_provider.entra import explanations
from credentials_provider.model import Observer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from credentials_provider.transport.connections import Trouble
    from credentials_provider.transport.streaming import Stream

LONGEST_REASON = 1 << 16  # bytes of an error's body that are read
BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, NOT_ALLOWED = 400, 401, 404, 405
TOO_MANY, UNAVAILABLE = 429, 503
_REDIRECTS = range(300, 400)

CHECK_FIRST = "The server may have done it already: check before you try again."
_CURES = {  # where the login host's would mislead
    "reset": "Check that the server's address begins with the right http:// or https://, then try "
    "again.",
    "timeout": "Check the network, the VPN and the firewall, then try again.",
    "proxy_login": "Put user name and password into HTTPS_PROXY, as http://user:password@host.",
    "unknown_ca": "Name its authority with --ca-bundle FILE in the assistant's configuration.",
    "self_signed": "If this is right, name its certificate with --ca-bundle FILE in the "
    "assistant's configuration.",
    "not_yet_valid": "Check this machine's clock.",
    "protocol": "Check the server's address: its port does not speak TLS. Only this machine's own "
    "servers may have http://.",
}


class TroubleError(Exception):
    """Why a message did not get through, and what its user can do."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message}. {self.cure}".strip()

    def line(self, message_id: Any) -> bytes:
        """As the answer to a request."""
        return error_line(message_id, {"code": SERVER_ERROR, "message": str(self)})


def _line(message: str) -> None:
    os.write(sys.stderr.fileno(), f"mcp-bridge: {message}\n".encode(errors="replace"))


_write: Callable[[str], object] = _line


def log_by(write: Callable[[str], object]) -> None:
    """Have this function write everything from now on."""
    global _write  # noqa: PLW0603  a process has one standard error
    _write = write


def log(message: object) -> None:
    """A line for the client's log of this server, which standard error is."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        _write(str(message))


class ClientLog(Observer):
    """Warnings go to the client's log."""

    def warn(self, message: str) -> None:
        log(message)


def unreachable(trouble: Trouble, url: str) -> TroubleError:
    """No connection, or one that is not trusted."""
    host = urlsplit(url).hostname or ""
    explained = explanations.explain_trouble(trouble, host, "the server's address")
    return TroubleError(explained.cause, _CURES.get(trouble.reason, explained.cure))


def broken(url: str) -> TroubleError:
    """The connection was cut after a request may have arrived."""
    host = urlsplit(url).hostname
    return TroubleError(f"the connection to {host} broke before its answer came", CHECK_FIRST)


def unanswered(url: str) -> TroubleError:
    """The server ended its answer as if it were whole."""
    return TroubleError(f"{urlsplit(url).hostname} ended its answer without a result", CHECK_FIRST)


def start_again(message: str) -> TroubleError:
    """Only a new start of the client's own can help."""
    return TroubleError(message, "Restart this server in the assistant.")


def throttled(url: str, seconds: float) -> TroubleError:
    """The server asked for a pause that is not over."""
    host = urlsplit(url).hostname
    return TroubleError(
        f"{host} asks to wait before the next request",
        f"Try again in {explanations.duration(seconds)}.",
    )


def refused(stream: Stream, body: bytes, url: str, header: str) -> TroubleError:
    """An answer that is not a message: its status, the server's own reason, and what to do."""
    status = stream.status
    reason = "" if status in _REDIRECTS else reason_in(body) or _challenge(stream)
    names = str(status), f"{status // 100}xx"
    told = explanations.diagnosis(
        "mcp_server", *names, status=status, header=header, url=redacted(url)
    )
    said = f': "{reason}"' if reason else ""
    return TroubleError(f"{urlsplit(url).hostname} {told.cause}{said}", told.cure)


def _challenge(stream: Stream) -> str:
    """The reason in `WWW-Authenticate`, RFC 6750 section 3."""
    _, found, rest = stream.headers.get("www-authenticate", "").partition('error_description="')
    return redacted(rest.partition('"')[0])[:300] if found else ""
