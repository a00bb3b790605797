"""Two users on one machine: whose files count, whatever the other one puts in the way."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from support import CHECKOUT, Command, Project, Ran, apps, entry, environment, until, wait

from .tracing import Held

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534  # the user
STRANGER = 12345  # the other one
USER = (f"--reuid={NOBODY}", f"--regid={NOBODY}")
PROGRAM = [sys.executable, "-m", "credentials_provider"]

pytestmark = [
    pytest.mark.skipif(
        not (sys.platform == "linux" and os.geteuid() == 0 and shutil.which("setpriv")),
        reason="needs root and setpriv, to be two users",
    ),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module", autouse=True)
def another_user() -> None:
    """That this Python can be started by another user."""
    line = ["setpriv", *USER, "--clear-groups", *PROGRAM, "--version"]
    if subprocess.run(line, env=environment("/"), capture_output=True, check=False).returncode:
        pytest.skip("another user cannot start this Python")


@pytest.fixture
def shared() -> Iterator[Project]:
    """A project that belongs to nobody's user, who can reach it and the emulator's certificate."""
    with tempfile.TemporaryDirectory() as above, contextlib.ExitStack() as stack:
        idp = Held(f"{above}/ca.pem")
        idp.go.set()
        stack.enter_context(idp)
        stack.callback(idp.go.set)
        folder = os.path.join(above, "project")
        os.mkdir(folder, 0o700)
        project = Project(folder, idp)
        project.add_all(apps(1))
        os.chmod(above, 0o711)
        os.chmod(idp.ca_file, 0o644)
        for path in (folder, project.output, project.identities_file):
            os.chown(path, NOBODY, NOBODY)
        yield project


def as_user(project: Project, *args: str, groups: int | None = None) -> list[str]:
    """A command line of the user's; without a command's name it is `generate`'s."""
    more = ["--clear-groups"] if groups is None else [f"--groups={groups}"]
    return ["setpriv", *USER, *more, *Command(project).line(*args)]


def run(project: Project, *args: str, **variables: str) -> Ran:
    return wait(Command(project).start_line(as_user(project, *args), env=variables))


def token(project: Project) -> Ran:
    """The user's `token`, of the one identity."""
    idp = project.idp
    words = ["token", "ci-agent", "--login-base-url", idp.base_url, "--ca-bundle", idp.ca_file]
    line = ["setpriv", *USER, "--clear-groups", *PROGRAM, *words]
    return wait(Command(project).start_line(line))


def planted(path: str, text: str, owner: int = STRANGER, mode: int = 0o644) -> str:
    """A file that everybody can read, of somebody else."""
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)
    os.chown(path, owner, owner)
    return path


def linked(path: str, target: str, owner: int = STRANGER) -> None:
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink(target, path)
    os.chown(path, owner, owner, follow_symlinks=False)


def own(project: Project, path: str, text: str) -> str:
    """A private file of the user's."""
    full = project.private(path, text)
    os.chown(full, NOBODY, NOBODY)
    return full


def test_root_does_not_work_in_the_folder_of_somebody_who_is_not_known(shared: Project) -> None:
    """Nothing is requested or written; the message names owner, file and the way to allow it."""
    ran = Command(shared)()

    assert (ran.code, shared.files()) == (2, {})
    assert "entra-identities.json belongs to the user nobody" in ran.stderr
    assert "--trust-owner nobody" in ran.stderr


def test_root_by_sudo_leaves_the_files_to_who_typed_it(shared: Project) -> None:
    """Their own timer goes on: it can read, lock and replace everything."""
    sudo = {"SUDO_UID": str(NOBODY)}
    assert Command(shared)("-o", "new/folder", env=sudo).code == 0
    assert Command(shared)(env=sudo).code == 0

    for path in (shared.output, os.path.join(shared.folder, "new")):
        for above, _, names in os.walk(path):
            for each in (above, *(os.path.join(above, name) for name in names)):
                assert os.stat(each).st_uid == NOBODY, each
    ran = run(shared)
    assert ran.code == 0, ran.stderr


