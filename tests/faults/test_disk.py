"""Disks that fail at any moment: the path is told, the old token stays, nobody else suffers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from support import PACKAGES, Command, Project, Ran, apps, wait

from .test_kills import leftovers
from .tracing import Held, attached, caught, tracing

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from credentials_provider.emulator import App, Emulator

WORDS = {
    "ENOSPC": "No space left on device",
    "EDQUOT": "quota exceeded",
    "EIO": "Input/output error",
    "EROFS": "Read-only file system",
    "ENAMETOOLONG": "File name too long",
    "ENOLCK": "No locks available",
    "EOPNOTSUPP": "not supported",
    "ENOSYS": "not implemented",
}


def struck(held_run: Command, held: Held, many: list[App], *injections: str) -> Ran:
    """A renewal of all, in which the first one's worker alone meets these injections."""
    held.hold(many[0].client_id)
    run = caught(held_run, held, "--refresh-ahead", "--json")
    options = [option for each in injections for option in ("-e", f"inject={each}")]
    calls = ",".join(each.partition(":")[0] for each in injections)
    with attached(run.worker, "-e", f"trace={calls}", *options):
        held.go.set()
        return wait(run.process)


AT_A_WRITE = (
    ("openat", "ENOSPC"),
    ("openat", "EDQUOT"),
    ("openat", "EROFS"),
    ("openat", "ENAMETOOLONG"),
    ("fchmod", "EIO"),
    ("write", "ENOSPC"),
    ("write", "EDQUOT"),
    ("write", "EIO"),
    ("fsync", "EIO"),
    ("fsync", "ENOSPC"),
    ("close", "EIO"),
    ("close", "EDQUOT"),
    ("renameat", "EIO"),
    ("renameat", "ENOSPC"),
    ("renameat", "ENAMETOOLONG"),
)


@tracing
@pytest.mark.parametrize(
    ("call", "error", "aged"),
    [
        *((call, error, True) for call, error in AT_A_WRITE),
        *((call, error, False) for call, error in AT_A_WRITE[::5]),  # without an old token
    ],
)
def test_a_write_that_fails_harms_its_own_identity_alone(
    held_project: Project, held_run: Command, held: Held, *, call: str, error: str, aged: bool
) -> None:
    """Whichever step fails: path and cause are told, the old file stays, the others are renewed."""
    many = apps(2)
    held_project.add_all(many)
    if aged:
        assert held_run().code == 0
        held_project.age(many[0].name, left=120)
        held_project.age(many[1].name, left=120)
    before = held_project.files()

    ran = struck(held_run, held, many, f"{call}:error={error}:when=1")

    result, other = (ran.results[app.name] for app in many)
    assert (ran.code, result["outcome"]) == ((78, "kept") if aged else (1, "failed")), ran
    assert result["error"]["kind"] == "storage"
    assert held_project.path(many[0].name).endswith(result["token_file"])
    assert f"{many[0].name}.json" in result["error"]["message"]
    assert WORDS[error] in result["error"]["message"]
    assert result["error"]["remedy"]
    assert other["outcome"] == "renewed"
    assert leftovers(held_project) == []
    after = held_project.files()
    assert after.get(f"{many[0].name}.json") == before.get(f"{many[0].name}.json")
    assert after[f"{many[1].name}.json"] != before.get(f"{many[1].name}.json")
    assert held_run("--refresh-ahead").code == 0


@tracing
def test_debris_that_cannot_be_removed_waits_for_the_next_run(
    held_project: Project, held_run: Command, held: Held
) -> None:
    """A disk that refuses the clearing up as well leaves a private file, and the next run none."""
    many = apps(1)
    held_project.add_all(many)

    ran = struck(held_run, held, many, "renameat:error=EIO", "unlinkat:error=EIO")

    assert ran.code == 1
    (left,) = leftovers(held_project)
    assert os.stat(os.path.join(held_project.output, left)).st_mode & 0o777 == 0o600
    assert held_run("--refresh-ahead").code == 0
    assert leftovers(held_project) == []


@tracing
def test_a_folder_that_cannot_be_synced_still_has_its_tokens(
    held_project: Project, held_run: Command, held: Held
) -> None:
    """The files are in place by then: a power cut could bring an old one back, nothing worse."""
    many = apps(1)
    held_project.add_all(many)
    held.hold()
    run = caught(held_run, held)
    with attached(run.main, "-e", "trace=fsync", "-e", "inject=fsync:error=EIO"):
        held.go.set()
        ran = wait(run.process)

    assert (ran.code, ran.stderr) == (0, "")
    assert json.loads(held_project.files()[f"{many[0].name}.json"])["access_token"]


@tracing
def test_what_is_renamed_has_been_synced_and_the_folder_is_synced_at_the_end(
    project: Project, run: Command, tmp_path: pathlib.Path
) -> None:
    """Else a power cut after a renewal could leave an empty file, or the old one for ever."""
    many = apps(3)
    project.add_all(many)
    log = tmp_path / "calls"
    prefix = ["strace", "-f", "-y", "-qq", "-o", str(log), "-e", "trace=fsync,renameat"]

    assert wait(run.start_line([*prefix, *run.line()])).code == 0

    synced: list[str] = []
    last = 0  # how many calls of fsync had begun when the last token file was renamed
    for call in log.read_text(encoding="utf-8").splitlines():
        if found := re.search(r"fsync\([0-9]+<([^>]*)>", call):
            synced.append(os.path.basename(found[1]))
        elif found := re.search(r'renameat\([^"]*"([^"]*)", [^"]*"([^"]*)"', call):
            assert found[1] in synced, call
            if found[2] in project.tokens():
                last = len(synced)
    assert last >= len(many)
    assert os.path.basename(project.output) in synced[last:]


