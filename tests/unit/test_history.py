"""What a run leaves for the next: failures and counts, never a secret, never a condition."""

from __future__ import annotations

import json
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.files import write_whole
from credentials_provider.tokens.history import STATE_NAME, LastRun, State, after_run, read_state
from credentials_provider.tokens.store import TokenStore
from unit.making import NOW, REJECTED, SECRET, UNREACHABLE, Project, Provider


def test_a_run_that_fails_leaves_the_failure_and_one_that_succeeds_clears_it(
    project: Project,
) -> None:
    project.identities("ci", "billing")
    project.run(Provider(ci=REJECTED), now=NOW)
    project.run(Provider(ci=REJECTED), now=NOW + 60, refresh_ahead=True)
    failure = read_state(TokenStore(str(project.folder))).identities["ci"].failure
    assert failure is not None
    assert (failure.at, failure.runs, failure.message) == (NOW + 60, 2, REJECTED.message)

    project.run(now=NOW + 120, refresh_ahead=True)
    state = read_state(TokenStore(str(project.folder)))
    assert state.last_run == LastRun(NOW + 120, NOW + 120, 0)
    ci, billing = state.identities["ci"], state.identities["billing"]
    assert (ci.renewals, ci.failures, ci.failure) == (1, 2, None)
    assert (billing.renewals, billing.failures) == (1, 0)


def test_a_run_with_nothing_due_leaves_the_state_alone(project: Project) -> None:
    project.identities("ci")
    project.run()
    before = (project.folder / STATE_NAME).stat()
    project.run(refresh_ahead=True, now=NOW + 60)
    after = (project.folder / STATE_NAME).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_state_is_private_and_holds_neither_secret_nor_token(project: Project) -> None:
    project.identities("ci", "billing")
    project.run(Provider(ci=UNREACHABLE))
    path = project.folder / STATE_NAME
    text = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SECRET not in text
    assert "token.of" not in text


def test_identities_that_are_gone_are_forgotten_and_those_not_selected_kept(
    project: Project,
) -> None:
    project.identities("a", "b", "c")
    project.run()
    project.identities("a", "b")
    project.run(names=("a",))
    identities = read_state(TokenStore(str(project.folder))).identities
    assert {name: each.renewals for name, each in identities.items()} == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "identities": {"ci": {}}}',
        '{"version": 1}',
        '{"version": 1, "last_run": 5, "identities": {}, "told": {}, "hook_failure": null}',
        '{"version": 1, "last_run": null, "identities": [], "told": {}, "hook_failure": null}',
        '{"version": 1, "last_run": null, "identities": {"ci": 1}, "told": {}, "hook_failure": 0}',
    ],
)
def test_a_broken_or_newer_state_reads_as_empty_and_stops_no_run(
    project: Project, content: str
) -> None:
    project.identities("ci")
    write_whole(str(project.folder / STATE_NAME), content)
    assert read_state(TokenStore(str(project.folder))) == State()
    assert project.run().exit_code == 0
    assert read_state(TokenStore(str(project.folder))).identities["ci"].renewals == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"version": st.just(1), "last_run": JSON, "told": JSON, "hook_failure": JSON},
        optional={"identities": st.dictionaries(st.text(), JSON, max_size=3) | JSON},
    )
)
def test_whatever_stands_in_the_state_reading_it_raises_nothing(document: object) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_whole(f"{folder}/{STATE_NAME}", json.dumps(document))
        assert isinstance(read_state(TokenStore(folder)), State)


def test_the_state_after_a_run_without_results_only_tells_of_the_run() -> None:
    run = LastRun(1.0, 2.0, 0)
    assert after_run(State(), [], run, {"ci"}) == State(last_run=run)
