"""When a token is due: pure arithmetic on times that are handed in. All times are seconds."""

from __future__ import annotations

import re
from typing import NamedTuple

MINIMUM_LEAD = 300  # renewed at least this long before expiry …
MAXIMUM_LEAD_FRACTION = 0.5  # … but never before half of the life has passed
LONG_LIFE = 2 * 3600  # from here on half of the life is enough
LONGEST_LIFE = 48 * 3600  # of a token that is believed; Entra's have 28 h at most
LONGEST_DURATION = 10 * 366 * 86400  # waiting functions overflow some time after
SPREAD_FRACTION = 0.05  # a fleet's renewals spread over this much of the life
TIMER_INTERVAL = 300  # between the runs of the timers that `schedule` makes
TIMER_JITTER = 30  # by which such a run may be late

_LAST_DAY = 253_402_214_400.0  # epoch seconds, 9999-12-31 but for the zones

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(
    r"(?:[0-9]{1,9}(?:\.[0-9]{1,3})?(?:ms|[smhd]))+|[0-9]{1,9}(?:\.[0-9]{1,3})?", re.ASCII
)
_PART = re.compile(r"([0-9.]+)(ms|[smhd])", re.ASCII)


class Lead(NamedTuple):
    """How much life must be left for a token not to be due: seconds, or a fraction of its life."""

    seconds: float = 0.0
    fraction: float = 0.0
    capped: bool = False  # half of the life, for tokens that never have as much left

    def of(self, life: float) -> float:
        """The lead in seconds for a token that is valid for `life` seconds in all."""
        lead = max(self.seconds, self.fraction * life)
        return MAXIMUM_LEAD_FRACTION * life if self.capped and lead >= life else lead


def showable(epoch: float) -> float:
    """An epoch time that a calendar has in every zone: until the year 9999."""
    return min(epoch, _LAST_DAY)


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `10m`, `1h30m`, `2d` or `250ms`.

    Raises:
        ValueError: the text is none of these, or more than ten years.

    """
    stripped = text.strip().lower()
    if not _DURATION.fullmatch(stripped):
        raise ValueError(f"{text[:40]!r} is not a duration such as 90s, 10m or 1h30m")
    parts = _PART.findall(stripped)
    seconds = sum(float(n) * _UNITS[unit] for n, unit in parts) if parts else float(stripped)
    if seconds > LONGEST_DURATION:
        raise ValueError(f"{text[:40]!r} is too long a duration: ten years at most")
    return seconds


def parse_lead(text: str) -> Lead | None:
    """`auto` (None: each token's own `refresh_at` decides), a duration or a percentage of the life.

    Raises:
        ValueError: the text is none of these, or more than 100 %.

    """
    stripped = text.strip().lower()
    if stripped == "auto":
        return None
    if percent := re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%", stripped, re.ASCII):
        fraction = float(percent[1]) / 100
        if fraction > 1:
            raise ValueError(f"{text[:40]!r} is more than a token's whole life")
        return Lead(fraction=fraction)
    try:
        return Lead(seconds=parse_duration(stripped))
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is neither auto, a duration such as 10m, nor a percentage such as 25%"
        ) from None


def refresh_time(
    issued_at: int, expires_in: int, *, identity_name: str, refresh_in: int | None = None
) -> int:
    """When to renew a token, in epoch seconds, fixed once when it is minted.

    After the server's `refresh_in` where it sends one, else after 2/3 of the life (1/2 from two
    hours of life up); at least five minutes and at most half the life before expiry; then earlier
    by up to 5 % of the life, by a hash of name and issue time: a fleet spreads, two runs agree.
    """
    lead: float
    if refresh_in is not None:
        lead = expires_in - refresh_in
    else:
        lead = expires_in / 2 if expires_in >= LONG_LIFE else expires_in / 3
    lead = min(max(lead, MINIMUM_LEAD), MAXIMUM_LEAD_FRACTION * expires_in)
    lead += SPREAD_FRACTION * expires_in * spread(identity_name, issued_at)
    return issued_at + int(expires_in - lead)


def spread(identity_name: str, issued_at: int) -> float:
    """A number in [0, 1) that is the same for every run that looks at this token."""
    from hashlib import sha256  # a run with nothing due does not get here

    digest = sha256(f"{identity_name}\0{issued_at}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def shard_of(name: str, count: int) -> int:
    """Which of `count` parts an identity belongs to, from 0: the same on every machine.

    Jump consistent hash (Lamping and Veach, 2014, arXiv:1406.2294): the parts are of one size, and
    one part more takes its share from the others and moves nothing else.
    """
    from hashlib import sha256  # only where a fleet is divided

    key = int.from_bytes(sha256(name.lower().encode()).digest()[:8], "big")
    part, following = -1, 0
    while following < count:
        part = following
        key = (key * 2862933555777941757 + 1) % 2**64
        following = int((part + 1) * (2**31 / ((key >> 33) + 1)))
    return part
