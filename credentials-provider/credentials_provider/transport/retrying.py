"""Attempts: when a request is sent again, and what one request shows for all others.

Retries, a window for each tenant, and a host that is given up once for everybody.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import tenacity

from credentials_provider.transport.circuits import Circuit, Tenant
from credentials_provider.transport.connections import (
    Answer,
    Connections,
    HttpRequest,
    Trouble,
    http_date,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

FIRST_BACKOFF = 1.0  # seconds, doubling, with full jitter
MAXIMUM_BACKOFF = 30.0  # seconds
PATIENCE = 75.0  # seconds; a machine's metadata service may be away for 70

_SOON = 1e-3  # seconds: a place in a window becomes free with the next answer
_TOO_MANY_REQUESTS = 429
_REQUEST_TIMEOUT = 408
_SERVER_ERRORS = range(500, 600)


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request, retries included; `attempts` counts those really sent."""

    result: Answer | Trouble
    attempts: int


@dataclass(slots=True, eq=False)
class _Call:
    """One request on its way through its attempts."""

    request: HttpRequest
    is_temporary: Callable[[Answer], bool]
    about: str  # whose request it is, for the log
    host: Circuit
    tenant: Tenant
    once: bool = False
    patient: bool = False
    attempts: int = 0
    spent: int = 0  # of its attempts, those that count
    began: float = float("inf")  # monotonic time of the first attempt
    sent_at: float = 0.0  # of the last one
    counted_at: float = 0.0  # when the attempt before was counted; at first, when it began
    result: Answer | Trouble = field(init=False, repr=False)  # of the last attempt


