"""A tenant's window: how many requests may be under way for it."""

from __future__ import annotations

import heapq
import random
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import pytest

from credentials_provider.transport.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

LATENCY = 0.1  # seconds


class Result(NamedTuple):
    seconds: float
    requests: int
    refusals: int


def limited(rate: float, burst: float) -> Callable[[int, float], bool]:
    """A tenant that answers so many requests a second, and so many at once."""
    left, last = burst, 0.0

    def answers(_: int, now: float) -> bool:
        nonlocal left, last
        left, last = min(left + (now - last) * rate, burst), now
        if left < 1:
            return False
        left -= 1
        return True

    return answers


def refusing_once(one_in: int) -> Callable[[int, float], bool]:
    """A tenant that refuses one identity in so many once, however often it is asked."""
    refused = set(range(0, 1000, one_in))

    def answers(number: int, _: float) -> bool:
        if number not in refused:
            return True
        refused.remove(number)
        return False

    return answers


def run(answers: Callable[[int, float], bool], retry_after: float, *, seed: int = 0) -> Result:
    """A thousand identities through a window of 32; each refused one waits as it is told."""
    jitter = random.Random(seed)
    window = Window(32)
    todo = deque(range(1000))
    events: list[tuple[float, int, float]] = []  # when, which identity, when it was sent (or -1)
    now, under_way, requests, refusals, finished = 0.0, 0, 0, 0, 0.0
    waiting = 0
    while todo or under_way or waiting:
        while todo and under_way < int(window.size) and window.opens_at <= now:
            under_way += 1
            requests += 1
            arrives = now + LATENCY * jitter.uniform(0.9, 1.1)
            heapq.heappush(events, (arrives, todo.popleft(), now))
        if not events:
            now = window.opens_at
            continue
        now, number, sent_at = heapq.heappop(events)
        if sent_at < 0:
            waiting -= 1
            todo.append(number)
            continue
        under_way -= 1
        if answers(number, now):
            window.answered(sent_at)
            finished = now
            continue
        refusals += 1
        waiting += 1
        window.refused(sent_at, now, retry_after)
        heapq.heappush(events, (now + retry_after * jitter.uniform(1, 1.1), number, -1.0))
    return Result(finished, requests, refusals)


def test_without_refusals_it_stays_as_wide_as_it_was() -> None:
    """A tenant that answers everything is asked by all connections."""
    window = Window(32)
    for _ in range(100):
        window.answered(0.0)
    assert window.size == 32


def test_a_refusal_halves_it_once_a_round_trip() -> None:
    """What was sent before tells nothing of the window as it is now."""
    window = Window(32)
    for _ in range(20):
        window.refused(0.0, 0.1, 1.0)
    assert window.size == 16
    for _ in range(20):
        window.refused(0.1, 0.2, 1.0)
    assert window.size == 8


def test_each_window_of_answers_adds_one() -> None:
    window = Window(32)
    window.refused(0.0, 0.1, 1.0)
    for _ in range(16):
        window.answered(0.1)
    assert window.size == pytest.approx(17, abs=0.1)


def test_the_tenant_waits_only_where_one_request_is_one_too_many() -> None:
    """While more than one is under way, the refused one waits alone."""
    window = Window(4)
    now = 0.0
    while window.size >= 2:
        now += 0.1
        window.refused(now, now, 5.0)
        assert window.opens_at == float("-inf")
    while window.opens_at == float("-inf"):
        now += 0.1
        window.refused(now, now, 5.0)
    assert window.opens_at == now + 5


def test_refusals_that_are_not_about_the_rate_do_not_close_it() -> None:
    """Half the requests, as many refusals among them: it opens again, and stays open."""
    window = Window(32)
    for number in range(400):
        now = float(number)
        if number % 5:
            window.answered(now)
        else:
            window.refused(now, now, 2.0)
    assert window.size == 32


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("answers", "retry_after", "possible", "share"),
    [
        pytest.param(lambda: refusing_once(5), 2.0, 5.0, 0.2, id="one in five once"),
        pytest.param(lambda: limited(200, 100), 1.0, 4.5, 0.15, id="200 a second"),
        pytest.param(lambda: limited(50, 50), 2.0, 19.0, 0.15, id="50 a second"),
    ],
)
def test_a_throttled_tenant_gives_what_it_can(
    answers: Callable[[], Callable[[int, float], bool]],
    retry_after: float,
    possible: float,
    share: float,
    seed: int,
) -> None:
    """A thousand identities take at most 1.3 times what is possible, with few refusals."""
    result = run(answers(), retry_after, seed=seed)
    assert result.seconds <= 1.3 * possible
    assert result.refusals <= share * result.requests


def test_the_tenant_waits_only_where_a_single_request_was_refused() -> None:
    """With room for two, the refused one waits alone."""
    window = Window(2)
    window.refused(0.0, 0.0, 5.0)
    assert (window.size, window.opens_at) == (1.0, float("-inf"))
    window.refused(1.0, 1.0, 5.0)
    assert (window.size, window.opens_at) == (1.0, 6.0)


@pytest.mark.parametrize(
    ("refused_first", "refused_later", "opens"), [(0, 1, True), (0, 0, False), (11, 1, False)]
)
def test_a_window_opens_again_only_where_halving_it_changed_nothing(
    refused_first: int, refused_later: int, *, opens: bool
) -> None:
    """A limit that refuses less since then is a limit of the rate: the window stays small."""
    window = Window(32)
    window.refused(0.0, 0.0, 1.0)
    for _ in range(refused_first):
        window.refused(1.0, 1.0, 1.0)
    half = window.size
    for _ in range(refused_later):
        window.refused(2.0, 2.0, 1.0)
    for _ in range(int(2 * half) - refused_later):
        window.answered(2.0)
    assert half == (16 if not refused_first else 8)
    assert (window.size == 32) is opens
