"""A run: what becomes of each identity, the exit code, and what stays on disk whatever happens."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from freezegun import freeze_time

from credentials_provider.errors import ConfigurationError, StoppedError
from credentials_provider.identities.reading import make_entry
from credentials_provider.model import PlanItem, Report, RunOptions, TokenRecord
from credentials_provider.policy import Lead
from credentials_provider.run import batch, renewal
from credentials_provider.run.renewal import Minter
from credentials_provider.tokens.store import LOCK_NAME
from unit.making import (
    LIFE,
    NOW,
    REJECTED,
    SECRET,
    UNREACHABLE,
    Listener,
    Project,
    Provider,
    sample_fields,
    sample_minted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from credentials_provider.identities.identity import Identity
    from credentials_provider.minting import Failure, Minted
    from credentials_provider.model import Outcome

LEFTOVER = ".credentials-provider-4711-abcdef.tmp"
AHEAD: dict[str, Any] = {"refresh_ahead": True}
FORCED: dict[str, Any] = {"refresh_ahead": True, "force": True}
PLAIN: dict[str, Any] = {}


def outcomes(report: Report) -> dict[str, str]:
    return {each.identity_name: each.kind for each in report.results}


def put(project: Project, name: str, state: str) -> bytes | None:
    """A token file in that state; its content."""
    if state == "missing":
        return None
    if state == "unreadable":
        project.path(name).write_text("{")
        return project.path(name).read_bytes()
    changes: dict[str, dict[str, Any]] = {
        "fresh": {},
        "due": {"renew_at": NOW - 1},
        "expired": {"issued_at": NOW - LIFE},
        "changed": {"definition": "1:yesterday"},
        "future": {"issued_at": NOW + 60},
        "foreign": {"definition": ...},
    }
    return project.token(name, **changes[state])


SERVING = {"fresh", "due", "foreign"}
STATES = [*sorted(SERVING), "missing", "unreadable", "expired", "changed", "future"]


@pytest.mark.parametrize("mode", [PLAIN, AHEAD, FORCED], ids=["plain", "ahead", "forced"])
@pytest.mark.parametrize("state", STATES)
def test_a_provider_that_answers_leaves_every_identity_with_a_good_token(
    project: Project, state: str, mode: dict[str, Any]
) -> None:
    """A plain run renews everything, `--refresh-ahead` what is due."""
    project.identities("ci")
    before = put(project, "ci", state)
    provider = Provider()
    report = project.run(provider, **mode)
    if mode is AHEAD and state == "fresh":
        assert outcomes(report) == {"ci": "fresh"}
        assert provider.asked == []
        assert project.path("ci").read_bytes() == before
    else:
        assert outcomes(report) == {"ci": "renewed"}
        assert provider.asked == ["ci"]
        assert project.document("ci")["access_token"] == sample_minted().access_token
    assert report.exit_code == 0


@pytest.mark.parametrize("failure", [REJECTED, UNREACHABLE], ids=["rejected", "unreachable"])
@pytest.mark.parametrize("mode", [PLAIN, AHEAD, FORCED], ids=["plain", "ahead", "forced"])
@pytest.mark.parametrize("state", STATES)
def test_a_failed_renewal_leaves_the_file_and_is_kept_only_where_nobody_insisted(
    project: Project, state: str, mode: dict[str, Any], failure: Failure
) -> None:
    """Kept and 75 or 78 where the old one is valid in a refresh-ahead run, else failed and 1."""
    project.identities("ci")
    before = put(project, "ci", state)
    report = project.run(Provider(ci=failure), **mode)
    (result,) = report.results
    if mode is AHEAD and state == "fresh":
        assert (result.kind, result.failure, report.exit_code) == ("fresh", None, 0)
    elif mode is AHEAD and state in SERVING:
        assert (result.kind, result.failure, report.exit_code) == (
            "kept",
            failure,
            75 if failure.transient else 78,
        )
    else:
        assert (result.kind, result.failure, report.exit_code) == ("failed", failure, 1)
    after = project.path("ci").read_bytes() if project.path("ci").exists() else None
    assert after == before


@pytest.mark.parametrize(
    ("after", "kind", "exit_code"),
    [(NOW + LIFE - 61, "kept", 75), (NOW + LIFE - 60, "failed", 1), (NOW + LIFE, "failed", 1)],
)
def test_an_old_token_that_expires_while_its_renewal_fails_is_not_kept(
    project: Project, after: float, kind: str, exit_code: int
) -> None:
    """What counts is whether it is valid when the user reads the report."""
    project.identities("ci")
    project.token("ci", renew_at=NOW - 1)
    clock = [float(NOW)]

    def fail() -> Failure:
        clock.append(after)
        return UNREACHABLE

    report = batch.run(
        RunOptions(project.settings(), refresh_ahead=True),
        project.listener,
        make_minter=Provider(ci=fail).make_minter,
        now=lambda: clock[-1],
    )
    assert (outcomes(report), report.exit_code) == ({"ci": kind}, exit_code)


MISTAKES = {
    "no object": [1],
    "a wrong tenant": [sample_fields("b", tenant_id="common")],
    "a misspelt field": [sample_fields("b", client_secret=..., client_secrt="x")],
    "no credential": [sample_fields("b", client_secret=...)],
    "a placeholder": [sample_fields("b", client_secret="your-client-secret")],
    "no name": [sample_fields("")],
    "a path for a name": [sample_fields("../b")],
    "one name twice": [sample_fields("b"), sample_fields("B")],
}


@pytest.mark.parametrize("entries", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_costs_its_own_identity_alone(project: Project, entries: list[Any]) -> None:
    """The others are renewed as if it were not there; the report has the mistake."""
    project.content(json.dumps([*entries, sample_fields("a")]))
    put(project, "a", "due")
    report = project.run(**AHEAD)
    *invalid, good = report.results
    assert (good.identity_name, good.kind, report.exit_code) == ("a", "renewed", 1)
    assert len(invalid) == len(entries)
    for each in invalid:
        assert each.failure is not None
        assert (each.kind, each.failure.kind, each.failure.transient) == (
            "failed",
            "configuration",
            False,
        )
        assert "entry" in each.failure.message
        assert SECRET not in each.failure.message


def test_the_token_of_before_a_mistake_is_kept(project: Project) -> None:
    """As long as it is valid: somebody must act before it expires (78)."""
    project.identities("a", "b")
    project.run()
    project.identities(sample_fields("a", tenant_id="common"), "b")
    before = project.path("a").read_bytes()
    report = project.run(now=NOW + 60, **AHEAD)
    assert (outcomes(report), report.exit_code) == ({"a": "kept", "b": "fresh"}, 78)
    report = project.run(now=NOW + 60)
    assert (outcomes(report), report.exit_code) == ({"a": "failed", "b": "renewed"}, 1)
    report = project.run(now=NOW + LIFE, **AHEAD)
    assert outcomes(report)["a"] == "failed"
    assert project.path("a").read_bytes() == before


@pytest.mark.parametrize("names", [(), ("b",)], ids=str)
def test_nothing_is_requested_where_no_selected_entry_is_in_order(
    project: Project, names: tuple[str, ...]
) -> None:
    entries = [sample_fields("b", tenant_id="common"), *([sample_fields("a")] if names else [])]
    project.content(json.dumps(entries))
    provider = Provider()
    with pytest.raises(ConfigurationError, match="has a mistake"):
        project.run(provider, names=names)
    assert provider.asked == []


@pytest.mark.parametrize(
    ("states", "exit_code"),
    [
        (["fresh", "fresh"], 0),
        (["fresh", "due"], 75),
        (["fresh", "missing"], 1),
        (["missing", "due", "fresh"], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_identity(
    project: Project, states: list[str], exit_code: int
) -> None:
    """Nothing answers: fresh counts for 0, kept for 75, failed for 1."""
    names = [f"ci{number}" for number in range(len(states))]
    project.identities(*names)
    for name, state in zip(names, states, strict=True):
        put(project, name, state)
    provider = Provider(**dict.fromkeys(names, UNREACHABLE))
    assert project.run(provider, **AHEAD).exit_code == exit_code


def test_one_identitys_failure_is_no_other_ones(project: Project) -> None:
    """The others get their tokens, and the report counts each."""
    project.identities("a", "b", "c")
    report = project.run(Provider(b=REJECTED))
    assert outcomes(report) == {"a": "renewed", "b": "failed", "c": "renewed"}
    assert (report.count("renewed"), report.count("failed"), report.count("kept")) == (2, 1, 0)
    assert project.names() == {"a.json", "c.json"}


def test_a_renewed_identity_is_told_as_its_file_has_it(project: Project) -> None:
    """Times, attempts, reason and path."""
    project.identities("ci")
    report = project.run()
    (result,) = report.results
    assert result.token_file == str(project.path("ci"))
    assert (result.attempts, result.reason, result.failure) == (1, "asked", None)
    document = project.document("ci")
    assert result.expires_at == document["expires_on"] == NOW + LIFE
    (fresh,) = project.run(**AHEAD).results
    assert (fresh.expires_at, fresh.refresh_at) == (result.expires_at, result.refresh_at)
    assert (report.started_at, report.finished_at) == (NOW, NOW)


def test_a_run_with_nothing_due_asks_nobody_and_writes_nothing(project: Project) -> None:
    """Not even a lock."""
    project.identities("ci")
    project.token("ci")
    provider = Provider()
    before = {path.name: path.stat().st_mtime_ns for path in project.folder.iterdir()}
    assert project.run(provider, **AHEAD).exit_code == 0
    assert provider.made == 0
    assert {path.name: path.stat().st_mtime_ns for path in project.folder.iterdir()} == before
    assert project.listener.started == []


def test_results_come_in_the_files_order_whoever_is_ready_first(project: Project) -> None:
    """Here the last one is, and each waits for the one after it."""
    names = ["c", "a", "b", "d"]
    project.identities(*names)
    ready = {name: threading.Event() for name in names}

    def answer(name: str, after: str | None) -> Minted:
        assert after is None or ready[after].wait(30)
        ready[name].set()
        return sample_minted(name)

    answers: dict[str, Any] = {}
    for name, after in zip(names, [*names[1:], None], strict=True):
        answers[name] = lambda name=name, after=after: answer(name, after)
    report = project.run(Provider(**answers))
    assert [each.identity_name for each in report.results] == names
    assert report.exit_code == 0


def test_a_dry_run_says_what_is_due_and_touches_nothing(project: Project) -> None:
    """No request, no folder, no lock, no sweeping."""
    project.identities("due", "fresh", "missing")
    put(project, "due", "due")
    put(project, "fresh", "fresh")
    (project.folder / LEFTOVER).touch()
    before = {path.name for path in project.folder.iterdir()}
    provider = Provider()
    report = project.run(provider, dry_run=True, **AHEAD)
    assert outcomes(report) == {"due": "due", "fresh": "fresh", "missing": "due"}
    assert [each.reason for each in report.results] == ["refresh", None, "missing"]
    assert report.exit_code == 0
    elsewhere = project.settings(output_dir=str(project.root / "none"))
    assert project.run(provider, settings=elsewhere, dry_run=True).count("due") == 3
    assert provider.made == 0
    assert {path.name for path in project.folder.iterdir()} == before
    assert not (project.root / "none").exists()


def test_a_dry_run_still_tells_the_mistakes_of_the_file(project: Project) -> None:
    """That is what it is for."""
    project.identities(sample_fields(scope="openid"))
    with pytest.raises(ConfigurationError):
        project.run(dry_run=True)


def test_only_the_named_identities_are_renewed(project: Project) -> None:
    """In the file's order, each once."""
    project.identities("a", "b", "c")
    provider = Provider()
    report = project.run(provider, names=("c", "a", "c"))
    assert list(outcomes(report)) == ["a", "c"]
    assert sorted(provider.asked) == ["a", "c"]
    assert project.names() == {"a.json", "c.json"}


