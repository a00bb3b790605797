"""A million identities over a day, modelled: how many shards, how far apart, how far ahead.

Pure arithmetic with the program's own rules of when a token is due, and its own window for
a tenant; no network, no clock. Tokens are renewed in lots of 100. All identities are in one tenant.
It answers after 100 ms as often a second as it is told, refuses the rest with 429 and Retry-After,
and may be down for a while from noon on. A shard is one process: it starts every five minutes, asks
for what is due with 32 requests at once, fewer while it is refused, and ends after 120 s, or where
nobody is there, as `generate --refresh-ahead --shard K/N` does.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
from collections import defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.policy import (
    TIMER_INTERVAL,
    TIMER_JITTER,
    parse_duration,
    parse_lead,
    refresh_time,
    shard_of,
)
from credentials_provider.run.renewal import WORKERS_A_CONNECTION
from credentials_provider.transport.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable


SCALE = 100  # identities whose tokens are renewed together
DAY = 86_400  # seconds
NOON = DAY // 2
HOUR = 3600
LIFE = (3600, 5400)  # seconds: Entra ID's default, drawn for each token
CONCURRENCY = 32
WORKERS = CONCURRENCY * WORKERS_A_CONNECTION
A_SECOND = 10  # round trips
LATENCY = 1 / A_SECOND  # seconds
RETRY_AFTER = 10  # seconds
DEADLINE = 120  # seconds that a run may take


class Case(NamedTuple):
    """One way to run the fleet."""

    shards: int
    limit: int  # answers a second, of all tenants together
    lead: str = "auto"
    outage: float = 0.0  # seconds from noon on
    spread: float = TIMER_JITTER  # seconds over which the shards' timers go off


class Result(NamedTuple):
    """What became of it. The first hour, when everything is due at once, is told apart."""

    start: int  # seconds until every identity has its first token
    peak: int  # requests in the busiest second after the first hour
    refused: float  # share of them that was answered with 429
    longest: int  # seconds of the longest run after the first hour
    expired: int  # identities without a valid token, at the worst time after the start
    recovery: int  # seconds from the end of the outage until none of them was left


class _Token:
    """The tokens of `SCALE` identities, which are renewed together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.expires_at = 0.0


class _Provider:
    """What all shards ask, and what they and their tokens have come to."""

    def __init__(self, case: Case, tokens: int) -> None:
        self._case = case
        self._allowance = 0.0
        self._missing = tokens
        self._second = 0  # requests in it
        self.rng = random.Random(1)  # the same day each time
        self.lead = parse_lead(case.lead)
        self.start = DAY
        self.peak = self.asked = self.refused = self.longest = 0
        self.gaps: list[tuple[float, int]] = []  # when one begins, +1, and ends, -1

    def tick(self, now: float) -> None:
        """A round trip later."""
        case = self._case
        self._allowance = min(self._allowance + case.limit * LATENCY, case.limit)
        self.down = NOON <= now < NOON + case.outage
        self.counts = now >= HOUR and not self.down
        if now.is_integer():
            self.peak, self._second = max(self.peak, self._second), 0

    def ask(self, wanted: int) -> int:
        """How many of so many requests are answered."""
        answered = min(wanted, int(self._allowance))
        self._allowance -= answered
        if self.counts:
            self._second += wanted
            self.asked += wanted
            self.refused += wanted - answered
        return answered

    def mint(self, token: _Token, now: float) -> float:
        """Give the token a new life; when it is due."""
        if token.expires_at == 0.0:
            self._missing -= 1
            self.start = self.start if self._missing else math.ceil(now)
        elif token.expires_at < now:
            self.gaps += [(token.expires_at, 1), (now, -1)]
        life = self.rng.randint(*LIFE)
        token.expires_at = now + life
        if self.lead is not None:
            return token.expires_at - self.lead.of(life)
        return refresh_time(int(now), life, identity_name=token.name)


