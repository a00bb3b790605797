"""SIGKILL while a command writes beside files that are not its own: the next run leaves nothing.

Counted are the system calls that change something on disk; FAULTS_LONG=1 takes each of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from support import OWN_FILES, Project, apps, entry, renew, run_program

from .tracing import LONG, tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

CALLS = ["rename", "unlink", "mkdir", "fsync", "fchmod"] if LONG else ["rename", "unlink"]
pytestmark = [tracing, pytest.mark.timeout(900 if LONG else 300)]

COMMANDS = {
    "import": "identities import ci --tenant-id TENANT --scope api://x/.default",
    "migrate": "identities migrate",
    "migrate to .env": "identities migrate --to env --env-file .env",
    "mcp-config": "mcp-config cursor --server gh=https://gateway.example/mcp --identity admin "
    "--file mcp.json --write --no-check",
    "cron": "schedule cron --install",
    "systemd": "schedule systemd --user --install",
}

# As POSIX has it: -l lists, a file replaces. And a manager with which all is well.
PROGRAMS = {
    "crontab": 'case $1 in -l) cat "$HOME/spool" ;; *) cat "$1" >"$HOME/spool" ;; esac',
    "systemctl": "exit 0",
}


@pytest.fixture
def folder(project: Project) -> str:
    """The user's home, with what is in it when a command begins."""
    bin_folder = os.path.join(project.folder, "bin")
    os.mkdir(bin_folder)
    for name, script in PROGRAMS.items():
        path = project.private(os.path.join(bin_folder, name), f"#!/bin/sh\n{script}\n")
        os.chmod(path, 0o700)
    os.mkdir(os.path.join(project.folder, "tmp"))
    project.private("spool", "# mine\n")
    project.private("mcp.json", '{"mcpServers": {}}\n')
    project.private(".env", "MINE=1\n")
    return project.folder


def run(project: Project, words: Sequence[str], stdin: str, kill: tuple[str, int] | None) -> int:
    tracer = []
    if kill:
        calls, number = f"/^{kill[0]}", kill[1]
        injection = f"inject={calls}:signal=SIGKILL:when={number}"
        tracer = ["strace", "-o", os.devnull, "-e", f"trace={calls}", "-e", injection]
    more = {
        "ENTRA_LOGIN_BASE_URL": project.idp.base_url,
        "SSL_CERT_FILE": project.idp.ca_file,
        "XDG_CONFIG_HOME": os.path.join(project.folder, "config"),
        "TMPDIR": os.path.join(project.folder, "tmp"),
        "PATH": f"{project.folder}/bin{os.pathsep}{os.environ['PATH']}",
    }
    ran = run_program(project.folder, *words, env=more, stdin=stdin, tracer=tracer)
    assert "Traceback" not in ran.stderr
    return ran.code


def there(folder: str) -> set[str]:
    """Every file and folder, by its path."""
    return {
        os.path.relpath(os.path.join(at, name), folder)
        for at, folders, names in os.walk(folder)
        for name in (*folders, *names)
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_killed_command_left_is_gone_after_the_next(
    project: Project, folder: str, command: str
) -> None:
    """Killed at any change, the next run ends with the files of a run that nobody disturbed."""
    admin, ci = apps(2)
    project.idp.add_app(admin)
    project.idp.add_app(ci)
    project.write([entry(admin, identity_name="admin")])
    kept = f"{folder}.kept"
    shutil.copytree(folder, kept)
    words = COMMANDS[command].replace("TENANT", ci.tenant_id).split()
    stdin = json.dumps({"client_id": ci.client_id, "client_secret": ci.secrets[0]})

    def begin_again() -> None:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)

    assert run(project, words, stdin, None) == 0
    usual = there(folder)
    kills = 0
    for call in CALLS:
        for number in range(1, 100):
            begin_again()
            killed = run(project, words, stdin, (call, number)) == -signal.SIGKILL
            kills += killed
            assert renew(project).exit_code == 0  # whoever is in the file has a secret that works
            code = run(project, words, stdin, None)
            assert code == 0 or (command == "import" and code == 2)  # it is there already
            assert there(folder) - usual <= tokens(project)
            if not killed:
                break
    assert kills >= 1


def tokens(project: Project) -> set[str]:
    """What a renewal in between has made."""
    return {
        os.path.relpath(os.path.join(project.output, name), project.folder)
        for name in (*project.tokens(), *OWN_FILES)
    }
