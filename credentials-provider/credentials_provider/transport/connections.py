"""HTTPS to the provider: one pool, bounded answers, a deadline that holds for every byte.

A request goes to the one address it was given: no redirect is followed, no cookie kept, no netrc
read. What comes in the way is a value (`Trouble`), never an exception.
"""

from __future__ import annotations

import math
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions

from credentials_provider.transport import sockets
from credentials_provider.transport.proxies import ProxySettingError, proxy_for
from credentials_provider.transport.trust import tls_context, untrusted_reason

if TYPE_CHECKING:
    from collections.abc import Mapping

MAXIMUM_BODY = 1 << 20  # bytes; a token answer has a few thousand
MAXIMUM_LISTING = 1 << 24  # bytes of a document; a registry's list of servers can be long
CHUNK = 1 << 14  # bytes

# What http.client makes of a proxy's answer to CONNECT.
_TUNNEL = re.compile(r"Tunnel connection failed: ([0-9]{3})", re.ASCII)
_PROXY_LOGIN = 407
_SERVER_ERRORS = range(500, 600)
# Parts of OpenSSL's names for a peer that speaks no TLS, or none that both know.
_NO_TLS = (
    *("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION"),
    *("HANDSHAKE_FAILURE", "NO_PROTOCOLS", "NO_SHARED_CIPHER", "LEGACY_RENEGOTIATION"),
    *("DH_KEY_TOO_SMALL", "INSUFFICIENT_SECURITY", "RECORD_LAYER_FAILURE"),
)
_CLIENT_CERTIFICATE = "CERTIFICATE_REQUIRED"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; its headers and its body may hold a secret and are not shown."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: str | bytes | None = field(default=None, repr=False)
    timeout: float = math.inf  # seconds, connection included


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
    detail: str = ""  # our own or the library's, never the other side's
    answer: Answer | None = None  # the last one, if there was one
    retry_after: float | None = None  # seconds, as the provider asked
    connected: bool = True  # somebody was there
    out_of_time: bool = False  # given up because of the run's deadline
    final: bool = False  # would be the same again, or was known before

    @property
    def worth_retrying(self) -> bool:
        temporary = self.kind in {"unreachable", "throttled", "unavailable"}
        return temporary and not (self.out_of_time or self.final)

    @property
    def maybe_done(self) -> bool:
        """Whether what was asked for may have happened all the same."""
        return self.connected and self.kind in {"unreachable", "unavailable", "bad_response"}


class Connections:
    """Pools of connections to the hosts of a run; thread-safe.

    Args:
        most: requests under way at once to one host.
        ca_bundle: PEM file or folder of the authorities to trust instead of the system's.
        direct: never through a proxy.

    Raises:
        ConfigurationError: the CA bundle cannot be used.

    """

    def __init__(self, most: int, ca_bundle: str | None, *, direct: bool = False) -> None:
        self._most = most
        self._direct = direct
        self._tls = tls_context(ca_bundle)
        self._lock = threading.Lock()
        self._pools: dict[str, urllib3.PoolManager] = {}

    def close(self) -> None:
        """Close what connections are idle."""
        for pool in list(self._pools.values()):  # a late worker may add one
            pool.clear()

    def exchange(self, request: HttpRequest) -> Answer | Trouble:
        """Send one request and read its whole answer within its time."""
        try:
            with sockets.request(request.timeout):
                return self._exchange(request)
        except (exceptions.HTTPError, OSError, ValueError, ProxySettingError) as error:
            return trouble_of(error)

    def _exchange(self, request: HttpRequest) -> Answer | Trouble:
        sent_at = time.time()
        response = begin(self._pool(request.url), request, urllib3.Timeout(total=request.timeout))
        most = MAXIMUM_LISTING if request.method == "GET" else MAXIMUM_BODY
        try:
            received = bytearray()
            while chunk := response.read1(CHUNK, decode_content=False):
                received += chunk
                if len(received) > most:
                    return Trouble("bad_response", "too_large")
            headers = {name.lower(): value for name, value in response.headers.items()}
            middle = (sent_at + time.time()) / 2
            date = http_date(headers.get("date"))
            skew = middle - date if date is not None else None
            answer = Answer(response.status, headers, bytes(received), sent_at, skew)
            response.release_conn()
            return answer
        finally:
            response.close()  # a no-op for a connection that went back to the pool

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        key = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            if key not in self._pools:
                self._pools[key] = make_pool(url, self._tls, self._most, direct=self._direct)
            return self._pools[key]


