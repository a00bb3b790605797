"""`exec --watch`: a command that outlives its token, as if it had been started by itself."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, cast

import pytest

from credentials_provider.emulator import Fault
from credentials_provider.run import supervising
from credentials_provider.run.access import ValidToken
from support import PACKAGES, until, wait

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import Popen

    from credentials_provider.emulator import App
    from credentials_provider.run.source import TokenSource
    from support import Command, Project

pytestmark = pytest.mark.skipif(os.name == "nt", reason="it is about signals")

# Writes a line for each start and each signal, until SIGTERM ends it with 3.
CHILD = """
import os, signal, sys, time
def say(text):
    with open(sys.argv[1], "a") as file:
        file.write(text + "\\n")
def heard(number, _):
    say(signal.Signals(number).name)
    if number == signal.SIGTERM and "deaf" not in sys.argv:
        sys.exit(3)
for name in sys.argv[3:]:
    signal.signal(getattr(signal, name), heard)
say(f"start {os.environ['ACCESS_TOKEN'][-9:]} {os.environ['ACCESS_TOKEN_FILE']} {os.getpid()}")
while True:
    time.sleep(0.01)
"""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def quick(log: Path) -> dict[str, str]:
    """An environment in which the token is looked at all the time."""
    site = log.parent / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(
        "from credentials_provider.run import supervising\n"
        "supervising.LOOK_EVERY, supervising.STOP_TIMEOUT = 0.05, 1\n"
    )
    return {"PYTHONPATH": os.pathsep.join((str(site), PACKAGES))}


def started(run: Command, app: App, log: Path, *options: str, child: str) -> Popen[str]:
    """A child that runs and has said so; how it hears, and the signals that it hears."""
    program = (sys.executable, "-c", CHILD, str(log), *child.split())
    process = run.start("exec", "--watch", *options, app.name, *program, env=quick(log))
    until(lambda: lines(log) or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


def due(project: Project, app: App) -> None:
    """Its time to renew has come."""
    project.age(app.name, left=600)
    content = project.token(app.name)
    assert content["expires_on"] - time.time() < 601


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_and_the_exit_code_pass_through(
    app: App, run: Command, log: Path, ending: str
) -> None:
    """A signal reaches the command; its code, or 128 and the signal, is ours."""
    process = started(run, app, log, child="well SIGTERM SIGUSR1")
    process.send_signal(signal.SIGUSR1)
    until(lambda: "SIGUSR1" in lines(log))
    process.send_signal(getattr(signal, ending))
    ran = wait(process)
    expected = {"SIGTERM": 3, "SIGINT": 1, "SIGHUP": 129}[ending]
    if ending == "SIGINT":  # Python's own traceback, or the signal itself
        assert ran.code in {expected, 130}
    else:
        assert (ran.code, ran.stderr) == (expected, "")


def test_the_token_file_is_kept_fresh(app: App, project: Project, run: Command, log: Path) -> None:
    """Its path is in the environment."""
    process = started(run, app, log, child="well SIGTERM")
    first = project.token(app.name)["access_token"]
    assert lines(log)[0].startswith(f"start {first[-9:]} {project.path(app.name)} ")
    due(project, app)
    until(lambda: project.token(app.name)["access_token"] != first)
    process.terminate()
    assert wait(process).code == 3
    assert lines(log)[1:] == ["SIGTERM"]


STOLEN = """
import signal, threading
# The kernel gives SIGTERM to this one then, as it may to any thread that is at work.
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="says how Linux chooses a thread")
def test_a_signal_that_another_thread_takes_is_passed_on(app: App, run: Command, log: Path) -> None:
    """The main thread sleeps in waitpid(2), and it alone runs handlers."""
    environment = quick(log)
    (log.parent / "site" / "sitecustomize.py").write_text(STOLEN)
    child = f"import signal; signal.pthread_sigmask(signal.SIG_SETMASK, ()); {CHILD}"
    program = (sys.executable, "-S", "-c", child, str(log), "well", "SIGTERM")
    process = run.start("exec", "--watch", app.name, *program, env=environment)
    until(lambda: lines(log) or process.poll() is not None)
    process.terminate()
    assert wait(process).code == 3


