"""The rules of retrying, one by one: when to wait how long, and when a host is given up for all."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from credentials_provider.transport import retrying
from credentials_provider.transport.circuits import Circuit
from credentials_provider.transport.connections import Answer, Connections, HttpRequest, Trouble
from credentials_provider.transport.retrying import (
    FIRST_BACKOFF,
    MAXIMUM_BACKOFF,
    Transport,
    _Call,
    _wait,
)

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED = Trouble("unreachable", "unreachable", connected=False)
CUT = Trouble("unreachable", "reset")
OK = Answer(200, {}, b"{}", 0.0, None)
THROTTLED = Trouble("throttled", retry_after=0.01)
UNAVAILABLE = Trouble("unavailable")
UNTRUSTED = Trouble("untrusted", "expired")


def failing(circuit: Circuit, *, active: int, many: int) -> None:
    circuit.active = active
    circuit.failing = {object() for _ in range(many)}


def test_one_identitys_spent_attempts_do_not_end_the_others() -> None:
    """It takes two of them, and half of those under way."""
    for active, many, given_up in ((10, 1, False), (10, 4, False), (10, 5, True), (1, 1, False)):
        circuit = Circuit()
        failing(circuit, active=active, many=many)
        assert circuit.gives_up(100.0, CUT) is given_up


def test_a_host_that_nobody_can_connect_to_is_given_up_at_once() -> None:
    circuit = Circuit()
    failing(circuit, active=10, many=1)
    assert circuit.gives_up(100.0, REFUSED)


@pytest.mark.parametrize("trouble", [REFUSED, CUT])
def test_a_host_that_has_answered_meanwhile_is_not_given_up(trouble: Trouble) -> None:
    """Whom it answered does not matter; what it answered before the call began does not count."""
    circuit = Circuit()
    circuit.answered(150.0)
    failing(circuit, active=2, many=2)
    assert not circuit.gives_up(100.0, trouble)
    assert circuit.gives_up(151.0, trouble)


def test_an_answer_forgets_the_failures_of_before() -> None:
    circuit = Circuit()
    failing(circuit, active=2, many=2)
    circuit.answered(1.0)
    assert circuit.failing == set()


def test_retry_after_is_a_floor() -> None:
    for _ in range(200):
        assert 7 <= _wait(Trouble("unavailable", retry_after=7.0), 1) <= max(7, FIRST_BACKOFF)
        # A tenant's refused identities do not come back as one, and not much later.
        assert 8 <= _wait(Trouble("throttled", retry_after=8.0), 6) <= 9


def test_who_is_refused_together_comes_back_apart() -> None:
    """Spread over an eighth of the wait, not all at its end."""
    waits = [_wait(Trouble("throttled", retry_after=4.0), 1) for _ in range(300)]
    assert sum(each < 4.25 for each in waits) > 100
    assert len(set(waits)) > 290


def test_without_it_the_wait_doubles_with_full_jitter_up_to_half_a_minute() -> None:
    for spent in range(1, 12):
        longest = min(FIRST_BACKOFF * 2 ** (spent - 1), MAXIMUM_BACKOFF)
        waits = [_wait(Trouble("unavailable"), spent) for _ in range(300)]
        assert all(0 <= wait <= longest for wait in waits)
        assert min(waits) < longest / 4
        assert max(waits) > longest * 3 / 4


class Scripted(Transport):
    """Answers as it is told, without a network."""

    def __init__(
        self, *results: Answer | Trouble, deadline: float = 60.0, connections: int = 4
    ) -> None:
        super().__init__(
            timeout=1.0,
            max_attempts=3,
            deadline=time.monotonic() + deadline,
            connections=connections,
        )
        self.results = list(results)
        self.before: Callable[[], object] = lambda: None

    def _send(self, call: _Call) -> Answer | Trouble:
        self.before()
        call.sent_at = time.monotonic()
        if not call.attempts:
            call.began = call.counted_at = call.sent_at
        call.attempts += 1
        return self.results.pop(0)


def ask(transport: Transport, tenant: str = "a") -> tuple[Answer | Trouble, int]:
    reply = transport.send(HttpRequest("POST", "https://localhost/", {}, ""), tenant=tenant)
    return reply.result, reply.attempts


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at once where no Retry-After says otherwise."""
    monkeypatch.setattr(retrying, "FIRST_BACKOFF", 0.001)


@pytest.mark.usefixtures("quick")
def test_what_is_temporary_is_tried_again_until_the_attempts_are_spent() -> None:
    assert ask(Scripted(UNAVAILABLE, CUT, OK)) == (OK, 3)
    result, attempts = ask(Scripted(UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, OK))
    assert (result, attempts) == (UNAVAILABLE, 3)


def test_what_is_final_is_not_tried_again() -> None:
    for result in (OK, Trouble("bad_response"), Trouble("untrusted", "expired")):
        assert ask(Scripted(result)) == (result, 1)


@pytest.mark.usefixtures("quick")
def test_a_tenant_that_refuses_everybody_spends_attempts() -> None:
    result, attempts = ask(Scripted(*[THROTTLED] * 9))
    assert (result, attempts) == (THROTTLED, 3)


