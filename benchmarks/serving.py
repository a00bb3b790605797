"""The local token endpoint under load: how long a request takes when many come at once."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from fleet import SCOPE

if TYPE_CHECKING:
    from measuring import Command

CLIENTS = 8  # connections, each with one request under way
REQUESTS = 10_000


class Latencies(NamedTuple):
    """Seconds: in all, and of each request."""

    wall: float
    each: list[float]

    def percentile(self, percent: float) -> float:
        return sorted(self.each)[int(len(self.each) * percent / 100)]


def ask(command: Command, tokens: str) -> Latencies:
    """Start `serve` on one core, ask it from this process, and end it."""
    place = os.path.join(tokens, ".endpoint.env")
    process = command.start(stderr=subprocess.DEVNULL, preexec_fn=_on_one_core)
    try:
        while not os.path.exists(place):
            if process.poll() is not None:
                raise SystemExit(f"{command.line} ended with {process.returncode}")
            time.sleep(0.02)
        with open(place, encoding="utf-8") as file:
            variables = dict(line.rstrip("\n").split("=", 1) for line in file)
        return _load(variables["IDENTITY_ENDPOINT"], variables["IDENTITY_HEADER"])
    finally:
        process.terminate()
        process.wait()


def _on_one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _load(endpoint: str, header: str) -> Latencies:
    parts = urlsplit(endpoint)
    resource = SCOPE.removesuffix("/.default")
    request = (
        f"GET {parts.path}?api-version=2019-08-01&resource={resource} HTTP/1.1\r\n"
        f"Host: {parts.netloc}\r\nX-IDENTITY-HEADER: {header}\r\n\r\n"
    ).encode()
    selector = selectors.DefaultSelector()
    began_at: dict[socket.socket, float] = {}
    each: list[float] = []
    begun = 0

    def begin(client: socket.socket) -> None:
        nonlocal begun
        begun += 1
        began_at[client] = time.perf_counter()
        client.sendall(request)

    place = (parts.hostname or "", parts.port or 0)
    clients = [socket.create_connection(place) for _ in range(CLIENTS)]
    start = time.perf_counter()
    for client in clients:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(client, selectors.EVENT_READ, client)
        begin(client)
    while len(each) < REQUESTS:
        for key, _ in selector.select():
            client = key.data
            answer = client.recv(1 << 16)  # one of loopback comes whole
            if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"}"):
                raise SystemExit(f"an answer that is none: {answer[:80]!r}")
            each.append(time.perf_counter() - began_at[client])
            if begun < REQUESTS:
                begin(client)
    wall = time.perf_counter() - start
    for client in clients:
        client.close()
    return Latencies(wall, each)
