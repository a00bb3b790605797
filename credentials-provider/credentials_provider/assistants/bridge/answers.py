"""The messages in an HTTP answer: one JSON document, or server-sent events, as they come in pieces.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from credentials_provider.assistants.bridge.messages import dumped, is_response, parse, skimmed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from credentials_provider.assistants.bridge.messages import Message
    from credentials_provider.transport.streaming import Stream

    Content = bytes | bytearray

JSON, EVENTS = "application/json", "text/event-stream"
POST_HEADERS = {"accept": f"{JSON}, {EVENTS}", "content-type": JSON}
LONGEST_RETRY = 60.0  # seconds
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class StreamPosition:
    """How far the events of a stream have been read, for who must go on elsewhere.

    A large result of the call `expects` need not be read to its end.
    """

    expects: Any = None
    event_id: str | None = None
    retry: float | None = None  # seconds


def messages_in(stream: Stream, position: StreamPosition) -> Iterator[tuple[Content, Message]]:
    """Each message as it came and as it reads.

    Raises:
        BrokenStreamError: the connection broke.

    """
    if stream.kind == EVENTS:
        for event in events(stream.chunks()):
            position.event_id = event.id or position.event_id
            position.retry = event.retry if event.retry is not None else position.retry
            if event.kind == "message" and event.data:
                yield from _parsed(event.data, position)
    else:
        yield from _parsed(stream.read(), position)


def _parsed(content: Content, position: StreamPosition) -> Iterator[tuple[Content, Message]]:
    found = skimmed(content, position.expects) or parse(content)
    if isinstance(found, dict):
        yield content, found
    elif isinstance(found, list):  # a batch of the protocol of 2025-03-26
        yield from ((dumped(each), each) for each in found if isinstance(each, dict))


def first_response(stream: Stream) -> Message:
    """The first response in an answer, which ends with it; empty where there is none.

    Raises:
        BrokenStreamError: the connection broke.

    """
    with contextlib.closing(stream):
        return next((m for _, m in messages_in(stream, StreamPosition()) if is_response(m)), {})


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is the last that was seen, `retry` seconds before a new connection."""

    kind: str
    data: bytes
    id: str | None
    retry: float | None = None


def events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream; one without data is given where it names an id or a time to wait.

    An event that the stream breaks off in is none.
    """
    last_id: str | None = None
    data: list[bytes] = []
    kind, news, retry = "", False, None
    for line in _lines(chunks):
        if not line:
            if data or news:
                yield Event(kind or "message", b"\n".join(data), last_id, retry)
            kind, data, news, retry = "", [], False, None
            continue
        colon = line.find(b":")
        name = line if colon < 0 else line[:colon]
        value = (
            b"" if colon < 0 else line[colon + (2 if line[colon + 1 : colon + 2] == b" " else 1) :]
        )
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            last_id, news = value.decode("latin-1") or None, True
        elif name == b"retry" and value.isdigit():
            retry, news = min(int(value[:9]) / 1000, LONGEST_RETRY), True


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their ends. What is searched once is not searched again: one may be long."""
    rest = bytearray()
    searched = 0
    first, after_return = True, False
    for chunk in chunks:
        rest += chunk[1:] if after_return and chunk.startswith(b"\n") else chunk
        after_return = chunk.endswith(b"\r")
        begin = 0
        for end in _LINE_END.finditer(rest, searched):
            with memoryview(rest) as view:  # one copy
                line = bytes(view[begin : end.start()])
            yield line.removeprefix(_BOM) if first else line
            first, begin = False, end.end()
        del rest[:begin]
        searched = len(rest)
