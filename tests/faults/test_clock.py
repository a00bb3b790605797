"""Clocks that jump, are off, or meet odd dates: no dead token called fresh, no endless renewal."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credentials_provider.emulator import Emulator
from credentials_provider.files import write_whole
from credentials_provider.identities.reading import make_entry
from credentials_provider.minting import Minted
from credentials_provider.model import TokenRecord
from credentials_provider.policy import refresh_time
from credentials_provider.settings import Flags, load_settings
from credentials_provider.tokens.claims import decode_claims
from credentials_provider.tokens.clock import CLOCK_TOLERANCE, Boot, expires_on
from credentials_provider.tokens.plan import make_plan
from credentials_provider.tokens.store import parse_record, token_document
from support import Command, Project, apps, entry, until, wait
from unit.making import read_record

from .servers import Trust, answering
from .tracing import Held, with_child

if TYPE_CHECKING:
    import pathlib

    from credentials_provider.tokens.plan import OnDisk

HOUR = 3600
ENTRY = make_entry(1, entry(apps(1)[0]), load_settings(Flags(), {}, "/nonexistent"))


class Clock:
    """The command's clock, ahead of the machine's by so many seconds."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "clock")
        self.env = with_child(FAULTS_CLOCK=self._path)
        self.set(0)

    def set(self, ahead: float) -> None:
        with open(f"{self._path}.new", "w", encoding="ascii") as file:
            file.write(str(ahead))
        os.replace(f"{self._path}.new", self._path)


@pytest.fixture
def clock(tmp_path: pathlib.Path) -> Clock:
    return Clock(str(tmp_path))


@pytest.mark.parametrize(
    ("jump", "reason"), [(-HOUR, "clock"), (-60, "clock"), (600, "clock"), (2 * HOUR, "expired")]
)
def test_a_jump_between_runs_costs_one_renewal(
    project: Project, run: Command, clock: Clock, jump: int, reason: str
) -> None:
    """After the clock was set, tokens are renewed once, and then are fresh again."""
    (app,) = apps(1)
    project.add(app)
    assert run(env=clock.env).code == 0

    clock.set(jump)
    first, second = (run("--refresh-ahead", "--json", env=clock.env) for _ in range(2))

    assert (first.code, first.results[app.name]["reason"]) == (0, reason)
    assert first.results[app.name]["outcome"] == "renewed"
    assert (second.code, second.results[app.name]["outcome"]) == (0, "fresh")
    assert len(project.idp.requests) == 2


@pytest.mark.parametrize("jump", [-HOUR, 2 * HOUR])
def test_a_jump_during_a_run_ends_neither_the_run_nor_the_peace(
    held_project: Project, held_run: Command, held: Held, clock: Clock, jump: int
) -> None:
    """The deadline does not jump along; the token that came is renewed once more and then fresh."""
    (app,) = apps(1)
    held_project.add(app)
    held.hold()
    process = held_run.start("--json", "--deadline", "60", env=clock.env)
    until(lambda: held.waiting)
    clock.set(jump)
    held.go.set()
    during = wait(process)
    after = [held_run("--refresh-ahead", "--json", env=clock.env) for _ in range(2)]

    assert (during.code, during.results[app.name]["attempts"]) == (0, 1), during
    assert [each.results[app.name]["outcome"] for each in after] == ["renewed", "fresh"]