def test_identities_of_another_user_are_an_error_that_names_them(shared: Project) -> None:
    """Who may not read the identities hears so, with exit 2 and no traceback."""
    os.chown(shared.identities_file, 0, 0)

    ran = run(shared)

    assert ran.code == 2
    assert "entra-identities.json cannot be read: Permission denied" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_token_file_of_another_user_is_replaced_not_written(shared: Project) -> None:
    """Somebody else's file in the way keeps its content and mode; ours stands in its place."""
    name = shared.entries()[0]["identity_name"]
    theirs = shared.private(shared.path(name), "{}")
    os.link(theirs, os.path.join(shared.folder, "kept"))

    ran = run(shared)

    assert ran.code == 0, ran.stderr
    with open(os.path.join(shared.folder, "kept"), encoding="utf-8") as file:
        assert file.read() == "{}"
    found = os.stat(theirs)
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (NOBODY, 0o600)


# What a stranger wrote


def _identities(project: Project) -> None:
    with open(project.identities_file, encoding="utf-8") as file:
        planted(project.identities_file, file.read())


def _identities_link(project: Project) -> None:
    real = own(project, "mine.json", json.dumps(project.entries()))
    linked(project.identities_file, real)


def _dotenv(project: Project) -> None:
    planted(os.path.join(project.folder, ".env"), "ENTRA_TENANT_ID=planted\n")


def _dotenv_link(project: Project) -> None:
    linked(os.path.join(project.folder, ".env"), own(project, "mine.env", "A=b\n"))


def _folder(project: Project) -> None:
    os.chown(project.output, STRANGER, STRANGER)
    os.chmod(project.output, 0o777)


def _folder_link(project: Project) -> None:
    os.rename(project.output, f"{project.output}-real")
    linked(project.output, f"{project.output}-real", NOBODY)


def _authority(project: Project) -> None:
    os.chown(str(project.idp.ca_file), STRANGER, STRANGER)


