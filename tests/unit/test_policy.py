"""When a token is due: bounds, spread, and the words a user may say it in."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from credentials_provider.policy import Lead, parse_duration, parse_lead, refresh_time

LIVES = st.integers(1, 10 * 366 * 86400)
ISSUED = st.integers(0, 2**33)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
REFRESH_IN = st.none() | st.integers(1, 2**31)


def latest(life: int, refresh_in: int | None) -> float:
    """Seconds of life after which a token is due at the latest, before it is spread."""
    after = refresh_in if refresh_in is not None else life / 2 if life >= 7200 else life * 2 / 3
    return max(min(after, life - 300), life / 2)


@given(ISSUED, LIVES, NAMES, REFRESH_IN)
@example(0, 1, "a", None)
@example(0, 7199, "a", None)
@example(0, 7200, "a", None)
@example(0, 3599, "a", 10**9)
@example(0, 3599, "a", 1)
@example(0, 600, "a", None)
@example(0, 599, "a", None)
def test_a_refresh_time_is_within_the_bounds_for_every_life(
    issued_at: int, life: int, name: str, refresh_in: int | None
) -> None:
    """At most 5 % of the life earlier than the rule's time, and never later."""
    at = refresh_time(issued_at, life, identity_name=name, refresh_in=refresh_in) - issued_at
    assert latest(life, refresh_in) - 0.05 * life - 1 <= at <= latest(life, refresh_in) + 1e-6
    assert 0 <= at < life


@given(ISSUED, LIVES, NAMES, REFRESH_IN)
def test_five_minutes_or_half_the_life_are_left_at_the_refresh_time(
    issued_at: int, life: int, name: str, refresh_in: int | None
) -> None:
    """A renewal that fails has time to be tried again."""
    at = refresh_time(issued_at, life, identity_name=name, refresh_in=refresh_in)
    assert issued_at + life - at >= min(300, life / 2)


@given(ISSUED, LIVES, NAMES, REFRESH_IN)
def test_two_runs_agree_on_a_refresh_time(
    issued_at: int, life: int, name: str, refresh_in: int | None
) -> None:
    """The spread is a hash, not chance."""
    first, second = (
        refresh_time(issued_at, life, identity_name=name, refresh_in=refresh_in) for _ in range(2)
    )
    assert first == second


def test_a_refresh_time_does_not_depend_on_the_process() -> None:
    """Pinned: a hash that Python salts anew in every process would differ."""
    assert refresh_time(1_800_000_000, 3599, identity_name="ci") == 1_800_002_367


@pytest.mark.parametrize("life", [3599, 4200, 86399])
def test_a_fleet_spreads_over_five_percent_of_the_life(life: int) -> None:
    """Tokens minted in one second come due in every tenth of the spread, none in one heap."""
    width = 0.05 * life
    last = latest(life, None)
    places = [
        (last - refresh_time(0, life, identity_name=f"agent{number}")) / width
        for number in range(500)
    ]
    tenths = [sum(int(place * 10) == tenth for place in places) for tenth in range(10)]
    assert min(tenths) > 20
    assert max(tenths) < 100


def test_one_identity_is_spread_anew_by_every_issue_time() -> None:
    """Nobody is always first."""
    assert len({refresh_time(at, 3599, identity_name="ci") - at for at in range(200)}) > 50


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), ("90", 90), ("1.5", 1.5), ("90s", 90), ("10m", 600), ("1h30m", 5400)),
        *(("2d", 172800), (" 10M ", 600), ("1.25h", 4500), ("1m1m", 120), ("0s", 0)),
        ("250ms", 0.25),
        ("1m500ms", 60.5),
    ],
)
def test_a_duration_is_understood(text: str, seconds: float) -> None:
    """Plain seconds, or numbers with units, in either case."""
    assert parse_duration(text) == seconds


@given(st.lists(st.tuples(st.integers(0, 700), st.sampled_from("smhd")), min_size=1, max_size=5))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    """Whatever the order of the units."""
    text = "".join(f"{number}{unit}" for number, unit in parts)
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    assert parse_duration(text) == sum(number * seconds[unit] for number, unit in parts)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "-1", "+1", "1e3", "nan", "inf", "10 m", "m", "1w", "1h30", "0x10", ".5", "5."),
        *(
            "\uff11\uff10",
            "\u0661\u0660m",
            "10m\n10m",
            "10\u00b5",
            "1_000",
            "1,5",
            "10%",
            "auto",
            "\0",
            "1s\x1b[31m",
        ),
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """With what was said, made harmless, and an example."""
    with pytest.raises(ValueError, match="is not a duration such as") as error:
        parse_duration(text)
    assert str(error.value).isprintable()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        *("9" * 200_000, "1s" * 100_000 + "!", "1." * 100_000, "9" * 100_000 + "s", "s" * 200_000),
        *("1.1s" * 50_000 + "\0", " " * 500_000 + "x", "999999999d" * 100_000),
    ],
    ids=range(8),
)
def test_a_hostile_duration_is_refused_at_once_and_in_short(text: str) -> None:
    """No pattern takes quadratic time, and nothing long is repeated."""
    with pytest.raises(ValueError, match="duration") as error:
        parse_duration(text)
    assert len(str(error.value)) < 400
    with pytest.raises(ValueError, match="duration") as error:
        parse_lead(text)
    assert len(str(error.value)) < 400


@given(st.text() | st.text("0123456789.smhd% ", max_size=30))
@example("999999999d")
def test_any_text_is_a_lead_or_a_value_error(text: str) -> None:
    """And a lead is a number of seconds that overflows no clock."""
    try:
        lead = parse_lead(text)
    except ValueError:
        return
    if lead is None:
        assert text.strip().lower() == "auto"
    else:
        assert 0 <= lead.seconds <= 2**31
        assert 0 <= lead.fraction <= 1


@pytest.mark.parametrize(
    ("text", "lead"),
    [
        *((" AUTO ", None), ("10m", Lead(seconds=600)), ("25%", Lead(fraction=0.25))),
        *(("0%", Lead()), ("100%", Lead(fraction=1.0)), ("12.5%", Lead(fraction=0.125))),
    ],
)
def test_a_lead_is_understood(text: str, lead: Lead | None) -> None:
    """`auto`, a duration or a percentage."""
    assert parse_lead(text) == lead


@pytest.mark.parametrize("text", ["100.1%", "999%", "1000%", "-5%", "%", "5 %", "5%%", "automatic"])
def test_what_is_no_lead_is_refused(text: str) -> None:
    """A token cannot have more than its whole life left."""
    with pytest.raises(ValueError, match=r"whole life|neither auto"):
        parse_lead(text)


@given(st.floats(0, 1e6), st.floats(0, 1), st.floats(1, 1e8))
def test_a_lead_of_a_life_is_the_greater_of_both_ways_to_say_it(
    seconds: float, fraction: float, life: float
) -> None:
    """Seconds stand as they are; a fraction is of the whole life."""
    assert Lead(seconds=seconds).of(life) == seconds
    assert math.isclose(Lead(fraction=fraction).of(life), fraction * life)


@pytest.mark.parametrize(
    ("seconds", "lead"), [(3599, 3599), (3600, 1800), (3601, 1800), (10**6, 1800)]
)
def test_a_capped_lead_that_no_token_has_is_half_of_the_life(seconds: int, lead: float) -> None:
    """From the whole life on: else such tokens would be renewed at each use."""
    assert Lead(seconds=seconds, capped=True).of(3600) == lead
    assert Lead(seconds=seconds).of(3600) == seconds