@pytest.mark.parametrize(("ahead", "side"), [(600, "ahead of"), (-600, "behind")])
def test_a_machine_ten_minutes_off_is_told_and_served(
    project: Project, run: Command, clock: Clock, ahead: int, side: str
) -> None:
    """One warning a run, with the cure; the token's end is right by the machine's own clock."""
    many = apps(2)
    project.add_all(many)
    clock.set(ahead)
    now = time.time() + ahead

    ran = run(env=clock.env)

    assert ran.code == 0
    assert ran.stderr.count("this machine's clock is 10 min") == 1
    assert side in ran.stderr
    assert "NTP" in ran.stderr
    token = project.token(many[0].name)
    assert now - 2 <= token["expires_on"] - token["expires_in"] <= now + 60
    assert run("--refresh-ahead", env=clock.env).stdout.startswith("Tokens saved: 2 fresh")


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2038, 1, 19, 3, 14, 0, tzinfo=timezone.utc),  # 32 bits end 7 s later
        datetime(2026, 11, 1, 5, 55, 0, tzinfo=timezone.utc),  # New York, 5 min before the fold
        datetime(2028, 2, 29, 23, 59, 0, tzinfo=timezone.utc),
    ],
    ids=["2038", "daylight saving", "leap day"],
)
def test_an_odd_date_is_a_date(tmp_path: pathlib.Path, clock: Clock, moment: datetime) -> None:
    """Around the dates that programs trip over tokens are minted, fresh, and due in time."""
    ahead = moment.timestamp() - time.time()
    clock.set(ahead)
    env = {**clock.env, "TZ": "America/New_York"}
    with Emulator(clock=lambda: time.time() + ahead, token_lifetime=HOUR) as idp:
        folder = tmp_path / "then"
        folder.mkdir()
        project = Project(str(folder), idp)
        (app,) = apps(1)
        project.add(app)
        there = Command(project)

        ran = there(env=env)

        assert (ran.code, ran.stderr) == (0, "")
        token = project.token(app.name)
        assert datetime.fromisoformat(token["expires_at"]) - moment < timedelta(hours=1, minutes=2)
        assert there("--refresh-ahead", env=env).stdout.startswith("Tokens saved: 1 fresh")
        clock.set(ahead + HOUR + 60)
        assert there("--refresh-ahead", "--dry-run", env=env).stdout.count("has expired") == 1


def test_a_leap_second_is_no_time_and_no_trouble(
    project: Project, run: Command, tmp_path: pathlib.Path
) -> None:
    """23:59:60 in a header is passed over; in a token file it makes the file unreadable, so due."""
    (app,) = apps(1)
    project.add(app)
    assert run().code == 0
    content = project.token(app.name)
    body = json.dumps({"access_token": content["access_token"], "expires_in": 3599}).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n"
        "Date: Sat, 31 Dec 2016 23:59:60 GMT\r\nRetry-After: Sat, 31 Dec 2016 23:59:60 GMT\r\n\r\n"
    ).encode()
    content["expires_at"] = "2016-12-31T23:59:60+00:00"
    project.private(project.path(app.name), json.dumps(content))
    trust = Trust(str(tmp_path))
    with answering(lambda _, sock: sock.sendall(head + body), trust.context()) as server:
        reach = ("--login-base-url", server.url, "--ca-bundle", trust.file)
        ran = run("--refresh-ahead", "--json", *reach, bare=True)

    assert (ran.code, ran.stderr) == (0, "")
    assert ran.results[app.name]["reason"] == "unreadable"
    assert project.token(app.name)["expires_in"] == 3599


