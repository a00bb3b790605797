"""Output never decides: full, closed or unread streams cost no token and no exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from credentials_provider.tokens.history import STATE_NAME
from support import PATIENCE, Command, Project, apps, environment, until, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 26


class Streams(NamedTuple):
    """Where a command's standard output and error lead."""

    stdout: int
    stderr: int


def full_pipe() -> tuple[int, int]:
    """A pipe that has room for nothing, and nobody who reads it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(writing, True)
    return reading, writing


@pytest.fixture(params=["device", "closed", "unread"])
def lost(request: pytest.FixtureRequest) -> Iterator[int]:
    """A descriptor that takes nothing."""
    if request.param == "device":
        opened = [os.open("/dev/full", os.O_WRONLY)]
    elif request.param == "closed":
        reading, writing = os.pipe()
        os.close(reading)
        opened = [writing]
    else:
        opened = [*full_pipe()]
    yield opened[-1]
    for each in opened:
        os.close(each)


def run_into(run: Command, streams: Streams, *args: str) -> tuple[int, float]:
    """Exit code of a run whose output goes there, and seconds that it took."""
    began = time.monotonic()
    process = subprocess.Popen(
        run.line(*args),
        cwd=run.project.folder,
        env=environment(run.project.folder),
        stdin=subprocess.DEVNULL,
        stdout=streams.stdout,
        stderr=streams.stderr,
    )
    try:
        code = process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    return code, time.monotonic() - began


@pytest.mark.parametrize("which", ["stdout", "stderr", "both"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_run_does_all_of_its_work_whoever_reads(
    project: Project, run: Command, lost: int, which: str, form: str
) -> None:
    """Tokens, state and hook are there, the exit code is 0, and the deadline holds."""
    project.add_all(apps(MANY))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    streams = Streams(
        lost if which != "stderr" else nowhere, lost if which != "stdout" else nowhere
    )
    try:
        code, took = run_into(
            run,
            streams,
            *("--log-format", form, "--verbose", "--deadline", "10s"),
            *("--on-renew", "touch hooked"),
        )
    finally:
        os.close(nowhere)
    assert code == 0
    assert took < 12
    assert len(project.tokens()) == MANY
    assert os.path.exists(os.path.join(project.output, STATE_NAME))
    assert os.path.exists(os.path.join(project.folder, "hooked"))


def test_a_standard_output_that_is_full_is_told_on_standard_error(
    project: Project, run: Command
) -> None:
    """The exit code stays that of the run."""
    project.add_all(apps(1))
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            run.line("--json", "--refresh-ahead"),
            cwd=project.folder,
            env=environment(project.folder),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    assert ran.returncode == 0
    assert ran.stderr == ("warning: standard output cannot be written: No space left on device\n")


def test_a_run_without_any_streams_works(project: Project, run: Command) -> None:
    """As some supervisors start it; the first file that it opens does not become its stderr."""
    project.add_all(apps(2))
    words = " ".join(f"'{word}'" for word in run.line())
    ran = subprocess.run(
        ["sh", "-c", f"{words} <&- >&- 2>&-"],
        cwd=project.folder,
        env=environment(project.folder),
        check=False,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0
    assert len(project.tokens()) == 2


def test_watch_lives_on_when_nobody_reads_it(project: Project, run: Command, lost: int) -> None:
    """Its messages are lost; its tokens are renewed."""
    project.add_all(apps(3))
    line = run.line()
    line[line.index("generate")] = "watch"
    process = subprocess.Popen(
        line,
        cwd=project.folder,
        env=environment(project.folder),
        stdin=subprocess.DEVNULL,
        stdout=lost,
        stderr=lost,
    )
    try:
        until(lambda: len(project.tokens()) == 3)
        os.unlink(project.path(apps(1)[0].name))
        project.write([*project.entries()])
        until(lambda: len(project.tokens()) == 3)
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 143


def test_a_token_that_nobody_reads_is_on_disk_and_holds_up_nobody(
    project: Project, run: Command
) -> None:
    """`token` waits for its reader as any filter does: without the lock, and until a signal."""
    project.add_all(apps(1))
    reading, writing = full_pipe()
    line = run.line()
    line[line.index("generate")] = "token"
    process = subprocess.Popen(
        line, cwd=project.folder, env=environment(project.folder), stdout=writing
    )
    try:
        until(project.tokens)
        assert run("--force", "--lock-timeout", "5").code == 0
        assert process.poll() is None
    finally:
        process.terminate()
        code = process.wait(PATIENCE)
        os.close(reading)
        os.close(writing)
    assert code in {143, -signal.SIGTERM}  # there was nothing left to save


@pytest.mark.parametrize("command", ["token", "exec", "serve"])
def test_a_warning_that_nobody_reads_holds_up_no_command(
    project: Project, run: Command, command: str
) -> None:
    """The token is printed, the program started, the endpoint served; the warning is lost."""
    project.add_all(apps(1))
    os.chmod(project.identities_file, 0o644)  # worth a warning
    done = os.path.join(project.folder, "done")
    line = run.line(*{"token": ("--output", done), "serve": ("--write-env", done)}.get(command, ()))
    line[line.index("generate")] = command
    line += [apps(1)[0].name, "touch", done] if command == "exec" else []
    reading, writing = full_pipe()
    process = subprocess.Popen(
        line,
        cwd=project.folder,
        env=environment(project.folder),
        stdin=subprocess.DEVNULL,
        stderr=writing,
    )
    try:
        until(lambda: os.path.exists(done))
    finally:
        process.terminate()
        process.wait(PATIENCE)
        os.close(reading)
        os.close(writing)


def test_a_token_that_cannot_be_put_where_it_was_wanted_is_an_error(
    project: Project, run: Command
) -> None:
    """`--output /dev/full`: why in a line, with a cure."""
    project.add_all(apps(1))
    line = run.line("--output", "/dev/full")
    line[line.index("generate")] = "token"
    ran = wait(run.start_line(line))
    assert (ran.code, ran.stdout) == (1, "")
    error, cure = ran.stderr.splitlines()
    assert error == "error: /dev/full cannot be written: No space left on device"
    assert "Check space" in cure


@pytest.mark.parametrize(("lost", "told"), [("device", True), ("closed", False)], indirect=["lost"])
def test_a_full_disk_is_told_and_a_reader_that_went_away_is_not(
    project: Project, run: Command, lost: int, *, told: bool
) -> None:
    """`| head` has what it wanted; a file that lacks its end is nobody's wish."""
    project.add_all(apps(1))
    ran = subprocess.run(
        run.line("--json"),
        cwd=project.folder,
        env=environment(project.folder),
        stdin=subprocess.DEVNULL,
        stdout=lost,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0
    assert ("standard output cannot be written: No space left" in ran.stderr) is told
    assert told or ran.stderr == ""
