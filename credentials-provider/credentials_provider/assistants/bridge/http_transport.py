"""How a message gets to the server, and what its answer means for who sent it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credentials_provider.assistants.bridge.answers import (
    EVENTS,
    POST_HEADERS,
    StreamPosition,
    first_response,
    messages_in,
)
from credentials_provider.assistants.bridge.calls import Call, Calls
from credentials_provider.assistants.bridge.headers import VERSION, Tools
from credentials_provider.assistants.bridge.messages import (
    HEADER_MISMATCH,
    Message,
    dumped,
    error_in,
    object_at,
)
from credentials_provider.assistants.bridge.remote import NOTICE_TIMEOUT, body_of
from credentials_provider.assistants.bridge.session import (
    EVENT_HEADER,
    HEADER,
    Listener,
    Session,
    is_unknown_session,
)
from credentials_provider.assistants.bridge.sse_transport import SseTransport
from credentials_provider.assistants.bridge.trouble import (
    BAD_REQUEST,
    NOT_ALLOWED,
    NOT_FOUND,
    UNAUTHORIZED,
    broken,
    log,
    unanswered,
)
from credentials_provider.transport.streaming import BrokenStreamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.assistants.bridge.remote import Remote
    from credentials_provider.transport.streaming import Stream

REST_OF_STREAM = 2.0  # seconds for a stream to end after its answer
RESUME_DELAY = 0.5  # seconds before a stream is asked to go on, where it names none
CLOSE_TIMEOUT = 1.0  # seconds for the end of the session

# What makes a server do a thing once, however often it is said. All else is sent once.
_REPEATABLE = frozenset(
    {
        *("initialize", "ping", "server/discover", "tools/list", "prompts/list", "prompts/get"),
        *("resources/list", "resources/read", "resources/templates/list", "resources/subscribe"),
        *("resources/unsubscribe", "logging/setLevel", "completion/complete"),
        *("subscriptions/listen", "tasks/list", "tasks/get", "tasks/result"),
    }
)
_REREADABLE = _REPEATABLE - {"initialize", "subscriptions/listen"}
_READ = frozenset({"initialize", "tools/list"})  # whose results say what we must know
_FIRST = frozenset({"initialize", "server/discover"})
_MOST_TRIES = 3  # of one call: a new session, other headers, a connection that broke
_MOST_PAGES = 100


class HttpTransport:
    """The server, as calls and notices see it; `write` sends a line to the client."""

    def __init__(self, remote: Remote, write: Callable[[bytes | bytearray], None]) -> None:
        self._remote = remote
        self._tools = Tools()
        self.calls = Calls(write, self._inspect_result)
        self._session = Session(remote)
        self._listener = Listener(remote, self._session, self.calls)
        self._session.renewed = self._listener.restart
        self._sse = SseTransport(remote, self.calls, self._session)

    def close(self) -> None:
        """End the session at the server.

        Raises:
            TroubleError: it does not answer.

        """
        if self._session.id is not None:
            headers = self._session.headers()
            self._remote.ask("DELETE", headers, read_timeout=CLOSE_TIMEOUT).close()

    # What gets no answer

    def notify(self, message: Message, line: bytes, modern: str | None) -> None:
        """Send a notification or a response; `modern` is the version that its client states.

        Raises:
            TroubleError: it did not get there.

        """
        if self._sse.found:
            self._sse.send(line, once=False)
        else:
            self._post_notice(line, modern)
        self._session.remember(message, line)
        if message.get("method") == "notifications/initialized" and not self._sse.found:
            self._listener.start()

    def _post_notice(self, line: bytes, modern: str | None) -> None:
        for again in (False, True):
            headers = self._session.headers()
            if not headers and modern is not None:
                headers = {VERSION: modern}
            stream = self._remote.ask(
                "POST", {**POST_HEADERS, **headers}, line, read_timeout=NOTICE_TIMEOUT
            )
            if stream.succeeded:
                stream.close()
                return
            body = body_of(stream)
            name = headers.get(HEADER)
            if again or name is None or not is_unknown_session(name, stream.status, body):
                raise self._remote.refusal(stream, body)
            self._session.begin_again(name)

    # Calls

    def ask(self, call: Call) -> None:
        """Get a call its answer.

        Raises:
            TroubleError: it gets none.

        """
        if call.method == "initialize":
            self._session.begin(call.body)
        if self._sse.found:
            self._sse.send(call.body, once=call.method not in _REPEATABLE)
            return
        for _ in range(_MOST_TRIES):
            name = self._session.id if not call.modern else None
            stream = self._post(call)
            if stream.succeeded and stream.kind == "text/html":  # a sign-in page, or a portal's
                raise self._remote.refusal(stream, body_of(stream))
            if stream.succeeded:
                if self._read(call, stream):
                    return
                continue
            body = body_of(stream)
            if is_unknown_session(name, stream.status, body):
                self._session.begin_again(name or "")
            elif not self._can_retry_with_headers(call, body):
                self._refused(call, stream, body)
                return
        raise broken(self._remote.url)

    def _refused(self, call: Call, stream: Stream, body: bytes) -> None:
        error = error_in(body)
        if error and stream.status != UNAUTHORIZED:
            answer = {"jsonrpc": "2.0", "id": call.id, "error": error}
            self.calls.deliver(dumped(answer), answer, call)
        elif not self._is_sse(call, stream):
            raise self._remote.refusal(stream, body)

    def _post(self, call: Call) -> Stream:
        headers = self._tools.headers(call.message) if call.modern else self._session.headers()
        once = call.method not in _REPEATABLE
        return self._remote.ask(
            "POST", {**POST_HEADERS, **headers}, call.body, once=once, handle=call.handle
        )

    def _read(self, call: Call, stream: Stream) -> bool:
        """Deliver an answer's messages; where its stream breaks, ask for the rest of it.

        False: it broke, and the call may be sent again.
        """
        if call.method == "initialize":
            self._session.id = stream.headers.get(HEADER)
        else:
            self._session.remember(call.message, call.body)
        position = StreamPosition(None if call.method in _READ else call.id)
        while True:
            whole = self._deliver(call, stream, position)
            if not call.waits:
                return True
            if position.event_id is None or call.modern:
                if call.method in _REREADABLE and not whole:
                    return False
                raise unanswered(self._remote.url) if whole else broken(self._remote.url)
            if self._remote.sleep(position.retry or RESUME_DELAY):
                return True
            stream = self._resumed(call, position.event_id)

    def _deliver(self, call: Call, stream: Stream, position: StreamPosition) -> bool:
        """Pass on what a stream holds; whether it ended as it should."""
        try:
            for content, message in messages_in(stream, position):
                self.calls.deliver(content, message, call)
                if call.answered:
                    call.handle.limit(REST_OF_STREAM)
        except BrokenStreamError:
            return False
        return True

    def _resumed(self, call: Call, event_id: str) -> Stream:
        headers = {"accept": EVENTS, EVENT_HEADER: event_id, **self._session.headers()}
        stream = self._remote.ask("GET", headers, handle=call.handle)
        if not stream.succeeded or stream.kind != EVENTS:
            stream.close()
            raise broken(self._remote.url)
        return stream

    def _is_sse(self, call: Call, stream: Stream) -> bool:
        """Whether it is a server of the older transport, which then has the call."""
        might = {NOT_FOUND, NOT_ALLOWED} if call.modern else {BAD_REQUEST, NOT_FOUND, NOT_ALLOWED}
        if call.method not in _FIRST or stream.status not in might or not self._sse.open():
            return False
        log("the server speaks the transport of 2024-11-05 (HTTP+SSE)")
        self._sse.send(call.body, once=False)
        return True

    def _can_retry_with_headers(self, call: Call, body: bytes) -> bool:
        """Whether a call that was refused for its headers may pass with those that are known now.

        Who starts this program anew need not have asked for the tools again.
        """
        if call.method != "tools/call" or error_in(body).get("code") != HEADER_MISMATCH:
            return False
        before = self._tools.headers(call.message)
        params: dict[str, Any] = {"_meta": object_at(call.message, "params", "_meta")}
        for _ in range(_MOST_PAGES):
            message = {
                "jsonrpc": "2.0",
                "id": "credentials-provider/tools",
                "method": "tools/list",
                "params": params,
            }
            headers = {**POST_HEADERS, **self._tools.headers(message)}
            stream = self._remote.ask("POST", headers, dumped(message), read_timeout=NOTICE_TIMEOUT)
            try:
                answer = first_response(stream)
            except BrokenStreamError:
                break
            self._tools.learn(answer)
            cursor = object_at(answer, "result").get("nextCursor")
            if not isinstance(cursor, str):
                break
            params = {**params, "cursor": cursor}
        return self._tools.headers(call.message) != before

    def _inspect_result(self, call: Call, message: Message) -> Message | None:
        if call.method == "initialize":
            self._session.negotiated(message)
        listed = call.method == "tools/list" and call.modern
        return self._tools.learn(message) if listed else None
