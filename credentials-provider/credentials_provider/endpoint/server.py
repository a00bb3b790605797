"""HTTP/1.1 for the local token endpoint and for probes, from a thread of its own.

It holds few connections and waits for each for a short time only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.endpoint.answers import Answer, Call, refusal
from credentials_provider.errors import ConfigurationError
from credentials_provider.run.audit import Audit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # What a request gets: at once, or from a call that may take a while. None: a unix socket.
    Handler = Callable[[Call, int | None], Answer | Callable[[], Answer]]

MAXIMUM_HEAD = 8192  # bytes of a request
_BACKLOG = 512
_END_TIMEOUT = 10.0  # seconds for the thread to end
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}
_REASONS |= {405: "Method Not Allowed", 413: "Content Too Large", 431: "Header Too Large"}
_REASONS |= {500: "Internal Server Error", 503: "Service Unavailable"}
_LOGGED_EVERY = 60.0  # seconds between two lines about refusals of one kind


class Limits(NamedTuple):
    """What connections may cost. Times in seconds."""

    most: int = 256
    patience: float = 10.0  # for a request to arrive, and for the last answer to be taken
    idle: float | None = 60.0  # between two requests; None: a connection has one alone
    evicts: bool = False  # where there are too many, the oldest ends, not the newest


class BadRequestError(ValueError):
    """A request that is not understood: the connection ends with this status."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def parse(head: bytes) -> Call:
    """The request of a head, without the empty line at its end.

    Raises:
        BadRequestError: it is not HTTP/1.1, is ambiguous, or has a body.

    """
    try:
        first, *lines = head.decode("ascii").split("\r\n")
        method, target, version = first.split(" ")
    except ValueError:
        raise BadRequestError(400, "it is not a request of HTTP/1.1") from None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or name.lower() in headers:
            raise BadRequestError(400, "a header is malformed or stands twice")
        headers[name.lower()] = value.strip()
    if version not in {"HTTP/1.1", "HTTP/1.0"} or not target.isprintable():
        raise BadRequestError(400, "it is not a request of HTTP/1.1")
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise BadRequestError(413, "a request has no body")
    if version == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return Call(method, target, headers)


