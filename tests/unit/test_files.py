"""Files that are written whole, in folders that are opened once; and what is not a file."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from credentials_provider.errors import StorageError
from credentials_provider.files import (
    TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX,
    Folder,
    make_folders,
    retry_denied,
    write_whole,
)
from credentials_provider.permissions import UntrustedOwnerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="folders are not opened elsewhere"),
    pytest.mark.timeout(30),
]
STRANGER = 12345
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def mask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("mask")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_new_folders_are_private_at_every_level(tmp_path: Path, umask: int) -> None:
    """Under any umask; those that are there stay as they are."""
    tmp_path.chmod(0o755)
    os.umask(umask)
    make_folders(str(tmp_path / "a" / "b" / "c"))
    os.umask(0)
    for name in ("a", "a/b", "a/b/c"):
        assert mode(tmp_path / name) == 0o700
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("name", ["", ".", "..", "../victim", "a/b", "/victim", "a\0b"])
def test_what_is_not_the_name_of_a_file_leads_out_of_no_folder(tmp_path: Path, name: str) -> None:
    """Neither to read nor to write nor to remove."""
    (tmp_path / "victim").write_text("theirs")
    (tmp_path / "folder").mkdir()
    folder = Folder(str(tmp_path / "folder"))
    with pytest.raises(StorageError):
        folder.write(name, "ours")
    for act in (folder.read, folder.remove):
        with pytest.raises(OSError, match="not the name of a file"):
            act(name)
    assert not folder.has(name)
    assert (tmp_path / "victim").read_text() == "theirs"


def test_what_is_done_in_a_folder_is_done_there_wherever_its_path_leads(tmp_path: Path) -> None:
    """Renamed, and a link in its place."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").mkdir()
    folder = Folder(str(tmp_path / "folder"))
    (tmp_path / "folder").rename(tmp_path / "moved")
    (tmp_path / "folder").symlink_to("elsewhere")
    folder.write("file", "ours")
    assert folder.names() == ["file"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    folder.remove("file")
    assert folder.names() == []


@root
def test_a_folder_of_somebody_else_is_not_opened(tmp_path: Path) -> None:
    """Nor one behind somebody else's link; a file that somebody named may lie there."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o777)
    os.chown(theirs, STRANGER, STRANGER)
    with pytest.raises(UntrustedOwnerError, match="theirs belongs to the user 12345"):
        Folder(str(theirs))
    (tmp_path / "real" / "ours").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    os.chown(tmp_path / "link", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(UntrustedOwnerError, match="link belongs to the user 12345"):
        Folder(str(tmp_path / "link" / "ours"))
    write_whole(str(theirs / "named"), "ours")
    assert (theirs / "named").stat().st_uid == 0


@root
def test_a_link_of_somebody_else_leads_no_file_of_ours_anywhere(tmp_path: Path) -> None:
    """What it leads to stays as it is."""
    (tmp_path / "victim").write_text("theirs")
    (tmp_path / "out").symlink_to("victim")
    os.chown(tmp_path / "out", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(UntrustedOwnerError, match="out belongs to the user 12345"):
        write_whole(str(tmp_path / "out"), "ours")
    assert (tmp_path / "victim").read_text() == "theirs"


def test_a_link_of_ours_stays_one_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    """Private, whatever it was before."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").touch(mode=0o644)
    (tmp_path / "link").symlink_to("real/file")
    write_whole(str(tmp_path / "link"), "ours")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "ours"
    assert mode(tmp_path / "real" / "file") == 0o600


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_file_in_a_temporary_files_place_is_never_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Even if somebody could guess its name: the secret would go where a link leads."""
    monkeypatch.setattr(os, "urandom", bytes)
    guessed = tmp_path / f"{TEMPORARY_PREFIX}{os.getpid()}-{bytes(6).hex()}{TEMPORARY_SUFFIX}"
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    if kind == "link":
        guessed.symlink_to("victim")
    else:
        guessed.hardlink_to(victim)
    with pytest.raises(StorageError, match="File exists"):
        Folder(str(tmp_path)).write("out", "ours")
    assert victim.read_text() == "theirs"
    assert not (tmp_path / "out").exists()


def test_a_device_stays_one(tmp_path: Path) -> None:
    """As does a link to one."""
    write_whole(os.devnull, "ours")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    (tmp_path / "link").symlink_to(os.devnull)
    write_whole(str(tmp_path / "link"), "ours")
    assert (tmp_path / "link").is_symlink()


def test_a_full_device_is_told(tmp_path: Path) -> None:
    """Not taken for written."""
    del tmp_path
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with pytest.raises(StorageError, match="No space left"):
        write_whole("/dev/full", "ours")


def test_a_pipe_gets_all_of_the_text_and_stays_one(tmp_path: Path) -> None:
    """More than it holds at once, too."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found = []
    reader = threading.Thread(target=lambda: found.append(path.read_text()))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # so that somebody reads from now on
    reader.start()
    write_whole(str(path), "x" * 200_000)
    os.close(descriptor)
    reader.join()
    assert sum(map(len, found)) == 200_000
    assert stat.S_ISFIFO(path.lstat().st_mode)


