"""How many requests may be under way for one tenant: pure arithmetic on times that are handed in.

TCP's rule (RFC 5681, sections 3.1 and 3.2): a refusal halves the window, at most once a round trip;
each window of answers adds one. So a tenant is asked at the rate that it answers.

Not every refusal is about the rate. A limit refuses less when it is asked half as much; where a
halving leaves the refusals as frequent as they were, the window opens again, and refusals of that
frequency close it no more.
"""

from __future__ import annotations

_SHORTEST_TRIAL = 8  # outcomes after a halving that show what it changed; else two windows of them
_MEMORY = 32  # outcomes over which the share of refusals is averaged
_RARE = 1 / 3  # a higher share after a halving is a rate limit, still exceeded


class Window:
    """The window of one tenant. Times are `monotonic` seconds; not thread-safe by itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.size = float(limit)
        self.opens_at = float("-inf")  # nothing is sent before
        self._share = 0.0  # of refusals among the last outcomes
        self._tolerated = 0.0  # share of refusals that are not about the rate
        self._halved_at = float("-inf")
        self._share_before = 0.0  # when it was halved
        self._trial = 0  # outcomes still to come until the halving is judged
        self._outcomes = self._refusals = 0  # in the trial

    def answered(self, sent_at: float) -> None:
        """A request that was sent then has its answer."""
        if sent_at >= self._halved_at:
            self.size = min(float(self._limit), self.size + 1 / self.size)
            self._count(0, sent_at)

    def refused(self, sent_at: float, now: float, wait: float) -> None:
        """A request that was sent then was throttled, and has to wait for that number of seconds.

        What was sent before the last halving says nothing about the present window.
        """
        if sent_at < self._halved_at:
            return
        if self._trial:
            self._count(1, now)
            return
        self._count(1, now)
        if self._share <= self._tolerated:
            return
        if self.size < 2:  # noqa: PLR2004  one request at a time: nothing less but none
            self.opens_at = max(self.opens_at, now + wait)
        self._halve(now, self._share)

    def _count(self, refusals: int, now: float) -> None:
        self._share += (refusals - self._share) / _MEMORY
        if not self._trial:
            return
        self._outcomes += 1
        self._refusals += refusals
        share = self._refusals / self._outcomes
        if self._refusals > self._trial * _RARE:
            self._halve(now, share)
        elif self._outcomes == self._trial:
            self._trial = 0
            if share >= self._share_before / 2:
                self.size = float(self._limit)
                self._tolerated = min(2 * share, 0.5)

    def _halve(self, now: float, share: float) -> None:
        self.size = max(self.size / 2, 1.0)
        self._halved_at = now
        self._share_before = share
        self._tolerated = 0.0
        self._trial = max(int(2 * self.size), _SHORTEST_TRIAL) if self.size > 1 else 0
        self._outcomes = self._refusals = 0