def make_pool(
    url: str, tls: ssl.SSLContext | None, connections: int, *, direct: bool = False
) -> urllib3.PoolManager:
    """A pool, through the proxy for this URL.

    Raises:
        ProxySettingError: no proxy can be used by that setting.

    """
    proxy = None if direct else proxy_for(url)
    if proxy is None:
        pool = urllib3.PoolManager(maxsize=connections, ssl_context=tls)
    else:
        pool = urllib3.ProxyManager(
            proxy.url,
            maxsize=connections,
            ssl_context=tls,
            proxy_ssl_context=tls,
            proxy_headers=proxy.headers,
        )
    pool.pool_classes_by_scheme = sockets.POOLS
    return pool


def begin(
    pool: urllib3.PoolManager, request: HttpRequest, timeout: urllib3.Timeout
) -> urllib3.BaseHTTPResponse:
    """Send one request as it is; its answer, read up to its headers."""
    return pool.request(
        request.method,
        request.url,
        body=request.body,
        headers=dict(request.headers),
        timeout=timeout,
        retries=False,
        redirect=False,
        preload_content=False,
        decode_content=False,
    )


def trouble_of(error: Exception) -> Trouble:
    """What came in the way of a request, in a word that `explanations` explains."""
    chain = _causes(error)
    return _proxy_trouble(error, chain) or _tls_trouble(chain) or _network_trouble(chain)


def _proxy_trouble(error: Exception, chain: list[BaseException]) -> Trouble | None:
    if isinstance(error, ProxySettingError):
        return Trouble(
            "unreachable", error.problem, detail=error.where, connected=False, final=True
        )
    if not isinstance(error, exceptions.ProxyError):
        return None
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return Trouble("untrusted", "proxy")
    answers = [found for cause in chain if (found := _TUNNEL.search(str(cause)))]
    status = int(answers[0][1]) if answers else None
    if status == _PROXY_LOGIN:
        return Trouble("unreachable", "proxy_login", connected=False, final=True)
    if status is None:
        return Trouble("unreachable", "proxy", connected=False)
    upstream = status in _SERVER_ERRORS
    reason = "proxy_upstream" if upstream else "proxy_forbidden"
    detail = str(status)
    return Trouble("unreachable", reason, detail=detail, connected=False, final=not upstream)


def _tls_trouble(chain: list[BaseException]) -> Trouble | None:
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Trouble("untrusted", untrusted_reason(cause), detail=cause.verify_message)
        if isinstance(cause, ssl.SSLError):
            name = cause.reason or ""
            if any(word in name for word in _NO_TLS):
                return Trouble("untrusted", "protocol")
            if _CLIENT_CERTIFICATE in name:
                return Trouble("untrusted", "client_certificate")
    return None


# In this order: what is left over is a connection that was cut.
_NETWORK: tuple[tuple[tuple[type[BaseException], ...], str, bool], ...] = (
    ((exceptions.NameResolutionError, socket.gaierror, UnicodeError), "dns", False),
    ((exceptions.ConnectTimeoutError,), "timeout", False),
    ((exceptions.TimeoutError, TimeoutError), "timeout", True),
    ((ConnectionRefusedError,), "refused", False),
    ((exceptions.NewConnectionError,), "unreachable", False),
)


def _network_trouble(chain: list[BaseException]) -> Trouble:
    for cause in chain:
        for kinds, reason, connected in _NETWORK:
            if isinstance(cause, kinds):
                return Trouble("unreachable", reason, connected=connected)
    return Trouble("unreachable", "reset")


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
