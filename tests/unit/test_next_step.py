"""The program without a command says what comes next, from the state that it finds."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from command_lines import parse
from credentials_provider.cli.next_step import next_step
from support import environment
from unit.making import CLIENT, NOW, REJECTED, SECRET, TENANT, Project, Provider, sample_fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def commands(project: Project, *timers: str, process: Mapping[str, str] | None = None) -> list[str]:
    """What is suggested; each suggestion is a command line that the program understands."""
    step = next_step(project.settings(process), NOW, lambda: timers)
    for command, _ in step.commands:
        parse(command.replace("CLIENT", "vscode").split())
    return [command for command, _ in step.commands]


def test_without_identities_they_are_made_or_the_demo_is_seen(project: Project) -> None:
    """Unless the environment defines one."""
    assert commands(project) == ["identities init", "demo"]
    ingress = {"ENTRA_TENANT_ID": TENANT, "ENTRA_CLIENT_ID": CLIENT}
    ingress["ENTRA_CLIENT_SECRET"] = SECRET
    assert commands(project, process=ingress) == ["generate --refresh-ahead"]


def test_an_empty_file_gets_an_identity(project: Project) -> None:
    """It is there, so init would refuse."""
    project.identities()
    assert commands(project) == ["identities add NAME"]


def test_a_file_with_mistakes_is_checked(project: Project) -> None:
    """Nothing else would work before: its form, or a field."""
    project.identities("ci", "ci")
    assert commands(project) == ["identities check"]
    project.identities(sample_fields(client_secret="your-m2m-client-secret"))
    assert commands(project) == ["identities check"]


@pytest.mark.parametrize("left", [None, -5])
def test_what_has_no_token_is_minted(project: Project, left: int | None) -> None:
    """Missing or expired."""
    project.identities("ci", "other")
    project.token("ci")
    if left is not None:
        project.token("other", issued_at=NOW - 3600 + left)
    assert commands(project) == ["generate --refresh-ahead"]


def test_what_failed_is_explained(project: Project) -> None:
    """By its name."""
    project.identities("ci", "other")
    project.run(Provider(other=REJECTED))
    assert commands(project) == ["status other", "doctor"]


def test_what_is_due_is_renewed(project: Project) -> None:
    """Although it still serves."""
    project.identities("ci")
    project.token("ci", renew_at=NOW - 1)
    assert commands(project) == ["generate --refresh-ahead"]


def test_fresh_tokens_get_a_timer_and_then_readers(project: Project) -> None:
    """In this order."""
    project.identities(sample_fields("ci"))
    project.token("ci")
    assert commands(project)[0].startswith("schedule ")
    assert commands(project, "a line in the crontab")[:2] == ["status", "token ci"]


def test_it_is_what_the_program_does_alone(tmp_path: Path) -> None:
    """On stdout, with exit code 0."""
    done = subprocess.run(
        [sys.executable, "-m", "credentials_provider"],
        cwd=tmp_path,
        env=environment(str(tmp_path)),
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "  credentials-provider identities init  " in done.stdout
