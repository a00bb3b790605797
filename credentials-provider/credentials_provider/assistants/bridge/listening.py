"""The stream of what a server says by itself, kept open as long as there is a session."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from credentials_provider.assistants.bridge.answers import EVENTS, StreamPosition, messages_in
from credentials_provider.assistants.bridge.remote import FIRST_BACKOFF, body_of
from credentials_provider.assistants.bridge.session import is_unknown_session
from credentials_provider.assistants.bridge.trouble import TOO_MANY, UNAUTHORIZED, TroubleError
from credentials_provider.transport.streaming import BrokenStreamError, Handle

if TYPE_CHECKING:
    from credentials_provider.assistants.bridge.calls import Calls
    from credentials_provider.assistants.bridge.remote import Remote, Sleep
    from credentials_provider.assistants.bridge.session import Session

LONGEST_BACKOFF = 30.0  # seconds between two tries
EVENT_HEADER = "last-event-id"
_TEMPORARY = {408, UNAUTHORIZED, TOO_MANY}


class Listener:
    """One GET at a time. A server without such a stream says so, and is not asked again."""

    def __init__(self, remote: Remote, session: Session, calls: Calls, sleep: Sleep) -> None:
        self._remote = remote
        self._session = session
        self._calls = calls
        self._sleep = sleep
        self._handle = Handle()
        self._started = False

    def start(self) -> None:
        """Listen from now on; once."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._listen, daemon=True).start()

    def restart(self) -> None:
        """The session is another one: what is open belongs to the last."""
        self._handle.end()

    def _listen(self) -> None:
        wait, position = FIRST_BACKOFF, StreamPosition()
        while True:
            self._handle = Handle()
            session = self._session
            name = session.id
            headers = {"accept": EVENTS, **session.headers()}
            if position.event_id is not None:
                headers[EVENT_HEADER] = position.event_id
            try:
                stream = self._remote.ask("GET", headers, handle=self._handle)
                if stream.succeeded and stream.kind == EVENTS:
                    for content, message in messages_in(stream, position):
                        wait = FIRST_BACKOFF
                        self._calls.deliver(content, message, None)
                else:
                    body = body_of(stream)
                    if is_unknown_session(name, stream.status, body):
                        position = StreamPosition()
                        session.begin_again(name or "")
                    elif stream.status < 500 and stream.status not in _TEMPORARY:  # noqa: PLR2004
                        return  # it has none
            except (TroubleError, BrokenStreamError):
                pass  # a message would say why
            if name != session.id:
                position, wait = StreamPosition(), FIRST_BACKOFF
            if self._sleep(max(wait, position.retry or 0.0)):
                return
            wait = min(2 * wait, LONGEST_BACKOFF)