class _Shard:
    """One process's part of the fleet, all of one tenant."""

    def __init__(self, tokens: Iterable[_Token], first_run: int) -> None:
        self.known = [(0.0, number, token) for number, token in enumerate(tokens)]  # a heap
        self.next_run = self.began = float(first_run)
        self.due: deque[tuple[int, _Token]] = deque()

    def step(self, now: float, provider: _Provider) -> float:
        """What it does in a round trip; when it has something to do again."""
        if now >= self.next_run:
            self._begin(now)
        if provider.down or now >= self.began + DEADLINE:
            for number, token in self.due:  # for the next run
                heapq.heappush(self.known, (0.0, number, token))
            self.due.clear()
        if not self.due:
            return self.next_run
        if now >= self.window.opens_at:
            self._ask(now, provider)
        if self.due and self._wanted(now):
            return max(now, self.window.opens_at)
        return self.refused[0] if self.refused else self.next_run

    def _begin(self, now: float) -> None:
        self.began, self.next_run = now, self.next_run + TIMER_INTERVAL
        self.window = Window(CONCURRENCY)
        self.throttled = False
        self.answered = 0  # of the first token's identities
        self.refused: list[float] = []  # when each may be asked for again, a heap
        due = []
        while self.known and self.known[0][0] <= now:
            _, number, token = heapq.heappop(self.known)
            due.append((number, token))
        self.due.extend(sorted(due, key=lambda each: each[1].expires_at))

    def _wanted(self, now: float) -> int:
        """How many requests it has: neither the window nor the workers allow more."""
        while self.refused and self.refused[0] <= now:
            heapq.heappop(self.refused)
        left = len(self.due) * SCALE - self.answered - len(self.refused)
        return min(left, int(self.window.size), WORKERS - len(self.refused))

    def _ask(self, now: float, provider: _Provider) -> None:
        wanted = self._wanted(now)
        answered = provider.ask(wanted)
        answered_at = (round(now * A_SECOND) + 1) / A_SECOND  # as exact as the next `now`
        self.throttled = self.throttled or answered < wanted
        if self.throttled:  # else it is as wide as it can be
            for _ in range(answered):
                self.window.answered(now)
        for _ in range(wanted - answered):
            wait = RETRY_AFTER * provider.rng.uniform(1, 9 / 8)
            self.window.refused(now, answered_at, wait)
            heapq.heappush(self.refused, answered_at + wait)
        self.answered += answered
        while self.answered >= SCALE:
            self.answered -= SCALE
            number, token = self.due.popleft()
            heapq.heappush(self.known, (provider.mint(token, now), number, token))
        if provider.counts:
            provider.longest = max(provider.longest, math.ceil(answered_at - self.began))


def simulate(case: Case, identities: int = 1_000_000) -> Result:
    """A day of the fleet, which has no token when it begins."""
    tokens = [_Token(f"agent-{number}") for number in range(identities // SCALE)]
    provider = _Provider(case, len(tokens))
    parts: list[list[_Token]] = [[] for _ in range(case.shards)]
    for token in tokens:
        parts[shard_of(token.name, case.shards)].append(token)
    agenda: defaultdict[int, list[_Shard]] = defaultdict(list)
    for part in parts:
        first_run = int(provider.rng.uniform(0, case.spread))
        agenda[first_run * A_SECOND].append(_Shard(part, first_run))
    for tick in range(DAY * A_SECOND):
        now = tick / A_SECOND
        provider.tick(now)
        active = agenda.pop(tick, [])
        provider.rng.shuffle(active)
        for shard in active:
            again = shard.step(now, provider)
            agenda[max(tick + 1, math.ceil(again * A_SECOND))].append(shard)
    return _result(case, provider, tokens)


def _result(case: Case, provider: _Provider, tokens: Iterable[_Token]) -> Result:
    gaps = provider.gaps
    gaps += [(token.expires_at, 1) for token in tokens if 0.0 < token.expires_at < DAY]
    ends = [at for at, change in gaps if change < 0 and at >= NOON]
    return Result(
        start=provider.start,
        peak=provider.peak,
        refused=provider.refused / provider.asked,
        longest=provider.longest,
        expired=max(itertools.accumulate(change for _, change in sorted(gaps)), default=0) * SCALE,
        recovery=max(0, int(max(ends, default=0.0) - NOON - case.outage)) if case.outage else 0,
    )


APART = TIMER_INTERVAL  # the shards' timers go off all over the interval
CASES = [
    Case(shards=10, limit=2000),
    Case(shards=100, limit=2000),
    Case(shards=10, limit=2000, spread=APART),
    Case(shards=100, limit=2000, spread=APART),
    *(Case(shards=100, limit=limit, spread=APART) for limit in (500, 400, 300)),
    *(
        Case(shards=100, limit=1000, spread=APART, lead=lead, outage=minutes * 60)
        for minutes in (10, 20, 30)
        for lead in ("auto", "50%")
    ),
]


def main() -> None:
    """Print a table of cases, or the one that the options describe."""
    parser = argparse.ArgumentParser(prog="benchmarks/run --simulate", description=__doc__)
    parser.add_argument("--identities", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, help="without it: a table of examples")
    parser.add_argument("--limit", type=int, default=1000, help="answers a second")
    parser.add_argument("--lead", default="auto", help="as for --refresh-ahead")
    parser.add_argument("--outage", type=parse_duration, default=0.0, help="from noon on")
    parser.add_argument("--spread", type=parse_duration, default=TIMER_JITTER, help="of timers")
    options = parser.parse_args()
    case = Case(options.shards, options.limit, options.lead, options.outage, options.spread)
    heads = (
        *("shards", "limit/s", "lead", "outage", "spread"),
        *("start", "peak/s", "refused", "longest", "expired", "recovery"),
    )
    _print(heads)
    for each in [case] if options.shards else CASES:
        result = simulate(each, options.identities)
        _print(
            (
                *(f"{each.shards}", f"{each.limit}", each.lead),
                *(f"{each.outage / 60:g} min", f"{each.spread:g} s"),
                *(f"{result.start} s", f"{result.peak}", f"{result.refused:.1%}"),
                *(f"{result.longest} s", f"{result.expired}", f"{result.recovery} s"),
            )
        )


def _print(cells: Iterable[str]) -> None:
    print("".join(f"{cell:>10}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
