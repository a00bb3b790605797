"""What a server and a client have agreed on: a session, its name and its protocol version.

https://modelcontextprotocol.io/specification/2025-06-18/basic/transports#session-management
From 2026-07-28 on there is none: each message states its version itself.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from credentials_provider.assistants.bridge.answers import POST_HEADERS, StreamPosition, messages_in
from credentials_provider.assistants.bridge.headers import VERSION
from credentials_provider.assistants.bridge.messages import (
    NO_SUCH_METHOD,
    error_in,
    is_response,
    params_of,
    result_of,
)
from credentials_provider.assistants.bridge.remote import NOTICE_TIMEOUT
from credentials_provider.assistants.bridge.trouble import (
    BAD_REQUEST,
    NOT_FOUND,
    broken,
    log,
    start_again,
)
from credentials_provider.transport.streaming import BrokenStreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credentials_provider.assistants.bridge.messages import Message
    from credentials_provider.assistants.bridge.remote import Remote

HEADER = "mcp-session-id"


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
        version = result_of(answer).get("protocolVersion")
        if isinstance(version, str) and version.isascii() and version.isprintable():
            self.version = version

    def headers(self) -> dict[str, str]:
        """What every request within the session has."""
        found = {HEADER: self.id, VERSION: self.version}
        return {name: value for name, value in found.items() if value is not None}

    def remember(self, message: Message, body: bytes) -> None:
        """Remember what a new session has to hear."""
        method, uri = message.get("method"), params_of(message).get("uri")
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
            found = result_of(answer).get("protocolVersion")
            if found is None or (self.version is not None and found != self.version):
                raise start_again("the server has ended the session, and a new one is not like it")
            self.id = name
            for body in rest:
                self._replay(body, self.headers())
            self.renewed()
            log("the server had ended the session; a new one took its place")

    def _replay(self, body: bytes, headers: Mapping[str, str]) -> tuple[str | None, Message]:
        """Send a message once more; the name of the session, and the answer for nobody else."""
        stream = self._remote.ask(
            "POST", {**POST_HEADERS, **headers}, body, read_timeout=NOTICE_TIMEOUT
        )
        answer: Message = {}
        try:
            for _, message in messages_in(stream, StreamPosition()):
                if is_response(message):
                    answer = message
                    break
        except BrokenStreamError:
            raise broken(self._remote.url) from None
        finally:
            stream.close()
        return stream.headers.get(HEADER), answer


def is_unknown_session(session: str | None, status: int, body: bytes) -> bool:
    """Whether an answer says that the session of the request is not known.

    404 by the protocol, 400 with some servers.
    """
    if session is None:
        return False
    if status == NOT_FOUND:
        return (error_in(body) or {}).get("code") != NO_SUCH_METHOD
    return status == BAD_REQUEST and b"session" in body.lower()
