"""HTTP/1.1 on loopback, TLS or plain: a thread a connection, the handshake in that thread."""

from __future__ import annotations

import contextlib
import http.server
import logging
import os
import socket
import socketserver
import ssl
import struct
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from credentials_provider.emulator.wire import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_logger = logging.getLogger(__name__)

_HANDSHAKE_TIMEOUT = 10.0
_IDLE_TIMEOUT = 300.0
_CLOSE_TIMEOUT = 5.0
_POLL_INTERVAL = 0.02
_LARGEST_BODY = 1 << 20
_RESET_ON_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Connection:
    """One connection, as far as the answering side may touch it."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number

    def until_gone(self) -> None:
        """Return when the client has closed its side, or sent more, or the server closes."""
        with contextlib.suppress(OSError):
            self.sock.settimeout(None)
            self.sock.recv(1)

    def reset(self) -> None:
        """Make the coming close a reset (RST)."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def shut(self) -> None:
        """Wake whoever reads or writes; SSLSocket.shutdown would pull the TLS object away."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves `answer` from a background thread until `stop`."""

    address_family = socket.AF_INET
    # Elsewhere the option would let two programs share a port.
    allow_reuse_address = os.name == "posix"
    request_queue_size = 1024
    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext | None,
        answer: Callable[[Request, Connection], Reply],
        numbers: Iterator[int],
    ) -> None:
        self.context = context
        self.answer = answer
        self._numbers = numbers
        self.accepted = 0
        self._open: set[Connection] = set()
        self._changed = threading.Condition()
        self._stopped = False
        super().__init__(address, _Handler)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(_POLL_INTERVAL,), name="emulator", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self.server_address[1])

    def stop(self) -> None:
        """Free the port, end every connection and wait for their threads."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._changed:
            self._stopped = True
            for connection in self._open:
                connection.shut()
            self._changed.wait_for(lambda: not self._open, _CLOSE_TIMEOUT)

    def process_request(self, request: object, client_address: object) -> None:
        """Count the connection, then hand it to a thread of its own."""
        self.accepted += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def finish_request(self, request: object, client_address: object) -> None:
        """Serve one connection, in its own thread."""
        assert isinstance(request, socket.socket)  # noqa: S101 - a TCP server's requests are sockets
        with contextlib.suppress(OSError):  # the client refused the certificate, or went
            request.settimeout(_HANDSHAKE_TIMEOUT)
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = request
            if self.context is not None:
                sock = self.context.wrap_socket(
                    request, server_side=True, do_handshake_on_connect=False
                )
            connection = Connection(sock, next(self._numbers))
            with self._registered(connection), sock:
                if isinstance(sock, ssl.SSLSocket):
                    sock.do_handshake()
                _Handler(connection, client_address, self)

    @contextlib.contextmanager
    def _registered(self, connection: Connection) -> Iterator[None]:
        with self._changed:
            self._open.add(connection)
            if self._stopped:
                connection.shut()
        try:
            yield
        finally:
            with self._changed:
                self._open.discard(connection)
                self._changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection's thread failed: a mistake of the emulator's own."""
        del request, client_address
        _logger.exception(  # noqa: LOG004 - called from the base class's except clause
            "the emulator failed to answer a request"
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_TIMEOUT
    server: Server

    def __init__(self, connection: Connection, client_address: object, server: Server) -> None:
        self._connection = connection
        super().__init__(connection.sock, client_address, server)

    def _serve(self) -> None:
        body = self._read_body()
        if body is None:
            return
        target = urlsplit(self.path)
        request = Request(
            self.command,
            target.path,
            dict(parse_qsl(target.query)),
            {name.lower(): value for name, value in self.headers.items()},
            dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)),
            body,
        )
        self._send(self.server.answer(request, self._connection))

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815  http.server's names

    def _read_body(self) -> bytes | None:
        """The body; None if it was refused (too long, or of no known length) or cut short."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.send_error(411)
        elif int(length) > _LARGEST_BODY:
            self.send_error(413)
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
        self.close_connection = True
        return None

    def _send(self, reply: Reply) -> None:
        if reply.end == "reset":
            self._connection.reset()
        if reply.end != "keep":
            self.close_connection = True
        if not reply.status:
            return
        if isinstance(reply.body, bytes):
            # Head and body in one write: two would be two TLS records and two packets.
            length = len(reply.body) if reply.length is None else reply.length
            self.wfile.write(self._head(reply, length) + reply.body)
            return
        self.wfile.write(self._head(reply, reply.length or 0))
        for piece in reply.body:
            self.wfile.write(piece)

    def _head(self, reply: Reply, length: int) -> bytes:
        reason, _ = self.responses.get(reply.status, ("Status", ""))
        headers = (*reply.headers, ("Content-Length", str(length)))
        lines = [f"{name}: {value}\r\n" for name, value in headers]
        return f"HTTP/1.1 {reply.status} {reason}\r\n{''.join(lines)}\r\n".encode(
            "latin-1", "replace"
        )

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Keep quiet."""