@tracing
@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EIO"])
def test_a_file_system_without_locks_is_told(
    project: Project, run: Command, idp: Emulator, error: str
) -> None:
    """NFS and its like: without a lock nothing is requested, and no lock of another kind sticks."""
    serving, missing = apps(2)
    project.add_all([serving])
    assert run().code == 0
    project.age(serving.name, left=120)
    project.add(missing)
    before, asked = project.files(), len(idp.requests)
    prefix = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=flock"]

    ran = wait(
        run.start_line(
            [*prefix, "-e", f"inject=flock:error={error}", *run.line("--refresh-ahead", "--json")]
        )
    )

    assert (ran.code, ran.stderr) == (1, "")
    kept, failed = ran.results[serving.name], ran.results[missing.name]
    assert (kept["outcome"], failed["outcome"]) == ("kept", "failed")
    for result in (kept, failed):
        assert result["error"]["kind"] == "storage"
        assert ".credentials-provider.lock" in result["error"]["message"]
        assert WORDS[error] in result["error"]["message"]
        assert "locks" in result["error"]["remedy"]
    assert (len(idp.requests), project.files()) == (asked, before)
    assert run("--refresh-ahead", "--lock-timeout", "0").code == 0


@contextlib.contextmanager
def tmpfs(size: str) -> Iterator[str]:
    """A small file system of its own; root alone can make one."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", folder], check=True
        )
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)


def _can_mount() -> bool:
    try:
        with tmpfs("64k"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


mounting = pytest.mark.skipif(
    not (sys.platform == "linux" and os.geteuid() == 0 and _can_mount()),
    reason="needs root, to mount a small tmpfs",
)


@mounting
def test_a_checkout_on_a_full_disk_runs_later_too(project: Project) -> None:
    """A run that finds no room for its byte code leaves none that is cut off."""
    with tmpfs("4m") as folder:
        checkout = os.path.join(folder, "credentials-provider")
        shutil.copytree(PACKAGES, checkout, ignore=shutil.ignore_patterns("__pycache__"))
        filler = os.path.join(folder, "filler")
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            file.writelines(bytes(1 << 10) for _ in range(4096))
        with open(filler, "r+b") as file:
            file.truncate(os.path.getsize(filler) - (20 << 10))  # bytes for some of the modules
        line = [sys.executable, checkout, "status", "-i", project.identities_file]
        environment = {"PATH": os.environ["PATH"], "HOME": folder}

        full = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        os.unlink(filler)
        later = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)

        assert (full.returncode, later.returncode) == (2, 2), later.stderr
        assert later.stderr == full.stderr
        assert "EOFError" not in full.stderr


@mounting
def test_a_disk_that_is_full_and_then_is_not(project: Project, run: Command) -> None:
    """On a full file system each token says so; with room again the next run needs no help."""
    many = apps(3)
    project.add_all(many)
    with tmpfs("64k") as folder:
        filler = os.path.join(folder, "filler")
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            file.write(bytes(1 << 17))

        ran = run("-o", folder, "--json")

        assert ran.code == 1
        assert {each["error"]["kind"] for each in ran.json["results"]} == {"storage"}
        for each in ran.json["results"]:
            assert folder in each["error"]["message"]
            assert WORDS["ENOSPC"] in each["error"]["message"]
        assert set(os.listdir(folder)) <= {"filler", ".credentials-provider.lock"}
        os.unlink(filler)
        assert run("-o", folder, "--refresh-ahead").code == 0
        assert {f"{app.name}.json" for app in many} < set(os.listdir(folder))


@pytest.mark.skipif(
    not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat("/tmp").st_dev,
    reason="needs a second file system",
)
def test_the_output_folder_may_be_on_another_file_system(project: Project, run: Command) -> None:
    """Nothing is renamed across file systems: the temporary folder is not used at all."""
    (app,) = apps(1)
    project.add(app)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        ran = run("-o", folder, env={"TMPDIR": "/nonexistent"})

        assert ran.code == 0, ran.stderr
        assert f"{app.name}.json" in os.listdir(folder)


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("x" * 300, "File name too long"),
        ("/".join(["d" * 200] * 30), "File name too long"),
        ("file/deeper", "is not a folder"),
        ("dangling", "is a symbolic link"),
        ("loop", "is a symbolic link"),
        ("/proc/tokens", "cannot be made"),
        ("/dev/null", "is not a folder"),
    ],
    ids=[
        "long name",
        "long path",
        "below a file",
        "dangling link",
        "loop",
        "proc",
        "device",
    ],
)
def test_an_odd_output_folder_is_named(
    project: Project, run: Command, idp: Emulator, folder: str, says: str
) -> None:
    """What cannot be the output folder is told by its path, before anything is requested."""
    project.add_all(apps(1))
    project.private("file", "")
    os.symlink("nowhere/at/all", os.path.join(project.folder, "dangling"))
    os.symlink("loop", os.path.join(project.folder, "loop"))

    ran = run("-o", folder)

    assert ran.code in {1, 2}
    assert says in ran.stderr
    assert folder in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "unexpected" not in ran.stderr
    assert idp.connections == 0
