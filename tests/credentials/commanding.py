"""The `identities` command as people run it: with pipes, and on a terminal."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support import SCOPE, Project, Ran, environment, run_program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import FileIO

    from credentials_provider.emulator import App

PLAIN = "v5u8Q~plain.secret-value_1"


def reach(project: Project) -> dict[str, str]:
    """How to reach and to trust the project's emulator."""
    return {"ENTRA_LOGIN_BASE_URL": project.idp.base_url, "SSL_CERT_FILE": project.idp.ca_file}


@dataclass(frozen=True)
class Tell:
    """The real `identities` command in a project's folder, with something on its stdin."""

    project: Project

    def __call__(self, *args: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ran:
        more = {**reach(self.project), **(env or {})}
        ran = run_program(self.project.folder, "identities", *args, env=more, stdin=stdin)
        for each in (ran.stdout, ran.stderr):
            assert PLAIN not in each
            assert "Traceback" not in each
        return ran

    def add(self, name: str, app: App, *options: str, stdin: str = "") -> Ran:
        return self("add", name, *ids(app), *options, stdin=stdin)


def ids(app: App) -> list[str]:
    return ["--tenant-id", app.tenant_id, "--client-id", app.client_id, "--scope", SCOPE]


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def converse(project: Project, *args: str, answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Runs `identities` on a terminal: waits for each question, answers it; code and screen."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "credentials_provider", "identities", *args],
        cwd=project.folder,
        env=environment(project.folder, {**reach(project), "TERM": "dumb"}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen = ""
    waiting = list(answers)
    with process, open(terminal, "r+b", buffering=0) as there:
        # On Linux the end of a terminal reads as an error.
        while seen := _seen(there):
            screen += seen.decode()
            if waiting and waiting[0][0] in screen.rpartition("\n")[2]:
                there.write(f"{waiting.pop(0)[1]}\n".encode())
    assert not waiting, screen
    return process.returncode, screen


def _seen(there: FileIO) -> bytes:
    try:
        return there.read(4096) or b""
    except OSError:
        return b""
