"""HTTPS to the provider: one pool, bounded answers, retries, a throttle that all obey.

A request goes to the one address it was given: no redirect is followed, no cookie kept, no netrc
read. What cannot be answered is told by a value (`Trouble`), never by an exception.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
import urllib.request
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import tenacity
import urllib3
from urllib3 import exceptions

from credentials_provider.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAXIMUM_BODY = 1 << 20  # bytes; a token answer has a few thousand
MAXIMUM_LISTING = 1 << 24  # bytes of a document; a registry's list of servers can be long
FIRST_BACKOFF = 1.0  # seconds, doubling, with full jitter
MAXIMUM_BACKOFF = 30.0  # seconds
CHUNK = 1 << 14  # bytes

_TOO_MANY_REQUESTS = 429
_REQUEST_TIMEOUT = 408
_SERVER_ERRORS = range(500, 600)

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_UNTRUSTED = {
    9: "not_yet_valid",
    10: "expired",
    18: "self_signed",
    19: "unknown_ca",
    20: "unknown_ca",
    21: "unknown_ca",
    62: "hostname",
    64: "hostname",
}
_PROXY_LOGIN = "Tunnel connection failed: 407"  # what http.client makes of the proxy's answer
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION")

TroubleKind = Literal["unreachable", "untrusted", "throttled", "unavailable", "bad_response"]


class Answer(NamedTuple):
    """A whole HTTP answer. The body may hold a token: it is not shown."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    sent_at: float  # epoch seconds just before the request went out
    clock_skew: float | None  # this machine's clock minus the provider's `Date`, seconds

    def __repr__(self) -> str:
        return f"Answer({self.status})"


class Trouble(NamedTuple):
    """Why there is no answer to use; `reason` is a word that `diagnosis` explains."""

    kind: TroubleKind
    reason: str = ""
    answer: Answer | None = None  # the last one, if there was one
    retry_after: float | None = None  # seconds, as the provider asked
    connected: bool = True  # somebody was there
    out_of_time: bool = False  # given up because of the run's deadline
    final: bool = False  # would be the same again, or was known beforehand

    @property
    def worth_retrying(self) -> bool:
        temporary = self.kind in {"unreachable", "throttled", "unavailable"}
        return temporary and not (self.out_of_time or self.final)


class Reply(NamedTuple):
    """What became of a request, retries included; `attempts` counts those really sent."""

    result: Answer | Trouble
    attempts: int


class _Request(threading.local):
    """When the request that this thread waits for must have been answered, monotonic seconds."""

    ends_at = float("inf")


_request = _Request()


class _TimedSocket(ssl.SSLSocket):
    """Ends a request in time however small the drops are in which its answer comes.

    A socket's own time-out begins anew with every byte; urllib3 bounds no more than that.
    """

    def read(self, len: int | None = 1024, buffer: bytearray | None = None) -> Any:  # type: ignore[override]  # noqa: A002  ssl's signature
        left = _request.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        limit = self.gettimeout()
        self.settimeout(left if limit is None else min(limit, left))
        return super().read(len, buffer)  # type: ignore[arg-type]


class _Call:
    """One request on its way through its attempts."""

    def __init__(
        self, url: str, body: str | None, headers: Mapping[str, str], timeout: float
    ) -> None:
        self.url = url
        self.body = body  # None: a GET
        self.headers = headers
        self.timeout = timeout
        self.attempts = 0
        self.began = float("inf")  # monotonic time of the first attempt


class _Circuit:
    """What a host, or a tenant on it, does to all calls of a run.

    Once a whole retry budget is spent on something that answers nobody, the others need not spend
    theirs. One identity's bad luck must not end the others: it takes two of them, and half of
    those under way, unless not even a connection came about.
    """

    def __init__(self) -> None:
        self.active = 0
        self.failing: set[_Call] = set()
        self.answered_at = float("-inf")
        self.opens_at = float("-inf")  # monotonic; nothing is sent before
        self.dead: Trouble | None = None

    def answered(self, at: float) -> None:
        self.answered_at = at
        self.failing.clear()

    def gives_up(self, call: _Call, trouble: Trouble) -> bool:
        """Whether a call that spent its attempts proves that nobody gets an answer."""
        if self.answered_at >= call.began:
            return False
        many = len(self.failing)
        return not trouble.connected or (many > 1 and 2 * many >= self.active)


