"""Many at once on one folder: one request an identity, nothing torn, nobody waits for ever."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
import time
from typing import TYPE_CHECKING

import pytest

from support import Command, Project, apps, until, wait

from .test_kills import LOCK, leftovers
from .tracing import attached, caught, tracing

if TYPE_CHECKING:
    from credentials_provider.emulator import Emulator

    from .tracing import Held

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and modes are POSIX's")


class Reader(threading.Thread):
    """Reads every token file all the time; keeps what no reader should see."""

    def __init__(self, project: Project, names: list[str]) -> None:
        super().__init__(daemon=True)
        self._project = project
        self._names = names
        self._ended = threading.Event()
        self.seen: dict[str, set[str]] = {name: set() for name in names}
        self.wrong: list[str] = []
        self.reads = 0

    def run(self) -> None:
        while not self._ended.is_set():
            for name in self._names:
                try:
                    token = self._project.token(name)
                    self.seen[name].add(token["access_token"])
                    assert token["tokens"]["access_token"] == token["access_token"]
                    assert token["identity_name"] == name
                except (OSError, ValueError, KeyError, AssertionError) as error:
                    self.wrong.append(f"{name}: {error!r}")
                self.reads += 1
            for name in os.listdir(self._project.output):
                try:
                    mode = os.lstat(os.path.join(self._project.output, name)).st_mode
                except OSError:
                    continue
                if stat.S_IMODE(mode) & 0o077:
                    self.wrong.append(f"{name}: {mode:o}")

    def end(self) -> None:
        self._ended.set()
        self.join()


def test_twenty_runs_among_readers(project: Project, run: Command, idp: Emulator) -> None:
    """Twenty runs at once ask once for each identity; readers see old or new, whole and private."""
    many = apps(4)
    project.add_all(many)
    assert run().code == 0
    for app in many:
        project.age(app.name, left=120)
    asked = len(idp.requests)
    reader = Reader(project, [app.name for app in many])
    reader.start()

    line = ["sh", "-c", 'umask 000; exec "$@"', "sh", *run.line("--refresh-ahead", "--json")]
    runs = [wait(each) for each in [run.start_line(line) for _ in range(20)]]
    reader.end()

    assert [each.code for each in runs] == [0] * 20
    assert len(idp.requests) - asked == len(many)
    renewed = [r for each in runs for r in each.json["results"] if r["outcome"] == "renewed"]
    assert len(renewed) == len(many)
    assert reader.wrong == []
    assert {len(tokens) for tokens in reader.seen.values()} == {2}
    assert reader.reads > 40
    assert leftovers(project) == []


def test_a_stopped_holder_of_the_lock_holds_up_nobody_for_long(
    held_project: Project, held_run: Command, held: Held
) -> None:
    """While a run sleeps with the lock, others end with 75 after --lock-timeout, tokens served."""
    many = apps(2)
    held_project.add_all(many)
    assert held_run().code == 0
    for app in many:
        held_project.age(app.name, left=600)
    before = held_project.files()
    held.hold()
    holder = held_run.start("--refresh-ahead")
    until(lambda: held.waiting)
    holder.send_signal(signal.SIGSTOP)
    asked = len(held.requests)

    began = time.monotonic()
    others = [held_run.start("--refresh-ahead", "--lock-timeout", "1", "--json") for _ in range(3)]
    ended = [wait(each) for each in others]

    assert 1 <= time.monotonic() - began < 20
    for ran in ended:
        assert ran.code == 75
        for result in ran.json["results"]:
            assert (result["outcome"], result["error"]["kind"]) == ("kept", "storage")
            assert "another run" in result["error"]["message"]
            assert "stopped process" in result["error"]["remedy"]
    assert (held_project.files(), len(held.requests)) == (before, asked)

    holder.send_signal(signal.SIGCONT)
    held.go.set()
    assert wait(holder).code == 0
    assert held_run("--refresh-ahead").code == 0
    assert all(held_project.files()[name] != before[name] for name in before)


@tracing
@pytest.mark.parametrize("call", ["write", "fsync", "renameat"])
def test_a_run_stopped_within_a_write_shows_the_old_file(
    held_project: Project, held_run: Command, held: Held, call: str
) -> None:
    """Between first byte and rename readers have the old token, and what is new is private."""
    (app,) = many = apps(1)
    held_project.add_all(many)
    assert held_run().code == 0
    held_project.age(app.name, left=600)
    before = held_project.files()[f"{app.name}.json"]
    held.hold()
    run = caught(held_run, held, "--refresh-ahead")
    # Stopped on the way out of the system call; one before the rename it has not happened yet.
    at = {"renameat": "close"}.get(call, call)
    with attached(
        run.worker, "-e", f"trace={at}", "-e", f"inject={at}:signal=SIGSTOP:when=1"
    ) as log:
        held.go.set()
        until(lambda: _says_stopped(log))
        assert held_project.files()[f"{app.name}.json"] == before
        (temporary,) = leftovers(held_project)
        mode = os.stat(os.path.join(held_project.output, temporary)).st_mode
        assert stat.S_IMODE(mode) == 0o600
        other = held_run("--refresh-ahead", "--lock-timeout", "0")
        assert other.code == 75
        assert leftovers(held_project) == [temporary]  # who works is not swept away
        run.process.send_signal(signal.SIGCONT)
        assert wait(run.process).code == 0

    assert held_project.files()[f"{app.name}.json"] != before
    assert leftovers(held_project) == []


def _says_stopped(log: str) -> bool:
    with open(log, encoding="utf-8", errors="replace") as file:
        return "stopped by SIGSTOP" in file.read()


def test_a_lock_file_of_a_dead_run_is_no_lock(project: Project, run: Command) -> None:
    """Whatever a lock file says, only a living process can hold it."""
    (app,) = apps(1)
    project.add(app)
    project.private(os.path.join(project.output, LOCK), json.dumps({"pid": 1, "host": "elsewhere"}))

    assert run("--lock-timeout", "0").code == 0


def test_a_lock_file_that_is_deleted_while_it_is_held_lets_nobody_in(
    held_project: Project, held_run: Command, held: Held
) -> None:
    """The second run waits, and asks for and sweeps nothing; the first one notices and tells."""
    many = apps(3)
    held_project.add_all(many)
    held.hold()
    first = held_run.start("--refresh-ahead", "--json")
    until(lambda: held.waiting == len(many))
    os.unlink(os.path.join(held_project.output, LOCK))
    impatient = held_run("--refresh-ahead", "--lock-timeout", "0.1", "--json")
    second = held_run.start("--refresh-ahead", "--json")
    until(lambda: os.path.exists(os.path.join(held_project.output, LOCK)))
    held.go.set()
    ended = [wait(first), wait(second)]

    assert impatient.code == 1
    assert {each["error"]["kind"] for each in impatient.json["results"]} == {"storage"}
    assert "its lock file was deleted" in impatient.stdout
    assert [ran.code for ran in ended] == [0, 0]
    assert [{each["outcome"] for each in ran.json["results"]} for ran in ended] == [
        {"renewed"},
        {"fresh"},
    ]
    assert "was deleted during this run" in ended[0].stderr
    assert "deleted" not in ended[1].stderr
    assert len(held.requests) == len(many)
    assert leftovers(held_project) == []


@tracing
def test_where_no_folder_can_be_locked_two_runs_lose_no_token(
    held_project: Project, held_run: Command, held: Held
) -> None:
    """NFS: the second run leaves what the first one is writing, and both end well."""
    (app,) = many = apps(1)
    held_project.add_all(many)
    held.hold()
    run = caught(held_run, held, "--json")
    with attached(
        run.worker, "-e", "trace=fsync", "-e", "inject=fsync:signal=SIGSTOP:when=1"
    ) as log:
        held.go.set()
        until(lambda: _says_stopped(log))
        os.unlink(os.path.join(held_project.output, LOCK))
        unlockable = ["strace", "-qq", "-f", "-o", os.devnull, "-P", held_project.output]
        unlockable += ["-e", "trace=flock", "-e", "inject=flock:error=EBADF"]
        line = held_run.line("--force", "--lock-timeout", "0", "--json")
        second = wait(held_run.start_line([*unlockable, *line]))
        assert (second.code, second.results[app.name]["outcome"]) == (0, "renewed")
        assert len(leftovers(held_project)) == 1
        run.process.send_signal(signal.SIGCONT)
        first = wait(run.process)

    assert (first.code, first.results[app.name]["outcome"]) == (0, "renewed")
    assert "was deleted during this run" in first.stderr
    assert held_project.token(app.name)["access_token"].count(".") == 2
    assert leftovers(held_project) == []
