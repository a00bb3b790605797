"""SIGKILL while a secret is added, replaced, rotated or made: none is lost, none left in the open.

Counted are the system calls that change something on disk; FAULTS_LONG=1 takes each of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from credentials.making import certificate, key_pem, pem
from credentials_provider.emulator import App, Emulator
from support import SCOPE, Project, apps, entry, renew, run_program

from .tracing import LONG, tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = ["rename", "unlink", "mkdir", "fsync", "fchmod"] if LONG else ["rename", "unlink"]
NEW = "new8Q~of-the-portal_1.2-3"
pytestmark = [tracing, pytest.mark.timeout(900 if LONG else 300)]


@pytest.fixture
def idp() -> Iterator[Emulator]:
    with Emulator(registry_groups=["agents"]) as emulator:
        yield emulator


@pytest.fixture
def owner() -> App:
    (made,) = apps(1)
    return replace(
        made,
        name="ci",
        secrets=(made.secrets[0], NEW),
        secrets_end=("2027-05-01T00:00:00Z",),
        roles=("Application.ReadWrite.OwnedBy", "registry-admins"),
        owners=(made.client_id,),
    )


def run(project: Project, words: list[str], stdin: str, kill: tuple[str, int] | None = None) -> int:
    """The exit code of an `identities` command, killed at this call of this name."""
    tracer = []
    if kill:
        calls, number = f"/^{kill[0]}", kill[1]
        injection = f"inject={calls}:signal=SIGKILL:when={number}"
        tracer = ["strace", "-o", os.devnull, "-e", f"trace={calls}", "-e", injection]
    reach = {"ENTRA_LOGIN_BASE_URL": project.idp.base_url, "SSL_CERT_FILE": project.idp.ca_file}
    command = ("identities", *words)
    ran = run_program(project.folder, *command, env=reach, stdin=stdin, tracer=tracer)
    assert "Traceback" not in ran.stderr
    return ran.code


def assert_private(project: Project) -> None:
    """Nothing that is there can be read by anybody else."""
    for folder, _, names in os.walk(project.output):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in names:
            mode = stat.S_IMODE(os.lstat(os.path.join(folder, name)).st_mode)
            assert mode == 0o600, (name, oct(mode))


def left(project: Project) -> set[str]:
    folder = os.path.join(project.output, ".secrets")
    return set(os.listdir(folder)) - {".gitignore"} if os.path.isdir(folder) else set()


COMMANDS = {
    "add": (["--client-secret-stdin", "--client-id", "CLIENT"], "OLD\n"),
    "secret": ([], f"{NEW}\n"),
    "rotate": ([], ""),
    "rotate to the end": (["--overlap", "0"], ""),
    "rotate a certificate": (["--overlap", "0"], ""),
    "create": (["--groups", "agents", "--registry-url", "REGISTRY", "--as", "admin"], ""),
}


def identity(project: Project, owner: App, case: str) -> list[dict[str, Any]]:
    """The identity as it is before the command, if it is there."""
    if case in {"add", "create"}:
        return []
    if case != "rotate a certificate":
        return [entry(owner, identity_name="ci")]
    mine = pem(certificate())
    project.idp.add_app(replace(owner, certificates=(mine,)))
    project.private(os.path.join(project.output, "ci.pem"), key_pem() + mine)
    return [entry(owner, identity_name="ci", client_secret=None, certificate_file="ci.pem")]


@pytest.mark.parametrize("case", COMMANDS)
@pytest.mark.parametrize("call", CALLS)
def test_a_command_that_is_killed_at_a_change_is_finished_by_the_next(
    project: Project, owner: App, case: str, call: str
) -> None:
    """The identity has a secret that works at every moment, and nothing is left in the end."""
    options, stdin = COMMANDS[case]
    command = case.partition(" ")[0]
    known = {"CLIENT": owner.client_id, "REGISTRY": project.idp.base_url}
    words = [command, "ci", *(known.get(word, word) for word in options)]
    if command in {"add", "create"}:
        words += ["--tenant-id", owner.tenant_id, "--scope", SCOPE]
    stdin = stdin.replace("OLD", owner.secrets[0])
    back = ["remove", "ci", "--at-registry", *words[4:8]]
    kills = 0
    for number in range(1, 100):
        shutil.rmtree(project.output)
        os.mkdir(project.output, 0o700)
        project.idp.add_app(owner)
        admin = entry(owner, identity_name="admin")
        project.write([admin, *identity(project, owner, case)])
        code = run(project, words, stdin, kill=(call, number))
        killed = code == -signal.SIGKILL
        kills += killed
        assert_private(project)
        assert renew(project).exit_code == 0  # whoever is in the file has a secret that works
        again = run(project, words, stdin)
        if again == 1 and command == "create":  # the answer was lost: that is said, with the cure
            assert run(project, back, "") == 0
            again = run(project, words, stdin)
        assert again == 0 or (again == 2 and command in {"add", "create"})
        assert_private(project)
        assert renew(project, force=True).exit_code == 0
        assert [each["identity_name"] for each in project.entries()] == ["admin", "ci"]
        names = left(project)
        assert not [name for name in names if name.endswith(".tmp")]
        if case == "rotate":
            assert len(names) == 2  # the new secret, and what says when the old one goes
        elif command == "rotate":
            assert len(names) == 1
            application = project.idp._directory.find(owner.tenant_id, owner.client_id)
            assert application is not None
            keys = 1 if "certificate" in case else 0
            assert (len(application.all_passwords), len(application.all_keys)) == (1, keys)
        else:
            assert names == {"ci"}
        if not killed:
            break
        if command == "create":  # the next round makes another account of that name
            run(project, back, "")
    assert kills >= (2 if call == "rename" else 0)
