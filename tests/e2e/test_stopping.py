"""Ends that nobody planned: signals, closed pipes, and what a terminal shows meanwhile."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import filelock
import pytest

from credentials_provider.emulator import Fault
from support import Project, apps, environment, until, wait

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.emulator import App, Emulator
    from support import Command, Ran

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_first_moments_brings_no_traceback(
    project: Project, run: Command, number: signal.Signals
) -> None:
    """While modules are loaded, while a run begins, and at its end; and two signals at once."""
    project.add_all(apps(1))
    for step in range(16):
        process = run.start("--refresh-ahead", env={"PYTHONWARNINGS": "ignore"})
        time.sleep(0.02 + 0.03 * step)  # Python itself has begun
        process.send_signal(number)
        process.send_signal(signal.SIGTERM)
        ran = wait(process)
        assert "Traceback" not in ran.stderr, step
        assert ran.code in {0, 130, 143, -number, -signal.SIGTERM}


def test_a_thread_that_is_left_behind_crashes_no_end(run: Command) -> None:
    """At a process's end OpenSSL clears itself away, also under a thread that is at work in it."""
    left_behind = (
        "import ssl, sys, threading, time; from credentials_provider.__main__ import main\n"
        "def work():\n    while True: ssl.create_default_context()\n"
        "threading.Thread(target=work, daemon=True).start(); time.sleep(0.05); main(['--version'])"
    )
    for _ in range(12):
        ran = wait(run.start_line([sys.executable, "-c", left_behind]))
        assert (ran.code, ran.stderr) == (0, "")
        assert ran.stdout.startswith("credentials-provider")


LOST = """
import signal, time, weakref
from credentials_provider.cli.process import stoppable
from credentials_provider.errors import StoppedError

class Thing:
    pass

try:
    with stoppable():
        thing = Thing()
        kept = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
        del thing
        time.sleep(5)
except StoppedError as stopped:
    print(stopped.exit_code)
"""


def test_a_signal_in_a_finalizer_is_not_lost(run: Command) -> None:
    """Python prints an exception that is raised there, and goes on; the signal comes again."""
    ran = wait(run.start_line([sys.executable, "-c", LOST]))
    assert (ran.code, ran.stdout, ran.stderr) == (0, "143\n", "")


def _hanging(project: Project, idp: Emulator, count: int = 4) -> list[App]:
    """Identities of which the first one's request hangs."""
    many = apps(count)
    project.add_all(many)
    idp.inject(Fault("hang"), None, many[0].client_id)
    return many


def _stop(process: subprocess.Popen[str], project: Project, number: int, files: int = 3) -> Ran:
    """Sends the signal once the others' tokens are there."""
    until(lambda: len(project.tokens()) >= files or process.poll() is not None)
    assert process.poll() is None
    process.send_signal(number)
    return wait(process)


