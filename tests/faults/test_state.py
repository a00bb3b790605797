"""Whatever is in the output folder: what is ours becomes whole, what is not is left alone."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.emulator import Fault
from support import Command, Project, apps, entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.emulator import Emulator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kinds of files that POSIX has")


def _text(content: bytes) -> Callable[[Project, str], None]:
    def make(project: Project, path: str) -> None:
        del project
        with open(path, "wb") as file:
            file.write(content)

    return make


def _edited(**changes: Any) -> Callable[[Project, str], None]:
    """A good file of ours in which a hand changed something; None takes a field away."""

    def make(project: Project, path: str) -> None:
        found = project.token(os.path.basename(path).removesuffix(".json"))
        content = {k: v for k, v in {**found, **changes}.items() if v is not None}
        project.private(path, json.dumps(content))

    return make


def _huge(project: Project, path: str) -> None:
    del project
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that nobody wrote


def _symlink(project: Project, path: str) -> None:
    os.symlink(os.path.join(project.folder, "victim"), path)


def _dangling(project: Project, path: str) -> None:
    os.symlink(os.path.join(project.folder, "not-there"), path)


def _loop(project: Project, path: str) -> None:
    del project
    os.symlink(os.path.basename(path), path)


def _hard_link(project: Project, path: str) -> None:
    os.link(os.path.join(project.folder, "victim"), path)


def _fifo(project: Project, path: str) -> None:
    del project
    os.mkfifo(path)


def _socket(project: Project, path: str) -> None:
    del project
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.getcwd()
        os.chdir(os.path.dirname(path))  # a socket's path must be short
        try:
            sock.bind(os.path.basename(path))
        finally:
            os.chdir(here)


def _swapped(project: Project, path: str) -> None:
    """Another identity's good file under this name: its definition is another's."""
    project.private(path, json.dumps(project.token("other")))


KINDS: dict[str, Callable[[Project, str], None]] = {
    "empty": _text(b""),
    "binary": _text(bytes(range(256)) * 9),
    "cut": _text(b'{"identity_name": "x", "access_tok'),
    "null": _text(b"null"),
    "deep": _text(b"[" * 100_000),
    "huge": _huge,
    "symbolic link": _symlink,
    "dangling link": _dangling,
    "loop": _loop,
    "hard link": _hard_link,
    "fifo": _fifo,
    "socket": _socket,
    "another's": _swapped,
    "edited: longer by hand": _edited(expires_at="2037-01-01T00:00:00+00:00"),
    "edited: longer by all hands": _edited(
        expires_at="2037-01-01T00:00:00+00:00", refresh_at="2036-01-01T00:00:00+00:00"
    ),
    "edited: another definition": _edited(definition="1:00000000000000000000000000000000"),
    "edited: older version": _edited(definition="0:5b", refresh_at=None),
    "edited: no token": _edited(access_token=None),
    "edited: token of nobody": _edited(access_token=""),
    "edited: infinite": _edited(expires_on=float("inf")),
    "edited: words": _edited(expires_in="3600"),
}


def victim(project: Project) -> tuple[str, os.stat_result, bytes]:
    """A file outside the output folder that looks like a good token file."""
    content = json.dumps({"access_token": "x", "expires_at": time.time() + 9999}).encode()
    path = os.path.join(project.folder, "victim")
    with open(path, "wb") as file:
        file.write(content)
    return path, os.stat(path), content


@pytest.mark.timeout(240)
def test_whatever_stands_in_a_token_files_place_makes_way(
    project: Project, run: Command, idp: Emulator
) -> None:
    """Any kind of file is due and becomes a whole private one; nothing is written through it."""
    (app,) = apps(1)
    idp.add_app(app)
    names = [f"n{number}" for number in range(len(KINDS))]
    project.write([entry(app, identity_name=name) for name in (*names, "other")])
    path, was, content = victim(project)
    assert run().code == 0
    for name, kind in zip(names, KINDS, strict=True):
        if not kind.startswith("edited"):
            os.unlink(project.path(name))
        KINDS[kind](project, project.path(name))
    asked = len(idp.requests)

    ran = run("--refresh-ahead", "--json")

    assert (ran.code, ran.stderr) == (0, "")
    outcomes = {name: result["outcome"] for name, result in ran.results.items()}
    assert outcomes == {**dict.fromkeys(names, "renewed"), "other": "fresh"}
    assert len(idp.requests) - asked == len(names)
    for name in names:
        found = os.lstat(project.path(name))
        assert stat.S_ISREG(found.st_mode)
        assert (stat.S_IMODE(found.st_mode), found.st_nlink) == (0o600, 1)
        assert project.token(name)["identity_name"] == name
    now = os.stat(path)
    with open(path, "rb") as file:
        assert (file.read(), now.st_mtime_ns, now.st_mode) == (
            content,
            was.st_mtime_ns,
            was.st_mode,
        )
    assert not os.path.lexists(os.path.join(project.folder, "not-there"))
    assert run("--refresh-ahead").stdout.startswith(f"Tokens saved: {len(names) + 1} fresh")


STRANGERS = (
    "mcp.json",
    "vscode_mcp.json",
    "README",
    "ingress.json",
    "ci-agent.json~",
    ".ci-agent.json.swp",
    "ci-agent.json.bak",
    "CI-AGENT.json.orig",
    ".credentials-provider",
    ".credentials-provider.tmp",
    ".credentials-provider-notes.txt",
    "\u00fcmlaut \n.json",
    ".gitkeep",
)


def test_what_is_not_ours_is_left_alone(project: Project, run: Command) -> None:
    """Files and folders of other names keep content, mode and time through every kind of run."""
    project.add_all(apps(2))
    os.chmod(project.output, 0o700)
    folder = os.path.join(project.output, ".credentials-provider-folder.tmp")
    os.mkdir(folder)
    project.private(os.path.join(folder, "inside"), "kept")
    for number, name in enumerate(STRANGERS):
        path = project.private(os.path.join(project.output, name), f"{number}: kept")
        os.chmod(path, 0o640)
        os.utime(path, (1_000_000_000, 1_000_000_000))

    for args in ((), ("--refresh-ahead",), ("--force",), ("--dry-run",)):
        assert run(*args).code == 0

    for number, name in enumerate(STRANGERS):
        path = os.path.join(project.output, name)
        found = os.stat(path)
        with open(path, encoding="utf-8") as file:
            assert file.read() == f"{number}: kept"
        assert (found.st_mtime, stat.S_IMODE(found.st_mode)) == (1_000_000_000, 0o640)
    assert os.listdir(folder) == ["inside"]


def _iso(seconds: float, *, naive: bool = False) -> str:
    moment = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return (moment.astimezone().replace(tzinfo=None) if naive else moment).isoformat()


@pytest.mark.parametrize(
    "times",
    [
        lambda left: {"expires_at": _iso(left)},
        lambda left: {"expires_at": _iso(left, naive=True)},
        lambda left: {"expires_at": _iso(left).replace("+00:00", "Z")},
        lambda left: {"expires_at": time.time() + left},
    ],
    ids=["offset", "naive", "Z", "epoch"],
)
def test_the_registrys_own_token_file_serves_through_an_outage(
    project: Project, run: Command, idp: Emulator, times: Callable[[float], dict[str, Any]]
) -> None:
    """It is due at once, kept while it serves and the provider is down, and replaced after."""
    (app,) = apps(1)
    project.add(app)
    theirs = {
        "provider": "entra",
        "identity_name": app.name,
        "access_token": "header.claims.signature",
        "token_type": "Bearer",
        "expires_in": 3599,
        "generated_at": _iso(-3000, naive=True),
        **times(600),
    }
    project.private(project.path(app.name), json.dumps(theirs))
    before = project.files()
    idp.inject(Fault("unavailable"), 1)

    kept = run("--refresh-ahead", "--max-attempts", "1", "--json")

    assert (kept.code, kept.results[app.name]["outcome"]) == (75, "kept")
    assert project.files() == before
    assert run("--refresh-ahead").code == 0
    assert project.token(app.name)["definition"]

    project.private(project.path(app.name), json.dumps({**theirs, **times(-60)}))
    idp.inject(Fault("unavailable"), 1)
    dead = run("--refresh-ahead", "--max-attempts", "1", "--json")
    assert (dead.code, dead.results[app.name]["outcome"]) == (1, "failed")