def test_unknown_names_are_all_told_with_what_may_have_been_meant(project: Project) -> None:
    """And nothing is requested for the others."""
    project.identities("nightly-job", "ci")
    provider = Provider()
    with pytest.raises(ConfigurationError) as error:
        project.run(provider, names=("nightly-jbo", "ci", "zzz", "\x1b[31m"))
    first, second, third = error.value.problems
    assert first.identity_name == "nightly-jbo"
    assert first.message.endswith("; did you mean nightly-job?")
    assert second.message.endswith("has no identity of this name")
    assert str(third).isprintable()
    assert provider.made == 0
    assert project.names() == set()


def test_a_wrong_file_makes_no_request_and_no_folder(project: Project) -> None:
    """All of its mistakes are told at once."""
    project.identities(
        sample_fields("worse", scope="x"), sample_fields("bad", tenant_id="common", client_id="")
    )
    settings = project.settings(output_dir=str(project.root / "out"))
    provider = Provider()
    with pytest.raises(ConfigurationError) as error:
        project.run(provider, settings=settings)
    assert [each.identity_name for each in error.value.problems] == ["worse", "bad", "bad"]
    assert provider.made == 0
    assert not (project.root / "out").exists()


@pytest.mark.parametrize(
    "changes", [{"cloud": "nonsense"}, {"client_secret": "s\u00e9cret"}, {"scopes": "red"}], ids=str
)
def test_a_mistake_is_told_even_where_the_token_on_disk_is_fresh(
    project: Project, changes: dict[str, str]
) -> None:
    """The fingerprint does not see it; the next renewal would."""
    project.identities(sample_fields(**changes))
    put(project, "ci", "fresh")
    with pytest.raises(ConfigurationError):
        project.run(**AHEAD)


