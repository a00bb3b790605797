"""A stdio MCP server in front of a remote one, with a token that lives on every request.

The official SDK's transports stand at both ends and messages pass between them as they are, so
that whatever client and server have agreed on goes through. What the SDK's HTTP client knows
nothing of stands below it, in `Remote`: tokens, a 401, a session that the server has forgotten,
connections that break. Trouble becomes an MCP error that the assistant shows to its user.

The SDK 1.x brings httpx, 2.x httpx2: the same interface, as far as it is used here.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from mcp.client import streamable_http
from mcp.server.stdio import stdio_server
from mcp.shared.message import ClientMessageMetadata, SessionMessage

from credentials_provider.errors import CredentialsProviderError
from credentials_provider.model import Observer
from credentials_provider.run.access import get_token
from credentials_provider.transport.proxies import proxy_for
from credentials_provider.transport.trust import tls_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from credentials_provider.model import RunOptions

http: Any = vars(streamable_http).get("httpx2") or vars(streamable_http)["httpx"]

CONNECT_TIMEOUT = 10.0  # seconds
RETURN_TIMEOUT = 20.0  # seconds that a server may be away, as while it restarts
LONGEST_WAIT = 30.0  # seconds between tries for the stream of notifications
FIRST_WAIT = 0.25  # seconds, doubling
OLD_TOKEN_FOR = 30.0  # seconds for which a renewal that failed is not tried again
LAST_ANSWERS = 3.0  # seconds for answers that are under way when the client hangs up
ASLEEP = 5.0  # seconds by which the two clocks come apart where a machine slept

_SESSION = "mcp-session-id"
_VERSION = "mcp-protocol-version"
_EVENT = "last-event-id"
_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_SERVER_ERROR = -32000  # JSON-RPC 2.0 section 5.1
_MOST_REDIRECTS = 3

_OK, _ACCEPTED, _BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN = 200, 202, 400, 401, 403
_NOT_FOUND, _NO_SUCH_METHOD, _TOO_MANY, _UNAVAILABLE = 404, 405, 429, 503
_AWAY = frozenset({502, 503, 504})
_KEEPING_METHOD = frozenset({307, 308})
# How every token begins: one that a server sends back must not get into an assistant's log.
_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]{16}")

for _name in ("mcp", "httpx", "httpx2", "httpcore", "httpcore2"):  # what they log may hold headers
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


class TroubleError(Exception):
    """Why a message did not get through, and what its user can do."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


class Tokens:
    """One identity's tokens. Asked before each request, and looks at the file each time."""

    def __init__(self, request: RunOptions, identity: str, min_ttl: float, tell: Observer) -> None:
        self._request = request
        self._identity = identity
        self._min_ttl = min_ttl
        self._tell = tell
        self._lock = anyio.Lock()
        self._old = ("", 0.0)  # a token that could not be renewed, and until when it is taken

    async def get(self, refused: str | None = None) -> str:
        """A token that lives; another one than `refused`, minted anew if need be.

        Raises:
            TroubleError: there is none.

        """
        async with self._lock:
            token, until = self._old
            if refused is None and time.monotonic() < until:
                return token
            found = await self._take(force=False)
            return await self._take(force=True) if found == refused else found

    async def _take(self, *, force: bool) -> str:
        request = self._request._replace(force=force)
        try:
            access = await anyio.to_thread.run_sync(
                get_token, request, self._identity, self._min_ttl, self._tell
            )
        except CredentialsProviderError as error:
            raise TroubleError(error.message, error.hint or "") from None
        if access.kept is not None:
            self._tell.warn(f"{self._identity} keeps its old token: {access.kept.message}")
            left = access.expires_on - time.time()
            self._old = (access.token, time.monotonic() + min(OLD_TOKEN_FOR, left - 1))
        return access.token


class _Events(http.AsyncByteStream):  # type: ignore[misc]  # of either library
    """The events of an answer; a connection that breaks ends them as the SDK can understand.

    Where the answer to `asked` is missing at the end and nothing tells how to resume, an error
    takes its place: a client would wait for ever.
    """

    def __init__(self, inner: Any, asked: Any, remember: Callable[[str], None]) -> None:
        self._inner = inner
        self._asked = asked
        self._remember = remember
        self._rest = b""
        self._data = b""
        self._open = asked is not None
        self._resumable = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner.stream:
                yield chunk
                self._note(chunk)
        except http.TransportError:
            yield b"\n\n"  # whatever was begun
        if self._open and not self._resumable:
            yield _event(_broken(self._asked))

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _note(self, chunk: bytes) -> None:
        if not self._open:
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data += line[5:]
            elif line.startswith(b"id:"):
                self._resumable = True
                self._remember(line[3:].strip().decode(errors="replace"))
            elif not line:
                answer, self._data = _object(self._data), b""
                self._open = not ("result" in answer or "error" in answer)