class Transport:
    """Posts forms to login hosts for a whole run; thread-safe.

    Args:
        timeout: seconds for one request, connection included.
        max_attempts: requests sent at most for one `post`.
        deadline: `monotonic` time at which the run ends; nothing waits beyond it.
        connections: requests under way at once.
        ca_bundle: PEM file or folder of the authorities to trust in place of the system's.

    Raises:
        ConfigurationError: the CA bundle cannot be used.

    """

    def __init__(
        self,
        *,
        timeout: float,
        max_attempts: int,
        deadline: float,
        connections: int,
        ca_bundle: str | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._max_attempts = max_attempts
        self._deadline = deadline
        self._connections = connections
        self._now = now
        self._monotonic = monotonic
        self._tls = tls_context(ca_bundle)
        self._slots = threading.Semaphore(connections)
        self._changed = threading.Condition()
        self._hosts: dict[str, _Circuit] = {}
        self._tenants: dict[tuple[str, str], _Circuit] = {}
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._stopped = False

    def stop(self) -> None:
        """End every wait; nothing more is sent."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def pause(self, base: str, tenant: str) -> float:
        """For how many seconds a tenant of the login host `base` is throttled."""
        circuit = self._tenants.get((urlsplit(base).netloc.lower(), tenant.lower()))
        return max(circuit.opens_at - self._monotonic(), 0.0) if circuit else 0.0

    def close(self) -> None:
        """Stop, and close what connections are idle."""
        self.stop()
        for pool in self._pools.values():
            pool.clear()

    def post(
        self,
        url: str,
        body: str,
        headers: Mapping[str, str],
        *,
        tenant: str,
        is_temporary: Callable[[Answer], bool],
    ) -> Reply:
        """Post a form until it is answered, its attempts are spent or the deadline would pass.

        `is_temporary` recognises an error answer whose body asks to be tried again.
        """
        return self._ask(_Call(url, body, headers, self._timeout), tenant, is_temporary)

    def get(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        tenant: str = "",
        is_temporary: Callable[[Answer], bool] = lambda _: False,
        timeout: float = float("inf"),
    ) -> Reply:
        """Get a document in the same way; `timeout` seconds a request, or less if all have less.

        A URL of `http`, such as a machine's own metadata endpoint has, is never sent to a proxy.
        """
        call = _Call(url, None, headers, min(timeout, self._timeout))
        return self._ask(call, tenant, is_temporary)

    def _ask(self, call: _Call, tenant: str, is_temporary: Callable[[Answer], bool]) -> Reply:
        name = urlsplit(call.url).netloc.lower()
        with self._changed:
            host = self._hosts.setdefault(name, _Circuit())
            mine = self._tenants.setdefault((name, tenant.lower()), _Circuit())
            host.active += 1
            mine.active += 1

        def attempt() -> Answer | Trouble:
            while True:
                refused = self._admit(host, mine)
                if refused is not None:
                    return refused._replace(final=True)
                with self._slots:
                    # Others may have met a throttle while this one waited for its slot, and note
                    # it before they give theirs back.
                    if self._verdict(host, mine) != 0:
                        continue
                    result = self._send(call, is_temporary)
                    self._note(call, result, host, mine)
                    return result

        def wait(state: tenacity.RetryCallState) -> float:
            trouble = _result(state)
            delay = max(backoff(state), trouble.retry_after or 0.0)
            if trouble.kind == "throttled":  # the whole tenant waits
                self._pause(mine, delay)
            return delay

        def spent(state: tenacity.RetryCallState) -> bool:
            resumes_at = self._monotonic() + state.upcoming_sleep
            return state.attempt_number >= self._max_attempts or resumes_at >= self._deadline

        def sleep(seconds: float) -> None:
            until = self._monotonic() + seconds
            self._wait_until(lambda: until, lambda: host.dead or mine.dead)

        backoff = tenacity.wait_random_exponential(multiplier=FIRST_BACKOFF, max=MAXIMUM_BACKOFF)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(
                lambda result: isinstance(result, Trouble) and result.worth_retrying
            ),
            wait=wait,
            stop=spent,
            sleep=sleep,
            retry_error_callback=lambda state: self._give_up(call, state, host, mine),
        )
        try:
            return Reply(retrying(attempt), call.attempts)
        finally:
            with self._changed:
                for circuit in (host, mine):
                    circuit.active -= 1
                    circuit.failing.discard(call)

    def _admit(self, host: _Circuit, mine: _Circuit) -> Trouble | None:
        """Wait while the tenant is throttled; why nothing may be sent, if so."""
        with self._changed:
            while not isinstance(verdict := self._verdict(host, mine), Trouble):
                if not verdict:
                    return None
                self._changed.wait(verdict)
            return verdict

    def _verdict(self, host: _Circuit, mine: _Circuit) -> Trouble | float:
        """For how many seconds nothing may be sent, or why nothing may be sent any more."""
        if dead := host.dead or mine.dead:
            return dead
        now = self._monotonic()
        if self._stopped or now >= self._deadline:
            return Trouble("unreachable", "timeout", out_of_time=True)
        left = max(mine.opens_at - now, 0.0)
        if mine.opens_at >= self._deadline:
            return Trouble("throttled", retry_after=left, out_of_time=True)
        return left

    def _pause(self, mine: _Circuit, seconds: float) -> None:
        with self._changed:
            mine.opens_at = max(mine.opens_at, self._monotonic() + seconds)
            self._changed.notify_all()

    def _wait_until(self, moment: Callable[[], float], given_up: Callable[[], object]) -> None:
        with self._changed:
            while not (self._stopped or given_up()):
                left = min(moment(), self._deadline) - self._monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def _note(self, call: _Call, result: Answer | Trouble, host: _Circuit, mine: _Circuit) -> None:
        with self._changed:
            trouble = result if isinstance(result, Trouble) else None
            if trouble is None or trouble.kind == "bad_response":
                host.answered(self._monotonic())
                mine.answered(self._monotonic())
            elif trouble.kind == "throttled":
                host.answered(self._monotonic())
                mine.failing.add(call)
                self._pause(mine, trouble.retry_after or 0.0)
            elif trouble.kind == "untrusted" or trouble.final:  # no identity here fares better
                host.dead = host.dead or trouble
                self._changed.notify_all()
            else:
                host.failing.add(call)

    def _give_up(
        self, call: _Call, state: tenacity.RetryCallState, host: _Circuit, mine: _Circuit
    ) -> Trouble:
        trouble = _result(state)
        if state.attempt_number < self._max_attempts:
            return trouble._replace(out_of_time=True)
        circuit = mine if trouble.kind == "throttled" else host
        with self._changed:
            if circuit.gives_up(call, trouble):
                circuit.dead = circuit.dead or trouble
                self._changed.notify_all()
        return trouble

    def _send(self, call: _Call, is_temporary: Callable[[Answer], bool]) -> Answer | Trouble:
        """One request and its whole answer, or what came in the way."""
        left = self._deadline - self._monotonic()
        if left <= 0:
            return Trouble("unreachable", "timeout", out_of_time=True)
        call.began = min(call.began, self._monotonic())
        call.attempts += 1
        try:
            result = self._exchange(call, min(call.timeout, left))
        except (exceptions.HTTPError, OSError, ValueError) as error:
            return trouble_of(error)
        if isinstance(result, Trouble):
            return result
        retry_after = _retry_after(result, self._now())
        if result.status == _TOO_MANY_REQUESTS:
            return Trouble("throttled", answer=result, retry_after=retry_after)
        if result.status == _REQUEST_TIMEOUT or result.status in _SERVER_ERRORS:
            return Trouble("unavailable", answer=result, retry_after=retry_after)
        if is_temporary(result):
            return Trouble("unavailable", answer=result, retry_after=retry_after)
        return result

    def _exchange(self, call: _Call, timeout: float) -> Answer | Trouble:
        _request.ends_at = time.monotonic() + timeout
        sent_at = self._now()
        response = self._pool(call.url).request(
            "GET" if call.body is None else "POST",
            call.url,
            body=call.body,
            headers=dict(call.headers),
            timeout=urllib3.Timeout(total=timeout),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            body = bytearray()
            while chunk := response.read1(CHUNK, decode_content=False):
                body += chunk
                if len(body) > (MAXIMUM_LISTING if call.body is None else MAXIMUM_BODY):
                    return Trouble("bad_response", "too_large")
            headers = {name.lower(): value for name, value in response.headers.items()}
            middle = (sent_at + self._now()) / 2
            date = http_date(headers.get("date"))
            skew = middle - date if date is not None else None
            answer = Answer(response.status, headers, bytes(body), sent_at, skew)
            response.release_conn()
            return answer
        finally:
            response.close()  # a no-op for a connection that went back to the pool

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        host = parts.hostname or ""
        key = f"{parts.scheme}://{host}"
        with self._changed:
            if key not in self._pools:
                direct = parts.scheme == "http"
                self._pools[key] = make_pool(host, self._tls, self._connections, direct=direct)
            return self._pools[key]


def _result(state: tenacity.RetryCallState) -> Trouble:
    result = state.outcome.result() if state.outcome else None
    return result if isinstance(result, Trouble) else Trouble("unreachable", "other")


def make_pool(
    host: str, tls: ssl.SSLContext | None, connections: int, *, direct: bool
) -> urllib3.PoolManager:
    """A pool, through the proxy that environment or system name for this host, unless `direct`."""
    proxies = {} if direct else urllib.request.getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return urllib3.PoolManager(maxsize=connections, ssl_context=tls)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme not in {"http", "https"}:
        raise exceptions.ProxyError(
            "unsupported proxy scheme", exceptions.ProxySchemeUnsupported(parts.scheme)
        )
    headers = None
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=login)
    return urllib3.ProxyManager(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        maxsize=connections,
        ssl_context=tls,
        proxy_ssl_context=tls,
        proxy_headers=headers,
    )


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Whom to trust: the bundle's authorities, else the system's, else certifi's.

    Raises:
        ConfigurationError: the bundle cannot be used.

    """
    try:
        if ca_bundle is None:
            context = ssl.create_default_context()
            paths = ssl.get_default_verify_paths()
            if os.name == "posix" and not (
                paths.cafile or (paths.capath and os.listdir(paths.capath))
            ):
                import certifi  # noqa: PLC0415  only where the system has no authorities

                context.load_verify_locations(certifi.where())
        elif os.path.isdir(ca_bundle):
            context = ssl.create_default_context(capath=ca_bundle)
        else:
            context = ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"the CA bundle {ca_bundle or ''} cannot be used: "
            f"{error.strerror or 'it holds no certificate'}",
            hint="Name a PEM file with the certification authorities to trust.",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _TimedSocket
    return context


def trouble_of(error: Exception) -> Trouble:
    """What came in the way of a request, in a word that `diagnosis` explains."""
    chain = list(_causes(error))
    if isinstance(error, exceptions.ProxyError):
        if any(_PROXY_LOGIN in str(cause) for cause in chain):
            return Trouble("unreachable", "proxy_login", connected=False, final=True)
        return Trouble("unreachable", "proxy", connected=False)
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Trouble("untrusted", _UNTRUSTED.get(cause.verify_code, "other"))
        if isinstance(cause, ssl.SSLError) and any(
            word in (cause.reason or "") for word in _NO_TLS
        ):
            return Trouble("untrusted", "protocol")
    reason, connected = "reset", True
    for cause in chain:
        if isinstance(cause, (exceptions.NameResolutionError, socket.gaierror, UnicodeError)):
            reason, connected = "dns", False
        elif isinstance(cause, exceptions.ConnectTimeoutError):
            reason, connected = "timeout", False
        elif isinstance(cause, (exceptions.TimeoutError, TimeoutError)):
            reason = "timeout"
        elif isinstance(cause, ConnectionRefusedError):
            reason, connected = "refused", False
        elif isinstance(cause, exceptions.NewConnectionError):
            reason, connected = "unreachable", False
        else:
            continue
        break
    return Trouble("unreachable", reason, connected=connected)


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error with those that it wraps, innermost first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        inner = next((each for each in error.args if isinstance(each, BaseException)), None)
        error = inner or error.__cause__ or error.__context__
    return found[::-1]


def _retry_after(answer: Answer, now: float) -> float | None:
    """Seconds to wait, from a number or a date (RFC 9110 section 10.2.3).

    A date is compared with the provider's own clock, where it tells it.
    """
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value[:12])
    moment = http_date(value)
    if moment is None:
        return None
    return max(0.0, moment - (http_date(answer.headers.get("date")) or now))


def http_date(value: str | None) -> float | None:
    """Epoch seconds of a header's date, RFC 9110 section 5.6.7; None where it is none."""
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
