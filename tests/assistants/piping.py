"""A bridge within the test, between pipes and a little server that answers as it is told."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

from credentials_provider.assistants.bridge.pump import Output, Pump
from credentials_provider.assistants.bridge.remote import Remote
from credentials_provider.transport.streaming import Channel
from support import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from credentials_provider.assistants.bridge.tokens import Tokens

VERSION = "2025-06-18"
MODERN = "2026-07-28"


@dataclass
class Asked:
    """A request as the server got it. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> Any:
        return json.loads(self.body) if self.body else {}


@dataclass
class Reply:
    """What the server says; `cut` ends the connection in the middle of it."""

    status: int = 200
    body: object = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Handler(BaseHTTPRequestHandler):
    """Gives each request to the `LittleServer` that it came to."""

    protocol_version = "HTTP/1.1"
    little: LittleServer

    def setup(self) -> None:
        self.little.on_connect(self.client_address[1])
        super().setup()

    def handle_any(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        got = Asked(self.command, self.path, headers, self.rfile.read(length))
        self.little.asked.append(got)
        reply = self.little.answer(got)
        with contextlib.suppress(OSError):
            if isinstance(reply, Reply):
                self._whole(reply)
            else:
                self._events(reply)

    def _whole(self, reply: Reply) -> None:
        if reply.status == 0:  # nothing at all
            self.close_connection = True
            return
        content = reply.content
        self.send_response(reply.status)
        kind = "application/json" if content[:1] in b"{[ \n" else "text/plain"
        for name, value in {"content-type": kind, **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if reply.cut else content)
        self.close_connection = self.close_connection or reply.cut

    def _events(self, chunks: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.little.hung_up.set()
            raise
        except ConnectionAbortedError:
            self.close_connection = True

    do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class LittleServer:
    """Answers each request with what `answer` makes of it, and keeps them all."""

    def __init__(self, answer: Callable[[Asked], Reply | Iterator[bytes]]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.hung_up = threading.Event()
        self.on_connect: Callable[[int], object] = lambda _: None
        handler = type("BoundHandler", (Handler,), {"little": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/mcp"

    def posts(self, method: str) -> list[Asked]:
        """The messages of a method."""
        return [a for a in self.asked if a.method == "POST" and a.message.get("method") == method]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def event(message: object, **fields: str) -> bytes:
    """One server-sent event."""
    lines = [f"{name}: {value}\n" for name, value in fields.items()]
    text = message if isinstance(message, str) else json.dumps(message)
    return "".join([*lines, *(f"data: {line}\n" for line in text.split("\n")), "\n"]).encode()


def result(asked: Asked, content: object | None = None) -> dict[str, Any]:
    """The answer to a request."""
    return {"jsonrpc": "2.0", "id": asked.message["id"], "result": content or {}}


def hello(asked: Asked) -> Reply | None:
    """The usual answers to the usual beginning; None to anything else."""
    if asked.method == "GET":
        return Reply(405)
    if asked.method == "DELETE":
        return Reply(200)
    method = asked.message.get("method")
    if method == "initialize":
        found = result(asked, {"protocolVersion": VERSION, "capabilities": {}, "serverInfo": {}})
        return Reply(body=found, headers={"mcp-session-id": "s1"})
    return Reply(202) if "id" not in asked.message else None


class NoTokens:
    """Gives one token, and another after a refusal."""

    def __init__(self) -> None:
        self.given = "eyJ0b2tlbi1udW1iZXItMQ.x.y"

    def get(self) -> str:
        return self.given

    def after_refusal(self, refused: str) -> str | None:
        del refused
        self.given = "eyJ0b2tlbi1udW1iZXItMg.x.y"
        return self.given


class Line:
    """A bridge's standard input and output, for a server at `url`."""

    def __init__(self, url: str, tokens: Any = None, ca_bundle: str | None = None) -> None:
        read_end, write_end = os.pipe()
        self._answers = os.fdopen(read_end, "rb")
        self._write_end = write_end
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self.messages: list[Any] = []
        self.changed = threading.Condition()
        remote = Remote(
            url,
            "Authorization",
            cast("Tokens", tokens or NoTokens()),
            Channel(url, ca_bundle),
            self._ending.wait,
        )
        self.pump = Pump(remote, Output(write_end))
        self._threads = [
            threading.Thread(target=self._run, daemon=True),
            threading.Thread(target=self._read, daemon=True),
        ]
        for each in self._threads:
            each.start()

    def _run(self) -> None:
        self.pump.run(iter(self._lines.get, None))

    def _read(self) -> None:
        for line in self._answers:
            with self.changed:
                self.messages.append(json.loads(line))
                self.changed.notify_all()

    def send(self, message: object) -> None:
        self._lines.put(message if isinstance(message, bytes) else json.dumps(message).encode())

    def hang_up(self) -> float:
        """End the input; seconds until the bridge is done."""
        began = time.monotonic()
        self._lines.put(None)
        self._threads[0].join(PATIENCE)
        assert not self._threads[0].is_alive()
        return time.monotonic() - began

    def close(self) -> None:
        self._ending.set()
        self.hang_up()
        self.pump.close()
        os.close(self._write_end)
        self._threads[1].join(PATIENCE)
        self._answers.close()

    def wait_for(self, found: Callable[[Any], bool], seconds: float = PATIENCE) -> Any:
        """The first message that is looked for."""
        with self.changed:
            assert self.changed.wait_for(lambda: any(map(found, self.messages)), seconds), (
                self.messages
            )
            return next(each for each in self.messages if found(each))

    def answer(self, message_id: object) -> Any:
        """The answer of this id."""
        return self.wait_for(lambda m: m.get("id") == message_id and "method" not in m)

    def ask(self, method: str, message_id: object = 1, **params: object) -> Any:
        """A request's answer."""
        request = {"jsonrpc": "2.0", "id": message_id, "method": method, "params": params}
        self.send(request)
        return self.answer(message_id)

    def ask_modern(self, method: str, message_id: object = 1, **params: object) -> Any:
        """The same with the protocol of 2026."""
        return self.ask(method, message_id, _meta=meta(), **params)

    def begin(self) -> None:
        """The usual beginning."""
        client = {"name": "sample", "version": "1"}
        self.ask("initialize", 0, protocolVersion=VERSION, capabilities={}, clientInfo=client)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})


def meta() -> dict[str, Any]:
    prefix = "io.modelcontextprotocol"
    return {
        f"{prefix}/protocolVersion": MODERN,
        f"{prefix}/clientInfo": {"name": "sample", "version": "1"},
        f"{prefix}/clientCapabilities": {},
    }
