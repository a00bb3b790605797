"""Sockets that end a request in time, however small the drops are in which its answer comes.

A socket's own time-out begins anew with every byte, and urllib3 bounds no more than that.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import urllib3
import urllib3.connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Take = Callable[[socket.socket | None], None]


class _Request(threading.local):
    """The request that this thread waits for."""

    ends_at = math.inf  # when it must have been answered, monotonic seconds
    take: Take | None = None  # gets the socket once the request is sent


_request = _Request()


@contextlib.contextmanager
def request(seconds: float = math.inf, take: Take | None = None) -> Iterator[None]:
    """Everything that this thread reads meanwhile must come within that number of seconds."""
    _request.ends_at, _request.take = time.monotonic() + seconds, take
    try:
        yield
    finally:
        _request.ends_at, _request.take = math.inf, None


def _limit(sock: socket.socket) -> None:
    left = _request.ends_at - time.monotonic()
    if left <= 0:
        raise TimeoutError
    if left < math.inf:
        limit = sock.gettimeout()
        sock.settimeout(left if limit is None else min(limit, left))


class TimedTlsSocket(ssl.SSLSocket):
    """One for TLS; for `SSLContext.sslsocket_class`."""

    def read(self, len: int | None = 1024, buffer: bytearray | None = None) -> Any:  # type: ignore[override]  # noqa: A002  ssl's signature
        _limit(self)
        return super().read(len, buffer)  # type: ignore[arg-type]


class _TimedSocket(socket.socket):
    """One for plain HTTP, and for what a proxy says before TLS begins."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        _limit(self)
        return super().recv_into(*args, **kwargs)


class _HttpConnection(urllib3.connection.HTTPConnection):
    def _new_conn(self) -> socket.socket:
        plain = super()._new_conn()
        limit = plain.gettimeout()
        timed = _TimedSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
        timed.settimeout(limit)
        return timed

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3's
        if _request.take is not None:
            _request.take(self.sock)
        return super().getresponse()


class _HttpsConnection(_HttpConnection, urllib3.connection.HTTPSConnection):
    pass


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


POOLS = {"http": _HttpPool, "https": _HttpsPool}
