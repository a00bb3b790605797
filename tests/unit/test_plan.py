"""What is due, why, and what still serves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.model import Entry, PlanItem, TokenRecord
from credentials_provider.policy import Lead
from credentials_provider.tokens.plan import UNREADABLE, OnDisk, make_plan
from unit.making import NOW

ENTRY = Entry(1, "ci", {}, "1:today", obvious=True)
FRESH = TokenRecord(NOW - 1000, NOW + 2600, NOW + 800, "1:today")


def plan(found: OnDisk, *, lead: Lead | None = None, everything: bool = False) -> PlanItem:
    (item,) = make_plan([ENTRY], {"ci": found}, NOW, lead=lead, everything=everything)
    return item


@pytest.mark.parametrize(
    ("found", "reason", "serves"),
    [
        (None, "missing", False),
        (UNREADABLE, "unreadable", False),
        (FRESH, None, True),
        (FRESH._replace(refresh_at=NOW + 0.1), None, True),
        (FRESH._replace(refresh_at=NOW), "refresh", True),
        (FRESH._replace(refresh_at=NOW - 1), "refresh", True),
        (FRESH._replace(expires_on=NOW + 0.1, refresh_at=NOW - 1), "refresh", True),
        (FRESH._replace(expires_on=NOW, refresh_at=NOW - 1), "expired", False),
        (FRESH._replace(expires_on=NOW - 9, refresh_at=NOW - 99), "expired", False),
        (FRESH._replace(generated_at=NOW + 10), None, True),
        (FRESH._replace(generated_at=NOW + 10.1), "clock", False),
        (FRESH._replace(clock_was_set=True), "clock", True),
        (FRESH._replace(fingerprint="1:yesterday"), "changed", False),
        (FRESH._replace(fingerprint="0:other version"), "changed", True),
        (FRESH._replace(fingerprint="11:other version"), "changed", True),
        (FRESH._replace(fingerprint=None), "changed", True),
        (FRESH._replace(fingerprint=None, expires_on=NOW), "changed", False),
        (FRESH._replace(fingerprint="0:", generated_at=NOW + 11), "changed", False),
    ],
)
def test_each_state_on_disk_has_its_reason_and_serves_or_not(
    found: OnDisk, reason: str | None, *, serves: bool
) -> None:
    """Missing, unreadable, changed, from the future, expired, due by time, or nothing."""
    item = plan(found)
    assert (item.reason, item.has_valid_token, item.due) == (reason, serves, reason is not None)
    assert item.record == (found if isinstance(found, TokenRecord) else None)


@pytest.mark.parametrize("found", [None, UNREADABLE, FRESH, FRESH._replace(expires_on=NOW)])
def test_everything_is_due_when_everything_is_asked_for(found: OnDisk) -> None:
    """Asking for it changes nothing in what serves."""
    item = plan(found, everything=True)
    assert item.reason == "asked"
    assert item.has_valid_token == plan(found).has_valid_token


@pytest.mark.parametrize(
    ("lead", "reason"),
    [
        (Lead(seconds=2599), None),
        (Lead(seconds=2600), "refresh"),
        (Lead(seconds=10**6), "refresh"),
        (Lead(fraction=0.7222), None),
        (Lead(fraction=0.7223), "refresh"),
        (Lead(fraction=1.0), "refresh"),
        (Lead(), None),
    ],
)
def test_a_lead_replaces_the_tokens_own_time(lead: Lead, reason: str | None) -> None:
    """Due when that many seconds, or that part of the whole life, or less are left."""
    assert plan(FRESH, lead=lead).reason == reason
    assert plan(FRESH._replace(refresh_at=NOW - 500), lead=lead).reason == reason


def test_a_plan_keeps_the_order_of_its_entries_and_takes_each_from_its_own_file() -> None:
    """Whatever the order on disk."""
    entries = [Entry(n, name, {}, "1:today", obvious=True) for n, name in enumerate("cab")]
    on_disk: dict[str, OnDisk] = {"a": FRESH, "b": UNREADABLE, "z": FRESH}
    items = make_plan(entries, on_disk, NOW)
    assert [(item.entry.name, item.reason) for item in items] == [
        ("c", "missing"),
        ("a", None),
        ("b", "unreadable"),
    ]


TIMES = st.integers(-5000, 5000).map(lambda seconds: float(NOW + seconds))
RECORDS = st.builds(
    TokenRecord,
    TIMES,
    TIMES,
    TIMES,
    st.sampled_from(["1:today", "1:yesterday", "0:today", "today", "", None]),
)


@given(
    st.none() | st.just(UNREADABLE) | RECORDS,
    st.none() | st.builds(Lead, st.floats(0, 5000), st.floats(0, 1)),
    st.booleans(),
)
def test_what_is_not_due_has_a_living_token_of_todays_definition(
    found: OnDisk, lead: Lead | None, everything: bool
) -> None:
    """The one property that everything else rests on; and it serves."""
    item = plan(found, lead=lead, everything=everything)
    if not item.due:
        assert isinstance(found, TokenRecord)
        assert found.expires_on > NOW
        assert found.fingerprint == ENTRY.fingerprint
        assert item.has_valid_token
        assert not everything
    if item.has_valid_token:
        assert isinstance(found, TokenRecord)
        assert found.expires_on > NOW
