"""When a token ends by a clock that is wrong, or was set: on both sides of what is tolerated."""

from __future__ import annotations

import pytest

from credentials_provider.tokens.clock import CLOCK_TOLERANCE, Boot, expires_on, was_set_by

END = 5000.0  # reckoned at the mint
LEAST = CLOCK_TOLERANCE + 0.1  # what is no longer tolerated


@pytest.mark.parametrize(
    ("skew", "set_by", "exp", "end"),
    [
        (CLOCK_TOLERANCE, None, None, END),
        (LEAST, None, None, END - LEAST),
        (-LEAST, None, None, END),
        (LEAST, None, 4000.0, 4000.0),
        (LEAST, None, 6000.0, END - LEAST),
        (0.0, None, 4000.0, 4000.0),
        # As wrong as it was at the mint
        (60.0, 0.0, None, END),
        (60.0, CLOCK_TOLERANCE, None, END),
        (60.0, -CLOCK_TOLERANCE, None, END),
        (60.0, 0.0, 4000.0, 4060.0),
        (60.0, 0.0, 4950.0, END),
        (CLOCK_TOLERANCE, 0.0, 4000.0, 4000.0),
        # Set since then
        (60.0, LEAST, None, END - 60),
        (60.0, LEAST, 4000.0, 4000.0),
        (0.0, LEAST, None, END),
        (0.0, -LEAST, None, END - LEAST),
        (0.0, -LEAST, 4000.0, 4000.0),
        (60.0, -LEAST, None, END - 60),
        (60.0, -100.0, None, END - 100),
    ],
)
def test_a_token_ends_at_the_earliest_time_that_may_be_true(
    skew: float, set_by: float | None, exp: float | None, end: float
) -> None:
    assert expires_on(END, exp, skew, set_by) == end


@pytest.mark.parametrize(
    ("minted", "now", "seconds"),
    [
        (Boot("a", 100.0), Boot("a", 107.5), 7.5),
        (Boot("a", 100.0), Boot("a", 40.0), -60.0),
        (Boot("a", 100.0), Boot("b", 107.5), None),
        (Boot("a", 100.0), None, None),
        (None, Boot("a", 100.0), None),
        (None, None, None),
    ],
)
def test_a_clock_is_compared_with_that_of_the_same_start_of_the_machine(
    minted: Boot | None, now: Boot | None, seconds: float | None
) -> None:
    """Another machine's, or one before a restart, says nothing."""
    assert was_set_by(minted, now) == seconds
