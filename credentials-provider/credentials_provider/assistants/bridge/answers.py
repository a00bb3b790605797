"""The messages in an HTTP answer: one JSON document, or events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credentials_provider.assistants.bridge.events import events
from credentials_provider.assistants.bridge.messages import dumped, parse, skimmed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.assistants.bridge.messages import Message
    from credentials_provider.transport.streaming import Stream

JSON, EVENTS = "application/json", "text/event-stream"
POST_HEADERS = {"accept": f"{JSON}, {EVENTS}", "content-type": JSON}


class StreamPosition:
    """How far the events of a stream have been read, for who must go on elsewhere.

    A large result of the call `expects` need not be read to its end.
    """

    def __init__(self, expects: Any = None) -> None:
        self.expects = expects
        self.event_id: str | None = None
        self.retry: float | None = None  # seconds


Content = bytes | bytearray


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