@pytest.mark.parametrize(("number", "code"), STOPS, ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_run_with_its_files_whole(
    project: Project, run: Command, idp: Emulator, number: signal.Signals, code: int
) -> None:
    """Ctrl-C and SIGTERM: exit 130 and 143, a line in place of a traceback, tokens saved."""
    many = _hanging(project, idp)

    ran = _stop(run.start(), project, number)

    assert (ran.code, ran.stdout) == (code, "")
    assert f"stopped by {number.name}" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert sorted(project.files()) == sorted(f"{app.name}.json" for app in many[1:])
    for app in many[1:]:
        assert project.token(app.name)["access_token"].count(".") == 2

    # The lock is free, the tokens count, and only what is missing is asked for.
    idp.clear_faults()
    asked = len(idp.requests)
    after = run("--json", "--refresh-ahead", "--lock-timeout", "0")
    assert (after.code, after.json["summary"]["renewed"], len(idp.requests)) == (0, 1, asked + 1)
    assert not [name for name in os.listdir(project.output) if name.endswith(".tmp")]


@pytest.mark.parametrize(("number", "code"), STOPS, ids=["SIGINT", "SIGTERM"])
def test_a_stopped_run_leaves_a_document(
    project: Project, run: Command, idp: Emulator, number: signal.Signals, code: int
) -> None:
    """Under --json even a stopped run puts one document on stdout, with its exit code."""
    _hanging(project, idp)

    ran = _stop(run.start("--json"), project, number)

    assert (ran.code, ran.json["exit_code"]) == (code, code)
    assert ran.json["errors"][0]["message"]


def test_impatient_signals_change_nothing(project: Project, run: Command, idp: Emulator) -> None:
    """However often Ctrl-C comes until the end, no traceback comes and every file is whole."""
    _hanging(project, idp)
    process = run.start()
    until(lambda: len(project.tokens()) == 3)

    def again() -> bool:
        process.send_signal(signal.SIGINT)  # to nobody, once it has ended
        return process.poll() is not None

    until(again)
    ran = wait(process)

    assert (ran.code, ran.stderr.count("stopped by SIGINT")) == (130, 1)
    assert ran.stderr.count("\n") == 1
    assert len(project.tokens()) == 3


def test_a_signal_while_waiting_for_a_throttle(
    project: Project, run: Command, idp: Emulator
) -> None:
    """A run that waits for its Retry-After ends at once when it is told to."""
    project.add_all(apps(1))
    idp.inject(Fault("throttle", retry_after=50), None)
    process = run.start()
    until(lambda: idp.requests)
    process.send_signal(signal.SIGTERM)

    ran = wait(process)

    assert ran.code == 143
    assert len(idp.requests) == 1


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="tells how far a process is")
def test_a_signal_while_waiting_for_the_lock(project: Project, run: Command, idp: Emulator) -> None:
    """A run that waits for another one's lock ends at once, too."""
    project.add_all(apps(1))
    with filelock.FileLock(os.path.join(project.output, ".credentials-provider.lock")):
        process = run.start("--lock-timeout", "50s")
        until(lambda: process.poll() is not None or _sleeps(process.pid))
        process.send_signal(signal.SIGTERM)
        ran = wait(process)

    assert ran.code == 143
    assert "Traceback" not in ran.stderr
    assert idp.connections == 0


def _sleeps(pid: int) -> bool:
    """Whether a run waits between two looks at the lock: there is nothing else to wait for."""
    for _ in range(10):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            if file.read().rpartition(")")[2].split()[0] != "S":
                return False
        time.sleep(0.005)
    return True


def test_a_killed_run_is_cleared_up_by_the_next(
    project: Project, run: Command, idp: Emulator
) -> None:
    """After SIGKILL every file is whole, and the next run finds the lock free and finishes."""
    _hanging(project, idp)
    ran = _stop(run.start(), project, signal.SIGKILL)
    assert ran.code == -signal.SIGKILL
    before = project.tokens()
    assert len(before) == 3
    idp.clear_faults()

    assert run("--refresh-ahead", "--lock-timeout", "0").code == 0
    after = project.files()
    assert len(after) == 4
    assert before.items() <= after.items()


# Closed pipes


@pytest.mark.parametrize("args", [(), ("--json",), ("--dry-run",), ("-v",)], ids=str)
def test_a_reader_that_has_gone_brings_no_traceback(
    project: Project, run: Command, args: tuple[str, ...]
) -> None:
    """`… | head -0` ends quietly, and what was to be minted is minted."""
    project.add_all(apps(2))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = subprocess.Popen(
            run.line(*args),
            cwd=project.folder,
            env=environment(project.folder),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writing)

    ran = wait(process)

    assert ran.code in {0, 1}
    assert "Traceback" not in ran.stderr
    assert "BrokenPipe" not in ran.stderr
    assert len(project.files()) == (0 if "--dry-run" in args else 2)


def test_an_error_survives_a_reader_that_has_gone(run: Command) -> None:
    """A configuration's errors into a closed pipe bring no traceback either."""
    program = f"{sys.executable} -m credentials_provider generate -i nowhere --json | :"

    ran = wait(run.start_line(["sh", "-c", program]))

    assert "Traceback" not in ran.stderr
    assert "BrokenPipe" not in ran.stderr


