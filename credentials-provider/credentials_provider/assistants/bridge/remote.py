"""One request to the server: a valid token on it, its refusals and its pauses obeyed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from credentials_provider.assistants.bridge.trouble import (
    LONGEST_REASON,
    TOO_MANY,
    UNAUTHORIZED,
    UNAVAILABLE,
    TroubleError,
    broken,
    refused,
    throttled,
    unreachable,
)
from credentials_provider.transport.connections import Trouble, http_date
from credentials_provider.transport.streaming import BrokenStreamError, Channel, Handle, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credentials_provider.assistants.bridge.tokens import Tokens

    Sleep = Callable[[float], object]
    """Waits for that number of seconds; true where the program is about to end."""
    Send = Callable[[str, str], Stream | Trouble]
    """Sends a request to a URL, with a token."""

FIRST_TIMEOUT = 2.5  # seconds for a server that has never answered: a client waits five or ten
RETRY_TIMEOUT = 20.0  # seconds that a server which has answered may be away, as while it restarts
CONNECT_TIMEOUT = 10.0  # seconds, once it has answered
FIRST_BACKOFF, LONGEST_BACKOFF = 0.25, 2.0  # seconds between two tries, doubling
LONGEST_PAUSE = 3600.0  # seconds that a server's Retry-After is obeyed for
NOTICE_TIMEOUT = 60.0  # seconds for the answer to what has no result

_GONE = frozenset({502, 504})
_KEEPING_METHOD = frozenset({307, 308})
_MOST_REDIRECTS = 3


class Remote:
    """The server at one address; `header` is the token's."""

    def __init__(
        self,
        url: str,
        header: str,
        tokens: Tokens,
        channel: Channel,
        sleep: Sleep,
    ) -> None:
        self.url = url
        self.header = header
        self.agent = "credentials-provider"
        self._tokens = tokens
        self._channel = channel
        self.sleep = sleep
        self._has_answered = False
        self._paused_until = float("-inf")

    def ask(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        url: str | None = None,
        once: bool = False,
        read_timeout: float | None = None,
        handle: Handle | None = None,
    ) -> Stream:
        """Send until somebody answers, as long as that cannot make the server do a thing twice.

        Args:
            method: of HTTP.
            headers: beside the token's.
            body: one message.
            url: another one of this server's.
            once: never again after an answer or a cut that leaves open whether it was done.
            read_timeout: seconds between two pieces of the answer.
            handle: ends it.

        Raises:
            TroubleError: no answer, or no token.

        """
        url = url or self.url
        end = time.monotonic() + (RETRY_TIMEOUT if self._has_answered else FIRST_TIMEOUT)

        def send(target: str, token: str) -> Stream | Trouble:
            left = max(0.1, min(FIRST_TIMEOUT, end - time.monotonic()))
            named = {"accept-encoding": "identity", "user-agent": self.agent}
            return self._channel.open(
                method,
                target,
                {**headers, **named, self.header: f"Bearer {token}"},
                body,
                connect_timeout=CONNECT_TIMEOUT if self._has_answered else left,
                read_timeout=read_timeout,
                once=once,
                handle=handle,
            )

        if not self._has_answered and not self._channel.can_look_up(FIRST_TIMEOUT):
            raise unreachable(Trouble("unreachable", "dns", connected=False), url)
        return self._until_answered(send, end, url, once=once, handle=handle)

    def _until_answered(
        self, send: Send, end: float, url: str, *, once: bool, handle: Handle | None
    ) -> Stream:
        wait = FIRST_BACKOFF
        while True:
            pause = self._paused_until - time.monotonic()
            if pause > 0:
                if time.monotonic() + pause > end:
                    raise throttled(url, pause)
                self.sleep(pause)
            result = self._send(send, url)
            wait = self._wait_after(result, wait, once=once, url=url)
            is_late = time.monotonic() + wait > end
            if isinstance(result, Trouble):
                if is_late:
                    raise unreachable(result, url)
            elif not wait or is_late:
                return result
            else:
                result.close()
            if (handle is not None and handle.ended) or self.sleep(wait):
                raise broken(url)
            wait = min(2 * wait, LONGEST_BACKOFF)

    def _wait_after(self, result: Stream | Trouble, wait: float, *, once: bool, url: str) -> float:
        """Seconds before the same request may be sent again; 0: this is its answer."""
        if isinstance(result, Trouble):
            if once and result.connected and result.kind != "untrusted":
                raise broken(url)
            if result.kind == "untrusted" or result.final:
                raise unreachable(result, url)
            return wait
        status, pause = result.status, _retry_after(result)
        self._has_answered = self._has_answered or status < 500  # noqa: PLR2004  RFC 9110
        if pause is not None and status in {TOO_MANY, UNAVAILABLE}:
            self._paused_until = time.monotonic() + pause
        elif status != TOO_MANY and (once or status not in {UNAVAILABLE, *_GONE}):
            return 0.0
        return max(wait, pause or 0.0)

    def _send(self, send: Send, url: str) -> Stream | Trouble:
        """One request with a valid token; a 401 gets another one, once."""
        token = self._tokens.get()
        result = _followed(send, url, token)
        if isinstance(result, Trouble) or result.status != UNAUTHORIZED:
            return result
        another = self._tokens.after_refusal(token)
        if another is None:
            return result
        result.close()
        return _followed(send, url, another)

    def refusal(self, stream: Stream, body: bytes) -> TroubleError:
        return refused(stream, body, self.url, self.header)


def _followed(send: Send, url: str, token: str) -> Stream | Trouble:
    """What stands at an address, or where it sends us within the same origin."""
    for _ in range(_MOST_REDIRECTS):
        result = send(url, token)
        if isinstance(result, Trouble) or result.status not in _KEEPING_METHOD:
            return result
        target = within_origin(url, result.headers.get("location", ""))
        if target is None:
            return result
        result.close()
        url = target
    return send(url, token)


def within_origin(url: str, reference: str) -> str | None:
    """Where a reference leads; None where that is another scheme, host or port, or no address."""
    try:
        target = urljoin(url, reference)
        left, right = ((p.scheme, p.hostname, p.port) for p in map(urlsplit, (url, target)))
    except ValueError:
        return None
    return target if reference and left == right else None


def body_of(stream: Stream) -> bytes:
    """The beginning of an error's body, as far as it came."""
    try:
        return bytes(stream.read(LONGEST_REASON))
    except BrokenStreamError:
        return b""


def _retry_after(stream: Stream) -> float | None:
    """Seconds to wait, from a number or a date (RFC 9110 section 10.2.3)."""
    value = stream.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), LONGEST_PAUSE)
    date = http_date(value)
    return None if date is None else min(max(0.0, date - time.time()), LONGEST_PAUSE)
