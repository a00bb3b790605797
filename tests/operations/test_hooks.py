"""`--on-renew`: once a batch, after the files, without secrets, again until it succeeds."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from credentials_provider.emulator import Fault
from credentials_provider.run.hooks import Hooks
from credentials_provider.tokens.history import read_state
from credentials_provider.tokens.store import LOCK_NAME, TokenStore
from support import Project, apps, assert_no_secret, entry, renew, until, wait

if TYPE_CHECKING:
    from operations.running import Program

NOTE = 'cat >>stdin; echo "$RENEWED_IDENTITIES|$FAILED_IDENTITIES" >>names'


def lines(project: Project, name: str) -> list[str]:
    path = os.path.join(project.folder, name)
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def test_it_runs_once_a_batch_with_the_names_and_a_document(project: Project, run: Program) -> None:
    project.add_all(apps(3))
    project.idp.inject(Fault("aadsts", code=7000222), None, apps(3)[2].client_id)
    assert run("--on-renew", NOTE).code == 1
    assert lines(project, "names") == ["billing-agent ci-agent|support-agent"]
    document: dict[str, Any] = json.loads("\n".join(lines(project, "stdin")))
    assert [each["identity_name"] for each in document["renewed"]] == ["billing-agent", "ci-agent"]
    assert [each["identity_name"] for each in document["failed"]] == ["support-agent"]
    assert document["renewed"][1]["token_file"] == os.path.realpath(project.path("ci-agent"))


def test_the_files_are_in_place_when_it_runs(project: Project, run: Program) -> None:
    project.add_all(apps(2))
    look = "ls .oauth-tokens >seen"
    assert run("--on-renew", look).code == 0
    assert {"ci-agent.json", "billing-agent.json"} <= set(lines(project, "seen"))


def test_it_does_not_run_when_nothing_was_renewed(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    run("--on-renew", NOTE)
    run("--on-renew", NOTE, "--refresh-ahead")
    project.idp.inject(Fault("aadsts", code=7000222), None)
    run("--on-renew", NOTE)
    assert len(lines(project, "names")) == 1


def test_it_sees_neither_tokens_nor_secrets(project: Project, run: Program) -> None:
    app = apps(1)[0]
    project.add(app)
    secrets = {"ENTRA_CLIENT_SECRET": "s3cr3t-of-the-environment", "MINE": app.secrets[0]}
    ours = {"IDENTITY_HEADER": "h3ader", "OF_ANOTHER_SHARD": "s3cr3t-too", "WANTED": "yes"}
    words = ("--on-renew", "env >seen; cat >>seen", "--hook-env", "WANTED", "--hook-env", "ABSENT")
    ran = run(*words, env={**secrets, **ours, "LC_ALL": "C.UTF-8", "no_proxy": "localhost"})
    assert ran.code == 0
    seen = "\n".join(lines(project, "seen"))
    for kept in ("WANTED=yes", "LC_ALL=C.UTF-8", "no_proxy=localhost", f"HOME={project.folder}"):
        assert kept in seen
    for hidden in ("h3ader", "s3cr3t-too", "ABSENT"):
        assert hidden not in seen
    assert "s3cr3t-of-the-environment" not in seen
    assert_no_secret(seen, [app])


def test_its_failure_undoes_nothing_is_told_and_it_runs_again_until_it_succeeds(
    project: Project, run: Program
) -> None:
    project.add_all(apps(2))
    failed = run("--on-renew", f"{NOTE}; exit 3")
    assert failed.code == 75
    assert "the hook failed (exit code 3)" in failed.stderr
    assert os.path.exists(project.path("ci-agent"))
    assert read_state(TokenStore(project.output)).hook_failure is not None

    again = run("--refresh-ahead", "--json", "--on-renew", f"{NOTE}; kill -9 $$")
    assert again.code == 75
    assert again.json["hook"]["message"] == "ended by signal 9"
    assert again.json["summary"]["fresh"] == 2

    assert run("--refresh-ahead", "--on-renew", NOTE).code == 0
    assert run("--refresh-ahead", "--on-renew", NOTE).code == 0
    assert lines(project, "names") == ["billing-agent ci-agent|"] * 3
    assert read_state(TokenStore(project.output)).hook_failure is None
    assert len(project.idp.token_requests) == 2


def test_a_token_that_somebody_else_renewed_is_told_by_the_next_run(
    project: Project, run: Program
) -> None:
    project.add_all(apps(2))
    run("--on-renew", NOTE)
    run("generate", "ci-agent")
    run("--refresh-ahead", "--on-renew", NOTE)
    assert lines(project, "names") == ["billing-agent ci-agent|", "ci-agent|"]


def test_a_run_that_was_killed_before_its_hook_is_made_up_for(
    project: Project, run: Program
) -> None:
    first, second = apps(2)
    project.add_all([first, second])
    project.idp.inject(Fault("hang"), None, second.client_id)
    process = run.start("--on-renew", NOTE)
    until(lambda: os.path.exists(project.path("ci-agent")))
    process.send_signal(signal.SIGKILL)
    wait(process)
    assert lines(project, "names") == []
    project.idp.clear_faults()
    run("--refresh-ahead", "--on-renew", NOTE)
    assert lines(project, "names") == ["billing-agent ci-agent|"]


def test_one_that_hangs_is_ended_with_all_that_it_started(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    hangs = "echo $$ >pid; sleep 100 & echo $! >child; wait"
    ran = run("--hook-timeout", "1s", "--on-renew", hangs)
    assert ran.code == 75
    assert "stopped after 1 s" in ran.stderr
    for name in ("pid", "child"):
        pid = int(lines(project, name)[0])
        until(lambda pid=pid: not _runs(pid))  # type: ignore[misc]  # mypy and defaults of lambdas


def _runs(pid: int) -> bool:
    """Whether a process is there and not just waiting to be buried."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        if not os.path.isdir("/proc/self"):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return False
            return True
        return False