class Remote(http.AsyncBaseTransport):  # type: ignore[misc]  # of either library
    """The way to the server, below the SDK's HTTP client, to which it hides every interruption.

    `session` is what the server calls the session now; the SDK keeps the name of the first.
    """

    def __init__(self, url: str, header: str, tokens: Tokens, connect: Callable[[], Any]) -> None:
        self._url = url
        self._header = header
        self._tokens = tokens
        self._connect = connect
        self._inner = connect()
        self._left: list[Any] = []  # pools from before a sleep
        self._clocks = time.time() - time.monotonic()
        self._renewing = anyio.Lock()
        self._greeted = anyio.Event()
        self._greeted.set()  # until an `initialize` comes: from 2026 on there need not be one
        self._initialize: bytes | None = None
        self._replayed: dict[str, bytes] = {}  # what else a new session must be told
        self._unanswered: dict[str, Any] = {}  # last event id: what was asked
        self.session: str | None = None
        self.version: str | None = None

    async def aclose(self) -> None:
        for each in (*self._left, self._inner):
            await each.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        """The SDK's requests: POST a message, GET the stream of notifications, DELETE a session."""
        if request.method == "GET":
            return await self._listen(request)
        if request.method == "DELETE":
            try:
                with anyio.fail_after(LAST_ANSWERS):
                    return await self._send("DELETE", request.headers, b"")
            except (TroubleError, TimeoutError, http.TransportError):
                return http.Response(_OK)
        body = await request.aread()
        message = _object(body)
        try:
            return await self._post(request.headers, body, message)
        except TroubleError as trouble:
            _log(trouble)
            if "method" in message and "id" in message:
                return http.Response(_OK, json=_error(message["id"], trouble))
            return http.Response(_ACCEPTED)

    # Messages

    def greet(self) -> None:
        """An `initialize` is coming: what follows it belongs to the session that it makes."""
        self._greeted = anyio.Event()

    async def _post(self, headers: Any, body: bytes, message: dict[str, Any]) -> Any:
        if message.get("method") != "initialize":
            await self._greeted.wait()
            return await self._post_in_session(headers, body, message)
        self._initialize, self.session, self.version = body, None, None
        self._replayed.clear()
        try:
            response = await self._insist(headers, body, message)
            self.session = response.headers.get(_SESSION)
            return await self._understood(response, message)
        finally:
            self._greeted.set()

    async def _post_in_session(self, headers: Any, body: bytes, message: dict[str, Any]) -> Any:
        session = self.session
        response = await self._insist(headers, body, message)
        if session is not None and await _forgotten(response):
            await response.aclose()
            await self._begin_again(session)
            response = await self._insist(headers, body, message)
        if response.status_code < 300:  # noqa: PLR2004  RFC 9110 section 15.3
            self._keep(message.get("method"), message, body)
        return await self._understood(response, message)

    async def _insist(self, headers: Any, body: bytes, message: dict[str, Any]) -> Any:
        """Send until somebody answers, as long as that cannot make the server do a thing twice."""
        once = message.get("method") == "tools/call"
        end = time.monotonic() + RETURN_TIMEOUT
        wait = FIRST_WAIT
        while True:
            try:
                response = await self._send("POST", headers, body, message)
                status = response.status_code
                again = status in {_TOO_MANY, _UNAVAILABLE} or (status in _AWAY and not once)
                if not again or time.monotonic() + wait > end:
                    return response
                await response.aclose()
            except http.TransportError as error:
                unsent = isinstance(error, (http.ConnectError, http.ConnectTimeout))
                if (once and not unsent) or time.monotonic() + wait > end or _untrusted(error):
                    raise _explained(error, self._url, maybe_done=once and not unsent) from None
            await anyio.sleep(wait)
            wait = min(2 * wait, 2.0)

    async def _send(
        self, method: str, headers: Any, body: bytes, message: dict[str, Any] | None = None
    ) -> Any:
        """One request with a token that lives; a 401 gets a new one, once."""
        token = await self._tokens.get()
        response = await self._send_with(token, method, headers, body, message or {})
        if response.status_code == _UNAUTHORIZED:
            await response.aclose()
            token = await self._tokens.get(refused=token)
            response = await self._send_with(token, method, headers, body, message or {})
        return response

    async def _send_with(
        self, token: str, method: str, headers: Any, body: bytes, message: dict[str, Any]
    ) -> Any:
        sent = {
            name: value
            for name, value in headers.items()
            if name.lower() not in {_SESSION, self._header.lower(), "content-length", "host"}
        }
        sent.update(self._stamp(message))
        if self.session is not None:
            sent[_SESSION] = self.session
        sent[self._header] = f"Bearer {token}"
        url = http.URL(self._url)
        for _ in range(_MOST_REDIRECTS):
            timeout = {"connect": CONNECT_TIMEOUT, "write": None, "pool": None, "read": None}
            response = await self._pool().handle_async_request(
                http.Request(
                    method, url, headers=sent, content=body, extensions={"timeout": timeout}
                )
            )
            target = url.join(response.headers.get("location", ""))
            same = (target.scheme, target.host, target.port) == (url.scheme, url.host, url.port)
            if response.status_code not in _KEEPING_METHOD or not same:
                break
            await response.aclose()
            url = target
        return response

    def _stamp(self, message: dict[str, Any]) -> dict[str, str]:
        """The headers that the protocol wants of a message."""
        stated = _stated_version(message)
        if stated is None:
            known = message.get("method") != "initialize" and self.version
            return {_VERSION: self.version} if known and self.version else {}
        method = str(message["method"])
        stamp = {_VERSION: stated, "mcp-method": method}
        name = message["params"].get(_NAMED.get(method))
        if isinstance(name, str) and name.isascii() and name.isprintable():
            stamp["mcp-name"] = name
        return stamp

    def _pool(self) -> Any:
        """Connections; new ones after a sleep, which the other side has not waited through."""
        clocks = time.time() - time.monotonic()
        if abs(clocks - self._clocks) > ASLEEP:
            self._left.append(self._inner)
            self._inner = self._connect()
        self._clocks = clocks
        return self._inner

    async def _understood(self, response: Any, message: dict[str, Any]) -> Any:
        """The response as the SDK takes it: an answer, or an error that says what to do."""
        asked = message.get("id") if "method" in message else None
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        status = response.status_code
        if status == _ACCEPTED and asked is None:
            return response
        if status == _OK and kind == "text/event-stream":
            return http.Response(
                _OK,
                headers=response.headers,
                stream=_Events(response, asked, lambda at: self._unanswered.update({at: asked})),
            )
        if status == _OK and (kind == "application/json" or asked is None):
            return response
        try:
            content = await _read(response)
        except http.TransportError as error:
            raise _explained(error, self._url, maybe_done=True) from None
        told = None if _TOKEN.search(content) else _object(content).get("error")
        if isinstance(told, dict) and asked is not None and status != _UNAUTHORIZED:
            return http.Response(_OK, json={"jsonrpc": "2.0", "id": asked, "error": told})
        raise self._refusal(status, response.headers.get("location"))

    def _refusal(self, status: int, location: str | None) -> TroubleError:
        place = http.URL(self._url).host
        if status == _UNAUTHORIZED:
            return TroubleError(
                f"{place} refuses a new token of this identity (401)",
                f"It must want it in the header {self._header} (--header-name), and the "
                "identity's scope must be the server's application.",
            )
        if status == _FORBIDDEN:
            return TroubleError(
                f"{place} does not let this identity in (403)",
                "Ask its administrator for access for the identity's group or role.",
            )
        if status == _NOT_FOUND:
            return TroubleError(f"{place} has no MCP server there (404)", f"Check {self._url}")
        if location is not None:
            return TroubleError(
                f"{place} redirects to another address ({status})",
                "Use the address that it leads to in the configuration, if you trust it.",
            )
        return TroubleError(
            f"{place} gave no MCP answer (status {status})",
            "Try again. If it lasts, check the address and ask the server's administrator.",
        )

    # Sessions

    def _keep(self, method: object, message: dict[str, Any], body: bytes) -> None:
        """Remember what a new session must be told."""
        uri = (message.get("params") or {}).get("uri")
        if method in {"notifications/initialized", "logging/setLevel"}:
            self._replayed[str(method)] = body
        elif method == "resources/subscribe":
            self._replayed[f"resource {uri}"] = body
        elif method == "resources/unsubscribe":
            self._replayed.pop(f"resource {uri}", None)

    async def _begin_again(self, lost: str) -> None:
        """Make a new session where the server has forgotten the old one, as after a restart."""
        async with self._renewing:
            if self.session != lost:
                return
            if self._initialize is None:
                raise _start_again("the server has ended the session")
            self.session, version = None, self.version
            self.version = None
            try:
                response = await self._insist({**_TALK}, self._initialize, {"method": "initialize"})
                session = response.headers.get(_SESSION)
                answer = await _answer(response)
            except http.TransportError as error:
                self.session, self.version = lost, version
                raise _explained(error, self._url, maybe_done=False) from None
            self.version = version
            result = answer.get("result")
            if not isinstance(result, dict) or version not in {None, result.get("protocolVersion")}:
                self.session = lost
                raise _start_again("the server has ended the session and gives no like one")
            self.session = session
            for body in list(self._replayed.values()):
                told = await self._insist({**_TALK}, body, _object(body))
                await _answer(told)
            _say("the server had ended the session; a new one took its place")

    # Notifications

    async def _listen(self, request: Any) -> Any:
        """The stream of what the server says by itself, or the rest of an answer; waits for it."""
        last = request.headers.get(_EVENT)
        asked = self._unanswered.pop(last, None) if last else None
        end = time.monotonic() + (RETURN_TIMEOUT if asked is not None else float("inf"))
        wait = FIRST_WAIT
        while time.monotonic() < end:
            session = self.session
            try:
                response = await self._send("GET", request.headers, b"")
                if response.status_code == _OK:
                    stream = _Events(
                        response, asked, lambda at: self._unanswered.update({at: asked})
                    )
                    return http.Response(_OK, headers=response.headers, stream=stream)
                forgotten = session is not None and await _forgotten(response)
                await response.aclose()
                if forgotten and session is not None:
                    await self._begin_again(session)
                    if asked is not None:
                        break
                elif response.status_code == _NO_SUCH_METHOD:
                    return http.Response(_NO_SUCH_METHOD)  # it has none
            except (TroubleError, http.TransportError):
                pass  # a message would have told
            await anyio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        headers = {"content-type": "text/event-stream"}
        return http.Response(_OK, headers=headers, content=_event(_broken(asked)))


