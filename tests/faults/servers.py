"""Servers that misbehave below HTTP, or whose certificate is not to be trusted."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Talk = Callable[[socket.socket], None]

RST_ON_CLOSE = struct.pack("ii", 1, 0)


class Server:
    """A port on loopback; each connection is one thread's talk. `heard` is all that clients said.

    With a context, what is said is what came through TLS.
    """

    def __init__(self, talk: Talk, context: ssl.SSLContext | None = None) -> None:
        self.heard = bytearray()
        self.connections = 0
        self.closing = threading.Event()
        self._talk = talk
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def hear(self, sock: socket.socket) -> bytes:
        """What the client sends next."""
        data = sock.recv(1 << 16)
        self.heard += data
        return data

    def hear_request(self, sock: socket.socket) -> None:
        """A whole request, as far as it is one."""
        said = b""
        while data := self.hear(sock):
            said += data
            head, _, body = said.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            if not said.startswith(b"POST") or (length and len(body) >= int(length[1])):
                return

    def close(self) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            if self._context is None:
                self._talk(sock)
                return
            with self._context.wrap_socket(sock, server_side=True) as safe:
                self._talk(safe)


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server at work in a thread."""
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


@contextlib.contextmanager
def answering(
    answer: Callable[[Server, socket.socket], None], context: ssl.SSLContext | None
) -> Iterator[Server]:
    """A server that reads one request and then does as `answer` likes."""

    def talk(sock: socket.socket) -> None:
        server.hear_request(sock)
        answer(server, sock)

    server = Server(talk, context)
    with serving(server):
        yield server


@contextlib.contextmanager
def relay(port: int, *, after: int, then: str) -> Iterator[Server]:
    """In front of a port of loopback: passes so many bytes of its answers on, then stops.

    `then`: "close", "reset", or "hang".
    """

    def talk(sock: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as there:
            up = threading.Thread(target=pump, args=(sock, there), daemon=True)
            up.start()
            left = after
            while left and (data := there.recv(left)):
                sock.sendall(data)
                left -= len(data)
            if then == "hang":
                server.closing.wait()
            if then == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
            else:
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.hear(source):
                sink.sendall(data)

    server = Server(talk)
    with serving(server):
        yield server


# Certificates


class Trust:
    """An authority that the client trusts, as a file."""

    def __init__(self, folder: str) -> None:
        self.ca = trustme.CA()
        self.file = os.path.join(folder, "trusted.pem")
        self.ca.cert_pem.write_to_path(self.file)

    def context(self, *names: str, until: dt.datetime | None = None) -> ssl.SSLContext:
        """A server's side with a certificate of this authority for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or ("localhost",)), not_after=until).configure_cert(context)
        return context


def expired(trust: Trust) -> ssl.SSLContext:
    return trust.context(until=dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc))


def wrong_host(trust: Trust) -> ssl.SSLContext:
    return trust.context("login.example.com")


def unknown_authority(trust: Trust) -> ssl.SSLContext:
    del trust
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context


def self_signed(trust: Trust) -> ssl.SSLContext:
    """A certificate for the right name that nobody but itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = os.path.join(os.path.dirname(trust.file), "self-signed.pem")
    with open(path, "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def old_protocol(trust: Trust) -> ssl.SSLContext:
    """TLS 1.1 at most."""
    context = trust.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context