PLANTED = {
    "identities": (_identities, "entra-identities.json belongs to the user 12345"),
    "link to identities": (_identities_link, "entra-identities.json belongs to the user 12345"),
    ".env": (_dotenv, ".env belongs to the user 12345"),
    "link to .env": (_dotenv_link, ".env belongs to the user 12345"),
    "output folder": (_folder, ".oauth-tokens belongs to the user 12345"),
    "output folder is a link": (_folder_link, "is a symbolic link"),
    "authority to trust": (_authority, "ca.pem belongs to the user 12345"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_a_stranger_wrote_decides_nothing(shared: Project, what: str) -> None:
    """Exit 2 with the file and its owner; nothing was requested, nothing written."""
    plant, says = PLANTED[what]
    plant(shared)
    before = {each: os.lstat(each).st_mtime_ns for each in (shared.output, shared.folder)}

    ran = run(shared)

    assert (ran.code, shared.idp.connections) == (2, 0), ran
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr
    assert {each: os.lstat(each).st_mtime_ns for each in before} == before


def test_an_owner_who_was_named_counts(shared: Project) -> None:
    """By option, or by variable in a container."""
    _identities(shared)
    assert run(shared).code == 2
    assert run(shared, "--trust-owner", str(STRANGER)).code == 0
    assert run(shared, CREDENTIALS_PROVIDER_TRUST_OWNER=str(STRANGER)).code == 0


@pytest.mark.parametrize("kind", ["file", "link", "link to a folder"])
def test_a_strangers_file_is_nobodys_credential(shared: Project, kind: str) -> None:
    """That identity alone fails, and its secret is sent nowhere."""
    first, second = apps(2)
    secret = os.path.join(shared.folder, "secret")
    if kind == "file":
        planted(secret, second.secrets[0])
    elif kind == "link":
        linked(secret, own(shared, "mine", second.secrets[0]))
    else:
        os.mkdir(os.path.join(shared.folder, "real"), 0o700)
        own(shared, "real/secret", second.secrets[0])
        os.chown(os.path.join(shared.folder, "real"), NOBODY, NOBODY)
        linked(os.path.join(shared.folder, "folder"), "real")
        secret = os.path.join(shared.folder, "folder", "secret")
    shared.idp.add_app(second)
    other = entry(second, client_secret=None, client_secret_file=secret)
    own(shared, shared.identities_file, json.dumps([*shared.entries(), other]))

    ran = run(shared, "--json")

    assert ran.code == 1, ran.stderr
    assert ran.results[first.name]["outcome"] == "renewed"
    error = ran.results[second.name]["error"]
    assert error["kind"] == "secret_unavailable"
    assert "belongs to the user 12345" in error["message"]
    assert len(shared.idp.token_requests) == 1


@pytest.mark.parametrize("place", [".env", "identities", "secret", "token"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_in_a_files_place_hangs_nothing(
    shared: Project, place: str, kind: str
) -> None:
    """It ends at once; a token file's place is simply taken."""
    app = apps(1)[0]
    secret = os.path.join(shared.folder, "secret")
    path = {
        ".env": os.path.join(shared.folder, ".env"),
        "identities": shared.identities_file,
        "secret": secret,
        "token": shared.path(app.name),
    }[place]
    if place == "secret":
        other = entry(app, client_secret=None, client_secret_file=secret)
        own(shared, shared.identities_file, json.dumps([other]))
    if os.path.lexists(path):
        os.unlink(path)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    os.chown(path, NOBODY, NOBODY)
    began = time.monotonic()

    ran = run(shared)

    assert time.monotonic() - began < 20
    assert ran.code == {"secret": 1, "token": 0}.get(place, 2), ran
    if place != "token":
        assert "is not a regular file" in ran.stderr
        assert len(shared.idp.token_requests) == 0


# Tokens that a stranger wrote


@pytest.mark.parametrize("owner", [STRANGER, NOBODY])
def test_a_planted_token_is_not_handed_out(shared: Project, owner: int) -> None:
    """By its owner; or, with the right owner, because it is another application's."""
    app, other = apps(2)
    assert run(shared).code == 0
    good = shared.token(app.name)
    shared.idp.add_app(other)
    own(shared, "others.json", json.dumps([entry(other, identity_name="other")]))
    assert run(shared, "-i", "others.json", "-o", "others").code == 0
    with open(os.path.join(shared.folder, "others", "other.json"), encoding="utf-8") as file:
        value = json.load(file)["access_token"]
    claimed = {**good, "access_token": value, "tokens": {**good["tokens"], "access_token": value}}
    planted(shared.path(app.name), json.dumps(claimed), owner)

    ran = token(shared)

    assert ran.code == 0, ran.stderr
    assert value not in ran.stdout
    assert shared.token(app.name)["access_token"] == ran.stdout.strip()
    assert os.stat(shared.path(app.name)).st_uid == NOBODY


def test_a_folder_that_is_swapped_during_a_run_gets_nothing(shared: Project) -> None:
    """The run writes into the folder that it opened, and follows no link that took its place."""
    elsewhere = os.path.join(shared.folder, "elsewhere")
    os.mkdir(elsewhere, 0o777)
    os.chown(elsewhere, STRANGER, STRANGER)
    idp = shared.idp
    assert isinstance(idp, Held)
    idp.hold()
    process = Command(shared).start_line(as_user(shared, "-o", "out", "--json"))
    until(lambda: idp.waiting)
    out = os.path.join(shared.folder, "out")
    os.rename(out, f"{out}-moved")
    linked(out, elsewhere)
    idp.go.set()

    ran = wait(process)

    assert ran.code == 0, ran
    assert os.listdir(elsewhere) == []
    assert f"{apps(1)[0].name}.json" in os.listdir(f"{out}-moved")


def test_byte_code_and_modules_of_the_working_directory_are_not_run(shared: Project) -> None:
    """Neither beside the program nor in a folder that somebody opens."""
    cache = os.path.join(shared.folder, "__pycache__")
    os.mkdir(cache, 0o777)
    evil = "import os\nos.write(1, b'PLANTED')\nos._exit(0)\n"
    for name in ("click", "sitecustomize", "usercustomize", "json", "credentials_provider"):
        path = planted(os.path.join(shared.folder, f"{name}.py"), evil)
        code = f"import py_compile; py_compile.compile({path!r})"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    start = os.path.join(CHECKOUT, "credentials-provider", "__main__.py")
    variables = environment(shared.folder)
    del variables["PYTHONPATH"]

    done = subprocess.run(
        ["setpriv", *USER, "--clear-groups", sys.executable, start, "--version"],
        cwd=shared.folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, "PLANTED" in done.stdout) == (0, False), done


# Honest set-ups


def test_a_projected_secret_of_kubernetes_is_read(shared: Project) -> None:
    """Root's, 0440 for the pod's group, reached through `..data`."""
    app = apps(1)[0]
    volume = os.path.join(shared.folder, "volume")
    os.makedirs(f"{volume}/..2026_11_25")
    os.chmod(shared.folder, 0o755)
    os.chmod(volume, 0o1777)
    secret = planted(f"{volume}/..2026_11_25/secret", app.secrets[0], 0, 0o440)
    os.chown(secret, 0, NOBODY)
    os.symlink("..2026_11_25", f"{volume}/..data")
    os.symlink("..data/secret", f"{volume}/secret")
    other = entry(app, client_secret=None, client_secret_file=f"{volume}/secret")
    own(shared, shared.identities_file, json.dumps([other]))

    ran = run(shared)

    assert (ran.code, "secret" in ran.stderr) == (0, False), ran.stderr


@pytest.mark.parametrize(("group", "code"), [(12321, 0), (0, 0), (1, 2)])
def test_identities_of_roots_are_open_only_to_a_group_that_has_a_name(
    shared: Project, group: int, code: int
) -> None:
    """A pod's group has none on its machine, and root's is root: nobody could close the file."""
    os.chown(shared.identities_file, 0, group)
    os.chmod(shared.identities_file, 0o440)
    line = as_user(shared, "--strict-permissions", groups=group)

    ran = wait(Command(shared).start_line(line))

    assert (ran.code, "chmod 600" in ran.stderr) == (code, code == 2), ran.stderr


def test_an_empty_dir_of_roots_is_an_output_folder(shared: Project) -> None:
    """0777, as Kubernetes makes it: what is written there is the user's alone."""
    volume = os.path.join(shared.folder, "volume")
    os.mkdir(volume)
    os.chmod(volume, 0o777)

    assert run(shared, "-o", "volume").code == 0
    again = run(shared, "-o", "volume", "--refresh-ahead")

    assert again.code == 0
    assert "chmod" in again.stderr  # everybody may look into it
    found = os.stat(os.path.join(volume, f"{apps(1)[0].name}.json"))
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (NOBODY, 0o600)


def test_credentials_of_systemd_are_read(shared: Project) -> None:
    """Root's, in root's folder, through `$CREDENTIALS_DIRECTORY`."""
    app = apps(1)[0]
    folder = os.path.join(shared.folder, "credentials")
    os.mkdir(folder)
    os.chown(folder, 0, NOBODY)
    os.chmod(folder, 0o550)
    os.chown(planted(f"{folder}/ci", app.secrets[0], 0, 0o440), 0, NOBODY)
    other = entry(app, client_secret=None, client_secret_file="${CREDENTIALS_DIRECTORY}/ci")
    own(shared, shared.identities_file, json.dumps([other]))

    ran = run(shared, CREDENTIALS_DIRECTORY=folder)

    assert ran.code == 0, ran.stderr


def test_a_checkout_of_root_and_a_group_works_for_its_members(shared: Project) -> None:
    """Root's, 2775 and 0660: its group is warned of, and nothing more."""
    group = 12321
    for path, mode in (
        (shared.folder, 0o2775),
        (shared.output, 0o2770),
        (shared.identities_file, 0o660),
    ):
        os.chown(path, 0, group)
        os.chmod(path, mode)

    ran = wait(Command(shared).start_line(as_user(shared, groups=group)))

    assert ran.code == 0, ran.stderr
    assert "chmod 600" in ran.stderr


def test_a_rootless_container_names_the_owner_that_its_mounts_show(shared: Project) -> None:
    """Where an owner is not mapped it could be anybody; `--trust-owner nobody` says it is not."""
    for path in (shared.folder, shared.output, shared.identities_file):
        os.chown(path, STRANGER, NOBODY)
        os.chmod(path, 0o770)

    line = as_user(shared, "-o", "out")
    at = line.index(sys.executable)
    inside = [*line[:at], "unshare", "--user", "--map-root-user", *line[at:]]
    if wait(Command(shared).start_line([*inside[: at + 4], "--version"])).code:
        pytest.skip("this Python cannot be started in a user namespace")
    refused = wait(Command(shared).start_line(inside))
    assert refused.code == 2
    assert "entra-identities.json belongs to the user nobody" in refused.stderr
    named = wait(Command(shared).start_line([*inside, "--trust-owner", "nobody"]))
    assert named.code == 0, named.stderr
