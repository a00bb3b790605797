"""What the client waits for, and who gets an answer: each request one, and no more than one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from credentials_provider.assistants.bridge.messages import (
    Message,
    dumped,
    is_response,
    key_of,
    line_of,
    redacted_error,
    stated_version,
)
from credentials_provider.transport.streaming import Handle

if TYPE_CHECKING:
    from collections.abc import Callable


class Call:
    """One request of the client."""

    def __init__(self, message: Message, body: bytes) -> None:
        self.message = message
        self.body = body
        self.id: Any = message["id"]
        self.method: str = message["method"]
        self.modern = stated_version(message) is not None
        self.handle = Handle()
        self.cancelled = False
        self.ended = threading.Event()  # it has its answer, or needs none

    @property
    def answered(self) -> bool:
        return self.ended.is_set()

    @property
    def waits(self) -> bool:
        """Whether the client still wants an answer."""
        return not (self.answered or self.cancelled)


class Calls:
    """The requests under way; `write` sends a line to the client.

    `seen` is shown each result before the client is, and may give another in its place.
    """

    def __init__(
        self,
        write: Callable[[bytes | bytearray], None],
        seen: Callable[[Call, Message], Message | None],
    ) -> None:
        self._write = write
        self._seen = seen
        self._changed = threading.Condition()
        self._open: dict[str, Call] = {}

    def open(self, message: Message, body: bytes) -> Call | None:
        """A new call; None where one of this id is under way."""
        call = Call(message, body)
        with self._changed:
            if self._open.setdefault(key_of(call.id), call) is not call:
                return None
        return call

    def cancel(self, message_id: Any) -> Call | None:
        """The client no longer wants an answer to this one."""
        with self._changed:
            call = self._open.get(key_of(message_id))
            if call is not None:
                call.cancelled = True
                self._changed.notify_all()
        return call

    def deliver(self, content: bytes | bytearray, message: Message, asked: Call | None) -> None:
        """Pass on what the server says; `asked` is the call in whose answer it came.

        A response that names no call which is under way belongs to `asked`: servers answer what
        they could not read with an id of null, and the client would wait for ever.
        """
        if not is_response(message):
            self._write(line_of(content))
            return
        with self._changed:
            call = self._open.get(key_of(message.get("id")))
        changed = call is None
        call = call or asked
        if call is None:
            return
        if "error" in message:
            error = redacted_error(message["error"])
            changed = changed or error != message["error"]
            message = {**message, "error": error}
        elif (replaced := self._seen(call, message)) is not None:
            message, changed = replaced, True
        self.answer(call, dumped({**message, "id": call.id}) if changed else line_of(content))

    def answer(self, call: Call, line: bytes | bytearray) -> None:
        """End a call, once, with a line."""
        with self._changed:
            wanted = call.waits
            call.ended.set()
        if wanted:
            self._write(line)
        self.close(call)

    def close(self, call: Call) -> None:
        """Have done with a call."""
        call.ended.set()
        with self._changed:
            if self._open.get(key_of(call.id)) is call:
                del self._open[key_of(call.id)]
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until nobody waits for an answer, for so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: not any(c.waits for c in self._open.values()), seconds)

    def waiting(self) -> list[Call]:
        with self._changed:
            return list(self._open.values())