def test_an_empty_file_is_a_warning_and_a_success(project: Project) -> None:
    """Nothing to do is done."""
    project.identities()
    report = project.run()
    assert (report.results, report.exit_code) == ((), 0)
    assert "names no identity" in project.listener.warnings[0]


def test_a_file_in_the_output_folders_place_is_told_before_anything_is_requested(
    project: Project,
) -> None:
    """Exit 2."""
    project.identities("ci")
    (project.root / "out").touch()
    provider = Provider()
    with pytest.raises(ConfigurationError, match="is not a folder"):
        project.run(provider, settings=project.settings(output_dir=str(project.root / "out")))
    assert provider.made == 0


def test_an_output_folder_that_is_not_there_is_made_private(project: Project) -> None:
    """With those above it."""
    project.identities("ci")
    out = project.root / "deep" / "out"
    report = project.run(settings=project.settings(output_dir=str(out)))
    assert report.exit_code == 0
    assert out.stat().st_mode & 0o777 == 0o700
    assert (out / "ci.json").stat().st_mode & 0o777 == 0o600


def test_an_error_that_nobody_foresaw_is_its_identitys_own(project: Project) -> None:
    """It is told without its message, which may hold a secret; a serving token is kept."""

    def fail() -> Minted:
        raise RuntimeError(SECRET)

    project.identities("a", "b", "c")
    put(project, "c", "due")
    report = project.run(Provider(a=fail, c=fail), **AHEAD)
    assert outcomes(report) == {"a": "failed", "b": "renewed", "c": "kept"}
    failure = report.results[0].failure
    assert failure is not None
    assert failure.message.startswith("unexpected RuntimeError at test_batch.py:")
    assert "report it" in failure.remedy
    assert SECRET not in repr(report)


