"""A million identities over a day, modelled: how many shards, how far apart, how far ahead.

Pure arithmetic with the program's own rules of when a token is due; no network, no clock. One
identity in the model stands for 100, so what the provider allows is divided by 100 as well. The
provider answers after 100 ms as often a second as it is told, refuses the rest with 429 and
Retry-After, and may be down for a while from noon on. A shard is one process: it starts every five
minutes, asks for what is due with 32 requests at once, pauses where it is refused, and ends after
120 s, as `generate --refresh-ahead --shard K/N` does.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
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

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credentials_provider.policy import Lead

SCALE = 100  # identities that one in the model stands for
DAY = 86_400  # seconds
NOON = DAY // 2
HOUR = 3600
LIFE = (3600, 5400)  # seconds: Entra ID's default, drawn for each token
CONCURRENCY = 32
LATENCY = 0.1  # seconds
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
    expired: int  # identities without a token that lives, at the worst time after the start
    recovery: int  # seconds from the end of the outage until none of them was left


class _Token:
    def __init__(self, name: str) -> None:
        self.name = name
        self.expires_at = 0.0


class _Shard:
    """One process's part of the fleet."""

    def __init__(self, tokens: Iterable[_Token], first_run: int) -> None:
        self.known = [(0.0, number, token) for number, token in enumerate(tokens)]  # a heap
        self.next_run = first_run
        self.began = first_run
        self.due: deque[tuple[int, _Token]] = deque()
        self.paused_until = 0
        self.credit = 0.0

    def wants(self, now: int) -> int:
        """How many requests it has for this second; starts and ends its runs."""
        if now >= self.next_run:
            self.began, self.next_run = now, self.next_run + TIMER_INTERVAL
            self.paused_until, self.credit = 0, 0.0
            due = []
            while self.known and self.known[0][0] <= now:
                _, number, token = heapq.heappop(self.known)
                due.append((number, token))
            self.due.extend(sorted(due, key=lambda each: each[1].expires_at))
        if max(now, self.paused_until) >= self.began + DEADLINE:
            for number, token in self.due:  # for the next run
                heapq.heappush(self.known, (0.0, number, token))
            self.due.clear()
        if now < self.paused_until:
            return 0
        self.credit += CONCURRENCY / LATENCY / SCALE
        wanted = min(int(self.credit), len(self.due))
        self.credit -= int(self.credit)
        return wanted

    def wakes_at(self, now: int) -> int:
        """When it has something to do again."""
        return max(now + 1, self.paused_until) if self.due else self.next_run


def simulate(case: Case, identities: int = 1_000_000) -> Result:
    """A day of the fleet, which has no token when it begins."""
    rng = random.Random(1)  # the same day each time
    lead = parse_lead(case.lead)
    tokens = [_Token(f"agent-{number}") for number in range(identities // SCALE)]
    parts: list[list[_Token]] = [[] for _ in range(case.shards)]
    for token in tokens:
        parts[shard_of(token.name, case.shards)].append(token)
    agenda: defaultdict[int, list[_Shard]] = defaultdict(list)
    for part in parts:
        first_run = int(rng.uniform(0, case.spread))
        agenda[first_run].append(_Shard(part, first_run))
    missing, start = len(tokens), DAY
    asked = refused = peak = 0.0
    longest = 0
    gaps: list[tuple[float, int]] = []  # when one begins, +1, and ends, -1
    allowance = 0.0
    for now in range(DAY):
        allowance = min(allowance + case.limit / SCALE, max(case.limit / SCALE, 1.0))
        down = NOON <= now < NOON + case.outage
        sent = 0.0
        active = agenda.pop(now, [])
        rng.shuffle(active)
        for shard in active:
            wanted = shard.wants(now)
            granted = 0 if down else min(wanted, int(allowance))
            allowance -= granted
            for _ in range(granted):
                number, token = shard.due.popleft()
                if token.expires_at == 0.0:
                    missing -= 1
                    start = now if not missing else start
                elif token.expires_at < now:
                    gaps += [(token.expires_at, 1), (now, -1)]
                heapq.heappush(shard.known, (_mint(token, now, rng, lead), number, token))
            sent += granted
            if granted < wanted:
                shard.paused_until = now + RETRY_AFTER
                in_flight = min(wanted - granted, CONCURRENCY / SCALE)
                sent += in_flight
                refused += in_flight * (now >= HOUR and not down)
            if now >= HOUR and wanted:
                longest = max(longest, now + 1 - shard.began)
            agenda[shard.wakes_at(now)].append(shard)
        if now >= HOUR and not down:
            peak, asked = max(peak, sent), asked + sent
    gaps += [(token.expires_at, 1) for token in tokens if 0.0 < token.expires_at < DAY]
    ends = [at for at, change in gaps if change < 0 and at >= NOON]
    return Result(
        start=start,
        peak=round(peak * SCALE),
        refused=refused / asked,
        longest=longest,
        expired=max(itertools.accumulate(change for _, change in sorted(gaps)), default=0) * SCALE,
        recovery=max(0, int(max(ends, default=0.0) - NOON - case.outage)) if case.outage else 0,
    )


def _mint(token: _Token, now: int, rng: random.Random, lead: Lead | None) -> float:
    """Give the token a new life; when it is due."""
    life = rng.randint(*LIFE)
    token.expires_at = now + life
    if lead is not None:
        return token.expires_at - lead.of(life)
    return refresh_time(now, life, identity_name=token.name)


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
