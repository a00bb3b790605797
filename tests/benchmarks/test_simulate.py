"""The model of a large fleet keeps to what is known of its extremes."""

from __future__ import annotations

import pytest

from simulate import LIFE, Case, simulate

FEW = 20_000
PLENTY = 100_000  # answers a second


@pytest.mark.parametrize("shards", [1, 20])
def test_with_enough_of_everything_nobody_waits_and_nothing_expires(shards: int) -> None:
    """The first tokens take as long as 32 requests at once do, and no run longer."""
    result = simulate(Case(shards, limit=PLENTY, spread=0.0), FEW)
    assert result.start == pytest.approx(FEW / shards / 320, rel=0.5, abs=5)
    assert (result.refused, result.expired, result.recovery) == (0.0, 0, 0)
    assert result.peak <= FEW


@pytest.mark.parametrize(("minutes", "lost"), [(10, 0), (120, FEW)])
def test_an_outage_costs_nothing_within_the_lead_and_everything_beyond_a_life(
    minutes: int, lost: int
) -> None:
    """Every token is renewed twenty minutes or more before its end, and none lives two hours."""
    assert max(LIFE) < 120 * 60
    result = simulate(Case(2, limit=PLENTY, outage=minutes * 60), FEW)
    assert result.expired == lost
    assert (result.recovery > 0) == bool(lost)


def test_a_throttled_tenant_gives_what_it_can() -> None:
    """The model has the program's own window: at most 1.3 times what is possible, in one run."""
    possible = (4000 - 50) / 50
    result = simulate(Case(1, limit=50, spread=0.0), 4000)
    assert possible <= result.start <= 1.3 * possible


def test_a_provider_that_allows_less_than_is_needed_never_catches_up() -> None:
    """Each identity asks every 48 minutes or so: 20,000 of them ask 7 times a second."""
    enough, short = (simulate(Case(2, limit), FEW) for limit in (100, 5))
    assert enough.expired == 0
    assert short.expired > FEW / 4
    assert short.refused > enough.refused