class Transport:
    """Sends the requests of a whole run; thread-safe.

    Args:
        timeout: seconds for one request, connection included.
        max_attempts: how often one request is sent at most.
        deadline: `monotonic` time at which the run ends; nothing waits beyond it.
        connections: requests under way at once.
        ca_bundle: PEM file or folder of the authorities to trust instead of the system's.

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
    ) -> None:
        self._timeout = timeout
        self._max_attempts = max_attempts
        self._deadline = deadline
        self._connections = Connections(connections, ca_bundle)
        self._width = connections
        self._slots = threading.Semaphore(connections)
        self._lock = threading.RLock()
        self._given_up = threading.Condition(self._lock)  # a host, a tenant, or all of it
        self._hosts: dict[str, Circuit] = {}
        self._tenants: dict[tuple[str, str], Tenant] = {}
        self._stopped = False

    def stop(self) -> None:
        """End every wait; nothing more is sent."""
        with self._lock:
            self._stopped = True
            self._wake_all()

    def pause(self, base: str, tenant: str) -> float:
        """For how many seconds a tenant of the login host `base` takes nothing more.

        A full window takes something again with the next answer, whenever that comes.
        """
        found = self._tenants.get((urlsplit(base).netloc.lower(), tenant.lower()))
        if found is None:
            return 0.0
        return max(found.window.opens_at - time.monotonic(), _SOON if found.is_full else 0.0)

    def close(self) -> None:
        """Stop, and close what connections are idle."""
        self.stop()
        self._connections.close()

    def send(
        self,
        request: HttpRequest,
        *,
        tenant: str = "",
        is_temporary: Callable[[Answer], bool] = lambda _: False,
        about: str = "",
        once: bool = False,
        patient: bool = False,
    ) -> Reply:
        """Send a request until it is answered, its attempts are spent or the deadline would pass.

        `tenant`: whose throttling it shares. `is_temporary` recognises an error answer whose body
        asks to be tried again. `about` names in the log whose request it is. `once`: it must not
        take effect twice, so it is sent again only where it surely had none: nobody was there, or
        it was throttled. `patient`: a server that is not available for now is asked for `PATIENCE`
        seconds, however many requests that takes.
        """
        request = replace(request, timeout=min(request.timeout, self._timeout))
        name = urlsplit(request.url).netloc.lower()
        key = (name, tenant.lower())
        with self._lock:
            host = self._hosts.setdefault(name, Circuit())
            theirs = self._tenants.setdefault(key, Tenant(self._width, self._lock))
            host.active += 1
            theirs.active += 1
        call = _Call(request, is_temporary, about, host, theirs, once=once, patient=patient)
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_result(_worth_retrying),
            wait=partial(_delay, call),
            stop=partial(self._is_spent, call),
            sleep=partial(self._sleep, call),
            retry_error_callback=partial(self._give_up, call),
        )
        try:
            for attempt in attempts:
                call.result = self._attempt(call)
                if call.once and isinstance(call.result, Trouble) and call.result.maybe_done:
                    call.result = replace(call.result, final=True)
                attempt.retry_state.set_result(call.result)
        finally:
            with self._lock:
                for circuit in (host, theirs):
                    circuit.active -= 1
                    circuit.failing.discard(call)
        return Reply(call.result, call.attempts)

    def _attempt(self, call: _Call) -> Answer | Trouble:
        """One request, once there is room for it; without one, why nothing may be sent."""
        while True:
            if refused := self._enter(call):
                return replace(refused, final=True)
            try:
                with self._slots:
                    # Others may have met a throttle while this one waited for its slot.
                    if self._is_open(call):
                        result = self._send(call)
                        self._note(call, result)
                        return result
            finally:
                with self._lock:
                    call.tenant.leave()

    def _is_spent(self, call: _Call, state: tenacity.RetryCallState) -> bool:
        resumes_at = time.monotonic() + state.upcoming_sleep
        if call.patient and isinstance(call.result, Trouble) and call.result.kind == "unavailable":
            return resumes_at >= min(call.began + PATIENCE, self._deadline)
        return call.spent >= self._max_attempts or resumes_at >= self._deadline

    def _sleep(self, call: _Call, seconds: float) -> None:
        until = time.monotonic() + seconds
        _log.debug("%s: next request in %.1f s", call.about, seconds)
        with self._given_up:
            while not (self._stopped or call.host.dead or call.tenant.dead):
                left = min(until, self._deadline) - time.monotonic()
                if left <= 0:
                    return
                self._given_up.wait(left)

    def _give_up(self, call: _Call, _: tenacity.RetryCallState) -> None:
        """The last attempt failed: note why, and whether others need not try."""
        trouble = call.result
        if not isinstance(trouble, Trouble):
            return
        if call.spent < self._max_attempts:
            call.result = replace(trouble, out_of_time=True)
            return
        circuit = call.tenant if trouble.kind == "throttled" else call.host
        with self._lock:
            if circuit.gives_up(call.began, trouble):
                circuit.dead = circuit.dead or trouble
                self._wake_all()

    def _enter(self, call: _Call) -> Trouble | None:
        """Wait for room in the tenant's window, and take it; why nothing may be sent, if so."""
        tenant = call.tenant
        with tenant.room:
            while not (refused := self._refusal(call)):
                if self._is_open(call) and not tenant.is_full:
                    tenant.under_way += 1
                    return None
                now = time.monotonic()
                opens_at = tenant.window.opens_at
                tenant.room.wait((opens_at if opens_at > now else self._deadline) - now)
            return refused

    def _is_open(self, call: _Call) -> bool:
        return self._refusal(call) is None and call.tenant.window.opens_at <= time.monotonic()

    def _refusal(self, call: _Call) -> Trouble | None:
        """Why nothing may be sent any more."""
        if dead := call.host.dead or call.tenant.dead:
            return dead
        now, opens_at = time.monotonic(), call.tenant.window.opens_at
        if self._stopped or now >= self._deadline:
            return Trouble("unreachable", "timeout", out_of_time=True)
        if opens_at >= self._deadline:
            return Trouble("throttled", retry_after=opens_at - now, out_of_time=True)
        return None

    def _wake_all(self) -> None:
        self._given_up.notify_all()
        for tenant in self._tenants.values():
            tenant.room.notify_all()

    def _note(self, call: _Call, result: Answer | Trouble) -> None:
        """What one attempt says about its host and its tenant."""
        with self._lock:
            now, tenant = time.monotonic(), call.tenant
            if isinstance(result, Answer) or result.kind == "bad_response":
                call.host.answered(now)
                tenant.answered(now)
                tenant.window.answered(call.sent_at)
                return
            # While the tenant answers anybody, a refusal says nothing about this request.
            call.spent += result.kind != "throttled" or tenant.answered_at < call.counted_at
            call.counted_at = now
            if result.kind == "throttled":
                call.host.answered(now)
                tenant.failing.add(call)
                wait = result.retry_after or _wait(result, call.spent)
                tenant.window.refused(call.sent_at, now, wait)
                if tenant.window.opens_at > now:
                    tenant.room.notify_all()
            elif result.kind == "untrusted" or result.final:  # the same for every identity
                call.host.dead = call.host.dead or result
                self._wake_all()
            else:
                call.host.failing.add(call)

    def _send(self, call: _Call) -> Answer | Trouble:
        """One request and its whole answer, or what came in the way."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return Trouble("unreachable", "timeout", out_of_time=True)
        call.sent_at = time.monotonic()
        if not call.attempts:
            call.began = call.counted_at = call.sent_at
        call.attempts += 1
        timeout = min(call.request.timeout, left)
        result = self._connections.exchange(replace(call.request, timeout=timeout))
        if isinstance(result, Answer):
            retry_after = _retry_after(result, time.time())
            if result.status == _TOO_MANY_REQUESTS:
                result = Trouble("throttled", answer=result, retry_after=retry_after)
            elif (
                result.status == _REQUEST_TIMEOUT
                or result.status in _SERVER_ERRORS
                or call.is_temporary(result)
            ):
                result = Trouble("unavailable", answer=result, retry_after=retry_after)
        _log_attempt(call, result, time.monotonic() - call.sent_at)
        return result


def _delay(call: _Call, _: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt."""
    return _wait(call.result, call.spent) if isinstance(call.result, Trouble) else 0.0


