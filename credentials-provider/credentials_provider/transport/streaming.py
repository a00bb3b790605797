"""HTTP whose answers are read while they come: one origin, many connections, nothing retried.

For the MCP bridge. What goes wrong is a `Trouble`, as for every other request of this program.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions

from credentials_provider.transport import sockets
from credentials_provider.transport.connections import (
    HttpRequest,
    Trouble,
    begin,
    make_pool,
    trouble_of,
)
from credentials_provider.transport.trust import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Lookup = Callable[[str | None, None], object]

CHUNK = 1 << 16  # bytes
IDLE_CONNECTIONS = 16
# The usual servers close a connection that was idle for five seconds (uvicorn, Node.js). A request
# that meets the close may not be repeated, so it takes a connection that is younger.
LONGEST_IDLE = 4.0  # seconds
ASLEEP = 5.0  # seconds by which the two clocks part where a machine slept
# So that a connection whose other side went away without a word is noticed in a minute.
_KEEP_ALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (
            *(("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)),  # seconds
            ("TCP_USER_TIMEOUT", 30_000),  # milliseconds
        )
        if hasattr(socket, name)
    ),
]
_ERRORS = (exceptions.HTTPError, OSError, ValueError, AttributeError)


class BrokenStreamError(Exception):
    """An answer's body broke off."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.trouble = trouble


class Handle:
    """A request's socket, once the request is sent; another thread can end the request."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.ended = False

    def take(self, used: socket.socket | None) -> None:
        self._socket = used
        if self.ended:
            self.end()

    def limit(self, seconds: float | None) -> None:
        """How long the next piece of the answer may take; None waits."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.settimeout(seconds)

    def end(self) -> None:
        """Cut the connection: reading from it ends."""
        self.ended = True
        if self._socket is not None:
            with contextlib.suppress(*_ERRORS):
                self._socket.shutdown(socket.SHUT_RDWR)


class Stream:
    """An answer whose body has not been read yet. Header names are in lower case."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }

    @property
    def succeeded(self) -> bool:
        """Whether its status is one of success, RFC 9110 section 15.3."""
        return self.status // 100 == 2  # noqa: PLR2004

    @property
    def kind(self) -> str:
        """The media type, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes.

        Raises:
            BrokenStreamError: it broke off.

        """
        try:
            while chunk := self._response.read1(CHUNK, decode_content=True):
                yield chunk
        except _ERRORS as error:
            raise BrokenStreamError(trouble_of(error)) from None
        finally:
            self._response.close()  # no effect on a connection whose answer was read whole

    def read(self, most: int | None = None) -> bytearray:
        """The whole body, or its first `most` bytes.

        Raises:
            BrokenStreamError: it broke off.

        """
        body = bytearray()  # as it is: a copy of a large one costs
        with contextlib.closing(self.chunks()) as chunks:  # type: ignore[type-var]
            for chunk in chunks:
                body += chunk
                if most is not None and len(body) >= most:
                    return body[:most]
        return body

    def close(self) -> None:
        """Have done with it, read or not."""
        rest = self._response.length_remaining
        if rest is not None and rest <= CHUNK:  # so that the connection can be used again
            with contextlib.suppress(*_ERRORS):
                self._response.drain_conn()
        self._response.close()


class Channel:
    """Connections to the origin of one URL, through a proxy where the environment names one.

    Args:
        url: of `https`, or of `http` for this machine, which no proxy sees.
        ca_bundle: PEM file or folder of the authorities to trust instead of the system's.

    Raises:
        ConfigurationError: the CA bundle or the proxy's setting cannot be used.

    """

    def __init__(self, url: str, ca_bundle: str | None) -> None:
        self._url = url
        tls = None if urlsplit(url).scheme == "http" else tls_context(ca_bundle)
        self._lock = threading.Lock()
        self._pool = make_pool(url, tls, IDLE_CONNECTIONS)
        self._pool.connection_pool_kw["socket_options"] = _KEEP_ALIVE
        self._clocks = time.time() - time.monotonic()
        self._used_at = time.monotonic()

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        connect_timeout: float,
        read_timeout: float | None = None,
        once: bool = False,
        handle: Handle | None = None,
    ) -> Stream | Trouble:
        """Send a request; what is answered, read up to its headers.

        Args:
            method: of HTTP.
            url: of this channel's origin.
            headers: all that matter.
            body: None where there is none.
            connect_timeout: seconds.
            read_timeout: seconds between two pieces of the answer; None waits.
            once: it must not be repeated, so it needs a connection that still works.
            handle: takes hold of the connection.

        """
        request = HttpRequest(method, url, headers, body)
        timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        try:
            with sockets.request(take=handle.take if handle else None):
                return Stream(begin(self._current_pool(once=once), request, timeout))
        except _ERRORS as error:
            return trouble_of(error)

    def _current_pool(self, *, once: bool) -> urllib3.PoolManager:
        """The pool; without the connections from before a sleep, which lead nowhere."""
        with self._lock:
            now, clocks = time.monotonic(), time.time() - time.monotonic()
            idle = now - self._used_at > LONGEST_IDLE
            if abs(clocks - self._clocks) > ASLEEP or (once and idle):
                self._pool.clear()  # what is in use stays in use
            self._clocks, self._used_at = clocks, now
            return self._pool

    def can_look_up(self, seconds: float, lookup: Lookup = socket.getaddrinfo) -> bool:
        """Whether the name of the host, or of the proxy before it, is looked up in this time.

        Known or unknown: nothing else bounds how long a resolver may take.
        """
        proxy = self._pool.proxy
        host = proxy.host if proxy is not None else urlsplit(self._url).hostname

        def look() -> None:
            with contextlib.suppress(OSError, UnicodeError):  # connecting reports it
                lookup(host, None)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(seconds)
        return not thread.is_alive()

    def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.clear()