@pytest.mark.skipif(sys.platform != "linux", reason="says how Linux chooses a thread")
def test_watch_ends_also_where_another_thread_takes_the_signal(
    app: App, project: Project, run: Command, log: Path
) -> None:
    """Its main thread sleeps until the next token is due."""
    environment = quick(log)
    (log.parent / "site" / "sitecustomize.py").write_text(STOLEN)
    process = run.start("watch", env=environment)
    until(lambda: f"{app.name}.json" in project.files() or process.poll() is not None)
    process.terminate()
    assert wait(process).code == 143


def test_a_signal_tells_of_each_new_token(
    app: App, project: Project, run: Command, log: Path
) -> None:
    """Also of one that another process has renewed."""
    process = started(run, app, log, "--signal", "hup", child="well SIGHUP SIGTERM")
    due(project, app)
    until(lambda: lines(log).count("SIGHUP") == 1)
    assert run("token", "--force", app.name).code == 0
    until(lambda: lines(log).count("SIGHUP") == 2)
    process.terminate()
    assert wait(process).code == 3


@pytest.mark.parametrize("deaf", [False, True])
def test_a_restart_brings_each_new_token(
    app: App, project: Project, run: Command, log: Path, deaf: bool
) -> None:
    """The command ends by SIGTERM, or is killed if it does not; ours goes on."""
    child = f"{'deaf' if deaf else 'well'} SIGTERM"
    process = started(run, app, log, "--restart", child=child)
    due(project, app)
    until(lambda: sum(line.startswith("start") for line in lines(log)) == 2)
    second = project.token(app.name)["access_token"]
    _, token, _, pid = lines(log)[-1].split()
    assert token == second[-9:]
    os.kill(int(pid), signal.SIGKILL if deaf else signal.SIGTERM)
    assert wait(process).code == (137 if deaf else 3)


def test_what_is_told_to_end_is_not_started_anew(
    app: App, project: Project, run: Command, log: Path
) -> None:
    """Also in the middle of a restart: the command does not end at once, and is not replaced."""
    process = started(run, app, log, "--restart", child="deaf SIGTERM")
    due(project, app)
    until(lambda: "SIGTERM" in lines(log))
    process.terminate()
    assert wait(process).code == 137
    assert sum(line.startswith("start") for line in lines(log)) == 1


def test_a_renewal_that_fails_is_told_once_and_harms_no_command(
    app: App, project: Project, run: Command, log: Path
) -> None:
    """It goes on with the old token."""
    process = started(run, app, log, child="well SIGTERM")
    project.idp.inject(Fault("aadsts", code=7000215), times=None)
    due(project, app)
    until(lambda: len(project.idp.token_requests) > 1)
    time.sleep(0.3)
    process.terminate()
    ran = wait(process)
    assert ran.code == 3
    assert ran.stderr.count("was not renewed") == 1


def test_a_look_that_fails_as_nobody_foresaw_is_not_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason is told without the error's own words, which might hold a secret."""
    monkeypatch.setattr(supervising, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(supervising, "_AFTER_FAILURE", 0.01)
    old, new = (ValidToken({"access_token": each}, 0.0) for each in ("old", "new"))
    told: list[str] = []
    heard: list[ValidToken] = []

    class Source:
        def get(self, *_: object) -> ValidToken:
            if not told:
                raise ValueError("secret")
            return new

    source = cast("TokenSource", Source())
    supervising.keep_fresh(source, "ci", old, renewed=heard.append, warn=told.append)
    until(lambda: heard)
    assert heard == [new]
    assert told[0].startswith("ci: the token was not renewed: unexpected ValueError at ")
    assert "secret" not in told[0]


def test_a_command_that_is_not_there_is_127(app: App, run: Command) -> None:
    """As without --watch."""
    ran = run("exec", "--watch", app.name, "no-such-command")
    assert (ran.code, len(ran.stderr.splitlines())) == (127, 1)
