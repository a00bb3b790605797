"""A small HTTP server for probes and for Prometheus, whatever its clients do.

It holds few connections, each for a short time. Where all are taken the oldest one ends: a probe is
served within milliseconds, so the oldest is one that is slow on purpose or has forgotten us. A
renewal never lacks a file or a thread because of them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MOST = 8  # connections at once
PATIENCE = 2.0  # seconds for a request, and for taking its answer
_LONGEST_HEAD = 8192  # bytes
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Not Allowed"}


class Response(NamedTuple):
    """What a request is answered."""

    status: int
    content_type: str
    body: bytes


class HealthServer:
    """Answers GET and HEAD on the paths of `answers`, each made anew for its request.

    On loopback the request's Host must be loopback, too: a web page in a browser on this machine
    could otherwise read the answers (DNS rebinding).
    """

    def __init__(
        self, address: tuple[str, int], answers: Mapping[str, Callable[[], Response]]
    ) -> None:
        host, port = address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=64)
        self._answers = answers
        self._checks_host = host in _LOOPBACK
        self._open: OrderedDict[socket.socket, None] = OrderedDict()
        self._lock = threading.Lock()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._listener.getsockname()[1]}/"

    def serve(self) -> None:
        """Until `close`."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(0.1)  # no file is free: those that are open end soon
                continue
            with self._lock:
                while len(self._open) >= MOST:
                    oldest, _ = self._open.popitem(last=False)
                    _end(oldest)
                self._open[connection] = None
            try:
                threading.Thread(target=self._handle, args=(connection,), daemon=True).start()
            except RuntimeError:  # no thread is free
                self._discard(connection)

    def close(self) -> None:
        """End it, and every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                _end(connection)

    def _handle(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                head = _read_head(connection, time.monotonic() + PATIENCE)
                response, with_body = self._respond(head)
                reason = _REASONS.get(response.status, "Service Unavailable")
                lines = (
                    f"HTTP/1.1 {response.status} {reason}",
                    f"Content-Type: {response.content_type}",
                    f"Content-Length: {len(response.body)}",
                    "Cache-Control: no-store",
                    "Connection: close",
                    "\r\n",
                )
                connection.settimeout(PATIENCE)
                content = response.body if with_body else b""
                connection.sendall("\r\n".join(lines).encode() + content)
        finally:
            self._discard(connection)

    def _respond(self, head: bytes) -> tuple[Response, bool]:
        first, *fields = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3:  # noqa: PLR2004  method, target, version
            return _plain(400), True
        method, target, _ = words
        host = next((line[5:].strip() for line in fields if line[:5].lower() == "host:"), "")
        if self._checks_host and _without_port(host) not in _LOOPBACK:
            return _plain(403), True
        if method not in {"GET", "HEAD"}:
            return _plain(405), True
        answer = self._answers.get(target.partition("?")[0])
        return answer() if answer else _plain(404), method == "GET"

    def _discard(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)
        connection.close()


@contextlib.contextmanager
def serving(
    addresses: Mapping[str, tuple[str, int]], answers: Mapping[str, Callable[[], Response]]
) -> Iterator[list[str]]:
    """Servers in threads, with their URLs; by the option that each address comes from.

    Raises:
        ConfigurationError: an address cannot be used.

    """
    servers: list[HealthServer] = []
    try:
        for option, (host, port) in addresses.items():
            try:
                server = HealthServer((host, port), answers)
            except OSError as error:
                raise ConfigurationError(
                    f"{option} {port} cannot be used: {error.strerror}", hint="Choose another one."
                ) from None
            servers.append(server)
            threading.Thread(target=server.serve, daemon=True).start()
        yield [server.url for server in servers]
    finally:
        for server in servers:
            server.close()


def _read_head(connection: socket.socket, ends_at: float) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _LONGEST_HEAD:
        connection.settimeout(max(ends_at - time.monotonic(), 0.001))
        received = connection.recv(_LONGEST_HEAD)
        if not received:
            break
        head += received
    return head.partition(b"\r\n\r\n")[0]


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and not name.endswith(":") else host


def _plain(status: int) -> Response:
    return Response(status, "text/plain", f"{_REASONS[status]}\n".encode())