def test_a_token_that_cannot_be_written_is_its_identitys_own_failure(project: Project) -> None:
    """The others are saved."""
    project.identities("a", "b")
    (project.path("a") / "inside").mkdir(parents=True)
    report = project.run(**AHEAD)
    assert outcomes(report) == {"a": "failed", "b": "renewed"}
    failure = report.results[0].failure
    assert failure is not None
    assert (failure.kind, failure.transient) == ("storage", False)
    assert project.names() == {"a.json", "b.json"}


@pytest.mark.parametrize("mode", [PLAIN, AHEAD, FORCED], ids=["plain", "ahead", "forced"])
@pytest.mark.parametrize(
    ("states", "expected", "exit_code"),
    [
        (["due"], ["kept"], 75),
        (["due", "foreign"], ["kept", "kept"], 75),
        (["due", "missing"], ["kept", "failed"], 1),
        (["expired"], ["failed"], 1),
        (["changed"], ["failed"], 1),
    ],
)
def test_a_busy_lock_keeps_what_serves_and_fails_what_does_not(
    project: Project,
    states: list[str],
    expected: list[str],
    exit_code: int,
    mode: dict[str, Any],
) -> None:
    """Also where a new token was insisted on: another run is at it."""
    names = [f"ci{number}" for number in range(len(states))]
    project.identities(*names)
    for name, state in zip(names, states, strict=True):
        put(project, name, state)
    provider = Provider()
    with FileLock(str(project.folder / LOCK_NAME)):
        report = project.run(provider, lock_timeout=0.05, **mode)
    assert [each.kind for each in report.results] == expected
    assert report.exit_code == exit_code
    assert provider.made == 0
    for each in report.results:
        assert each.failure is not None
        assert (each.failure.kind, each.failure.transient) == ("storage", True)


