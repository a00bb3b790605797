"""What is on disk, said in words: states, order, orphans, how long an outage may last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.diagnostics.status import Status, prune, read_status, tries
from credentials_provider.errors import ConfigurationError
from credentials_provider.minting import Failure
from credentials_provider.model import Outcome
from credentials_provider.tokens.history import LastRun, State, after_run, write_state
from credentials_provider.tokens.store import TokenStore
from unit.making import LIFE, NOW, Project, Provider, sample_fields

if TYPE_CHECKING:
    from credentials_provider.diagnostics.status import Row


def status(project: Project, *names: str, now: float = NOW, interval: float = 300) -> Status:
    return read_status(project.settings(), names, now, interval)


def rows(project: Project, now: float = NOW) -> dict[str, Row]:
    return {row.identity_name: row for row in status(project, now=now).rows}


def test_every_state_is_told_apart_and_only_what_serves_counts_as_good(project: Project) -> None:
    project.identities("fresh", "due", "expired", "missing", "unreadable", "changed", "clock")
    project.token("fresh")
    project.token("due", refresh_at=NOW - 10)
    project.token("expired", issued_at=NOW - LIFE)
    project.content_of("unreadable", "{")
    project.token("changed", definition="1:" + "0" * 32)
    project.token("clock", issued_at=NOW + 600, refresh_at=NOW + 900)
    found = rows(project)
    assert {name: row.state for name, row in found.items()} == {name: name for name in found}
    assert {name for name, row in found.items() if row.has_valid_token} == {"fresh", "due"}
    assert status(project).exit_code == 1


@pytest.mark.parametrize(
    "change",
    [{"cloud": "mars"}, {"scope": "api://x"}, {"tenant_id": "common"}, {"scope": 1}],
    ids=str,
)
def test_a_mistake_of_any_field_makes_its_entry_invalid(
    project: Project, change: dict[str, Any]
) -> None:
    """Also of one that changes the fingerprint: nobody gave it another definition on purpose."""
    project.identities(sample_fields("ci", **change), "other")
    project.token("ci")
    project.token("other")
    found = rows(project)
    assert {name: row.state for name, row in found.items()} == {"ci": "invalid", "other": "fresh"}
    assert found["ci"].has_valid_token
    assert status(project).exit_code == 78


def test_a_failure_that_no_retry_heals_makes_it_refused_and_a_throttle_throttled(
    project: Project,
) -> None:
    """While the token is valid; else what matters is that there is none."""
    project.identities("refused", "forced", "throttled", "down", "dead")
    for name in ("refused", "throttled", "down"):
        project.token(name, refresh_at=NOW - 10)
    project.token("forced")
    project.token("dead", issued_at=NOW - LIFE)
    failures = {
        **dict.fromkeys(("refused", "forced", "dead"), Failure("rejected", "no", "cure")),
        "throttled": Failure("throttled", "slow", "wait", transient=True),
        "down": Failure("unreachable", "down", "wait", transient=True),
    }
    store = TokenStore(str(project.folder))
    outcomes = [Outcome(name, "kept", "f", failure=each) for name, each in failures.items()]
    run = LastRun(NOW, NOW, 78)
    write_state(store, after_run(State(), outcomes, run, failures.keys()))
    found = {name: row.state for name, row in rows(project).items()}
    assert found == {
        "refused": "refused",
        "forced": "refused",
        "throttled": "throttled",
        "down": "due",
        "dead": "expired",
    }
    order = [row.identity_name for row in status(project).rows]
    assert order[0] == "dead"
    assert set(order[1:3]) == {"refused", "forced"}
    assert status(project).exit_code == 1
    assert status(project, "refused", "down").exit_code == 78
    assert status(project, "throttled", "down").exit_code == 0


def test_what_dies_first_stands_first_and_what_is_dead_before_it(project: Project) -> None:
    project.identities("late", "soon", "none", "dead")
    project.token("late", issued_at=NOW - 60)
    project.token("soon", issued_at=NOW - 1800)
    project.token("dead", issued_at=NOW - 2 * LIFE)
    assert [row.identity_name for row in status(project).rows] == ["none", "dead", "soon", "late"]


def test_the_exit_code_is_0_while_every_token_serves_orphans_aside(project: Project) -> None:
    project.identities("ci")
    project.token("ci", refresh_at=NOW - 1)
    project.token("gone", issued_at=NOW - 2 * LIFE)
    assert status(project).exit_code == 0


def test_an_orphan_of_ours_is_told_from_a_file_of_somebody_else(project: Project) -> None:
    project.identities("ci")
    project.token("gone")
    project.token("foreign", definition=...)
    project.token("copied", identity_name="gone")
    project.content_of("mcp", '{"access_token": "x"}')
    project.content_of("notes", '{"mcpServers": {}}')
    project.content_of("\x1b[2J", '{"access_token": "x"}')  # no name of anybody's
    project.token("CI")  # on a file system without case this is the file of ci
    found = {row.identity_name: row for row in status(project).rows if row.state == "orphan"}
    assert {name: row.ours for name, row in found.items()} == {
        "gone": True,
        "foreign": False,
        "copied": False,
    }


def test_pruning_removes_orphans_of_ours_alone_and_only_when_approved(project: Project) -> None:
    project.identities("ci")
    for name in ("ci", "gone", "left"):
        project.token(name)
    project.token("foreign", definition=...)
    before = project.names()
    asked: list[str] = []

    def answer(found: list[Row], *, yes: bool) -> bool:
        asked.extend(row.identity_name for row in found)
        return yes

    assert prune(project.settings(), 1, lambda found: answer(found, yes=False)) == 0
    assert project.names() == before
    assert prune(project.settings(), 1, lambda found: answer(found, yes=True)) == 2
    assert asked == ["gone", "left"] * 2
    assert project.names() == before - {"gone.json", "left.json"}


def test_pruning_keeps_what_got_its_identity_back_while_it_was_asked_for(project: Project) -> None:
    project.identities("ci")
    project.token("gone")

    def approve(_: list[Row]) -> bool:
        project.identities("ci", "gone")
        return True

    assert prune(project.settings(), 1, approve) == 0
    assert "gone.json" in project.names()


def test_pruning_refuses_while_the_identities_file_has_mistakes(project: Project) -> None:
    project.content(json.dumps([sample_fields("ci"), sample_fields("ci")]))
    project.token("gone")
    with pytest.raises(ConfigurationError):
        prune(project.settings(), 1, lambda _: True)
    assert "gone.json" in project.names()


def test_the_outage_budget_names_the_first_to_go_and_the_tries_until_then(
    project: Project,
) -> None:
    project.identities("late", "soon", "dead", "expired")
    project.token("late", issued_at=NOW - 60)
    project.token("expired", issued_at=NOW - LIFE)
    project.token("soon", issued_at=NOW - 60, life=1800, refresh_at=NOW + 1740 - 1290)
    outage = status(project).outage
    assert outage is not None
    # It is due 1,290 s before its end: (1290 - 30) / 300 is a little more than four.
    assert (outage.identity_name, outage.at, outage.tries) == ("soon", NOW + 1740, 4)
    # Half of that time is over.
    later = status(project, now=NOW + 1740 - 645).outage
    assert later is not None
    assert later.tries == 2


def test_without_a_token_that_serves_there_is_no_outage_budget(project: Project) -> None:
    project.identities("ci")
    assert status(project).outage is None


@pytest.mark.parametrize(
    ("seconds", "interval", "expected"), [(630, 300, 2), (629, 300, 1), (29, 300, 0), (0, 60, 0)]
)
def test_tries_are_counted_with_the_timers_jitter(
    seconds: float, interval: float, expected: int
) -> None:
    assert tries(seconds, interval) == expected


def test_a_lead_shorter_than_two_intervals_and_the_jitter_is_warned_of(project: Project) -> None:
    project.identities("fits", "tight", "foreign")
    project.token("foreign", refresh_at=NOW - 60 + LIFE - 629, definition=...)
    project.token("fits", refresh_at=NOW - 60 + LIFE - 630)
    project.token("tight", refresh_at=NOW - 60 + LIFE - 629)
    assert status(project).too_late_for_timer == ["tight"]
    assert status(project, interval=60).too_late_for_timer == []


def test_a_token_due_for_long_that_nobody_tried_to_renew_is_overdue(project: Project) -> None:
    project.identities("ci")
    project.token("ci", refresh_at=NOW)
    assert status(project, now=NOW + 630).overdue == []
    assert status(project, now=NOW + 631).overdue == ["ci"]
    unreachable = Failure("unreachable", "no answer", "check the network", transient=True)
    project.run(Provider(ci=unreachable), refresh_ahead=True, now=NOW + 500)
    assert status(project, now=NOW + 631).overdue == []


def test_a_failure_is_shown_until_the_token_has_been_renewed_by_whomever(project: Project) -> None:
    project.identities("ci")
    project.token("ci", refresh_at=NOW - 1)
    rejected = Failure("rejected", "the secret is wrong", "make a new one", aadsts=7000215)
    project.run(Provider(ci=rejected), refresh_ahead=True, now=NOW)
    failure = rows(project)["ci"].failure
    assert failure is not None
    assert (failure.message, failure.aadsts) == ("the secret is wrong", 7000215)
    project.token("ci", issued_at=NOW + 60, refresh_at=NOW + 600)
    assert rows(project, now=NOW + 120)["ci"].failure is None


def test_an_unknown_name_is_an_error_that_names_a_similar_one(project: Project) -> None:
    project.identities("billing")
    with pytest.raises(ConfigurationError) as error:
        status(project, "biling")
    assert "billing" in str(error.value.problems[0])
