"""The transport of 2024-11-05: messages go to one address, answers come from another.

https://modelcontextprotocol.io/specification/2024-11-05/basic/transports#http-with-sse
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from credentials_provider.assistants.bridge.answers import EVENTS, POST_HEADERS, events
from credentials_provider.assistants.bridge.messages import dumped, is_response, parse
from credentials_provider.assistants.bridge.remote import (
    FIRST_TIMEOUT,
    NOTICE_TIMEOUT,
    body_of,
    within_origin,
)
from credentials_provider.assistants.bridge.trouble import broken, log, start_again
from credentials_provider.transport.streaming import BrokenStreamError, Handle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.assistants.bridge.answers import Event
    from credentials_provider.assistants.bridge.calls import Calls
    from credentials_provider.assistants.bridge.remote import Remote
    from credentials_provider.assistants.bridge.session import Session

_REPLAYED = "credentials-provider/initialize"


class SseTransport:
    """A server of the older transport, once `open` has found one."""

    def __init__(self, remote: Remote, calls: Calls, session: Session) -> None:
        self._remote = remote
        self._calls = calls
        self._session = session
        self._lock = threading.Lock()
        self._endpoint: str | None = None
        self._replayed = threading.Event()
        self.found = False

    def open(self) -> bool:
        """Whether the address has such a server, which then is used from now on.

        Raises:
            TroubleError: nobody answers.

        """
        with self._lock:
            return self._endpoint is not None or self._connect()

    def send(self, body: bytes, *, once: bool) -> None:
        """A message; its answer comes by the stream.

        Raises:
            TroubleError: it was not taken.

        """
        with self._lock:
            if self._endpoint is None:
                if not self._connect():
                    raise start_again("the server's stream has ended and cannot be opened again")
                self._begin_again()
        self._post(body, once=once)

    def _post(self, body: bytes, *, once: bool) -> None:
        url = self._endpoint
        stream = self._remote.ask(
            "POST", POST_HEADERS, body, url=url, once=once, read_timeout=NOTICE_TIMEOUT
        )
        content = body_of(stream)
        if not stream.succeeded:
            raise self._remote.refusal(stream, content)

    def _connect(self) -> bool:
        handle = Handle()
        headers = {"accept": EVENTS}
        stream = self._remote.ask("GET", headers, read_timeout=FIRST_TIMEOUT, handle=handle)
        if not stream.succeeded or stream.kind != EVENTS:
            stream.close()
            return False
        source = events(stream.chunks())
        target = None
        with contextlib.suppress(BrokenStreamError):
            first = next((each for each in source if each.data), None)
            if first is not None and first.kind == "endpoint":
                target = within_origin(self._remote.url, first.data.decode(errors="replace"))
        if target is None:
            handle.end()
            stream.close()
            return False
        handle.limit(None)
        self._endpoint, self.found = target, True
        threading.Thread(target=self._read, args=(source, target), daemon=True).start()
        return True

    def _read(self, source: Iterator[Event], endpoint: str) -> None:
        try:
            for event in source:
                message = parse(event.data) if event.kind == "message" else None
                if not isinstance(message, dict):
                    continue
                if is_response(message) and message.get("id") == _REPLAYED:
                    self._replayed.set()
                else:
                    self._calls.deliver(event.data, message, None)
        except BrokenStreamError:
            pass
        finally:  # whatever it was that ended it: nobody waits for ever
            if self._endpoint == endpoint:
                self._endpoint = None
            for call in self._calls.waiting():
                self._calls.answer(call, broken(self._remote.url).line(call.id))

    def _begin_again(self) -> None:
        """A new stream is a new session: the client's first messages are sent again."""
        opening = self._session.opening()
        if not opening:
            return
        self._replayed.clear()
        self._post(dumped({**parse(opening[0]), "id": _REPLAYED}), once=False)
        if not self._replayed.wait(NOTICE_TIMEOUT):
            raise broken(self._remote.url)
        for body in opening[1:]:
            self._post(body, once=False)
        log("the server had ended the session; a new one took its place")