def test_a_lock_that_cannot_be_taken_keeps_only_what_nobody_insisted_on(project: Project) -> None:
    """A folder in its place is no other run."""
    project.identities("ci")
    put(project, "ci", "due")
    (project.folder / LOCK_NAME).mkdir()
    assert outcomes(project.run(**AHEAD)) == {"ci": "kept"}
    report = project.run(**PLAIN)
    assert (outcomes(report), report.exit_code) == ({"ci": "failed"}, 1)


class Waiting(Listener):
    """Tells when a run has made its first plan: it warns of names after that."""

    def __init__(self) -> None:
        super().__init__()
        self.planned = threading.Event()

    def warn(self, message: str) -> None:
        super().warn(message)
        if "treats this name specially" in message:
            self.planned.set()


def test_what_another_run_renewed_meanwhile_is_not_renewed_again(project: Project) -> None:
    """The plan is made anew when the lock is ours."""
    project.identities("ci", "my-ingress")
    provider = Provider()
    observer = Waiting()
    reports: list[Report] = []
    run = threading.Thread(
        target=lambda: reports.append(project.run(provider, observer=observer, **AHEAD))
    )
    with FileLock(str(project.folder / LOCK_NAME)):
        run.start()
        assert observer.planned.wait(30)
        before = put(project, "ci", "fresh")
    run.join()
    assert outcomes(reports[0]) == {"ci": "fresh", "my-ingress": "renewed"}
    assert provider.asked == ["my-ingress"]
    assert project.path("ci").read_bytes() == before


def test_nobody_is_asked_when_another_run_renewed_everything(project: Project) -> None:
    """Not even a minter is made."""
    project.identities("my-ingress")
    provider = Provider()
    observer = Waiting()
    reports: list[Report] = []
    run = threading.Thread(
        target=lambda: reports.append(project.run(provider, observer=observer, **AHEAD))
    )
    with FileLock(str(project.folder / LOCK_NAME)):
        run.start()
        assert observer.planned.wait(30)
        put(project, "my-ingress", "fresh")
    run.join()
    assert outcomes(reports[0]) == {"my-ingress": "fresh"}
    assert provider.made == 0


@pytest.mark.parametrize("state", ["fresh", "due"])
def test_what_a_killed_run_left_is_swept_by_the_next(project: Project, state: str) -> None:
    """Also by one with nothing due."""
    project.identities("ci")
    put(project, "ci", state)
    (project.folder / LEFTOVER).touch()
    assert project.run(**AHEAD).exit_code == 0
    assert project.names() == {"ci.json"}


def test_what_a_living_run_is_writing_is_not_swept(project: Project) -> None:
    """It holds the lock; nobody waits for it to sweep."""
    project.identities("ci")
    put(project, "ci", "fresh")
    (project.folder / LEFTOVER).touch()
    with FileLock(str(project.folder / LOCK_NAME)):
        assert project.run(lock_timeout=60, **AHEAD).exit_code == 0
    assert project.names() == {"ci.json", LEFTOVER}


