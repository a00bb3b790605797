"""SIGKILL and SIGTERM at every step: token files stay whole, and the next run finds no trace.

The dozens of kills of an ordinary run become hundreds with FAULTS_LONG=1 in the environment.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from support import PATIENCE, Command, Project, apps, until, wait

from .tracing import LONG, NO_TRACING, Held, Step, attached, caught, steps, tracing

if TYPE_CHECKING:
    from credentials_provider.emulator import App

ROUNDS = 4 if LONG else 1
RANDOM_KILLS = 80 if LONG else (6 if NO_TRACING is None else 30)
LEFTOVER = re.compile(r"\.credentials-provider-.*\.tmp")
LOCK = ".credentials-provider.lock"
EXPECTED = {".credentials-provider-state.json", LOCK, "entra-identities.json", ".gitignore"}

pytestmark = pytest.mark.timeout(900 if LONG else 300)


def leftovers(project: Project) -> list[str]:
    return [name for name in os.listdir(project.output) if LEFTOVER.fullmatch(name)]


def assert_whole(project: Project, before: dict[str, bytes], many: list[App]) -> None:
    """Every token file is the old one or a new whole one, private; nothing strange is there."""
    names = {f"{app.name}.json" for app in many}
    for name in set(os.listdir(project.output)) - EXPECTED:
        path = os.path.join(project.output, name)
        assert os.stat(path).st_mode & 0o777 == 0o600
        if LEFTOVER.fullmatch(name):
            continue
        assert name in names
        with open(path, "rb") as file:
            content = file.read()
        if content != before.get(name):
            token = json.loads(content)
            assert token["access_token"].count(".") == 2
            assert token["tokens"] == {
                "access_token": token["access_token"],
                "expires_at": token["expires_on"],
            }
    assert before.keys() <= set(os.listdir(project.output))


def assert_recovers(project: Project, run: Command, many: list[App]) -> None:
    """The next run needs no help: no lock sticks, nothing is left over, every token is good."""
    ran = run("--refresh-ahead", "--lock-timeout", "5", "--json")
    assert ran.code == 0, ran.stderr
    assert {each["outcome"] for each in ran.json["results"]} <= {"renewed", "fresh"}
    assert set(os.listdir(project.output)) == EXPECTED | {f"{app.name}.json" for app in many}


def prepared(project: Project, run: Command, count: int, *, fresh: bool) -> list[App]:
    """So many identities, with tokens that are due but serve unless all is to be fresh."""
    many = apps(count)
    project.add_all(many)
    if not fresh:
        assert run().code == 0
        for app in many:
            project.age(app.name, left=120)
    return many


def reset(project: Project, before: dict[str, bytes]) -> None:
    for name in project.files():
        os.unlink(os.path.join(project.output, name))
    for name, content in before.items():
        project.private(os.path.join(project.output, name), content.decode())


def chosen(found: list[Step], thread: str) -> list[Step]:
    """The steps of a thread; in a short suite each once from the temporary file on."""
    mine = [step for step in found if step.thread == thread]
    assert len(mine) > 6
    if LONG:
        return mine * ROUNDS
    return [step for step in mine if step.call not in {"getrandom", "lseek", "ioctl"}]


@tracing
@pytest.mark.parametrize("fresh", [False, True], ids=["renewal", "first token"])
@pytest.mark.parametrize("thread", ["worker", "main"])
def test_sigkill_at_every_step_from_the_answer_to_the_synced_folder(
    held_project: Project, held_run: Command, held: Held, thread: str, fresh: bool
) -> None:
    """Killed at any system call, the run leaves old or new whole files, and the next one cures."""
    many = prepared(held_project, held_run, 1, fresh=fresh)
    before = held_project.files()
    kills = 0
    for step in chosen(steps(held_run, held, "--refresh-ahead"), thread):
        if not LONG and fresh and step.call in {"newfstatat", "read", "close"}:
            continue
        reset(held_project, before)
        held.hold()
        run = caught(held_run, held, "--refresh-ahead")
        injection = f"inject={step.call}:signal=SIGKILL:when={step.number}"
        with attached(run.thread(thread), "-e", f"trace={step.call}", "-e", injection):
            held.go.set()
            wait(run.process)
        kills += run.process.returncode == -signal.SIGKILL
        assert_whole(held_project, before, many)
        assert_recovers(held_project, held_run, many)
    assert kills >= 5


@tracing
@pytest.mark.parametrize("thread", ["worker", "main"])
def test_sigterm_at_every_step_ends_in_order(
    held_project: Project, held_run: Command, held: Held, thread: str
) -> None:
    """A run that is told to stop at any system call ends with 143 and leaves nothing behind."""
    many = prepared(held_project, held_run, 1, fresh=False)
    before = held_project.files()
    ordered = 0
    for step in chosen(steps(held_run, held, "--refresh-ahead"), thread)[:: 1 if LONG else 2]:
        reset(held_project, before)
        held.hold()
        run = caught(held_run, held, "--refresh-ahead")
        injection = f"inject={step.call}:signal=SIGSTOP:when={step.number}"
        with attached(run.thread(thread), "-e", f"trace={step.call}", "-e", injection) as log:
            held.go.set()
            until(lambda: _stopped(log) or run.process.poll() is not None)  # noqa: B023  awaited here
            if run.process.poll() is None:
                run.process.send_signal(signal.SIGTERM)
                run.process.send_signal(signal.SIGCONT)
            wait(run.process)
        # Once the report is out the default action is as good: there is nothing left to save.
        assert run.process.returncode in {143, -signal.SIGTERM, 0}
        ordered += run.process.returncode == 143
        assert_whole(held_project, before, many)
        assert leftovers(held_project) == []
        assert_recovers(held_project, held_run, many)
    assert ordered >= 3


def _stopped(log: str) -> bool:
    with open(log, encoding="utf-8", errors="replace") as file:
        return "stopped by SIGSTOP" in file.read()


@tracing
@pytest.mark.parametrize(
    "call", ["mkdir", "chmod", "flock", "unlinkat", "fchmod", "renameat", "fsync"]
)
def test_sigkill_on_the_way_to_the_lock_and_under_it(
    held_project: Project, held_run: Command, call: str
) -> None:
    """Killed while it makes the folder, takes the lock or sweeps, a run troubles no other."""
    many = prepared(held_project, held_run, 3, fresh=False)
    for app in many[1:]:
        os.unlink(held_project.path(app.name))
    for number in range(3 if LONG else 2):
        held_project.private(
            os.path.join(held_project.output, f".credentials-provider-1-{number}.tmp"), "{"
        )
    before = held_project.files()
    kills = 0
    for number in range(1, 4 if LONG else 2):
        line = held_run.line("--refresh-ahead", "-o", "out" if "mk" in call else ".oauth-tokens")
        injection = f"inject={call}:signal=SIGKILL:when={number}"
        ran = wait(
            held_run.start_line(
                [
                    "strace",
                    "-f",
                    "-qq",
                    "-o",
                    os.devnull,
                    f"-e{injection}",
                    f"-etrace={call}",
                    *line,
                ]
            )
        )
        kills += ran.code in {-signal.SIGKILL, 128 + signal.SIGKILL}
        if "mk" not in call:
            assert_whole(
                held_project, {k: v for k, v in before.items() if not LEFTOVER.fullmatch(k)}, many
            )
    assert kills or call in {"unlinkat", "chmod", "mkdir"}  # not every system makes these calls
    assert_recovers(held_project, held_run, many)


def test_sigkill_at_any_time(project: Project, run: Command) -> None:
    """A run of several identities that is killed whenever it may be leaves whole files."""
    many = prepared(project, run, 4, fresh=False)
    before = project.files()
    began = time.monotonic()
    assert run("--refresh-ahead").code == 0
    usual = time.monotonic() - began
    for _ in range(RANDOM_KILLS):
        reset(project, before)
        process = run.start("--refresh-ahead", "-j", "2")
        # Most of the time goes into the start; the interesting part comes after.
        try:
            process.wait(random.uniform(0.5, 1.1) * usual)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate(timeout=PATIENCE)
        assert_whole(project, before, many)
        assert_recovers(project, run, many)


@tracing
def test_a_file_is_synced_before_it_gets_its_name_and_the_folder_after(
    held_project: Project, held_run: Command, held: Held
) -> None:
    """A power cut finds the old file or a whole new one: fsync, rename, the folder's fsync."""
    prepared(held_project, held_run, 1, fresh=True)
    found = [(step.thread, step.call) for step in steps(held_run, held)]
    worker = [call for thread, call in found if thread == "worker"]
    main = [call for thread, call in found if thread == "main"]

    assert worker.index("write") < worker.index("fsync") < worker.index("renameat")
    assert "fsync" in main


def test_a_killed_holder_of_the_lock_leaves_it_free(
    held_project: Project, held_run: Command, held: Held
) -> None:
    """The kernel takes a dead run's lock back: the next does not wait a moment for it."""
    many = prepared(held_project, held_run, 1, fresh=True)
    held.hold()
    process = held_run.start()
    until(lambda: held.waiting)
    process.kill()
    wait(process)
    held.go.set()

    ran = held_run("--lock-timeout", "0")

    assert (ran.code, os.path.exists(held_project.path(many[0].name))) == (0, True)
