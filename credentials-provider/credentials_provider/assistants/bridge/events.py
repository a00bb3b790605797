"""Server-sent events, as they come in pieces.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LONGEST_RETRY = 60.0  # seconds
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


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
