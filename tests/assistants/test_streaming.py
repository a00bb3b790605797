"""HTTP whose answers are read while they come: each guard, against a little server."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from urllib3 import exceptions

from assistants.piping import LittleServer, Reply, event
from credentials_provider.transport import streaming
from credentials_provider.transport.connections import Trouble
from credentials_provider.transport.streaming import (
    CHUNK,
    LONGEST_IDLE,
    BrokenStreamError,
    Channel,
    Handle,
    Stream,
)
from support import closed_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import urllib3

    from assistants.piping import Asked
    from credentials_provider.emulator import Emulator


class Bench:
    """A channel to a server, and the ports that it comes from."""

    def __init__(self) -> None:
        self.answer: Callable[[Asked], Reply | Iterator[bytes]] = lambda _: Reply(200, b"{}")
        self.server = LittleServer(self._answer)
        self.channel = Channel(self.server.url, None)
        self.ports: list[int] = []
        self.server.on_connect = self.ports.append
        self.free = threading.Event()
        self.streams: list[Stream] = []

    def _answer(self, asked: Asked) -> Reply | Iterator[bytes]:
        return self.answer(asked)

    def open(self, method: str = "POST", **options: Any) -> Stream | Trouble:
        return self.channel.open(method, self.server.url, {}, b"{}", connect_timeout=5, **options)

    def stream(self, **options: Any) -> Stream:
        found = self.open(**options)
        assert isinstance(found, Stream), found.reason
        self.streams.append(found)
        return found

    def close(self) -> None:
        self.free.set()
        for each in self.streams:
            each.close()
        self.channel.close()
        self.server.close()

    def wait(self, asked: Asked) -> Reply:
        """An answer that does not come."""
        del asked
        self.free.wait(60)
        return Reply(200, b"{}")

    def drip(self, asked: Asked) -> Iterator[bytes]:
        """One event, and no more until the test ends."""
        del asked
        yield event("one")
        self.free.wait(60)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


class Clock:
    """Both clocks of a machine, moved by hand."""

    def __init__(self) -> None:
        self.now, self.asleep = 1000.0, 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + self.asleep


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The channel's."""
    made = Clock()
    monkeypatch.setattr(streaming, "time", made)
    return made


def test_an_answer_is_read_while_it_comes(bench: Bench) -> None:
    """Nothing waits for its end."""
    bench.answer = bench.drip
    assert next(iter(bench.stream().chunks())) == event("one")


def test_names_of_headers_and_the_media_type_are_in_lower_case(bench: Bench) -> None:
    """Without the media type's parameters."""
    headers = {"Mcp-Session-Id": "S1", "content-type": " Text/HTML ; charset=x"}
    bench.answer = lambda _: Reply(200, b"{}", headers)
    stream = bench.stream()
    assert (stream.headers["mcp-session-id"], stream.kind) == ("S1", "text/html")
    stream.close()


@pytest.mark.parametrize(("size", "connections"), [(1000, 1), (CHUNK + 1, 2)])
def test_what_nobody_reads_is_dropped(bench: Bench, size: int, connections: int) -> None:
    """A short rest is read, so that its connection is used again; a long one is not waited for."""
    bench.answer = lambda _: Reply(500, b"x" * size)
    bench.stream().close()
    bench.stream().close()
    assert len(bench.ports) == connections


@pytest.mark.parametrize("answer", [lambda _: Reply(200, b"{}"), lambda _: iter([b"{", b"}"])])
def test_what_is_read_whole_frees_its_connection(bench: Bench, answer: Any) -> None:
    """For the next request."""
    bench.answer = answer
    for _ in range(3):
        assert bench.stream().read() == b"{}"
    assert len(bench.ports) == 1


def test_the_beginning_of_an_answer_can_be_read_alone(bench: Bench) -> None:
    """The rest is not waited for, and its connection ends."""

    def endless(_: Asked) -> Iterator[bytes]:
        while not bench.free.wait(0.001):
            yield b"x" * 1000

    bench.answer = endless
    assert bench.stream().read(1500) == b"x" * 1500
    assert bench.server.hung_up.wait(30)


@pytest.mark.parametrize(
    "error", [exceptions.ProtocolError("x"), OSError("x"), ValueError("x"), AttributeError("x")]
)
def test_whatever_breaks_an_answer_is_one_error(error: Exception) -> None:
    """Urllib3 reads from None where another thread has ended the request."""

    def read1(*_: object, **__: object) -> bytes:
        raise error

    response = SimpleNamespace(status=200, headers={}, read1=read1, close=lambda: None)
    stream = Stream(cast("urllib3.BaseHTTPResponse", response))
    with pytest.raises(BrokenStreamError):
        stream.read()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_sent_twice_or_elsewhere(bench: Bench, method: str) -> None:
    """Who asks decides what a cut or a redirect means."""
    bench.answer = lambda _: Reply(0)
    assert isinstance(bench.open(method), Trouble)
    bench.answer = lambda _: Reply(307, headers={"location": "/elsewhere"})
    found = bench.open(method)
    assert isinstance(found, Stream)
    found.close()
    assert (found.status, len(bench.server.asked)) == (307, 2)


