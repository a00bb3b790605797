"""Messages from standard input to the server and back, each passed on as it is."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
from typing import TYPE_CHECKING

from credentials_provider import __version__
from credentials_provider.assistants.bridge.http_transport import CLOSE_TIMEOUT, HttpTransport
from credentials_provider.assistants.bridge.messages import (
    CLIENT_KEY,
    INVALID_REQUEST,
    SERVER_ERROR,
    Invalid,
    Message,
    error_line,
    object_at,
    parse_line,
    stated_version,
)
from credentials_provider.assistants.bridge.trouble import TroubleError, log
from credentials_provider.errors import unexpected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credentials_provider.assistants.bridge.calls import Call
    from credentials_provider.assistants.bridge.remote import Remote

DRAIN_TIMEOUT = 3.0  # seconds for answers that are under way when the client hangs up
_SHORT_LINE = 1 << 16  # bytes; a longer one is not copied for its newline

Notice = tuple[Message, bytes, threading.Event, threading.Event]
"""What gets no answer: message, line, what it must follow, and that it is done."""


class Output:
    """Whole lines to a file descriptor, one after the other; `gone` once nobody reads it.

    Not Python's own buffered stream: a thread that holds its lock while the program ends is an
    abort.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self.gone = False

    def write(self, line: bytes | bytearray) -> None:
        """Write a line, for which a newline is added."""
        with self._lock:
            for part in (line + b"\n",) if len(line) < _SHORT_LINE else (line, b"\n"):
                rest = memoryview(part)
                while rest and not self.gone:
                    rest = rest[self._write_some(rest) :]

    def _write_some(self, rest: memoryview) -> int:
        try:
            return os.write(self._descriptor, rest)
        except BlockingIOError:  # the client made its pipe one that does not wait
            select.select([], [self._descriptor], [])
        except OSError:
            self.gone = True
        return 0


class Pump:
    """One client's messages and one server's."""

    def __init__(self, remote: Remote, output: Output) -> None:
        self._remote = remote
        self._output = output
        self._server = HttpTransport(remote, output.write)
        self._modern: str | None = None  # the version that the client's messages state
        self._notices: queue.SimpleQueue[Notice | threading.Event] = queue.SimpleQueue()
        self._last = threading.Event()  # what all that comes must follow
        self._last.set()
        self._notice_thread: threading.Thread | None = None

    def run(self, lines: Iterable[bytes]) -> None:
        """Pass messages until the client hangs up."""
        for line in lines:
            if self._output.gone:
                return
            if line.strip():
                self._handle_line(line.strip())
        self._server.calls.wait(DRAIN_TIMEOUT)
        if self._notice_thread is not None:
            said = threading.Event()
            self._notices.put(said)
            said.wait(CLOSE_TIMEOUT)

    def close(self) -> None:
        """End the session at the server, if that is done soon."""
        ending = threading.Thread(target=self._end_session, daemon=True)
        ending.start()
        ending.join(CLOSE_TIMEOUT)

    def _end_session(self) -> None:
        with contextlib.suppress(TroubleError):
            self._server.close()

    def _handle_line(self, line: bytes) -> None:
        message = parse_line(line)
        if isinstance(message, Invalid):
            self._output.write(message.line())
            return
        self._note_client(message)
        method = message.get("method")
        if method is not None and "id" in message:
            self._start(message, line)
        elif not (method == "notifications/cancelled" and self._cancel(message)):
            self._queue_notice(message, line)

    def _note_client(self, message: Message) -> None:
        """The client's name becomes part of ours, for who reads the server's log."""
        self._modern = stated_version(message) or self._modern
        if message.get("method") == "initialize":
            self._modern = None
        info = object_at(message, "params", "_meta").get(CLIENT_KEY)
        info = info or object_at(message, "params").get("clientInfo")
        if isinstance(info, dict):
            words = "/".join(str(info.get(key) or "") for key in ("name", "version"))
            name = "".join(
                c for c in words[:80] if c.isascii() and c.isprintable() and c not in "()"
            )
            self._remote.agent = f"credentials-provider/{__version__} ({name.strip('/ ')})"

    def _cancel(self, message: Message) -> bool:
        """Cancel a call; whether the server needs no message about it.

        From 2026-07-28 on the end of the call's connection tells it.
        """
        call = self._server.calls.cancel(object_at(message, "params").get("requestId"))
        if call is None:
            return self._modern is not None
        if call.modern:
            call.handle.end()
        return call.modern

    def _start(self, message: Message, line: bytes) -> None:
        call = self._server.calls.open(message, line)
        if call is None:
            known = "a request of this id is under way"
            self._output.write(Invalid(INVALID_REQUEST, known, message["id"]).line())
            return
        after = self._last
        if call.method == "initialize":
            self._last = call.ended
        threading.Thread(target=self._answer, args=(call, after), daemon=True).start()

    def _answer(self, call: Call, after: threading.Event) -> None:
        """See to it that a call gets an answer, whatever happens."""
        try:
            after.wait()
            if call.waits:
                self._server.ask(call)
        except TroubleError as trouble:
            if call.waits:
                log(trouble)
            self._server.calls.answer(call, trouble.line(call.id))
        except Exception as error:  # noqa: BLE001  a client would wait for ever
            message = f"{unexpected(error)}; this is a mistake of this program, please report it"
            log(message)
            line = error_line(call.id, {"code": SERVER_ERROR, "message": message})
            self._server.calls.answer(call, line)
        if call.cancelled:
            self._server.calls.close(call)

    def _queue_notice(self, message: Message, line: bytes) -> None:
        """Have a notification or a response sent, in the client's order."""
        after, done = self._last, threading.Event()
        if message.get("method") == "notifications/initialized":
            self._last = done
        self._notices.put((message, line, after, done))
        if self._notice_thread is None:
            self._notice_thread = threading.Thread(target=self._send_notices, daemon=True)
            self._notice_thread.start()

    def _send_notices(self) -> None:
        while True:
            notice = self._notices.get()
            if isinstance(notice, threading.Event):
                notice.set()
                return
            message, line, after, done = notice
            after.wait()
            try:
                self._server.notify(message, line, self._modern)
            except TroubleError as trouble:
                log(trouble)
            except Exception as error:  # noqa: BLE001  the next one may pass
                log(unexpected(error))
            done.set()