def _wait(trouble: Trouble, spent: int) -> float:
    """As long as the provider asks; else exponentially longer, with full jitter."""
    longest = min(FIRST_BACKOFF * 2 ** max(spent - 1, 0), MAXIMUM_BACKOFF)
    asked = trouble.retry_after
    if trouble.kind == "throttled" and asked is not None:
        return asked + random.uniform(0, min(longest, asked / 8))  # noqa: S311  no secret
    return max(random.uniform(0, longest), asked or 0.0)  # noqa: S311  no secret


def _worth_retrying(result: Answer | Trouble) -> bool:
    return isinstance(result, Trouble) and result.worth_retrying


def _log_attempt(call: _Call, result: Answer | Trouble, took: float) -> None:
    """One line for `-vv`: nothing of the request but its host, nothing of the answer's body."""
    if not _log.isEnabledFor(logging.DEBUG):
        return
    answer = result if isinstance(result, Answer) else result.answer
    if answer:
        asked = result.retry_after if isinstance(result, Trouble) else None
        what = f"HTTP {answer.status}" + (f", Retry-After {asked:.0f} s" if asked else "")
    else:
        what = f"{result.kind} ({result.reason})" if isinstance(result, Trouble) else ""
    host = urlsplit(call.request.url).netloc
    _log.debug("%s: attempt %d at %s: %s after %.2f s", call.about, call.attempts, host, what, took)


def _retry_after(answer: Answer, now: float) -> float | None:
    """Seconds to wait, from a number or a date (RFC 9110 section 10.2.3).

    A date is compared with the provider's own clock, if the answer has its `Date`.
    """
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value[:12])
    epoch = http_date(value)
    if epoch is None:
        return None
    return max(0.0, epoch - (http_date(answer.headers.get("date")) or now))