class Blocked:
    """What a minter waits for, until it is let go."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._before = set(threading.enumerate())

    def wait(self) -> None:
        assert self._event.wait(30)

    def let_go(self) -> None:
        """Also waits until every worker has ended."""
        self._event.set()
        for thread in set(threading.enumerate()) - self._before:
            thread.join(30)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Blocked]:
    monkeypatch.setattr(renewal, "GRACE", 0.05)
    blocked = Blocked()
    yield blocked
    blocked.let_go()


def test_a_run_ends_at_its_deadline_and_saves_what_it_has(
    project: Project, blocked: Blocked
) -> None:
    """What hangs is kept where its token serves, else failed; it is not waited for."""

    def hang() -> Minted:
        blocked.wait()
        return sample_minted("late")

    project.identities("a", "hangs", "serves")
    before = put(project, "serves", "due")
    provider = Provider(hangs=hang, serves=hang)
    began = time.monotonic()
    report = project.run(provider, deadline=2, **AHEAD)  # enough for a, on a busy machine too
    assert time.monotonic() - began < 20
    assert outcomes(report) == {"a": "renewed", "hangs": "failed", "serves": "kept"}
    assert report.exit_code == 1
    assert provider.closed == 1
    failure = report.results[1].failure
    assert failure is not None
    assert (failure.kind, failure.transient) == ("unreachable", True)
    assert "--deadline" in failure.remedy
    assert {each.identity_name for each in project.listener.finished} == {"a", "hangs", "serves"}
    blocked.let_go()
    assert project.names() == {"a.json", "serves.json"}
    assert project.path("serves").read_bytes() == before


def test_the_lock_is_not_waited_for_beyond_the_deadline(project: Project) -> None:
    """One deadline for lock and requests."""
    project.identities("ci")
    put(project, "ci", "due")
    began = time.monotonic()
    with FileLock(str(project.folder / LOCK_NAME)):
        report = project.run(lock_timeout=60, deadline=0.1, **AHEAD)
    assert time.monotonic() - began < 20
    assert (outcomes(report), report.exit_code) == ({"ci": "kept"}, 75)


def test_a_deadline_that_no_clock_holds_is_just_a_long_one(project: Project) -> None:
    """Ten years, the longest that can be said."""
    project.identities("ci")
    assert project.run(deadline=10.0 * 366 * 86400).exit_code == 0


class Stopping(Listener):
    """Is where a signal strikes: after the first identity is done."""

    def finish(self, outcome: Outcome) -> None:
        super().finish(outcome)
        raise StoppedError(15, "SIGTERM")


def test_a_run_that_is_stopped_keeps_what_it_had_and_writes_no_more(
    project: Project, blocked: Blocked
) -> None:
    """Its lock is free, its minter closed, its files are whole."""

    def hang() -> Minted:
        blocked.wait()
        return sample_minted("late")

    project.identities("a", "b")
    provider = Provider(b=hang)
    with pytest.raises(StoppedError):
        project.run(provider, observer=Stopping())
    assert provider.closed == 1
    blocked.let_go()
    assert project.names() == {"a.json"}
    assert project.run().exit_code == 0


def test_each_result_is_written_as_soon_as_it_is_there(project: Project) -> None:
    """Before slower ones are ready: whoever hears of it finds the file."""
    heard = threading.Event()
    found: list[bool] = []

    class Hearing(Listener):
        def finish(self, outcome: Outcome) -> None:
            found.append(project.path(outcome.identity_name).exists())
            heard.set()

    def when_the_first_is_done() -> Minted:
        assert heard.wait(30)
        return sample_minted("b")

    project.identities("a", "b")
    report = project.run(Provider(b=when_the_first_is_done), observer=Hearing())
    assert (found, report.exit_code) == ([True, True], 0)


class Deaf(Listener):
    """A standard error that nobody reads any more."""

    def warn(self, message: str) -> None:
        del message
        raise BrokenPipeError


def test_a_warning_that_nobody_can_hear_costs_no_token(project: Project) -> None:
    """Neither the one that it is about nor the time until the deadline."""
    project.identities("a", "b")
    skewed = replace(sample_minted("a"), clock_skew=3600.0)
    report = project.run(
        Provider(a=skewed), observer=Deaf(), refresh_ahead=True, lead=Lead(seconds=2 * LIFE)
    )
    assert outcomes(report) == {"a": "renewed", "b": "renewed"}


def test_a_lead_longer_than_a_life_is_a_warning_once(project: Project) -> None:
    """Every run would renew everything."""
    project.identities("a", "b")
    project.run(refresh_ahead=True, lead=Lead(seconds=LIFE))
    (warning,) = project.listener.warnings
    assert "every run renews them" in warning


def test_a_lead_replaces_the_tokens_own_time(project: Project) -> None:
    """For this run."""
    project.identities("ci")
    put(project, "ci", "fresh")
    assert outcomes(project.run(refresh_ahead=True, lead=Lead(seconds=60))) == {"ci": "fresh"}
    assert outcomes(project.run(refresh_ahead=True, lead=Lead(fraction=1))) == {"ci": "renewed"}


def test_a_wrong_clock_is_a_warning_once(project: Project) -> None:
    """Also where the token was refused because of it."""
    project.identities("a", "b")
    skewed = replace(sample_minted("a"), clock_skew=3600.0)
    project.run(Provider(a=skewed, b=replace(REJECTED, clock_skew=3600.0)))
    (warning,) = project.listener.warnings
    assert "clock" in warning


def test_warnings_of_every_stage_are_passed_on(project: Project) -> None:
    """`.env`, the identities file, its names and the folder."""
    (project.root / ".env").write_text("= nonsense\n")
    project.identities("my-ingress")
    project.identities_file.chmod(0o644)
    (project.folder / "notes.txt").touch()
    project.folder.chmod(0o755)
    project.run()
    warnings = project.listener.warnings
    assert len(warnings) == 4
    assert "line 1 is ignored" in warnings[0]
    assert "chmod 600" in warnings[1]
    assert "treats this name specially" in warnings[2]
    assert "chmod 700" in warnings[3]


def test_the_observer_hears_how_many_are_due_and_each_that_is_done(project: Project) -> None:
    """Progress is drawn from it."""
    project.identities("a", "b", "c")
    put(project, "b", "fresh")
    report = project.run(Provider(c=REJECTED), **AHEAD)
    assert project.listener.started == [2]
    done = sorted(project.listener.finished, key=lambda each: each.identity_name)
    assert done == [report.results[0], report.results[2]]


def test_no_more_are_asked_at_once_than_there_are_workers(project: Project) -> None:
    """However many are due."""
    names = [f"ci{number}" for number in range(40)]
    project.identities(*names)
    workers: set[int] = set()

    def answer(name: str) -> Minted:
        workers.add(threading.get_ident())
        return sample_minted(name)

    answers: dict[str, Any] = {name: lambda name=name: answer(name) for name in names}
    assert project.run(Provider(**answers), concurrency=1).count("renewed") == 40
    assert len(workers) <= renewal.WORKERS_A_CONNECTION


def test_in_each_tenant_those_come_first_that_die_first(project: Project) -> None:
    """Tenants in turn, wherever an identity stands in the file: a run may end before its end."""

    def item(name: str, tenant: str, expires_on: float, *, serves: bool = True) -> PlanItem:
        entry = make_entry(1, sample_fields(name, tenant_id=tenant), project.settings())
        record = TokenRecord(NOW - 60, expires_on, NOW - 1, entry.fingerprint)
        return PlanItem(entry, record, "refresh", serves)

    due = [
        item("a3", "a.example", NOW + 9),
        item("a2", "A.example", NOW + 5),
        item("b1", "b.example", NOW + 7),
        item("a1", "a.example", NOW + 8, serves=False),
        item("b2", "b.example", NOW + 8),
    ]
    pauses = {"a.example": 0.0, "b.example": 0.0}
    minter = Minter(
        mint=lambda _: REJECTED,
        close=lambda: None,
        pause=lambda entry: pauses[entry.fields["tenant_id"].lower()],
    )
    queue = renewal._FairQueue(due, minter)

    def two() -> list[str]:
        return [found.entry.name for found in (queue.next(), queue.next()) if found]

    assert sorted(two()) == ["a1", "b1"]
    pauses["a.example"] = 3.0
    assert two() == ["b2", "a2"]  # a waits for the others, and is waited for when they are done
    assert two() == ["a3"]


def test_what_makes_the_minter_fail_ends_the_run_with_its_own_error(project: Project) -> None:
    """A CA bundle that is none, say; the lock is free again."""

    def fail(request: RunOptions, identities: Mapping[str, Identity], deadline: float) -> Minter:
        del request, identities, deadline
        raise ConfigurationError("the CA bundle cannot be used")

    project.identities("ci")
    with pytest.raises(ConfigurationError, match="CA bundle"):
        batch.run(RunOptions(project.settings()), project.listener, make_minter=fail)
    assert project.run().exit_code == 0


@pytest.mark.parametrize(
    ("moment", "outcome"),
    [
        ("2027-01-15 08:00:00", "fresh"),
        ("2027-01-15 08:28:59", "fresh"),
        ("2027-01-15 08:29:00", "due"),
        ("2027-01-15 09:30:00", "due"),
        ("2027-01-15 07:58:00", "due"),
    ],
)
def test_a_run_goes_by_the_clock(project: Project, moment: str, outcome: str) -> None:
    """It asks the one it was given."""
    project.identities("ci")
    put(project, "ci", "fresh")
    with freeze_time(moment):
        report = batch.run(
            RunOptions(project.settings(), refresh_ahead=True, dry_run=True),
            project.listener,
            now=time.time,
        )
    assert outcomes(report) == {"ci": outcome}
