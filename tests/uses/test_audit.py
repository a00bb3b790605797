"""`--audit-file` and syslog: a line for each token that is handed out, and no token without it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from assistants.bench import Bench
from credentials_provider.errors import ConfigurationError, StorageError
from credentials_provider.run import audit as audit_module
from credentials_provider.run.access import ValidToken
from credentials_provider.run.audit import Audit
from credentials_provider.settings import Flags, load_settings
from support import PATIENCE, Command, assert_no_secret, environment, until, wait
from uses.test_endpoint import RESOURCE, Served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from credentials_provider import Credential
    from credentials_provider.emulator import App
    from support import Project

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs users and processes of POSIX")


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def lines(audit: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()]


def test_token_and_exec_leave_a_line_each(
    app: App, project: Project, run: Command, audit: Path
) -> None:
    """Who got whose token, when; for its owner alone, and without the token."""
    option = ("--audit-file", str(audit))
    assert run("token", *option, app.name).code == 0
    assert run("token", *option, "--no-store", app.name).code == 0
    shown = run("exec", *option, app.name, "/bin/sh", "-c", "echo $$")
    first, _, third = found = lines(audit)
    assert [each["command"] for each in found] == ["token", "token", "exec"]
    assert {each["event"] for each in found} == {"token"}
    assert {each["identity"] for each in found} == {app.name}
    assert {each["uid"] for each in found} == {os.getuid()}
    assert {each["parent_pid"] for each in found} == {os.getpid()}
    ps = ["ps", "-o", "comm=", "-p", str(os.getpid())]
    name = subprocess.run(ps, capture_output=True, text=True, check=True).stdout.strip()
    assert {each["parent"] for each in found} == {os.path.basename(name)}
    assert third["pid"] == int(shown.stdout)
    assert all(re.fullmatch(r"\d{4}-.*\+00:00", each["time"]) for each in found)
    assert first["expires_at"] == third["expires_at"] == project.token(app.name)["expires_at"]
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600
    text = audit.read_text(encoding="utf-8")
    assert_no_secret(text, [app])
    assert str(project.token(app.name)["access_token"]) not in text


def test_lines_of_many_processes_do_not_mix(app: App, run: Command, audit: Path) -> None:
    assert run("token", app.name).code == 0
    many = [run.start("token", "--audit-file", str(audit), app.name) for _ in range(8)]
    assert {wait(each).code for each in many} == {0}
    assert len({each["pid"] for each in lines(audit)}) == 8


def test_a_line_behind_one_that_a_full_disk_cut_begins_anew(
    app: App, project: Project, run: Command, audit: Path
) -> None:
    """The process whose line was cut hands nothing out; a limit of its file size fills the disk."""
    assert run("token", app.name).code == 0
    audit.write_text(json.dumps({"event": "x" * 400}) + "\n")
    limited = ["/bin/sh", "-c", 'ulimit -f 1; exec "$@"', "sh"]
    line = run.line("token", "--audit-file", str(audit), app.name)
    no_byte_code = {"PYTHONDONTWRITEBYTECODE": "1"}  # it would be cut, too
    ran = wait(run.start_line([*limited, *line], env=no_byte_code))
    assert (ran.code, ran.stdout) == (1, "")
    assert "only a part of it was written" in ran.stderr
    assert audit.stat().st_size == 512
    many = [run.start("token", "--audit-file", str(audit), app.name) for _ in range(8)]
    assert {wait(each).code for each in many} == {0}
    _, cut, *whole = audit.read_text(encoding="utf-8").splitlines()
    assert not cut.endswith("}")
    assert len({json.loads(each)["pid"] for each in whole}) == 8
    assert len(project.idp.token_requests) == 1


def test_many_that_find_a_cut_line_begin_anew_once(
    project: Project, audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks and writes by itself; no line is empty, none is behind another."""
    looked = threading.Semaphore(0)
    look = audit_module._is_cut

    def look_and_let_others_look(path: str) -> bool:
        """Who finds a cut line goes on when another has looked, if the lock lets one."""
        found = look(path)
        looked.release()
        if found:
            looked.acquire()
            looked.acquire(timeout=0.2)
        return found

    monkeypatch.setattr(audit_module, "_is_cut", look_and_let_others_look)

    def leave() -> None:
        for _ in range(10):
            audit_in(project, audit).record("ci", ACCESS)

    audit.write_text("cut")
    threads = [threading.Thread(target=leave) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    cut, *whole = audit.read_text(encoding="utf-8").split("\n")
    assert (cut, whole.pop()) == ("cut", "")
    assert [json.loads(each)["identity"] for each in whole] == ["ci"] * 80


def test_a_lock_that_somebody_keeps_is_told(
    project: Project, audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while; the token stays in its file."""
    monkeypatch.setattr("credentials_provider.run.audit._TIMEOUT", 0.02)
    writer = audit_in(project, audit)
    with audit.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(StorageError, match="another process keeps it locked"):
            writer.record("ci", ACCESS)
    writer.record("ci", ACCESS)
    assert len(lines(audit)) == 1


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may read everything")
def test_who_may_only_add_lines_adds_them(project: Project, audit: Path) -> None:
    audit.write_text("")
    audit.chmod(0o200)
    audit_in(project, audit).record("ci", ACCESS)
    audit.chmod(0o600)
    assert len(lines(audit)) == 1


def test_the_environment_asks_for_it_too(app: App, run: Command, audit: Path) -> None:
    """As an administrator sets it for everything that is started."""
    assert run("token", app.name, env={"CREDENTIALS_PROVIDER_AUDIT_FILE": str(audit)}).code == 0
    assert len(lines(audit)) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["token", "exec"])
def test_no_token_goes_out_without_its_line(
    app: App, project: Project, run: Command, command: str
) -> None:
    """The error says so; the token is in its file, and who asks again makes no new request."""
    line = () if command == "token" else ("/bin/sh", "-c", "echo $ACCESS_TOKEN")
    ran = run(command, "--audit-file", "/dev/full", app.name, *line)
    assert (ran.code, ran.stdout) == (1, "")
    assert "no token is handed out" in ran.stderr
    assert "No space left on device" in ran.stderr
    assert run(command, app.name, *line).stdout.strip() == project.token(app.name)["access_token"]
    assert len(project.idp.token_requests) == 1


def test_a_file_that_cannot_be_written_is_found_before_any_request(
    app: App, project: Project, run: Command, tmp_path: Path
) -> None:
    """Exit code 2: a folder, and a pipe that nobody reads."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (tmp_path, pipe, tmp_path / "nowhere" / "file"):
        ran = run("token", "--audit-file", str(place), app.name)
        assert (ran.code, ran.stdout) == (2, "")
        assert str(place) in ran.stderr
    assert project.idp.token_requests == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_file_of_somebody_else_s_is_not_written(app: App, run: Command, audit: Path) -> None:
    audit.write_text("")
    os.chown(audit, 12345, 12345)
    ran = run("token", "--audit-file", str(audit), app.name)
    assert (ran.code, ran.stdout) == (2, "")
    assert "12345" in ran.stderr


def test_the_endpoint_leaves_a_line_for_each_answer(app: App, run: Command, audit: Path) -> None:
    """None for a refusal; in a new file where logrotate has moved the old one away."""
    served = Served(run, "--audit-file", str(audit))
    assert served.ask().status == 200
    moved = audit.rename(audit.with_suffix(".1"))
    assert served.ask().status == 200
    assert served.ask(headers={"X-IDENTITY-HEADER": "wrong"}).status == 401
    served.stop()
    assert [each["command"] for each in lines(moved) + lines(audit)] == ["endpoint", "endpoint"]
    assert {each["identity"] for each in lines(audit)} == {app.name}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_the_endpoint_gives_no_token_without_its_line(app: App, run: Command) -> None:
    served = Served(run, "--audit-file", "/dev/full", app.name)
    reply = served.ask()
    assert reply.status == 500
    assert "audit line" in reply.document["message"]
    assert "access_token" not in reply.document
    assert "audit line" in served.stop()


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="needs SO_PEERCRED")
def test_a_unix_socket_tells_who_asks(
    app: App, run: Command, audit: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may have 100 characters
    served = Served(run, "--socket", str(tmp_path / "s"), "--audit-file", str(audit), app.name)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("s")
        target = f"/msi/token?api-version=2019-08-01&resource={RESOURCE}"
        head = (f"GET {target} HTTP/1.1", "Host: localhost", f"X-IDENTITY-HEADER: {served.header}")
        client.sendall("\r\n".join([*head, "\r\n"]).encode())
        assert client.recv(99).startswith(b"HTTP/1.1 200")
    served.stop()
    (line,) = lines(audit)
    assert (line["client_pid"], line["client_uid"]) == (os.getpid(), os.getuid())
    assert line["client"]


def test_the_bridge_leaves_a_line_for_each_new_token(
    app: App, project: Project, audit: Path
) -> None:
    """Not for each request."""
    bench = Bench(project, app)
    bench.start()
    try:
        process = subprocess.Popen(
            bench.line("--audit-file", str(audit)),
            cwd=project.folder,
            env=environment(project.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        for number in (1, 2):
            message = {"jsonrpc": "2.0", "id": number, "method": "ping"}
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            process.stdout.readline()
        process.communicate(timeout=PATIENCE)
    finally:
        bench.kill()
    (line,) = lines(audit)
    assert (line["command"], line["identity"]) == ("mcp-bridge", app.name)


def test_a_python_program_leaves_a_line_for_each_new_token(
    app: App, make: Callable[..., Credential], audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_PROVIDER_AUDIT_FILE", str(audit))
    credential = make(app.name)
    assert credential.token() == credential.token()
    (line,) = lines(audit)
    assert (line["command"], line["pid"]) == ("python", os.getpid())


def test_exec_watch_leaves_a_line_for_each_new_token(
    app: App, project: Project, run: Command, audit: Path
) -> None:
    process = run.start(
        *("exec", "--watch", "--audit-file", str(audit), app.name),
        *(sys.executable, "-c", "import time; time.sleep(60)"),
    )
    until(audit.exists)
    until(lambda: len(lines(audit)) == 1)
    assert run("token", "--force", app.name).code == 0
    until(lambda: len(lines(audit)) == 2, patience=2 * PATIENCE)
    process.send_signal(signal.SIGTERM)
    wait(process)
    assert {each["command"] for each in lines(audit)} == {"exec"}
    assert project.idp.token_requests


def test_an_assistant_s_configuration_takes_it_along(app: App, run: Command, audit: Path) -> None:
    ran = run(
        *("mcp-config", "claude-code", "--identity", app.name),
        *("--server", "x=https://server.example.com/mcp"),
        env={"CREDENTIALS_PROVIDER_AUDIT_FILE": str(audit)},
    )
    assert ran.code == 0, ran.stderr
    assert f'"--audit-file",\n        "{audit}"' in ran.stdout


# Syslog


def audit_in(project: Project, path: Path) -> Audit:
    flags = Flags(output_dir=project.output, audit_file=str(path))
    return Audit(load_settings(flags, {}, project.folder), "token")


def audit_to(project: Project, address: str) -> Audit:
    flags = Flags(output_dir=project.output, audit_syslog="yes")
    return Audit(load_settings(flags, {}, project.folder), "token", syslog=address)


ACCESS = ValidToken({"access_token": "a.b.c"}, 1_900_000_000.0)


def test_syslog_gets_the_line_in_its_own_form(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 3164: facility authpriv, severity info, the program and its process."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind("log")
        log.settimeout(PATIENCE)
        audit_to(project, "log").record("ci", ACCESS)
        said = log.recv(4096).decode()
    head, _, line = said.partition(": ")
    assert re.fullmatch(
        rf"<86>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d credentials-provider\[{os.getpid()}\]", head
    )
    assert json.loads(line)["identity"] == "ci"
    assert "a.b.c" not in said


def test_a_syslog_that_is_not_there_is_an_error(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, and later."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="syslog"):
        audit_to(project, "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind("log")
        audit = audit_to(project, "log")
    with pytest.raises(StorageError, match="no token is handed out"):
        audit.record("ci", ACCESS)
    monkeypatch.delattr(socket, "AF_UNIX")  # as on Windows
    with pytest.raises(ConfigurationError, match="syslog"):
        audit_to(project, "log")