def test_a_server_that_is_not_there_is_trouble() -> None:
    """As for every other request of this program."""
    url = f"http://127.0.0.1:{closed_port()}/"
    found = Channel(url, None).open("GET", url, {}, connect_timeout=5)
    assert isinstance(found, Trouble)
    assert found.reason == "refused"


def test_the_time_between_two_pieces_is_bounded_where_it_shall_be(bench: Bench) -> None:
    """Before the headers and after them."""
    bench.answer = bench.wait
    found = bench.open(read_timeout=0.05)
    assert isinstance(found, Trouble)
    assert found.reason == "timeout"
    bench.answer = bench.drip
    with pytest.raises(BrokenStreamError):
        bench.stream(read_timeout=0.05).read()


# The handle


def test_a_request_that_was_ended_before_it_was_sent_gets_no_answer(bench: Bench) -> None:
    """Its caller waits no longer."""
    bench.answer = bench.wait
    handle = Handle()
    handle.end()
    assert handle.ended
    assert isinstance(bench.open(handle=handle), Trouble)


def test_a_handle_ends_its_own_request_alone(bench: Bench) -> None:
    """Not the next one of the same thread."""
    bench.answer = bench.drip
    handle = Handle()
    mine, other = bench.stream(handle=handle), bench.stream()
    chunks = mine.chunks()
    next(chunks)
    handle.end()
    handle.end()
    with pytest.raises(BrokenStreamError):
        next(chunks)
    assert next(iter(other.chunks())) == event("one")


def test_a_limit_for_what_has_ended_is_without_effect(bench: Bench) -> None:
    """The answer may end while its limit is set."""
    handle = Handle()
    handle.limit(1)
    bench.answer = lambda _: Reply(200, b"{}", {"connection": "close"})
    bench.stream(handle=handle).read()
    handle.limit(1)
    handle.end()


def test_a_limit_counts_for_the_next_piece(bench: Bench) -> None:
    """Also where the request itself had none."""
    bench.answer = bench.drip
    handle = Handle()
    chunks = bench.stream(handle=handle).chunks()
    next(chunks)
    handle.limit(0.05)
    with pytest.raises(BrokenStreamError):
        next(chunks)


# Connections


@pytest.mark.parametrize(
    ("idle", "once", "connections"),
    [(LONGEST_IDLE, True, 1), (LONGEST_IDLE + 1, True, 2), (LONGEST_IDLE + 1, False, 1)],
)
def test_what_may_not_be_repeated_takes_no_connection_that_was_idle(
    clock: Clock, idle: float, once: bool, connections: int
) -> None:
    """Servers close those, and a request that meets the close is lost."""
    bench = Bench()
    for _ in range(2):
        clock.now += LONGEST_IDLE  # counted from the last request on
        bench.stream().read()
    clock.now += idle
    bench.stream(once=once).read()
    assert len(bench.ports) == connections
    bench.close()


def test_a_machine_that_slept_makes_new_connections_once(clock: Clock) -> None:
    """Those from before lead nowhere."""
    bench = Bench()
    bench.stream().read()
    clock.asleep = 60.0
    for _ in range(3):
        bench.stream().read()
    assert len(bench.ports) == 2
    bench.close()


def test_a_connection_whose_other_side_is_gone_is_noticed(bench: Bench, idp: Emulator) -> None:
    """The system asks for it from time to time; a tool may take as long as it likes."""
    bench.answer = bench.drip
    plain, tls = Handle(), Handle()
    bench.stream(handle=plain)
    channel = Channel(idp.base_url, idp.ca_file)
    found = channel.open("GET", idp.base_url, {}, connect_timeout=5, handle=tls)
    assert isinstance(found, Stream)
    for handle in (plain, tls):
        used = handle._socket
        assert used is not None
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert used.gettimeout() is None
    found.read()
    channel.close()


# The name


def test_the_proxy_s_name_is_looked_up_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's may be known to the proxy alone."""
    asked: list[object] = []
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    channel = Channel("https://mcp.example/mcp", None)
    assert channel.can_look_up(5, lambda host, _: asked.append(host))
    assert asked == ["proxy.example"]


@pytest.mark.parametrize("error", [OSError("no such name"), UnicodeError("no name at all")])
def test_a_name_that_is_not_known_is_looked_up_all_the_same(error: Exception) -> None:
    """Who connects to it is told why."""

    def fail(*_: object) -> None:
        raise error

    assert Channel("http://localhost/", None).can_look_up(5, fail)