def test_a_naive_time_in_the_hour_that_comes_twice_errs_early(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry's generator wrote local times; of two moments the earlier one is believed."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        path = str(tmp_path / "old.json")
        write_whole(path, json.dumps({"access_token": "a", "expires_at": "2026-11-01T01:30:00"}))
        record = read_record(path)
    finally:
        monkeypatch.undo()
        time.tzset()

    first = datetime(2026, 11, 1, 1, 30, tzinfo=ZoneInfo("America/New_York"))
    assert getattr(record, "expires_on", None) == first.timestamp()


# The same by arithmetic: any time, any life


def _document_of(issued_at: int, life: int, ahead: float = 0.0) -> dict[str, Any]:
    minted = Minted("a.b.c", issued_at, life, None, 1, ahead)
    refresh_at = refresh_time(issued_at, life, identity_name=ENTRY.name)
    document = token_document(ENTRY, minted, refresh_at)
    return {**document, "boot_id": "this", "booted_at": ahead}


def _record_of(issued_at: int, life: int) -> OnDisk:
    return parse_record(_document_of(issued_at, life), Boot("this", 0.0))


@settings(max_examples=150, deadline=None)
@given(
    issued_at=st.integers(0, 2**35),
    life=st.integers(1, 10 * 366 * 86400),
    later=st.floats(-86400, 2e8),
)
def test_whenever_a_token_is_called_fresh_it_lives(issued_at: int, life: int, later: float) -> None:
    """From 1970 to 3058: fresh means valid, not from the future, and for 48 h at most."""
    found = _record_of(issued_at, life)
    now = issued_at + later
    (item,) = make_plan([ENTRY], {ENTRY.name: found}, now)

    if item.reason is None:
        assert issued_at - 10 <= now < issued_at + life
        assert life <= 48 * HOUR
    if later == 0 and 1 < life <= 48 * HOUR:
        assert item.reason is None


@settings(max_examples=60, deadline=None)
@given(
    life=st.integers(3600, 5000),
    jumps=st.lists(st.tuples(st.integers(1, 60), st.sampled_from([-HOUR, HOUR])), max_size=6),
)
def test_a_timer_under_a_jumping_clock_never_leaves_a_dead_token_and_soon_rests(
    life: int, jumps: list[tuple[int, int]]
) -> None:
    """With a run every five minutes, what is fresh is really valid; a jump costs one renewal."""
    real, ahead, renewals = 1_800_000_000, 0, 0
    pending = [
        (real + 300 * sum(n for n, _ in jumps[: i + 1]), j) for i, (_, j) in enumerate(jumps)
    ]
    document: dict[str, Any] | None = None
    dies_at = 0
    while real < 1_800_000_000 + 86400:
        while pending and pending[0][0] <= real:
            ahead += pending.pop(0)[1]
        found = parse_record(document, Boot("this", ahead)) if document else None
        (item,) = make_plan([ENTRY], {ENTRY.name: found}, real + ahead)
        if item.reason is None or item.has_valid_token:
            assert real < dies_at
        if item.reason is not None:
            renewals += 1
            document, dies_at = _document_of(real + ahead, life, ahead), real + life
        real += 300
    assert renewals <= 86400 / (life / 2) + 1 + len(jumps)


@pytest.mark.parametrize("seconds", [-60, 100_000])
@pytest.mark.parametrize("words", [(), ("--json",), ("--log-format", "json")], ids=str)
def test_the_end_of_the_calendar_brings_no_traceback(
    project: Project, run: Command, clock: Clock, seconds: int, words: tuple[str, ...]
) -> None:
    """Shortly before and after the year 10000."""
    project.add_all(apps(1))
    clock.set(253_402_300_800 + seconds - time.time())
    ran = run(*words, env={**clock.env, "PYTHONWARNINGS": "ignore"})
    assert ran.code in {0, 1}
    assert "Traceback" not in ran.stderr
    assert "ValueError" not in ran.stderr + ran.stdout


@pytest.mark.parametrize("corrected_by", [-1800, -7200, 1800])
def test_a_clock_that_was_wrong_makes_no_dead_token_fresh(
    project: Project, run: Command, clock: Clock, corrected_by: int
) -> None:
    """Minted while the clock was off; at any time after it was corrected the end is the true one.

    On the same start of the machine, and on another one, which knows of no correction.
    """
    (app,) = apps(1)
    project.add(app)
    clock.set(-corrected_by)
    assert run(env=clock.env).code == 0
    document = project.token(app.name)
    claims = decode_claims(document["access_token"])  # by the clock of the emulator, which is right
    assert claims is not None
    made_here = document["booted_at"] + corrected_by  # what that boot is called now

    elsewhere = {name: value for name, value in document.items() if name != "boot_id"}
    for each in (document, elsewhere):
        record = parse_record(each, Boot(document["boot_id"], made_here))
        assert isinstance(record, TokenRecord)
        assert record.expires_on <= claims["exp"] + 2
    record = parse_record(document, Boot(document["boot_id"], made_here))
    assert isinstance(record, TokenRecord)
    assert record.clock_was_set


@settings(max_examples=200, deadline=None)
@given(
    life=st.integers(60, 86400),
    skew=st.integers(-7200, 7200),
    set_by=st.none() | st.integers(-7200, 7200),
    has_exp=st.booleans(),
)
def test_the_end_is_never_later_than_the_true_one(
    life: int, skew: int, set_by: int | None, has_exp: bool
) -> None:
    """Whatever the clock was, and however it was set: but for the tolerance of ten seconds."""
    true_issue = 1_800_000_000
    reckoned = true_issue + skew + life
    end = expires_on(reckoned, true_issue + life if has_exp else None, skew, set_by)
    if set_by is not None:  # else nobody can know what the clock is now
        assert end <= true_issue + life + skew + set_by + CLOCK_TOLERANCE
    if has_exp and set_by is None:
        assert end <= true_issue + life
