"""What renews the tokens here is found whatever its name; another program's does not count."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from credentials_provider.schedule.found import Timer, timers

if TYPE_CHECKING:
    from pathlib import Path


class Machine:
    """A PATH with a systemctl and a crontab that answer as they are told, and unit folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "checkout-100%"
        self.root.mkdir()
        self.script = self.root / "generate_creds.sh"
        self.script.touch()
        self.units = folder / "config" / "systemd" / "user"
        self.units.mkdir(parents=True)
        self.process = {"PATH": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}

    def command(self, name: str, output: str) -> None:
        path = self.folder / name
        path.write_text(
            f"#!/bin/sh\ncase $* in *--user*|-l) ;; *) exit ;; esac\ncat <<'EOF'\n{output}\nEOF\n"
        )
        path.chmod(0o755)

    def unit(self, name: str, command: str, **states: str) -> None:
        escaped = command.replace("%", "%%")
        (self.units / f"{name}.service").write_text(f"[Service]\nExecStart={escaped}\n")
        self.command("systemctl", "\n\n".join(states.values()))

    def found(self) -> list[Timer]:
        return timers(self.process, str(self.root))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", made.process["XDG_CONFIG_HOME"])
    made.process["PATH"] += os.pathsep + "/bin" + os.pathsep + "/usr/bin"
    made.command("systemctl", "")
    made.command("crontab", "")
    return made


def states(name: str, *, active: str = "active", result: str = "success", status: int = 0) -> str:
    """What `systemctl show` says about a timer and its service."""
    return (
        f"Id={name}.timer\nLoadState=loaded\nActiveState={active}\n\n"
        f"Id={name}.service\nLoadState=loaded\nActiveState=inactive\n"
        f"Result={result}\nExecMainStatus={status}"
    )


def test_a_timer_is_found_by_what_it_starts_not_by_its_name(machine: Machine) -> None:
    """As `schedule --name` makes them."""
    machine.unit("fleet-7", f"{machine.script} --refresh-ahead", both=states("fleet-7"))
    assert machine.found() == [Timer("the user's fleet-7.timer")]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"active": "inactive"}, "it is not active"),
        ({"result": "exit-code", "status": 226}, "226/NAMESPACE"),
        ({"result": "exit-code", "status": 217}, "217/USER"),
        ({"result": "exit-code", "status": 78}, "exit code 78"),
    ],
)
def test_one_that_does_not_do_its_work_says_why(
    machine: Machine, given: dict[str, str], problem: str
) -> None:
    """An active timer whose service fails renews nothing."""
    machine.unit("x", "/usr/bin/credentials-provider generate", both=states("x", **given))  # type: ignore[arg-type]  # states of systemd
    (found,) = machine.found()
    assert problem in str(found.problem)


def test_a_service_without_a_timer_counts_while_it_runs(machine: Machine) -> None:
    """As `watch` does in one."""
    running = (
        "Id=w.timer\nLoadState=not-found\n\nId=w.service\nLoadState=loaded\nActiveState=active"
    )
    machine.unit("w", f"{machine.script} watch", both=running)
    assert machine.found() == [Timer("the user's w.service")]
    machine.command("systemctl", running.replace("=active", "=inactive"))
    assert machine.found() == []


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("*/5 * * * * {script} --refresh-ahead --quiet # x (schedule cron)", True),
        ("*/5 * * * * cd /tmp && {script} --refresh-ahead", True),
        ("0 * * * * /srv/me/.local/bin/credentials-provider generate", True),
        ("0 * * * * /registry/credentials-provider/generate_creds.sh --force", False),
        ("0 * * * * backup /var/credentials-provider-old", False),
        ("# 0 * * * * {script}", False),
        ("0 * * * * {script} status --any", False),
    ],
)
def test_a_line_of_the_crontab_counts_if_it_starts_this_program(
    machine: Machine, line: str, ours: bool
) -> None:
    """The registry has a script of the same name."""
    machine.command("crontab", line.format(script=machine.script))
    assert machine.found() == ([Timer("a line in the crontab")] if ours else [])


def test_a_rotation_is_none_of_the_renewals(machine: Machine) -> None:
    """Secrets that are rotated daily keep no token fresh."""
    machine.unit("r", f"{machine.script} identities rotate --all -i /a", both=states("r"))
    (found,) = machine.found()
    assert found == Timer("the user's r.timer", rotation=("--all", "-i", "/a"))
    machine.unit("r", f"{machine.script} mcp-bridge ci", both=states("r"))
    assert machine.found() == []
    line = f"1 2 * * * {machine.script}".replace("%", "\\%")
    machine.command("crontab", f"{line} --quiet\n{line} identities rotate ci\n{line} generate")
    assert machine.found() == [
        Timer("a line in the crontab"),
        Timer("a line in the crontab", rotation=("ci",)),
    ]
    machine.command("crontab", "1 2 * * * /x # credentials-provider.rotation (schedule cron)")
    assert [each.rotation for each in machine.found()] == [("--all",)]


@pytest.mark.parametrize(
    ("words", "name", "file", "rotated"),
    [
        (("--all",), "ci", "/a/ids.json", True),
        (("ci", "other"), "ci", "/a/ids.json", True),
        (("other",), "ci", "/a/ids.json", False),
        (("--all", "--identities-file", "/a/ids.json"), "ci", "/a/../a/ids.json", True),
        (("--all", "-i", "/b/ids.json"), "ci", "/a/ids.json", False),
        (None, "ci", "/a/ids.json", False),
    ],
)
def test_a_rotation_is_of_its_identities_in_its_file(
    words: tuple[str, ...] | None, name: str, file: str, rotated: bool
) -> None:
    """That of another project does not count."""
    assert Timer("x", rotation=words).rotates(name, file) is rotated
