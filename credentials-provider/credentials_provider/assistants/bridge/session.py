"""What a server and a client have agreed on: a session, its name and its protocol version.

https://modelcontextprotocol.io/specification/2025-06-18/basic/transports#session-management
From 2026-07-28 on there is none: each message states its version itself.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from credentials_provider.assistants.bridge.answers import (
    EVENTS,
    POST_HEADERS,
    StreamPosition,
    first_response,
    messages_in,
)
from credentials_provider.assistants.bridge.headers import VERSION
from credentials_provider.assistants.bridge.messages import NO_SUCH_METHOD, error_in, object_at
from credentials_provider.assistants.bridge.remote import FIRST_BACKOFF, NOTICE_TIMEOUT, body_of
from credentials_provider.assistants.bridge.trouble import (
    BAD_REQUEST,
    NOT_FOUND,
    TOO_MANY,
    UNAUTHORIZED,
    TroubleError,
    broken,
    log,
    start_again,
)
from credentials_provider.transport.streaming import BrokenStreamError, Handle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credentials_provider.assistants.bridge.calls import Calls
    from credentials_provider.assistants.bridge.messages import Message
    from credentials_provider.assistants.bridge.remote import Remote

HEADER = "mcp-session-id"
EVENT_HEADER = "last-event-id"
LONGEST_BACKOFF = 30.0  # seconds between two tries of the server's own stream
_TEMPORARY = {408, UNAUTHORIZED, TOO_MANY}


class Session:
    """The session of the client's last `initialize`, made anew where the server forgets it.

    `renewed` is called where another session took the place of the last.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.renewed: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._initialize: bytes | None = None
        self._replayed: dict[str, bytes] = {}  # what else a new session has to hear
        self.id: str | None = None
        self.version: str | None = None

    def begin(self, initialize: bytes) -> None:
        """The client says `initialize`: what was agreed on before is void."""
        self._initialize, self.id, self.version = initialize, None, None
        self._replayed.clear()

    def negotiated(self, answer: Message) -> None:
        """The server has answered it."""
        version = object_at(answer, "result").get("protocolVersion")
        if isinstance(version, str) and version.isascii() and version.isprintable():
            self.version = version

    def headers(self) -> dict[str, str]:
        """What every request within the session has."""
        found = {HEADER: self.id, VERSION: self.version}
        return {name: value for name, value in found.items() if value is not None}

    def remember(self, message: Message, body: bytes) -> None:
        """Remember what a new session has to hear."""
        method, uri = message.get("method"), object_at(message, "params").get("uri")
        if method in {"notifications/initialized", "logging/setLevel"}:
            self._replayed[str(method)] = body
        elif method == "resources/subscribe":
            self._replayed[f"resource {uri}"] = body
        elif method == "resources/unsubscribe":
            self._replayed.pop(f"resource {uri}", None)

    def opening(self) -> list[bytes]:
        """What a new session hears: the client's `initialize` first; empty before it."""
        return [self._initialize, *self._replayed.values()] if self._initialize is not None else []

    def begin_again(self, lost: str) -> None:
        """Make a new session instead of the one named `lost`, unless that was done already.

        Raises:
            TroubleError: the server gives none, or none like it.

        """
        with self._lock:
            if self.id != lost:
                return
            initialize, *rest = self.opening()
            name, answer = self._replay(initialize, {})
            found = object_at(answer, "result").get("protocolVersion")
            if found is None or (self.version is not None and found != self.version):
                raise start_again("the server has ended the session, and a new one is not like it")
            self.id = name
            for body in rest:
                self._replay(body, self.headers())
            self.renewed()
            log("the server had ended the session; a new one took its place")

    def _replay(self, body: bytes, headers: Mapping[str, str]) -> tuple[str | None, Message]:
        """Send a message once more; the name of the session, and the answer for nobody else."""
        headers = {**POST_HEADERS, **headers}
        stream = self._remote.ask("POST", headers, body, read_timeout=NOTICE_TIMEOUT)
        try:
            return stream.headers.get(HEADER), first_response(stream)
        except BrokenStreamError:
            raise broken(self._remote.url) from None


def is_unknown_session(session: str | None, status: int, body: bytes) -> bool:
    """Whether an answer says that the session of the request is not known.

    404 by the protocol, 400 with some servers.
    """
    if session is None:
        return False
    if status == NOT_FOUND:
        return error_in(body).get("code") != NO_SUCH_METHOD
    return status == BAD_REQUEST and b"session" in body.lower()


class Listener:
    """The stream of what a server says by itself, kept open as long as there is a session.

    One GET at a time. A server without such a stream says so, and is not asked again.
    """

    def __init__(self, remote: Remote, session: Session, calls: Calls) -> None:
        self._remote = remote
        self._session = session
        self._calls = calls
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
            if self._remote.sleep(max(wait, position.retry or 0.0)):
                return
            wait = min(2 * wait, LONGEST_BACKOFF)
