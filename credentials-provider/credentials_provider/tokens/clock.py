"""Whether this machine's clock was set since a token was minted, and what that does to its end.

A clock that is set leaves CLOCK_BOOTTIME (clock_gettime(2)) as it is: the difference of the two
shows by how much, for as long as the machine runs.
"""

from __future__ import annotations

import functools
import sys
import time
from typing import NamedTuple

# A clock that was set by less than this while a token was valid has moved its end by less than
# any lead; two machines that share a folder differ by as much without either being wrong.
CLOCK_TOLERANCE = 10.0  # seconds


class Boot(NamedTuple):
    """One start of a machine, and what its clock said at that moment, as it is set now."""

    id: str
    at: float  # epoch seconds


def this_boot() -> Boot | None:
    """None on systems other than Linux, which do not show it."""
    if sys.platform == "linux" and (boot_id := _boot_id()) is not None:
        now = time.clock_gettime(time.CLOCK_REALTIME)
        return Boot(boot_id, now - time.clock_gettime(time.CLOCK_BOOTTIME))
    return None


@functools.cache
def _boot_id() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(64).strip().decode()
    except (OSError, ValueError):
        return None


def was_set_by(minted: Boot | None, now: Boot | None) -> float | None:
    """By how many seconds the clock was set forward since the mint; None where nobody knows."""
    if minted is None or now is None or minted.id != now.id:
        return None
    return now.at - minted.at


def expires_on(reckoned: float, exp: float | None, skew: float, set_by: float | None) -> float:
    """When a token ends by this machine's clock, epoch seconds: the earliest that may be true.

    Args:
        reckoned: the end by the machine's clock at the mint.
        exp: the token's own, by the provider's clock; None where it does not say.
        skew: by how much the machine's clock was ahead of the provider's at the mint.
        set_by: as `was_set_by` says.

    """
    ahead = skew if skew > CLOCK_TOLERANCE else 0.0
    if set_by is not None and abs(set_by) <= CLOCK_TOLERANCE:
        # The clock is as wrong as it was: it is still ahead by as much.
        return reckoned if exp is None else min(reckoned, exp + ahead)
    by_provider = reckoned - ahead if exp is None else min(reckoned - ahead, exp)
    return min(by_provider, reckoned + (set_by or 0.0))