@pytest.mark.usefixtures("quick")
def test_a_refusal_spends_none_while_the_tenant_answers_somebody() -> None:
    transport = Scripted(*[THROTTLED] * 6, OK)

    def somebody_is_answered() -> None:
        for tenant in transport._tenants.values():
            tenant.answered(time.monotonic())

    transport.before = somebody_is_answered
    assert ask(transport) == (OK, 7)


def test_a_wait_beyond_the_deadline_ends_at_once_and_says_so() -> None:
    began = time.monotonic()
    result, attempts = ask(Scripted(Trouble("throttled", retry_after=600.0), deadline=5.0))
    assert time.monotonic() - began < 2
    assert isinstance(result, Trouble)
    assert (result.kind, result.out_of_time, attempts) == ("throttled", True, 1)


def test_a_throttled_tenant_keeps_no_other_one_waiting() -> None:
    """On the same host; how its name is written does not matter."""
    throttled = Trouble("throttled", retry_after=600.0)
    transport = Scripted(throttled, OK, deadline=5.0, connections=1)
    assert isinstance(ask(transport)[0], Trouble)
    assert transport.pause("https://localhost", "A") > 500
    assert transport.pause("https://localhost", "b") == 0
    assert ask(transport, "b") == (OK, 1)
    assert transport.results == []


@pytest.mark.parametrize("window", [1, 2])
def test_no_more_requests_are_under_way_for_a_tenant_than_its_window_has_room_for(
    window: int,
) -> None:
    """However many connections there are."""
    transport = Scripted(*[OK] * 13)
    ask(transport)
    tenant = transport._tenants["localhost", "a"]
    tenant.window.size = float(window)
    tenant.window._limit = window
    under_way: list[None] = []
    most: list[int] = []

    def take_a_while() -> None:
        under_way.append(None)
        most.append(len(under_way))
        time.sleep(0.02)
        under_way.pop()

    transport.before = take_a_while
    threads = [threading.Thread(target=ask, args=(transport,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (max(most), len(most)) == (window, 12)


def test_a_run_that_was_stopped_sends_nothing_more() -> None:
    """Who waits as a throttle wants is woken, and asks no more."""
    transport = Scripted(Trouble("throttled", retry_after=30.0), OK, OK)
    waiting = threading.Thread(target=ask, args=(transport,))
    waiting.start()
    while len(transport.results) == 3:
        time.sleep(0.001)
    transport.stop()
    waiting.join(5)
    assert not waiting.is_alive()
    assert ask(transport)[1] == 0
    assert transport.results == [OK, OK]


def test_no_more_requests_are_under_way_than_there_are_connections() -> None:
    """However many tenants there are."""
    transport = Scripted(*[OK] * 6, connections=2)
    under_way: list[None] = []
    most: list[int] = []

    def take_a_while() -> None:
        under_way.append(None)
        most.append(len(under_way))
        time.sleep(0.02)
        under_way.pop()

    transport.before = take_a_while
    threads = [threading.Thread(target=ask, args=(transport, f"t{n}")) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (max(most), len(most)) == (2, 6)


def test_a_host_that_cannot_be_trusted_is_asked_once_for_all() -> None:
    """No identity fares better, and each attempt shows it a connection more."""
    transport = Scripted(UNTRUSTED)
    assert ask(transport) == (UNTRUSTED, 1)
    result, attempts = ask(transport)
    assert isinstance(result, Trouble)
    assert (result.kind, attempts) == ("untrusted", 0)


@pytest.mark.usefixtures("quick")
def test_a_tenant_that_answers_nobody_is_given_up_and_no_other_one_with_it() -> None:
    """Two identities spend their attempts side by side; a third one spends none."""
    together = threading.Barrier(2)
    transport = Scripted(*[THROTTLED] * 6, OK, connections=32)  # a window with room for two
    transport.before = lambda: together.wait(5)
    two = [threading.Thread(target=ask, args=(transport,)) for _ in range(2)]
    for each in two:
        each.start()
    for each in two:
        each.join(10)
    transport.before = lambda: None

    result, attempts = ask(transport)
    assert isinstance(result, Trouble)
    assert (result.kind, attempts) == ("throttled", 0)
    assert ask(transport, "b") == (OK, 1)


@pytest.mark.parametrize(("deadline", "longest"), [(5.0, 5.0), (60.0, 20.0), (0.0, None)])
def test_no_request_gets_longer_than_the_run_has_left(
    monkeypatch: pytest.MonkeyPatch, deadline: float, longest: float | None
) -> None:
    """Nor is one sent when the run has ended."""
    transport = Transport(
        timeout=20.0, max_attempts=1, deadline=time.monotonic() + deadline, connections=1
    )
    timeouts: list[float] = []

    def exchange(request: HttpRequest) -> Answer:
        timeouts.append(request.timeout)
        return OK

    monkeypatch.setattr(transport._connections, "exchange", exchange)
    result, _ = ask(transport)
    assert timeouts == ([] if longest is None else [pytest.approx(longest, abs=1)])
    assert (result == OK) is (longest is not None)


def test_connections_are_closed_while_others_are_made() -> None:
    """A worker that is late may ask another host meanwhile."""
    connections = Connections(1, None)

    class Pool:
        def clear(self) -> None:
            connections._pools["https://other"] = connections._pool("https://another")

    connections._pools["https://one"] = Pool()  # type: ignore[assignment]
    connections.close()
    assert len(connections._pools) == 3
