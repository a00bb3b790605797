"""`status` as people and monitors run it: a process, a terminal, a clock's time budget."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from credentials_provider.emulator import Fault
from support import PATIENCE, Project, apps, assert_no_secret, entry, environment, renew, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from operations.running import Program


def test_the_table_has_a_line_for_each_identity_what_dies_first_on_top(
    project: Project, run: Program
) -> None:
    project.add_all(apps(3))
    run()
    project.age("billing-agent", left=600)
    ran = run("status")
    lines = ran.stdout.splitlines()
    assert ran.code == 0
    assert ran.stderr == ""
    assert {line.split()[0] for line in lines[1:4]} == {app.name for app in apps(3)}
    assert re.search(r"billing-agent +due +\S+ +(9|10) min +.*\d\d:\d\d UTC", lines[1])
    assert "first token to expire would be that of billing-agent" in ran.stdout
    assert_no_secret(ran.stdout, apps(3))


def test_a_failure_is_shown_with_its_code_and_explained_with_its_cure(
    project: Project, run: Program
) -> None:
    project.add_all(apps(2))
    run()
    project.age("ci-agent", left=900)
    project.idp.inject(Fault("aadsts", code=7000222), None)
    assert run("--refresh-ahead").code == 78
    table = run("status")
    assert table.code == 78
    assert "ci-agent: the renewal is refused, and trying again does not help" in table.stdout
    assert "the client secret has expired (AADSTS7000222)" in table.stdout
    told = run("status", "ci-agent").stdout
    for words in ("Due, because its time to renew has come", "Cure: Create a new", "Trace ID"):
        assert words in told
    document = run("status", "--json").json
    first = document["identities"][0]
    assert (first["identity_name"], first["state"], first["serves"]) == (
        "ci-agent",
        "refused",
        True,
    )
    assert first["last_failure"]["aadsts"] == 7000222
    assert document["outage"]["identity_name"] == "ci-agent"
    assert document["exit_code"] == 78
    assert run("status", "--any").code == 0


def test_one_identity_is_explained_with_the_numbers_of_the_formula(
    project: Project, run: Program
) -> None:
    project.add(apps(1)[0])
    project.idp.inject(Fault("short_life", expires_in=3600))
    run()
    told = run("status", "ci-agent").stdout
    assert "is valid for 1 h 0 min in all" in told
    assert re.search(r"renewed 2[0-3] min before its end: after two thirds of its life", told)
    assert "(20 min)" in told
    found = re.search(
        r"renewed (\d+) min before .*\((\d+) min\), and (\d+)(?: min| s) earlier", told
    )
    assert found is not None
    lead, base, spread = map(int, found.groups())
    assert lead == base + spread
    assert "Not due: its time comes at" in told


def test_what_the_provider_itself_asked_for_is_said_so(project: Project, run: Program) -> None:
    project.add(apps(1)[0])
    project.idp.inject(Fault("refresh_in", value=1200))
    run()
    told = run("status", "ci-agent").stdout
    assert "Entra ID itself asked for a renewal" in told
    assert "after two thirds" not in told


def test_without_a_token_the_exit_code_is_1_and_without_identities_2(
    project: Project, run: Program
) -> None:
    assert run("status").code == 2
    project.add(apps(1)[0])
    ran = run("status")
    assert (ran.code, ran.stdout.splitlines()[1].split()) == (1, ["ci-agent", "missing"])


def test_prune_asks_first_and_without_a_terminal_wants_to_be_told(
    project: Project, run: Program
) -> None:
    project.add_all(apps(2))
    run()
    project.write(project.entries()[:1])
    assert "a token whose identity is gone" in run("status").stdout
    refused = run("status", "--prune")
    assert refused.code == 2
    assert "--yes" in refused.stderr
    assert os.path.exists(project.path("billing-agent"))
    pruned = run("status", "--prune", "--yes")
    assert (pruned.code, pruned.last_line) == (0, "Removed 1 token file")
    assert not os.path.exists(project.path("billing-agent"))
    assert os.path.exists(project.path("ci-agent"))


def test_prune_on_a_terminal_removes_nothing_when_the_answer_is_no(
    project: Project, run: Program
) -> None:
    project.add_all(apps(2))
    run()
    project.write(project.entries()[:1])
    with Terminal(run.line("status", "--prune"), project.folder) as terminal:
        terminal.read_until("Remove them?")
        terminal.type("n\n")
        assert terminal.end() == 0
    assert os.path.exists(project.path("billing-agent"))


def test_watch_redraws_in_place_and_follows_the_files(project: Project, run: Program) -> None:
    project.add(apps(1)[0])
    with Terminal(run.line("status", "--watch"), project.folder) as terminal:
        terminal.read_until("missing")
        run()
        seen = terminal.read_until("fresh")
        assert "\x1b[H" in seen  # home, then drawn over
        assert "\x1b[2J" not in seen  # never blanked: nothing flickers
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert "\x1b[?1049l" in terminal.seen  # the screen that was there is back


def test_tokens_of_another_login_host_are_told_with_the_option_that_is_missing(
    project: Project, run: Program
) -> None:
    project.add_all(apps(2))
    run()
    ran = run("status", "--login-base-url", "https://login.microsoftonline.com")
    assert ran.code == 1
    assert ": the token was requested by another entry or at another login host" in ran.stdout
    assert "--login-base-url or --cloud" in ran.stdout


def test_watch_without_a_terminal_is_refused(project: Project, run: Program) -> None:
    project.add(apps(1)[0])
    assert run("status", "--watch").code == 2


def test_long_failures_are_cut_to_the_terminals_width(project: Project, run: Program) -> None:
    project.add(apps(1)[0])
    project.idp.inject(Fault("aadsts", code=7000215), None)
    run()
    with Terminal(run.line("status"), project.folder) as terminal:
        assert terminal.end() == 1
        lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.seen).splitlines()
    assert max(map(len, lines[:2])) <= 80
    assert lines[1].endswith("…")


def test_a_narrow_terminal_goes_without_the_bar(project: Project, run: Program) -> None:
    """Times stay, and every line fits; titles stand above what they are of."""
    app = apps(1)[0]
    project.add(replace(app, name="an-identity-with-a-long-name"))
    renew(project)
    with Terminal(run.line("status"), project.folder, columns=60) as terminal:
        assert terminal.end() == 0
        title, row = re.sub(r"\x1b\[[0-9;]*m", "", terminal.seen).splitlines()[:2]
    assert max(len(title), len(row)) <= 60
    assert "█" not in row
    assert title.index("EXPIRES") == row.index(":") - 2


@pytest.mark.parametrize(
    ("command", "code"),
    [("generate", 2), ("doctor", 2), ("inspect ci-agent --login-base-url https://other", 0)],
)
def test_a_message_breaks_no_word_at_a_narrow_terminals_edge(
    project: Project, run: Program, command: str, code: int
) -> None:
    """A line is longer than the terminal only where it is one word, or a label and one."""
    project.add(apps(1)[0])
    renew(project)
    if code == 2:
        project.write([{"identity_name": "ci", "tenant_id": "common", "client_secert": "x"}])
    with Terminal(run.line(*command.split()), project.folder, columns=60) as terminal:
        assert terminal.end() == code
        lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.seen).splitlines()
    assert len(lines) > 5
    assert [line for line in lines if len(line) > 60 and re.search(r"\S \S", line)] == []


def test_an_entry_with_a_mistake_is_shown_with_it_and_with_what_its_token_is_good_for(
    project: Project, run: Program
) -> None:
    """The others are as they were; nobody is told that there is nothing."""
    project.add_all(apps(2))
    run()
    entries = project.entries()
    entries[0]["cloud"] = "mars"
    project.write(entries)
    ran = run("status")
    assert ran.code == 78
    assert re.search(r"^ci-agent +invalid .*cloud: ", ran.stdout, re.MULTILINE)
    assert re.search(r"^billing-agent +fresh", ran.stdout, re.MULTILINE)
    told = run("status", "ci-agent").stdout
    assert "Mistake in its entry: cloud: " in told
    assert "It expires at" in told
    rows = {each["identity_name"]: each for each in run("status", "--json").json["identities"]}
    assert (rows["ci-agent"]["state"], rows["ci-agent"]["serves"]) == ("invalid", True)
    assert rows["ci-agent"]["problems"]
    os.unlink(project.path("ci-agent"))
    assert run("status").code == 1
    assert run("status", "--any").code == 0
    assert run("status", "ci-agent", "--any").code == 1


def test_a_probe_waits_for_the_sinks_too(project: Project, run: Program) -> None:
    """Who reads one would start without it."""
    (app,) = apps(1)
    project.add(app, sinks=[{"path": "out", "format": "raw"}])
    assert run().code == 0
    assert run("status", "--any").code == 0
    os.unlink(os.path.join(project.output, "out"))
    assert run("status", "--any").code == 1


def test_of_many_identities_the_worst_are_shown_and_the_rest_counted(
    project: Project, run: Program
) -> None:
    """All of them on request, and for programs."""
    project.write([entry(app) for app in apps(70)])
    ran = run("status")
    assert len(ran.stdout.splitlines()) < 60
    assert "… 20 more: 20 missing (--all shows them)" in ran.stdout
    assert "70 in all: 70 missing" in ran.stdout
    assert run("status", "--all").stdout.count(" missing") >= 70
    assert len(run("status", "--json").json["identities"]) == 70
    with Terminal(run.line("status", "--watch"), project.folder) as terminal:
        seen = terminal.read_until("70 in all")
        assert " more: " in seen
        assert seen.count("\n") < 24


@pytest.mark.parametrize(
    ("columns", "lines", "more"), [(80, 12, True), (80, 8, True), (60, 6, True), (60, 5, False)]
)
def test_watch_keeps_the_outage_on_a_small_terminal(
    project: Project, run: Program, columns: int, lines: int, more: bool
) -> None:
    """To its last word; how many there are, and how many more where rows are shown."""
    project.add_all(apps(30))
    assert run().code == 0
    with Terminal(run.line("status", "--watch"), project.folder, columns, lines) as terminal:
        seen = " ".join(re.sub(r"\x1b\[\S*?[A-Za-z]", "", terminal.read_until("tries.")).split())
    assert "30 in all: 30 fresh" in seen
    assert ("more: " in seen) is more
    assert re.search(r"If Entra ID became unreachable .* that leaves \d+ tries\.", seen)


def test_a_hook_that_failed_is_shown(project: Project, run: Program) -> None:
    """It stays pending, and the tokens look all right."""
    project.add(apps(1)[0])
    run("--on-renew", "exit 3")
    ran = run("status")
    assert "warning: --on-renew failed at" in ran.stdout
    assert run("status", "--json").json["hook"]["message"]


def test_times_are_local_unless_utc_is_asked_for(project: Project, run: Program) -> None:
    """With the zone beside them, in `inspect` as well."""
    project.add(apps(1)[0])
    run()
    zone = {"TZ": "Asia/Kolkata"}
    for command in (("status",), ("status", "ci-agent"), ("inspect", "ci-agent")):
        assert re.search(r"\d\d:\d\d IST", run(*command, env=zone).stdout)
        told = run(*command, "--utc", env=zone).stdout
        assert re.search(r"\d\d:\d\d UTC", told)
        assert "IST" not in told


def test_status_is_instant_it_loads_no_heavy_module(project: Project, run: Program) -> None:
    project.add_all(apps(8))
    run()
    probe = (
        "import sys; from credentials_provider.cli import group; "
        "group.main(['status', *sys.argv[1:]], standalone_mode=False, obj=''); "
        "print(*sys.modules, file=sys.stderr)"
    )
    line = [sys.executable, "-c", probe, *run.line("status")[4:]]
    ran = subprocess.run(
        line,
        cwd=project.folder,
        env=environment(project.folder),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    loaded = set(ran.stderr.split())
    heavy = {"msal", "pydantic", "urllib3", "tenacity", "rich", "filelock", "ssl"}
    assert "credentials_provider.diagnostics.status" in loaded
    assert not heavy & loaded


def test_status_reads_while_a_run_holds_the_lock(project: Project, run: Program) -> None:
    from credentials_provider.tokens.store import TokenStore

    project.add(apps(1)[0])
    run()
    with TokenStore(project.output).lock(1):
        assert run("status").code == 0
    assert json.loads(run("status", "--json").stdout)["version"] == 1


class Terminal:
    """A process on a pseudo-terminal."""

    def __init__(self, line: list[str], folder: str, columns: int = 80, lines: int = 24) -> None:
        import fcntl
        import struct
        import termios

        self.seen = ""
        self._here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            line,
            cwd=folder,
            env=environment(folder, {"TERM": "xterm"}),
            stdin=there,
            stdout=there,
            stderr=there,
            start_new_session=True,
        )
        os.close(there)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._here)

    def type(self, text: str) -> None:
        os.write(self._here, text.encode())

    def read_until(self, text: str) -> str:
        """What came since the last call, up to the text and whatever came with it."""
        begin = len(self.seen)
        self._read(lambda: text in self.seen[begin:])
        assert text in self.seen[begin:], self.seen
        return self.seen[begin:]

    def end(self) -> int:
        """The exit code, once it has ended."""
        self._read(lambda: False)
        until(lambda: self.process.poll() is not None)
        return self.process.returncode

    def _read(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not done() and time.monotonic() < end:
            if not select.select([self._here], [], [], 0.05)[0]:
                continue
            try:
                data = os.read(self._here, 1 << 16)
            except OSError:  # Linux says so when the last one at the other side has gone
                return
            if not data:
                return
            self.seen += data.decode(errors="replace")


def test_the_end_of_a_secret_is_warned_of_explained_and_there_for_programs(
    project: Project, run: Program
) -> None:
    """With what rotates it: the job of this machine, or the command."""
    soon, late, machine = apps(3)
    for app in (soon, late):
        project.idp.add_app(app)
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 10.5 * 86400))
    project.write(
        [
            entry(soon, client_secret_expires_on=day),
            entry(late, client_secret_expires_on="2099-12-31"),
            entry(machine, client_secret=None, managed_identity=True),
        ]
    )
    project.private("crontab", "#!/bin/sh\necho '1 2 * * * credentials-provider $WORDS'\n")
    os.chmod(os.path.join(project.folder, "crontab"), 0o700)
    path = {"PATH": f"{project.folder}:/usr/bin:/bin"}
    table = run("status", env=path).stdout
    assert f"{soon.name}: its client secret expires on {day}, in 10 days" in " ".join(table.split())
    assert f"identities rotate {soon.name}" in table
    assert "2099" not in table
    told = run("status", late.name, env=path).stdout
    assert "  Its client secret expires on 2099-12-31" in told
    assert f"rotate it by hand: `credentials-provider identities rotate {late.name}" in told
    text = "#!/bin/sh\necho '1 2 * * * credentials-provider identities rotate --all'\n"
    project.private("crontab", text)
    os.chmod(os.path.join(project.folder, "crontab"), 0o700)
    assert run("status", soon.name, env=path).stdout.count("a line in the crontab rotates it") == 1
    document = run("status", "--json", env=path).json["identities"]
    keys = ("credential", "credential_expires_on", "credential_rotated_by")
    assert {each["identity_name"]: tuple(each[key] for key in keys) for each in document} == {
        soon.name: ("client_secret", day, "a line in the crontab"),
        late.name: ("client_secret", "2099-12-31", "a line in the crontab"),
        machine.name: (None, None, None),
    }
    assert_no_secret(table + told, [soon, late])


def test_of_many_secrets_that_end_soon_the_first_are_named(project: Project, run: Program) -> None:
    many = apps(5)
    days = [time.strftime("%Y-%m-%d", time.gmtime(time.time() + n * 86400)) for n in range(1, 6)]
    project.write(
        [entry(app, client_secret_expires_on=day) for app, day in zip(many, days, strict=True)]
    )
    table = run("status").stdout
    assert table.count("its client secret expires on") == 3
    assert days[0] in table
    assert "2 more credentials expire soon" in table
