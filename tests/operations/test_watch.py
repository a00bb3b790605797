"""`watch` as systemd and a container run it: a process, a notify socket, signals, probes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.emulator import Fault
from support import PATIENCE, Project, apps, assert_no_secret, closed_port, until, wait

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from operations.running import Program

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


class Systemd:
    """The socket that a service tells how it is."""

    def __init__(self, folder: str) -> None:
        # A socket's path may have 100 characters, and pytest's folders have more on some systems.
        self._folder = folder
        self.address = os.path.join(folder, "notify")
        here = os.getcwd()
        os.chdir(folder)
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind("notify")
        finally:
            os.chdir(here)
        self._socket.settimeout(PATIENCE)
        self.said: list[str] = []

    def wait_for(self, start: str) -> None:
        """Until it has said something that begins like this."""
        while not any(line.startswith(start) for line in self.said):
            self.said += self._socket.recv(1 << 12).decode().splitlines()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(project: Project) -> Iterator[Systemd]:
    made = Systemd(project.folder)
    yield made
    made.close()


@contextlib.contextmanager
def watching(run: Program, *options: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The service; killed if the test did not end it."""
    process = run.start("watch", *options, env=env)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            wait(process)


def test_it_is_ready_after_its_first_pass_and_stops_in_order(
    project: Project, run: Program, systemd: Systemd
) -> None:
    project.add_all(apps(2))
    with watching(run, NOTIFY_SOCKET="notify") as process:
        systemd.wait_for("READY=1")
        assert os.path.exists(project.path("ci-agent"))
        assert any(line.startswith("STATUS=2 good") for line in systemd.said)
        process.send_signal(signal.SIGTERM)
        systemd.wait_for("STOPPING=1")
        ran = wait(process)
    assert ran.code == 143
    assert "Tokens saved: 2 renewed" in ran.stdout
    assert_no_secret(ran.stdout + ran.stderr, apps(2))


def test_a_hang_up_makes_it_read_everything_anew(
    project: Project, run: Program, systemd: Systemd
) -> None:
    project.add_all(apps(1))
    with watching(run, NOTIFY_SOCKET="notify") as process:
        systemd.wait_for("READY=1")
        os.unlink(project.path("ci-agent"))
        systemd.said.clear()
        process.send_signal(signal.SIGHUP)
        systemd.wait_for("READY=1")
        assert systemd.said[0] == "RELOADING=1"
        assert systemd.said[1].startswith("MONOTONIC_USEC=")
        until(lambda: os.path.exists(project.path("ci-agent")))


def test_a_changed_identities_file_is_noticed(
    project: Project, run: Program, systemd: Systemd
) -> None:
    project.add_all(apps(1))
    with watching(run, NOTIFY_SOCKET="notify"):
        systemd.wait_for("READY=1")
        project.add(apps(2)[1])
        until(lambda: os.path.exists(project.path("billing-agent")))


def test_the_watchdog_is_fed(project: Project, run: Program, systemd: Systemd) -> None:
    project.add_all(apps(1))
    with watching(run, NOTIFY_SOCKET="notify", WATCHDOG_USEC="400000"):
        systemd.wait_for("READY=1")
        for _ in range(3):
            systemd.said.clear()
            systemd.wait_for("WATCHDOG=1")


def test_it_renews_a_token_when_its_time_comes(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    project.idp.inject(Fault("short_life", expires_in=8))
    with watching(run):
        until(lambda: len(project.idp.token_requests) == 2)
        until(lambda: project.token("ci-agent")["expires_in"] > 8)


def test_a_broken_start_is_exit_2(project: Project, run: Program) -> None:
    project.write("{")
    assert run("watch").code == 2


def test_a_provider_that_is_down_does_not_end_it(
    project: Project, run: Program, systemd: Systemd
) -> None:
    project.add_all(apps(1))
    project.idp.close()
    options = ("--max-attempts", "1", "--log-format", "json")
    with watching(run, *options, NOTIFY_SOCKET="notify") as process:
        systemd.wait_for("READY=1")
        project.idp.start()
        process.send_signal(signal.SIGHUP)
        systemd.wait_for("STATUS=1 good")
        process.send_signal(signal.SIGTERM)
        ran = wait(process)
    events = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    outcomes = [each["outcome"] for each in events if each["event"] == "renewal"]
    assert outcomes == ["failed", "renewed"]


def ask(port: int) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def answers(port: int, status: int) -> bool:
    try:
        return ask(port)[0] == status
    except OSError:
        return False


def test_the_health_port_says_whether_every_token_serves(project: Project, run: Program) -> None:
    project.add_all(apps(2))
    project.idp.inject(Fault("aadsts", code=7000222), None, apps(2)[1].client_id)
    port = closed_port()
    with watching(run, "--health-port", str(port)):
        until(lambda: answers(port, 503) and os.path.exists(project.path("ci-agent")))
        assert ask(port)[1]["without_token"] == ["billing-agent"]
        project.idp.clear_faults()
        os.utime(project.identities_file)
        until(lambda: answers(port, 200))
        assert ask(port)[1]["identities"] == 2


def test_a_health_port_that_is_taken_is_exit_2(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert run("watch", "--health-port", str(taken.getsockname()[1])).code == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_it_sleeps_while_there_is_nothing_to_do(
    project: Project, run: Program, systemd: Systemd
) -> None:
    project.add_all(apps(1))
    with watching(run, NOTIFY_SOCKET="notify") as process:
        systemd.wait_for("READY=1")
        before = _cpu(process.pid)
        time.sleep(1)
        assert _cpu(process.pid) - before <= 5  # hundredths of a second


def _cpu(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_file_that_breaks_is_told_and_the_one_of_before_is_used(
    project: Project, run: Program, systemd: Systemd
) -> None:
    """In the log, to systemd and in the health answer, which stays good: the tokens are valid."""
    project.add_all(apps(2))
    port = closed_port()
    with watching(run, "--health-port", str(port), NOTIFY_SOCKET="notify") as process:
        systemd.wait_for("READY=1")
        project.write("{")
        assert ask(port)[0] == 200
        until(lambda: "error" in ask(port)[1])
        status, document = ask(port)
        process.send_signal(signal.SIGTERM)
        ran = wait(process)
    assert (status, document["without_token"]) == (200, [])
    assert "is not valid JSON" in document["error"]
    assert "the identities file of before is used" in ran.stderr