_TALK = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


def _object(content: bytes) -> dict[str, Any]:
    """A JSON object; an empty one where it is none."""
    try:
        found = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _stated_version(message: dict[str, Any]) -> str | None:
    """The protocol version that a message itself names, from 2026 on (SEP-2575)."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    version = meta.get(_VERSION_KEY) if isinstance(meta, dict) else None
    return version if isinstance(version, str) and "method" in message else None


def _error(asked: Any, trouble: TroubleError) -> dict[str, Any]:
    message = f"{trouble.message}. {trouble.cure}".strip()
    return {"jsonrpc": "2.0", "id": asked, "error": {"code": _SERVER_ERROR, "message": message}}


def _broken(asked: Any) -> dict[str, Any]:
    trouble = TroubleError(
        "the connection to the server broke before its answer came",
        "It may have done what it was asked for: look before you ask again.",
    )
    return _error(asked, trouble)


def _event(message: dict[str, Any]) -> bytes:
    return f"event: message\ndata: {json.dumps(message)}\n\n".encode()


async def _read(response: Any) -> bytes:
    try:
        content: bytes = b"".join([chunk async for chunk in response.stream])
    finally:
        await response.aclose()
    return content


async def _answer(response: Any) -> dict[str, Any]:
    """The answer in a response, a JSON document or an event."""
    if "event-stream" not in response.headers.get("content-type", ""):
        return _object(await _read(response))
    rest = data = b""
    try:
        async for chunk in response.stream:
            *lines, rest = (rest + chunk).split(b"\n")
            for raw in lines:
                line = raw.rstrip(b"\r")
                if line.startswith(b"data:"):
                    data += line[5:]
                elif not line:
                    found, data = _object(data), b""
                    if "result" in found or "error" in found:
                        return found
    finally:
        await response.aclose()
    return {}


async def _forgotten(response: Any) -> bool:
    """Whether the server does not know the session: 404 by the protocol, 400 with some."""
    if response.status_code == _NOT_FOUND:
        return True
    if response.status_code != _BAD_REQUEST:
        return False
    content = await _read(response)
    response.stream = http.ByteStream(content)
    return b"session" in content.lower()


def _untrusted(error: Exception) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _explained(error: Exception, url: str, *, maybe_done: bool) -> TroubleError:
    host = http.URL(url).host
    if _untrusted(error):
        return TroubleError(
            f"the certificate of {host} is not trusted",
            "Name its authority with --ca-bundle FILE in the assistant's configuration.",
        )
    if maybe_done:
        return TroubleError(
            f"the connection to {host} broke",
            "It may have done what it was asked for: look before you ask again.",
        )
    return TroubleError(
        f"{host} cannot be reached",
        "Check the network, the VPN and the proxy (HTTPS_PROXY, NO_PROXY), and try again.",
    )


def _start_again(message: str) -> TroubleError:
    return TroubleError(message, "Restart this server in the assistant.")


def _say(message: str) -> None:
    print(f"mcp-bridge: {message}", file=sys.stderr, flush=True)  # noqa: T201  a client's log


def _log(trouble: TroubleError) -> None:
    _say(f"{trouble.message}. {trouble.cure}")


class Teller(Observer):
    """Warnings go to standard error, which clients keep as the server's log."""

    def warn(self, message: str) -> None:
        _say(message)


