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
TALK = {"accept": f"{JSON}, {EVENTS}", "content-type": JSON}


class Place:
    """How far the events of a stream have been read, for who must go on elsewhere.

    A large result of the call `expects` need not be read to its end.
    """

    def __init__(self, expects: Any = None) -> None:
        self.expects = expects
        self.event_id: str | None = None
        self.retry: float | None = None  # seconds


Content = bytes | bytearray


def messages_in(stream: Stream, place: Place) -> Iterator[tuple[Content, Message]]:
    """Each message as it came and as it reads.

    Raises:
        BrokenError: the connection broke.

    """
    if stream.kind == EVENTS:
        for event in events(stream.chunks()):
            place.event_id = event.id or place.event_id
            place.retry = event.retry if event.retry is not None else place.retry
            if event.kind == "message" and event.data:
                yield from _parsed(event.data, place)
    else:
        yield from _parsed(stream.read(), place)


def _parsed(content: Content, place: Place) -> Iterator[tuple[Content, Message]]:
    found = skimmed(content, place.expects) or parse(content)
    if isinstance(found, dict):
        yield content, found
    elif isinstance(found, list):  # a batch of the protocol of 2025-03-26
        yield from ((dumped(each), each) for each in found if isinstance(each, dict))
