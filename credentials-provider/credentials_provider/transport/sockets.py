"""Sockets that end a request in time, however small the drops are in which its answer comes.

A socket's own time-out begins anew with every byte, and urllib3 bounds no more than that.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Request(threading.local):
    """When the request that this thread waits for must have been answered, monotonic seconds."""

    ends_at = float("inf")


_request = _Request()


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Everything that this thread reads meanwhile must come within that number of seconds."""
    _request.ends_at = time.monotonic() + seconds
    try:
        yield
    finally:
        _request.ends_at = float("inf")


def _limit(sock: socket.socket) -> None:
    left = _request.ends_at - time.monotonic()
    if left <= 0:
        raise TimeoutError
    limit = sock.gettimeout()
    sock.settimeout(left if limit is None else min(limit, left))


class TimedTlsSocket(ssl.SSLSocket):
    """One for TLS; for `SSLContext.sslsocket_class`."""

    def read(self, len: int | None = 1024, buffer: bytearray | None = None) -> Any:  # type: ignore[override]  # noqa: A002  ssl's signature
        _limit(self)
        return super().read(len, buffer)  # type: ignore[arg-type]


class TimedSocket(socket.socket):
    """One for plain HTTP, and for what a proxy says before TLS begins."""

    @classmethod
    def instead_of(cls, sock: socket.socket) -> TimedSocket:
        """The same connection; `sock` is used up."""
        limit = sock.gettimeout()
        made = cls(sock.family, sock.type, sock.proto, fileno=sock.detach())
        made.settimeout(limit)
        return made

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        _limit(self)
        return super().recv_into(*args, **kwargs)
