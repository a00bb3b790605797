"""HTTPS to the provider: one pool, bounded answers, a deadline that holds for every byte.

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
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3 import exceptions

from credentials_provider.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAXIMUM_BODY = 1 << 20  # bytes; a token answer has a few thousand
MAXIMUM_LISTING = 1 << 24  # bytes of a document; a registry's list of servers can be long
CHUNK = 1 << 14  # bytes

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


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; its headers and its body may hold a secret and are not shown."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: str | None = field(repr=False)
    timeout: float  # seconds, connection included


TroubleKind = Literal["unreachable", "untrusted", "throttled", "unavailable", "bad_response"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer. The body may hold a token: it is not shown."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # names in lower case
    body: bytes = field(repr=False)
    sent_at: float  # epoch seconds just before the request went out
    clock_skew: float | None  # this machine's clock minus the provider's `Date`, seconds


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no answer to use; `reason` is a word that `explanations` explains."""

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

    @property
    def maybe_done(self) -> bool:
        """Whether what was asked for may have happened all the same."""
        return self.connected and self.kind in {"unreachable", "unavailable", "bad_response"}


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


class Connections:
    """Pools of connections to the hosts of a run; thread-safe.

    Args:
        most: requests under way at once to one host.
        ca_bundle: PEM file or folder of the authorities to trust in place of the system's.
        now: epoch seconds.

    Raises:
        ConfigurationError: the CA bundle cannot be used.

    """

    def __init__(self, most: int, ca_bundle: str | None, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._tls = tls_context(ca_bundle)
        self._lock = threading.Lock()
        self._pools: dict[str, urllib3.PoolManager] = {}

    def close(self) -> None:
        """Close what connections are idle."""
        for pool in self._pools.values():
            pool.clear()

    def exchange(self, request: HttpRequest) -> Answer | Trouble:
        """Send one request and read its whole answer within its time."""
        try:
            return self._exchange(request)
        except (exceptions.HTTPError, OSError, ValueError) as error:
            return trouble_of(error)

    def _exchange(self, request: HttpRequest) -> Answer | Trouble:
        _request.ends_at = time.monotonic() + request.timeout
        sent_at = self._now()
        response = self._pool(request.url).request(
            request.method,
            request.url,
            body=request.body,
            headers=dict(request.headers),
            timeout=urllib3.Timeout(total=request.timeout),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        most = MAXIMUM_LISTING if request.method == "GET" else MAXIMUM_BODY
        try:
            received = bytearray()
            while chunk := response.read1(CHUNK, decode_content=False):
                received += chunk
                if len(received) > most:
                    return Trouble("bad_response", "too_large")
            headers = {name.lower(): value for name, value in response.headers.items()}
            middle = (sent_at + self._now()) / 2
            date = http_date(headers.get("date"))
            skew = middle - date if date is not None else None
            answer = Answer(response.status, headers, bytes(received), sent_at, skew)
            response.release_conn()
            return answer
        finally:
            response.close()  # a no-op for a connection that went back to the pool

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        host = parts.hostname or ""
        key = f"{parts.scheme}://{host}"
        with self._lock:
            if key not in self._pools:
                direct = parts.scheme == "http"
                self._pools[key] = make_pool(host, self._tls, self._most, direct=direct)
            return self._pools[key]


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
    """What came in the way of a request, in a word that `explanations` explains."""
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


def http_date(value: str | None) -> float | None:
    """Epoch seconds of an HTTP date, None where it is none (RFC 9110 section 5.6.7)."""
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
