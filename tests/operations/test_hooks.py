"""`--on-renew`: once a batch, after the files, without secrets, again until it succeeds."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.emulator import Fault
from credentials_provider.tokens.history import read_state
from credentials_provider.tokens.store import TokenStore
from support import Project, apps, assert_no_secret, until, wait

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
    ran = run("--on-renew", "env >seen; cat >>seen", env={**secrets, "HARMLESS": "yes"})
    assert ran.code == 0
    seen = "\n".join(lines(project, "seen"))
    assert "HARMLESS=yes" in seen
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
    assert run("--on-renew", f"{inner} >inner").code == 0
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
