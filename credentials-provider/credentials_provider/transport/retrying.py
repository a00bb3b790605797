"""Attempts: when a request is sent again, and what one of them tells all the others.

Retries, a throttle that all of a tenant obey, and a host that is given up once for everybody.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import tenacity

from credentials_provider.transport.connections import Answer, Connections, Trouble, http_date

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FIRST_BACKOFF = 1.0  # seconds, doubling, with full jitter
MAXIMUM_BACKOFF = 30.0  # seconds

_TOO_MANY_REQUESTS = 429
_REQUEST_TIMEOUT = 408
_SERVER_ERRORS = range(500, 600)


class Reply(NamedTuple):
    """What became of a request, retries included; `attempts` counts those really sent."""

    result: Answer | Trouble
    attempts: int


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
        self._now = now
        self._monotonic = monotonic
        self._connections = Connections(connections, ca_bundle, now)
        self._slots = threading.Semaphore(connections)
        self._changed = threading.Condition()
        self._hosts: dict[str, _Circuit] = {}
        self._tenants: dict[tuple[str, str], _Circuit] = {}
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
        self._connections.close()

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
        timeout = min(call.timeout, left)
        result = self._connections.exchange(call.url, call.body, call.headers, timeout)
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


def _result(state: tenacity.RetryCallState) -> Trouble:
    result = state.outcome.result() if state.outcome else None
    return result if isinstance(result, Trouble) else Trouble("unreachable", "other")


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