def _connector(url: str, ca_bundle: str | None) -> Callable[[], Any]:
    """Makes pools of connections that notice when the other side is gone."""
    parts = http.URL(url)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (
        ("TCP_KEEPIDLE", 20),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 30_000),
    ):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    found = None if parts.host in {"localhost", "127.0.0.1", "::1"} else proxy_for(url)
    proxy = http.Proxy(found.url, headers=found.headers) if found else None
    tls = tls_context(ca_bundle)
    limits = http.Limits(max_connections=None, max_keepalive_connections=8)

    def connect() -> Any:
        return http.AsyncHTTPTransport(
            verify=tls,
            proxy=proxy,
            limits=limits,
            # Through a proxy the library takes none.
            **({} if proxy else {"socket_options": options}),
        )

    return connect


async def serve(request: RunOptions, identity: str, url: str, header: str, min_ttl: float) -> None:
    """Pass messages between standard input and output and the server at `url` until input ends."""
    tokens = Tokens(request, identity, min_ttl, Teller())
    remote = Remote(url, header, tokens, _connector(url, request.settings.ca_bundle))
    asked: dict[Any, str] = {}  # what the client waits for: id and method
    answered = anyio.Event()

    async def to_client(source: Any, sink: Any) -> None:
        async for item in source:
            if isinstance(item, Exception):
                _say(f"the server sent what is no message ({type(item).__name__})")
                continue
            message = _content(item)
            if "method" not in message:
                method = asked.pop(message.get("id"), None)
                if method == "initialize" and isinstance(message.get("result"), dict):
                    remote.version = message["result"].get("protocolVersion")
            await sink.send(item)
            answered.set()

    async with (
        stdio_server() as (from_client, to_stdout),
        from_client,
        to_stdout,
        http.AsyncClient(transport=remote, timeout=None) as client,
        streamable_http.streamable_http_client(url, http_client=client) as (source, sink, *_),
        anyio.create_task_group() as group,
    ):
        group.start_soon(to_client, source, to_stdout)
        async for item in from_client:
            if isinstance(item, Exception):
                _say(f"the client sent what is no message ({type(item).__name__})")
                continue
            message = _content(item)
            if "method" in message and "id" in message:
                asked[message["id"]] = message["method"]
                if message["method"] == "initialize":
                    remote.greet()
            await sink.send(_stamped(item, message))
        with anyio.move_on_after(LAST_ANSWERS):
            while asked:
                await answered.wait()
                answered = anyio.Event()
        group.cancel_scope.cancel()


def _content(item: SessionMessage) -> dict[str, Any]:
    found: dict[str, Any] = item.message.model_dump(by_alias=True, exclude_unset=True)
    return found


def _stamped(item: SessionMessage, message: dict[str, Any]) -> SessionMessage:
    """The message with its protocol version where the SDK's own client would state it."""
    version = _stated_version(message)
    if version is None or not hasattr(ClientMessageMetadata, "headers"):
        return item
    return SessionMessage(item.message, ClientMessageMetadata(headers={_VERSION: version}))


def run(request: RunOptions, identity: str, url: str, header: str, min_ttl: float) -> None:
    """Serve until the client hangs up."""
    try:
        anyio.run(serve, request, identity, url, header, min_ttl)
    finally:
        sys.stdout = sys.stderr  # the SDK 1.x has closed it
