"""HTTP/1.1 on loopback, TLS or plain: a thread a connection, the handshake in that thread."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import logging
import os
import socket
import socketserver
import struct
import sys
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from credentials_provider.emulator.wire import Reply, Request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

_logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT = 5.0
_POLL_INTERVAL = 0.02
_LARGEST_BODY = 1 << 20
_RESET_ON_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Server(socketserver.ThreadingTCPServer):
    """Serves `answer` from a background thread until `stop`. `numbers` are its connections'."""

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
        super().__init__(address, Connection)
        if context is not None:
            # The handshake comes with the first read, in the connection's own thread.
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.answer = answer
        self.numbers = numbers
        self.accepted = 0
        self._open: set[object] = set()
        self._changed = threading.Condition()
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
            for sock in self._open:
                with contextlib.suppress(OSError):
                    # SSLSocket.shutdown would pull the TLS object away from who reads or writes.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # type: ignore[arg-type]
            self._changed.wait_for(lambda: not self._open, _CLOSE_TIMEOUT)

    def process_request(self, request: object, client_address: object) -> None:
        """Count the connection, then hand it to a thread of its own."""
        self.accepted += 1
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: object) -> None:
        """Close the connection as it is: an orderly end would come before a reset."""
        self.close_request(request)  # type: ignore[arg-type]
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a mistake of the emulator's own; a client may go, or refuse the certificate."""
        del request, client_address
        if not isinstance(sys.exc_info()[1], OSError):
            _logger.exception(  # noqa: LOG004 - called from the base class's except clause
                "the emulator failed to answer a request"
            )


class Connection(http.server.BaseHTTPRequestHandler):
    """One connection: reads its requests and sends the server's answers."""

    protocol_version = "HTTP/1.1"
    timeout = 300.0  # seconds without a request
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        """Take a number."""
        super().setup()
        self.number = next(self.server.numbers)

    def until_gone(self) -> None:
        """Return when the client has closed its side, or sent more, or the server closes."""
        with contextlib.suppress(OSError):
            self.connection.settimeout(None)
            self.connection.recv(1)

    def _serve(self) -> None:
        body = self._read_body()
        if body is None:
            self.close_connection = True
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
        self._send(self.server.answer(request, self))

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815  http.server's names

    def _read_body(self) -> bytes | None:
        """The body; None if it was refused (too long, or of no known length) or cut short."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.send_error(411)
        elif int(length) > _LARGEST_BODY:
            self.send_error(413)
        elif len(body := self.rfile.read(int(length))) == int(length):
            return body
        return None

    def _send(self, reply: Reply) -> None:
        if reply.end == "reset":
            with contextlib.suppress(OSError):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        if reply.end != "keep":
            self.close_connection = True
        if not reply.status:
            return
        length = len(reply.body) if reply.length is None else reply.length
        head = [f"HTTP/1.1 {reply.status} {http.client.responses.get(reply.status, 'Status')}"]
        head += [f"{name}: {value}" for name, value in reply.headers]
        head += [f"Content-Length: {length}", "", ""]
        # Head and body in one write: two would be two TLS records and two packets.
        self.wfile.write("\r\n".join(head).encode("latin-1", "replace") + reply.body)
        for piece in reply.more:
            self.wfile.write(piece)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Keep quiet."""
