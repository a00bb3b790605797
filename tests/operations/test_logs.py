"""`--log-format json`: one line an event on stderr; priorities where stderr is the journal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.emulator import Fault
from support import (
    PATIENCE,
    Project,
    Ran,
    apps,
    assert_no_secret,
    closed_port,
    environment,
    until,
    wait,
)

if TYPE_CHECKING:
    from operations.running import Program


def events(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.stderr.splitlines()]


def test_each_renewal_and_the_run_are_an_event(project: Project, run: Program) -> None:
    project.add_all(apps(2))
    project.idp.inject(Fault("unavailable"), 1, apps(1)[0].client_id)
    ran = run("--log-format", "json")
    assert (ran.code, ran.stdout) == (0, "")
    *renewals, last = events(ran)
    found = {each["identity"]: each for each in renewals}
    assert found["ci-agent"]["attempts"] == 2
    assert found["ci-agent"]["duration"] > 0
    assert {each["outcome"] for each in renewals} == {"renewed"}
    assert (last["event"], last["exit_code"], last["renewed"]) == ("run", 0, 2)
    assert all(each["time"].endswith("+00:00") for each in events(ran))
    assert_no_secret(ran.stderr, apps(2))


def test_a_failure_is_an_event_with_kind_number_and_trace_id(
    project: Project, run: Program
) -> None:
    project.add_all(apps(1))
    project.idp.inject(Fault("aadsts", code=7000215), None)
    ran = run("--log-format=json", "--quiet")
    failure, last = events(ran)
    assert failure["level"] == "error"
    assert (failure["kind"], failure["aadsts"]) == ("rejected", 7000215)
    assert re.fullmatch(r"[0-9a-f-]{36}", failure["trace_id"])
    assert failure["remedy"]
    assert last["exit_code"] == ran.code == 1


def test_quiet_says_nothing_while_all_is_well(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    ran = run("--log-format", "json", "--quiet")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")


def test_a_configuration_that_cannot_be_used_is_events_too(project: Project, run: Program) -> None:
    project.write([{"identity_name": "ci"}])
    ran = run("--log-format", "json")
    assert ran.code == 2
    assert len(events(ran)) > 1
    assert {each["event"] for each in events(ran)} == {"error"}


def test_the_report_stays_the_one_document_on_stdout(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    ran = run("--log-format", "json", "--json")
    assert ran.json["summary"]["renewed"] == 1
    assert events(ran)[-1]["event"] == "run"


def test_under_systemd_each_line_has_its_priority(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    project.idp.inject(Fault("aadsts", code=7000215), None)
    path = os.path.join(project.folder, "journal")
    with open(path, "wb") as journal:
        found = os.fstat(journal.fileno())
        for options in ((), ("--log-format", "json")):
            subprocess.run(
                run.line(*options),
                cwd=project.folder,
                env=environment(
                    project.folder, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
                ),
                stderr=journal,
                stdout=subprocess.DEVNULL,
                timeout=PATIENCE,
                check=False,
            )
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert all(re.match(r"<[346]>", line) for line in lines)
    assert lines[0].startswith("<3>ci-agent: failed")
    assert any(line.startswith('<3>{"time"') for line in lines)


def test_elsewhere_no_line_has_one(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    project.idp.inject(Fault("aadsts", code=7000215), None)
    ran = run(env={"JOURNAL_STREAM": "1:1"})
    assert not re.search(r"^<\d>", ran.stderr, re.MULTILINE)


@pytest.mark.parametrize("form", ["text", "json"])
def test_vv_has_a_line_for_each_request(project: Project, run: Program, form: str) -> None:
    """Who asked with what, where, and what came; -v has none, and neither has a secret."""
    many, idp = apps(1), project.idp
    project.add_all(many)
    idp.inject(Fault("throttle", retry_after=1), 1)
    ran = run("-vv", "--log-format", form)
    assert ran.code == 0
    who = f"{many[0].name} (client_secret)"
    assert f"{who}: attempt 1 at localhost:{idp.port}: HTTP 429, Retry-After 1 s" in ran.stderr
    assert f"{who}: attempt 2 at localhost:{idp.port}: HTTP 200" in ran.stderr
    assert "next request in" in ran.stderr
    assert_no_secret(ran.stdout + ran.stderr, many)
    assert "attempt 1" not in run("-v", "--force", "--log-format", form).stderr
    if form == "json":
        assert [each["event"] for each in events(ran)].count("request") == 3


def test_every_event_says_where_it_comes_from(project: Project, run: Program) -> None:
    """Process, version, host and shard: to the last line of standard error."""
    project.add_all(apps(3))
    project.idp.inject(Fault("aadsts", code=7000215), 1)
    more = ("--shard", "0/1", "--on-renew", "echo done", "-vv")
    found = events(run("--log-format", "json", *more))
    assert {"renewal", "request", "hook", "hook_output", "run"} == {each["event"] for each in found}
    (process,) = {each["run"] for each in found}
    assert re.fullmatch("[0-9a-f]{8}", process)
    assert {each["shard"] for each in found} == {"0/1"}
    assert all(each["version"] and each["host"] for each in found)


def test_the_last_words_are_events_too(project: Project, run: Program) -> None:
    """A wrong option, and a signal."""
    (wrong,) = events(run("--log-format", "json", "--no-such-option"))
    assert (wrong["event"], wrong["level"]) == ("error", "error")
    assert "--no-such-option" in wrong["message"]
    project.add_all(apps(1))
    project.idp.inject(Fault("hang"), None)
    process = run.start("--log-format", "json")
    until(lambda: project.idp.token_requests)
    process.send_signal(signal.SIGTERM)
    ran = wait(process)
    assert ran.code == 143
    (stopped,) = events(ran)
    assert stopped["event"] == "stopped"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("token", "ci-agent"), 0),
        (("token", "nobody"), 2),
        (("token", "--scope", "x"), 2),
        (("exec", "ci-agent", "true"), 0),
        (("exec", "ci-agent", "no-such-command"), 127),
        (("exec", "ci-agent", "/"), 126),
    ],
)
def test_what_gives_a_token_says_all_as_events(
    project: Project, run: Program, command: tuple[str, ...], code: int
) -> None:
    """Renewals, warnings and errors; standard output is as ever."""
    project.add_all(apps(1))
    os.chmod(project.identities_file, 0o644)  # a warning
    name, *rest = command
    ran = run(name, "--log-format", "json", *rest)
    assert ran.code == code
    found = [each["event"] for each in events(ran)]
    if code != 2:
        assert found[:1] == ["warning"]
        assert "renewal" in found
    assert ("error" in found) is (code != 0)
    assert_no_secret(ran.stderr, apps(1))


def test_a_token_that_was_not_renewed_is_a_warning_with_its_cure(
    project: Project, run: Program
) -> None:
    project.add_all(apps(1))
    run()
    project.age("ci-agent", left=100)
    project.idp.inject(Fault("aadsts", code=7000222), None)
    ran = run("token", "--log-format", "json", "ci-agent")
    assert ran.code == 0
    *_, last = events(ran)
    assert (last["event"], last["level"]) == ("warning", "warning")
    assert "it was not renewed" in last["message"]
    assert "new client secret" in last["remedy"]


def test_the_bridge_speaks_in_events(project: Project, run: Program) -> None:
    """Its renewal, and the server that is not there."""
    project.add_all(apps(1))
    line = run.line("mcp-bridge", "--identity", "ci-agent", "--log-format", "json")
    process = subprocess.Popen(
        [*line, f"http://127.0.0.1:{closed_port()}/mcp"],
        cwd=project.folder,
        env=environment(project.folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    out, err = process.communicate(timeout=PATIENCE)
    assert "error" in json.loads(answer)
    found = [json.loads(text) for text in err.splitlines()]
    assert {"renewal", "bridge"} <= {each["event"] for each in found}
    assert any("refused the connection" in each.get("message", "") for each in found)
    assert_no_secret(out + err, apps(1))


def test_serve_speaks_in_events(project: Project, run: Program) -> None:
    """Where it is, and its last words."""
    project.add_all(apps(1))
    path = Path(project.folder, "stderr")
    with path.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            run.line("serve", "--log-format", "json"),
            cwd=project.folder,
            env=environment(project.folder),
            stderr=file,
        )
    until(lambda: "set -a" in path.read_text(encoding="utf-8"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 143
    found = [json.loads(line)["event"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert found == ["service", "service", "stopped"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_standard_output_that_is_full_is_an_event(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            run.line("--json", "--log-format", "json"),
            cwd=project.folder,
            env=environment(project.folder),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    *_, last = [json.loads(text) for text in done.stderr.splitlines()]
    assert last["event"] == "warning"
    assert "standard output cannot be written" in last["message"]