def test_runs_at_the_same_time_tell_it_of_each_token_once(project: Project, run: Program) -> None:
    project.add_all(apps(4))
    several = [run.start("--refresh-ahead", "--on-renew", f"sleep 0.3; {NOTE}") for _ in range(4)]
    assert [wait(process).code for process in several] == [0] * 4
    told = [name for line in lines(project, "names") for name in line.strip("|").split()]
    assert "|" not in lines(project, "names")  # not run to hear of nothing
    assert sorted(told) == sorted(app.name for app in apps(4))


def test_what_it_prints_stays_out_of_the_report(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    ran = run("--json", "--on-renew", "echo noise; echo more >&2")
    assert ran.json["exit_code"] == 0
    assert "noise" in ran.stderr
    assert "more" in ran.stderr


def test_it_may_ask_for_tokens_itself(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    inner = " ".join(f"'{word}'" for word in run.line("--refresh-ahead"))
    assert run("--on-renew", f"{inner} >inner", "--hook-env", "PYTHONPATH").code == 0
    assert lines(project, "inner")[-1].startswith("Tokens saved:")


def test_a_dry_run_runs_none(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    assert run("--dry-run", "--on-renew", NOTE).code == 0
    assert lines(project, "names") == []


@pytest.mark.parametrize("code", [7000222, 90055])
def test_the_renewals_own_failure_outranks_the_hooks(
    project: Project, run: Program, code: int
) -> None:
    first, second = apps(2)
    project.add_all([replace(first), second])
    project.idp.inject(Fault("aadsts", code=code), None, second.client_id)
    assert run("--max-attempts", "1", "--on-renew", "exit 1").code == 1


def test_two_renewals_within_a_second_are_two(project: Project, run: Program) -> None:
    """It knows tokens by their hash: a file system may keep whole seconds alone."""
    project.add_all(apps(1))
    path = project.path("ci-agent")
    for _ in range(2):
        run("--on-renew", f"touch -d @1000 {path}; {NOTE}")
        os.utime(path, (1000, 1000))
    assert len(lines(project, "names")) == 2


def test_what_it_leaves_running_holds_up_nobody(project: Project, run: Program) -> None:
    """Not even a caller that reads our standard error to its end."""
    project.add_all(apps(1))
    began = time.monotonic()
    ran = run("--on-renew", "sleep 60 & echo $! >child; echo ready >&2")
    assert ran.code == 0
    assert time.monotonic() - began < 15
    assert "ready" in ran.stderr
    os.kill(int(lines(project, "child")[0]), signal.SIGKILL)


def test_without_a_thread_to_talk_to_it_it_is_ended(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is pending: it has not heard of the token."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Hooks, "_communicate", refuse)
    project.add_all(apps(1))
    report = renew(project, on_renew="sleep 600")
    assert report.hook is not None
    assert "no thread" in str(report.hook.message)
    assert (report.hook.exit_code, report.exit_code) == (None, 75)


def test_a_deadline_that_was_given_bounds_it(project: Project, run: Program) -> None:
    """Lock, requests and hook share one clock; without --deadline it has its own limit alone."""
    project.add_all(apps(1))
    began = time.monotonic()
    ran = run("--deadline", "3s", "--on-renew", "sleep 60")
    assert ran.code == 75
    assert time.monotonic() - began < 5.5
    assert "it was stopped after" in ran.stderr


def test_more_names_than_an_environment_holds_are_on_its_input(
    project: Project, run: Program
) -> None:
    """It is started all the same, and told how many."""
    many = [
        entry(app, identity_name=f"{'n' * 100}{number:04}") for number, app in enumerate(apps(1100))
    ]
    project.write(many)
    project.idp.close()
    look = 'echo "$FAILED_COUNT ${#FAILED_IDENTITIES}" >count; wc -c >size'
    ran = run("--max-attempts", "1", "--on-failure", look)
    assert ran.code == 1
    assert lines(project, "count") == ["1100 0"]
    assert int(lines(project, "size")[0]) > 110_000
    assert "FAILED_IDENTITIES is empty" in ran.stderr


def test_a_failed_renewal_runs_a_hook_of_its_own(project: Project, run: Program) -> None:
    """With the names, causes and cures; after a run in which all went well it does not run."""
    project.add_all(apps(2))
    run("--on-failure", NOTE)
    assert lines(project, "names") == []
    project.idp.inject(Fault("aadsts", code=7000222), None, apps(2)[0].client_id)
    ran = run("--json", "--on-failure", f"{NOTE}; exit 4", "--on-renew", "true")
    assert ran.code == 1
    assert ran.json["failure_hook"]["exit_code"] == 4
    assert "the hook of --on-failure failed" not in ran.stdout
    assert lines(project, "names") == ["|ci-agent"]
    (failed,) = json.loads("\n".join(lines(project, "stdin")))["failed"]
    assert (failed["identity_name"], failed["outcome"]) == ("ci-agent", "failed")
    assert "expired" in failed["message"]
    assert failed["remedy"]


def test_a_token_that_another_run_renews_is_no_failure(project: Project, run: Program) -> None:
    """Its hook does not run while the old token is valid; without one it does."""
    project.add_all(apps(1))
    for code in (1, 75):
        with FileLock(os.path.join(project.output, LOCK_NAME)):
            assert run("--lock-timeout", "0", "--on-failure", NOTE).code == code
        assert lines(project, "names") == ["|ci-agent"]
        assert run().code == 0


def test_the_last_run_is_the_one_with_its_hook(project: Project, run: Program) -> None:
    """`status` and metrics see a hook that fails, since when, and for how many tokens."""
    project.add_all(apps(2))
    store = TokenStore(project.output)
    for _ in range(2):
        assert run("--refresh-ahead", "--on-renew", "exit 3").code == 75
        state = read_state(store)
        assert state.last_run is not None
        assert state.last_run.exit_code == 75
        assert state.hook_failure is not None
        assert state.hook_failure.pending == 2
        assert 0 < state.hook_failure.since <= state.hook_failure.at
    assert run("--refresh-ahead", "--on-renew", "true").code == 0
    state = read_state(store)
    assert state.last_run is not None
    assert (state.last_run.exit_code, state.hook_failure) == (0, None)