def test_closed_standard_streams_do_no_harm(project: Project, run: Command) -> None:
    """Started without stdin, stdout and stderr, as some supervisors do, a run does its job."""
    project.add_all(apps(2))
    line = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *run.line()]

    ran = wait(run.start_line(line))

    assert (ran.code, len(project.files())) == (0, 2)


def test_help_survives_a_reader_that_has_gone(run: Command) -> None:
    """`--help | head -1` shows no traceback."""
    program = f"{sys.executable} -m credentials_provider --help | head -0"

    ran = wait(run.start_line(["sh", "-c", program]))

    assert (ran.code, ran.stderr) == (0, "")


# A terminal

_COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])(?:;[0-9;]*)?m")


def _on_terminal(run: Command, *args: str, env: Mapping[str, str]) -> tuple[int, str]:
    """Exit code, and all that a terminal would have got."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        run.line(*args),
        cwd=run.project.folder,
        env=environment(run.project.folder, {"TERM": "xterm-256color", **env}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    with process, contextlib.suppress(OSError):  # EIO: the last one has closed it
        while data := os.read(ours, 1 << 16):
            seen += data
    os.close(ours)
    return process.returncode, seen.decode()


def test_a_terminal_sees_progress_and_colour(project: Project, run: Command, idp: Emulator) -> None:
    """On a terminal a longer run shows how far it is, then its result in colour."""
    many = apps(6)
    project.add_all(many)
    idp.inject(Fault("slow", seconds=0.6), None, many[0].client_id)
    idp.inject(Fault("aadsts", code=7000222), None, many[1].client_id)

    code, seen = _on_terminal(run, env={})

    assert code == 1
    assert "Minting" in seen
    assert _COLOUR.search(seen)
    assert seen.count("renewed") >= 5
    assert "Traceback" not in seen
    # What is drawn is wiped, and the cursor is shown again.
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")
    assert "Minting" not in seen[seen.rindex("\x1b[?25h") :]


def test_no_color_is_honoured(project: Project, run: Command, idp: Emulator) -> None:
    """With NO_COLOR a terminal gets no colour, neither in results nor in errors nor in progress."""
    many = apps(6)
    project.add_all(many)
    os.chmod(project.identities_file, 0o644)  # a warning, too
    idp.inject(Fault("slow", seconds=0.6), None, many[0].client_id)
    idp.inject(Fault("aadsts", code=7000222), None, many[1].client_id)

    code, seen = _on_terminal(run, env={"NO_COLOR": "1"})

    assert code == 1
    assert not _COLOUR.search(seen), seen
    code, seen = _on_terminal(run, "--env-file", "nowhere", env={"NO_COLOR": "1"})
    assert code == 2
    assert not _COLOUR.search(seen), seen


def test_a_dumb_terminal_gets_no_drawing(project: Project, run: Command, idp: Emulator) -> None:
    """TERM=dumb sees lines alone."""
    many = apps(6)
    project.add_all(many)
    idp.inject(Fault("slow", seconds=0.3), None, many[0].client_id)

    code, seen = _on_terminal(run, env={"TERM": "dumb", "NO_COLOR": "1"})

    assert code == 0
    assert "\x1b" not in seen
    assert "Tokens saved:" in seen.splitlines()[-1]


@pytest.mark.parametrize("args", [(), ("-v",), ("--json",)], ids=str)
def test_no_terminal_no_colour(
    project: Project, run: Command, idp: Emulator, args: tuple[str, ...]
) -> None:
    """Into a pipe or a file goes plain text, without progress."""
    many = apps(3)
    project.add_all(many)
    idp.inject(Fault("aadsts", code=7000222), None, many[1].client_id)

    ran = run(*args, env={"TERM": "xterm-256color"})

    assert ran.code == 1
    assert "\x1b" not in ran.stdout + ran.stderr
    assert "Minting" not in ran.stdout + ran.stderr