class _Connection(asyncio.Protocol):
    """One client's requests, one after the other."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._busy: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  asyncio's promise
        self._transport = transport
        self._client = Audit.client(transport.get_extra_info("socket"))
        self._limits = self._server.limits
        others = self._server.open
        others[self] = None
        if len(others) > self._limits.most:
            if not self._limits.evicts:
                self._end(refusal(503, "there are too many connections"))
                return
            oldest = next(iter(others))
            del others[oldest]
            oldest.close()
        self._wait(self._limits.patience)

    def connection_lost(self, _: Exception | None) -> None:
        self._server.open.pop(self, None)
        self._wait(None)
        if self._busy is not None:
            self._busy.cancel()

    def data_received(self, data: bytes) -> None:
        begins = not self._received
        self._received += data
        if self._busy is None:
            self._next(begins=begins)
        elif len(self._received) > MAXIMUM_HEAD:
            self._transport.pause_reading()

    def _next(self, *, begins: bool = True) -> None:
        """Answer what has arrived, until something has to be waited for.

        `begins`: what has arrived is the start of a request; more of it gets no more time.
        """
        while self._busy is None and not self._transport.is_closing():
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if len(head) > MAXIMUM_HEAD:
                self._end(refusal(431, "the request is too large"))
                return
            if not end:
                if begins:
                    self._wait(self._limits.patience if self._received else self._limits.idle)
                return
            self._received, begins = rest, True
            self._wait(None)
            try:
                call = replace(parse(head), client=self._client)
            except BadRequestError as error:
                self._end(refusal(error.status, str(error)))
                return
            self._answer(call)

    def _answer(self, call: Call) -> None:
        closes = call.headers.get("connection", "").lower() == "close"
        last = closes or call.method != "GET" or self._limits.idle is None
        answer = self._server.handle(call, self._server.port)
        if isinstance(answer, Answer):
            self._write(call, answer, last=last)
        else:
            self._busy = self._loop.create_task(self._take(call, answer, last=last))

    async def _take(self, call: Call, make: Callable[[], Answer], *, last: bool) -> None:
        try:
            answer = await self._in_thread(make)
        except Exception:  # noqa: BLE001  what nobody foresaw ends one request, and says no secret
            answer = refusal(500, "a mistake of this program")
        self._busy = None
        self._write(call, answer, last=last)
        self._transport.resume_reading()
        self._next()

    def _in_thread(self, make: Callable[[], Answer]) -> asyncio.Future[Answer]:
        """An answer from a thread that holds up no end, as those of an executor would."""
        found: Future[Answer] = Future()
        found.set_running_or_notify_cancel()  # who no longer waits for it cannot cancel it

        def work() -> None:
            try:
                found.set_result(make())
            except Exception as error:  # noqa: BLE001  raised where it is waited for
                found.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return asyncio.wrap_future(found, loop=self._loop)

    def close(self) -> None:
        """End at once."""
        self._transport.abort()

    def _write(self, call: Call | None, answer: Answer, *, last: bool) -> None:
        if self._transport.is_closing():
            return
        if answer.why:
            self._server.log(f"{answer.status}, {answer.why}")
        head = (
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
            f"Content-Type: {answer.content_type}\r\nCache-Control: no-store\r\n"
            f"Content-Length: {len(answer.body)}\r\n"
            f"{'Allow: GET' + chr(13) + chr(10) if answer.status == 405 else ''}"  # noqa: PLR2004
            f"Connection: {'close' if last else 'keep-alive'}\r\n\r\n"
        )
        body = b"" if call and call.method == "HEAD" else answer.body
        self._transport.write(head.encode() + body)
        if last:
            self._wait(self._limits.patience)
            self._transport.close()

    def _end(self, answer: Answer) -> None:
        self._write(None, answer, last=True)

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = (
            None if seconds is None else self._loop.call_later(seconds, self._transport.abort)
        )


@dataclass
class _Server:
    """What the connections share."""

    handle: Handler
    port: int | None  # None: a unix socket
    warn: Callable[[str], None]
    limits: Limits

    def __post_init__(self) -> None:
        self.open: dict[_Connection, None] = {}  # the oldest first
        self._logged: dict[str, float] = {}

    async def serve(
        self, listener: socket.socket, started: threading.Event, ended: asyncio.Event
    ) -> None:
        async with await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), sock=listener, backlog=_BACKLOG
        ):
            started.set()
            await ended.wait()
            for connection in list(self.open):
                connection.close()
            await asyncio.sleep(0)  # so that they notice

    def log(self, why: str) -> None:
        """One line a minute about requests that were refused for the same reason."""
        now = time.monotonic()
        if now - self._logged.get(why, -_LOGGED_EVERY) >= _LOGGED_EVERY:
            self._logged[why] = now
            self.warn(f"a request got no token: {why}")


def _listen(path: str | None, address: tuple[str, int], called: str) -> socket.socket:
    try:
        if path is not None:
            return _unix(path)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        return socket.create_server(address, family=family)
    except (OSError, AttributeError) as error:  # Windows has no AF_UNIX
        place = f"the socket {path}" if path is not None else f"{called} {address[1]}"
        why = getattr(error, "strerror", None) or error  # a path can be too long for a socket
        raise ConfigurationError(
            f"{place} cannot be used: {why}", hint="Choose another one."
        ) from None


@contextlib.contextmanager
def serving(
    handle: Handler,
    warn: Callable[[str], None],
    *,
    address: tuple[str, int] = ("127.0.0.1", 0),
    called: str = "port",
    path: str | None = None,
    limits: Limits = Limits(),  # noqa: B008  it cannot be changed
) -> Iterator[str]:
    """Serve while the block runs; gives the URL of its root, or the path of its socket.

    Args:
        handle: what a request gets.
        warn: gets a line about each kind of refused request, without secrets.
        address: host and port; 0: any that is free.
        called: what the user calls that port.
        path: of a unix socket instead of that, readable by its owner alone.
        limits: of its connections.

    Raises:
        ConfigurationError: the port or the path cannot be used.

    """
    listener = _listen(path, address, called)
    bound = None if path is not None else int(listener.getsockname()[1])
    server = _Server(handle, bound, warn, limits)
    loop = asyncio.new_event_loop()
    started, ended = threading.Event(), asyncio.Event()

    def work() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(server.serve(listener, started, ended))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    started.wait()
    try:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        yield path if path is not None else f"http://{host}:{bound}"
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(_END_TIMEOUT)
        if path is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _unix(path: str) -> socket.socket:
    """A listening socket of mode 0600; one that nobody listens to any more makes way."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path):
                    os.unlink(path)
    except FileNotFoundError:
        pass
    before = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    return listener