@pytest.mark.parametrize("reads", [False, True])
def test_a_pipe_that_nobody_reads_hangs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, reads: bool
) -> None:
    """Neither one that nobody opened nor one that is full."""
    monkeypatch.setattr("credentials_provider.files._WRITE_TIMEOUT", 0.05)
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK) if reads else -1
    with pytest.raises(StorageError, match="nobody reads from it"):
        write_whole(str(tmp_path / "pipe"), "x" * 2_000_000)
    if reads:
        os.close(descriptor)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="asks /proc")
def test_what_a_process_has_open_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """`--output /dev/stdout` behind `>file`: the shell's file, at its end."""
    with (tmp_path / "file").open("w") as file:
        file.write("before\n")
        file.flush()
        write_whole(f"/proc/self/fd/{file.fileno()}", "ours\n")
        same = os.fstat(file.fileno()).st_ino == (tmp_path / "file").stat().st_ino
    assert (tmp_path / "file").read_text() == "before\nours\n"
    assert same


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written there, and it is not replaced."""
    import socket

    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        with pytest.raises(StorageError, match="it is a socket or a disk"):
            write_whole("socket", "ours")
    assert stat.S_ISSOCK(os.lstat("socket").st_mode)


@root
def test_a_file_gets_its_mode_and_its_owner(tmp_path: Path) -> None:
    """As root may give it."""
    write_whole(str(tmp_path / "file"), "ours", 0o640, (STRANGER, 54321))
    found = (tmp_path / "file").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (STRANGER, 54321, 0o640)


def test_what_is_being_written_is_swept_by_nobody(tmp_path: Path) -> None:
    """Its writer holds a lock on it, whatever process or container that is; a dead one has none."""
    folder = Folder(str(tmp_path))
    descriptor, name = folder._create()
    Folder(str(tmp_path)).sweep()
    assert folder.names() == [name]
    os.close(descriptor)
    Folder(str(tmp_path)).sweep()
    assert folder.names() == []


def test_a_file_that_was_swept_before_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock it looks like one of a dead run."""
    made = []

    def lock(descriptor: int, **_: bool) -> None:
        del descriptor
        made.extend(os.listdir(tmp_path))
        if len(made) == 1:
            (tmp_path / made[0]).unlink()

    monkeypatch.setattr("credentials_provider.files.lock_file", lock)
    Folder(str(tmp_path)).write("file", "ours")
    assert len(made) == 2
    assert os.listdir(tmp_path) == ["file"]


def test_where_nothing_can_be_locked_only_what_is_old_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day old: older than any run."""

    def flock(descriptor: int, kind: int) -> None:
        del descriptor, kind
        raise OSError

    monkeypatch.setattr("fcntl.flock", flock)
    path = tmp_path / f"{TEMPORARY_PREFIX}1-2{TEMPORARY_SUFFIX}"
    path.touch()
    Folder(str(tmp_path)).sweep()
    assert path.exists()
    os.utime(path, (0, 0))
    Folder(str(tmp_path)).sweep()
    assert not path.exists()


def test_git_takes_nothing_out_of_a_folder_of_secrets(tmp_path: Path) -> None:
    """Whoever wrote another `.gitignore` there keeps it."""
    folder = Folder(str(tmp_path))
    folder.ignore_in_git()
    assert (tmp_path / ".gitignore").read_text() == "*\n"
    (tmp_path / ".gitignore").write_text("mine\n")
    folder.ignore_in_git()
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


class Read:
    """A file that a reader has open for the first so many times that it is to be replaced."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.slept: list[float] = []

    def replace(self) -> None:
        if self.left:
            self.left -= 1
            raise PermissionError(errno.EACCES, "The process cannot access the file")


@pytest.mark.parametrize("times", [0, 1, 5])
def test_on_windows_a_file_that_is_being_read_is_replaced_when_it_is_closed(times: int) -> None:
    """Readers have a file open for milliseconds."""
    read = Read(times)
    retry_denied(read.replace, windows=True, sleep=read.slept.append)
    assert len(read.slept) == times
    assert sum(read.slept) < 1


def test_a_file_that_is_read_for_ever_ends_in_an_error() -> None:
    """After a second; on other systems, where nobody's reading matters, at once."""
    read = Read(100)
    with pytest.raises(PermissionError):
        retry_denied(read.replace, windows=True, sleep=read.slept.append)
    assert sum(read.slept) == pytest.approx(1.27)
    read.slept.clear()
    with pytest.raises(PermissionError):
        retry_denied(read.replace, windows=False, sleep=read.slept.append)
    assert read.slept == []
