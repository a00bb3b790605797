"""What other users of the machine could read: never opened by us, told where it is, refused."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from support import SCOPE, Command, Project, apps, entry, until, wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.emulator import Emulator

    from .tracing import Held

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")

OPEN = (0o604, 0o640, 0o622, 0o666)


def _dotenv(project: Project, mode: int) -> str:
    (app,) = apps(1)
    project.idp.add_app(app)
    text = f"ENTRA_TENANT_ID={app.tenant_id}\nENTRA_CLIENT_ID={app.client_id}\n"
    secret = app.secrets[0].replace("\\", "\\\\").replace("'", "\\'")
    path = project.private(".env", f"{text}ENTRA_CLIENT_SECRET='{secret}'\n")
    os.chmod(path, mode)
    return path


@pytest.mark.parametrize("mode", OPEN, ids=oct)
def test_a_dotenv_that_others_can_read_is_warned_of(
    project: Project, run: Command, mode: int
) -> None:
    """A secret that is used from an open .env is told with its cure; the run goes on."""
    _dotenv(project, mode)

    ran = run()

    assert ran.code == 0, ran.stderr
    assert ran.stderr.count("chmod 600 .env") == 1


def test_a_dotenv_without_a_secret_of_ours_is_nobodys_business(
    project: Project, run: Command
) -> None:
    """The registry's .env may be open as long as nothing in it is used as a secret here."""
    project.add_all(apps(1))
    os.chmod(project.private(".env", "ENTRA_CLIENT_SECRET=of-the-gateway\nX=1\n"), 0o644)

    ran = run("--strict-permissions")

    assert (ran.code, ran.stderr) == (0, "")


def test_strict_permissions_refuse_what_others_can_read(
    project: Project, run: Command, idp: Emulator
) -> None:
    """Exit 2 with every open file and folder and its cure, before anything is requested."""
    project.add_all(apps(1))
    for path, private, wide, command in (
        (project.identities_file, 0o600, 0o640, "chmod 600"),
        (project.output, 0o700, 0o750, "chmod 700"),
    ):
        os.chmod(path, wide)

        ran = run("--strict-permissions", "--json")

        assert ran.code == 2
        (error,) = ran.json["errors"]
        assert f"{command} .oauth-tokens" in error["message"]
        assert (idp.connections, project.files()) == (0, {})
        assert stat.S_IMODE(os.stat(path).st_mode) == wide
        os.chmod(path, private)
    assert run("--strict-permissions").code == 0


def test_strict_permissions_refuse_an_open_dotenv(
    project: Project, run: Command, idp: Emulator
) -> None:
    """The secret that stands in an open .env is not used at all."""
    path = _dotenv(project, 0o644)

    ran = run("--strict-permissions")

    assert (ran.code, ran.stdout, idp.connections) == (2, "", 0)
    assert "chmod 600 .env" in ran.stderr
    os.chmod(path, 0o600)
    assert run("--strict-permissions").code == 0


@pytest.mark.parametrize(("mode", "told"), [(0o777, True), (0o1777, False), (0o755, False)])
def test_a_folder_where_everybody_can_put_a_secret_is_warned_of_and_refused(
    project: Project, run: Command, idp: Emulator, mode: int, *, told: bool
) -> None:
    """Whoever may write there can replace the file, whatever its own mode; a sticky one is safe."""
    (app,) = apps(1)
    folder = os.path.join(project.output, ".secrets")
    os.mkdir(folder)
    project.private(f"{folder}/ci", app.secrets[0])
    project.add(app, client_secret=None, client_secret_file=".secrets/ci")
    os.chmod(folder, mode)

    warned = run()
    asked = len(idp.token_requests)
    strict = run("--strict-permissions", "--json")

    assert warned.code == 0, warned.stderr
    assert (f"chmod o-w {folder}" in warned.stderr) is told
    assert strict.code == (1 if told else 0)
    assert (len(idp.token_requests) == asked) is told


def test_strict_permissions_refuse_identities_that_everybody_can_replace(
    project: Project, run: Command, idp: Emulator
) -> None:
    """The folder decides, too."""
    path = os.path.join(project.folder, "open", "identities.json")
    os.mkdir(os.path.dirname(path))
    idp.add_app(apps(1)[0])
    project.write([entry(apps(1)[0])], path)
    os.chmod(os.path.dirname(path), 0o777)

    ran = run("--strict-permissions", "-i", path)

    assert (ran.code, idp.connections) == (2, 0)
    assert f"chmod o-w {os.path.dirname(path)}" in ran.stderr


def test_no_file_or_folder_is_ever_open_to_others(project: Project, run: Command) -> None:
    """Under umask 000, whoever looks all the time sees a folder of 0700 and files of 0600 alone."""
    many = apps(4)
    project.add_all(many)
    out = os.path.join(project.folder, "out")
    seen: set[tuple[bool, int]] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            for path in [out, *_listed(out)]:
                try:
                    mode = os.lstat(path).st_mode
                except OSError:
                    continue
                seen.add((stat.S_ISDIR(mode), stat.S_IMODE(mode)))

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(3):
        shutil.rmtree(out, ignore_errors=True)
        line = ["sh", "-c", 'umask 000; exec "$@"', "sh", *run.line("-o", "out")]
        assert wait(run.start_line(line)).code == 0
    ended.set()
    watcher.join()

    assert seen == {(True, 0o700), (False, 0o600)}


def _listed(folder: str) -> Sequence[str]:
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder)]
    except OSError:
        return ()


def test_an_identities_file_replaced_during_a_run_counts_from_the_next_on(
    held_project: Project, held_run: Command, held: Held
) -> None:
    """What a run has read it uses to its end; another content makes the next one renew."""
    (app,) = apps(1)
    held_project.add(app)
    held.hold()
    process = held_run.start("--json")
    until(lambda: held.waiting)
    held_project.write([entry(app, scope="api://another/.default")])
    held.go.set()

    assert wait(process).code == 0
    assert held_project.token(app.name)["scope"] == SCOPE
    ran = held_run("--refresh-ahead", "--json")
    assert (ran.code, ran.results[app.name]["reason"]) == (0, "changed")
    assert held_project.token(app.name)["scope"] == "api://another/.default"
