"""Token files: what the registry reads, private, whole or absent, whatever stands in the way."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.errors import ConfigurationError, LockBusyError, StorageError
from credentials_provider.files import (
    TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX,
    Folder,
    write_whole,
)
from credentials_provider.identities.reading import make_entry
from credentials_provider.model import TokenRecord
from credentials_provider.permissions import MAXIMUM_SIZE, UntrustedOwnerError
from credentials_provider.policy import LONGEST_LIFE
from credentials_provider.tokens.clock import CLOCK_TOLERANCE, Boot
from credentials_provider.tokens.plan import UNREADABLE
from credentials_provider.tokens.store import (
    LOCK_NAME,
    TokenStore,
    iso,
    parse_record,
    token_document,
)
from support import PACKAGES
from unit.making import LIFE, NOW, SECRET, Project, read_record, sample_fields, sample_minted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LEFTOVER = f"{TEMPORARY_PREFIX}4711-abcdef{TEMPORARY_SUFFIX}"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def document(project: Project) -> dict[str, Any]:
    entry = make_entry(1, sample_fields(), project.settings())
    return token_document(entry, sample_minted(), NOW + 2400)


# What the registry's readers do with a token file, as its contract has it.


def refresher(document: Any, now: float) -> float | None:
    """Seconds that the token refresher thinks are left; arithmetic on a null ends its cycle."""
    if not isinstance(document, dict) or "expires_at" not in document:
        return None
    expires_at = document["expires_at"]
    assert isinstance(document.get("provider"), str)
    if isinstance(expires_at, str):
        expires_at = datetime.fromisoformat(expires_at.replace("Z", "+00:00")).timestamp()
    left = expires_at - now
    assert isinstance(left, float)
    return left


def command_line(document: dict[str, Any], now: float) -> str | None:
    """The registry's CLI: the nested form preferred, `expires_at` an epoch number."""
    tokens = document.get("tokens", document)
    return tokens["access_token"] if tokens["expires_at"] > now else None


def agent_management(document: dict[str, Any]) -> str:
    """The agents' CLI and the scan scripts: flat, `access_token` or `token`."""
    token = document.get("access_token") or document["token"]
    assert isinstance(token, str)
    return token


def management(document: dict[str, Any]) -> str:
    """registry_management.py: flat, then `tokens`, then `token_data`."""
    for place in (document, document.get("tokens", {}), document.get("token_data", {})):
        if token := place.get("access_token"):
            assert isinstance(token, str)
            return token
    raise AssertionError


def test_every_reader_of_the_registry_finds_the_token_and_its_end(
    document: dict[str, Any],
) -> None:
    """The refresher, both command lines, the management script and the test clients."""
    token = sample_minted().access_token
    assert refresher(document, NOW) == LIFE
    assert command_line(document, NOW) == token
    assert command_line(document, NOW + LIFE) is None
    assert agent_management(document) == token
    assert management(document) == token
    assert document["tokens"]["access_token"] == token


def test_a_token_file_holds_what_the_design_says(document: dict[str, Any]) -> None:
    """Times in UTC with offset, a whole `expires_in`, nothing null, no secret."""
    boot: dict[str, Any] = {
        name: document[name] for name in ("boot_id", "booted_at") if name in document
    }
    assert document == {
        "identity_name": "ci",
        "access_token": sample_minted().access_token,
        "token_type": "Bearer",
        "expires_in": 3600,
        "generated_at": "2027-01-15T08:00:00+00:00",
        "expires_at": "2027-01-15T09:00:00+00:00",
        "refresh_at": "2027-01-15T08:40:00+00:00",
        "expires_on": NOW + 3600,
        "provider": "entra",
        "tenant_id": sample_fields()["tenant_id"],
        "client_id": sample_fields()["client_id"],
        "scope": sample_fields()["scope"],
        "definition": document["definition"],
        "clock_skew": 0,
        **boot,
        "tokens": {"access_token": sample_minted().access_token, "expires_at": NOW + 3600},
    }
    assert SECRET not in json.dumps(document)


@given(issued_at=st.integers(0, 2**34), life=st.integers(1, LONGEST_LIFE), part=st.floats(0, 1))
def test_what_was_written_is_read_back(
    issued_at: int, life: int, part: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every time to the second, and whose definition it is."""
    project = Project(tmp_path_factory.mktemp("project"))
    refresh_at = issued_at + int(part * life)
    project.token("ci", issued_at=issued_at, life=life, renew_at=refresh_at)
    fingerprint = make_entry(1, sample_fields(), project.settings()).fingerprint
    expected = TokenRecord(issued_at, issued_at + life, refresh_at, fingerprint)
    assert read_record(str(project.path("ci"))) == expected


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_files_are_private_under_any_umask(
    tmp_path: Path, document: dict[str, Any], mask: int
) -> None:
    """Folder 0700, token file and lock 0600: neither wider nor narrower."""
    folder = tmp_path / "out"
    store = TokenStore(str(folder))
    with umask(mask):
        with store.lock(1):
            store.write("ci", document)
            store.sync()
        assert mode(folder) == 0o700
        assert mode(folder / "ci.json") == 0o600
        assert mode(folder / LOCK_NAME) == 0o600
    assert store.document("ci.json") == document


def test_a_file_that_others_could_read_is_private_after_it_was_replaced(project: Project) -> None:
    """The old one's mode does not live on."""
    project.path("ci").write_text("{}")
    project.path("ci").chmod(0o666)
    write_whole(str(project.path("ci")), "new")
    assert mode(project.path("ci")) == 0o600


def test_a_new_file_is_never_open_to_others_even_for_an_instant(project: Project) -> None:
    """Somebody who watches the folder all the time sees modes of ours alone."""
    seen: set[int] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for name in os.listdir(project.folder):
                with contextlib.suppress(FileNotFoundError):
                    seen.add(mode(project.folder / name))

    with umask(0):
        watcher = threading.Thread(target=look)
        watcher.start()
        for number in range(200):
            write_whole(str(project.path(f"ci{number % 3}")), "content")
        done.set()
        watcher.join()
    assert seen <= {0o600}


def test_a_reader_sees_the_old_file_or_the_new_one(project: Project) -> None:
    """Never a part of one, however often it is replaced."""
    texts = [json.dumps({"access_token": letter * 50_000}) for letter in "ab"]
    path = project.path("ci")
    write_whole(str(path), texts[0])
    seen: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        write_whole(str(path), texts[number % 2])
    done.set()
    reader.join()
    assert seen <= set(texts)


def a_link(project: Project, path: Path) -> None:
    path.symlink_to(project.root / "elsewhere")


def a_dangling_link(project: Project, path: Path) -> None:
    path.symlink_to(project.root / "nowhere")


def a_loop(project: Project, path: Path) -> None:
    del project
    path.symlink_to(path)


def a_hard_link(project: Project, path: Path) -> None:
    path.hardlink_to(project.root / "elsewhere")


def a_pipe(project: Project, path: Path) -> None:
    del project
    os.mkfifo(path)


def a_huge_file(project: Project, path: Path) -> None:
    del project
    with path.open("wb") as file:
        file.truncate(1 << 40)


def binary(project: Project, path: Path) -> None:
    del project
    path.write_bytes(bytes(range(256)))


def nothing(project: Project, path: Path) -> None:
    del project
    path.touch()


def an_array(project: Project, path: Path) -> None:
    del project
    path.write_text("[]")


def deep(project: Project, path: Path) -> None:
    del project
    path.write_text("[" * 100_000)


def just_too_large(project: Project, path: Path) -> None:
    project.token("ci", padding="x" * MAXIMUM_SIZE)
    assert path.exists()


def a_folder(project: Project, path: Path) -> None:
    del project
    path.mkdir()


REPLACED = [
    *(a_link, a_dangling_link, a_loop, a_hard_link, a_pipe, a_huge_file, binary, nothing),
    *(an_array, deep, just_too_large),
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("put", [*REPLACED, a_folder])
def test_what_is_no_token_file_is_unreadable_and_read_at_once(
    project: Project, put: Callable[[Project, Path], None]
) -> None:
    """Nothing is followed, waited for, or read without end."""
    (project.root / "elsewhere").write_text("somebody else's")
    put(project, project.path("ci"))
    assert read_record(str(project.path("ci"))) is UNREADABLE
    found, leftovers = TokenStore(str(project.folder)).read(["ci", "other"])
    assert (found, leftovers) == ({"ci": UNREADABLE}, False)


def test_a_link_to_a_good_token_file_is_not_read(project: Project) -> None:
    """Who put it there may change what it leads to."""
    project.token("ci")
    project.path("linked").symlink_to(project.path("ci"))
    assert read_record(str(project.path("linked"))) is UNREADABLE


@pytest.mark.timeout(20)
@pytest.mark.parametrize("put", REPLACED)
def test_what_stands_in_the_way_is_replaced_and_not_followed(
    project: Project, put: Callable[[Project, Path], None]
) -> None:
    """What a link led to is as it was."""
    elsewhere = project.root / "elsewhere"
    elsewhere.write_text("somebody else's")
    put(project, project.path("ci"))
    Folder(str(project.folder)).write("ci.json", "new")
    assert project.path("ci").read_text() == "new"
    assert stat.S_ISREG(project.path("ci").lstat().st_mode)
    assert mode(project.path("ci")) == 0o600
    assert elsewhere.read_text() == "somebody else's"
    assert not (project.root / "nowhere").exists()


def test_a_folder_in_a_token_files_place_is_a_storage_error(project: Project) -> None:
    """It stays as it is, and nothing half is left beside it."""
    (project.path("ci") / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot be written") as error:
        write_whole(str(project.path("ci")), SECRET)
    assert project.names() == {"ci.json"}
    assert (project.path("ci") / "inside").is_dir()
    assert error.value.hint
    assert SECRET not in str(error.value)


MOUNTED = """
import subprocess, sys
from credentials_provider.errors import StorageError
from credentials_provider.files import write_whole
subprocess.run(["mount", "--bind", sys.argv[1], sys.argv[2]], check=True)
try:
    write_whole(sys.argv[2], "new")
except StorageError as error:
    print(error.hint)
"""


@pytest.mark.skipif(
    shutil.which("unshare") is None or os.geteuid() != 0, reason="a mount needs root"
)
def test_a_file_that_is_mounted_by_itself_is_told_what_to_mount(tmp_path: Path) -> None:
    """A container's usual mistake: the file cannot be replaced there."""
    for name in ("source", "ci.json"):
        (tmp_path / name).write_text("old")
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", MOUNTED, tmp_path / "source", tmp_path / "ci.json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "mount the folder" in done.stdout
    assert (tmp_path / "ci.json").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["ci.json", "source"]


def test_writing_into_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    """It was there when the run began."""
    with pytest.raises(StorageError, match="No such file"):
        write_whole(str(tmp_path / "gone" / "ci.json"), "new")


FULL = """
import resource, signal, sys
from credentials_provider.errors import StorageError
from credentials_provider.files import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(sys.argv[1], "x" * 5000)
except StorageError as error:
    print(error.message)
"""


def python(code: str, *arguments: str) -> str:
    package = os.path.dirname(os.path.dirname(sys.modules["credentials_provider"].__file__ or ""))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": package}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_when_there_is_no_space_the_old_file_stays_whole(project: Project) -> None:
    """And nothing of the new one is left."""
    before = project.token("ci")
    assert "cannot be written: File too large" in python(FULL, str(project.path("ci")))
    assert project.path("ci").read_bytes() == before
    assert project.names() == {"ci.json"}


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which descriptors are open")
def test_when_no_file_can_be_opened_the_old_one_stays(project: Project) -> None:
    """Reading says so rather than taking every token for missing."""
    before = project.token("ci")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        with contextlib.suppress(OSError):
            while True:
                stack.callback(os.close, os.dup(0))
        with pytest.raises(StorageError, match="Too many open files"):
            write_whole(str(project.path("ci")), "new")
        with pytest.raises(ConfigurationError, match="cannot be read: Too many open files"):
            TokenStore(str(project.folder)).read(["ci"])
    assert project.path("ci").read_bytes() == before


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    """And reading makes none."""
    store = TokenStore(str(tmp_path / "none"))
    assert store.read(["ci"]) == ({}, False)
    assert not store.open_to_others()
    assert not (tmp_path / "none").exists()


def test_only_what_was_asked_for_is_read(project: Project) -> None:
    """A file whose name differs in case is that name's file only where the file system says so."""
    project.token("ci")
    project.token("other")
    found, _ = TokenStore(str(project.folder)).read(["ci", "OTHER", "absent"])
    assert isinstance(found["ci"], TokenRecord)
    assert found.get("OTHER") is None
    assert "absent" not in found
    assert "other" not in found


def test_a_file_in_the_output_folders_place_is_a_configuration_error(tmp_path: Path) -> None:
    """For reading and for writing; so is one above it."""
    (tmp_path / "file").touch(mode=0o600)
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        store = TokenStore(str(folder))
        with pytest.raises(ConfigurationError, match="is not a folder"):
            store.read(["ci"])
        with pytest.raises((ConfigurationError, StorageError)), store.lock(0):
            pass
    (tmp_path / "file").chmod(0o644)
    with (
        pytest.raises(ConfigurationError, match="a file is in the way"),
        TokenStore(str(tmp_path / "file")).lock(0),
    ):
        pass


@pytest.mark.parametrize("leads_to", ["nowhere", "folder"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_an_output_folder_that_is_a_link_is_refused(
    tmp_path: Path, leads_to: str, slash: str
) -> None:
    """It is neither followed nor closed nor made where it leads."""
    (tmp_path / "folder").mkdir(mode=0o755)
    (tmp_path / "out").symlink_to(tmp_path / leads_to)
    store = TokenStore(f"{tmp_path / 'out'}{slash}")
    with pytest.raises(ConfigurationError, match="is a symbolic link"), store.lock(0):
        pass
    if leads_to == "folder":
        with pytest.raises(ConfigurationError, match="is a symbolic link"):
            store.read(["ci"])
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "out"}
    assert mode(tmp_path / "folder") == 0o755
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize("put", [a_folder, a_link, a_dangling_link])
def test_a_lock_that_cannot_be_taken_is_a_storage_error(
    project: Project, put: Callable[[Project, Path], None]
) -> None:
    """A folder or a link in its place: a link is not followed."""
    (project.root / "elsewhere").write_text("somebody else's")
    put(project, project.folder / LOCK_NAME)
    with (
        pytest.raises(StorageError, match="cannot be locked"),
        TokenStore(str(project.folder)).lock(0.1),
    ):
        pass
    assert (project.root / "elsewhere").read_text() == "somebody else's"
    assert not (project.root / "nowhere").exists()


def test_a_busy_lock_is_told_after_the_time_it_was_waited_for(project: Project) -> None:
    """With who holds it named by its file; then it is free for the next."""
    store = TokenStore(str(project.folder))
    with FileLock(str(project.folder / LOCK_NAME)):
        for timeout in (0, 0.05):
            with (
                pytest.raises(LockBusyError, match=f"has held .* for {timeout} s"),
                store.lock(timeout),
            ):
                pass
    with store.lock(0):
        pass
    with store.lock(0):
        pass


FORKED = """
import os, sys
from credentials_provider.tokens.store import TokenStore
store = TokenStore(sys.argv[1])
with store.lock(0):
    before, after = os.pipe()
    child = os.fork()
    if not child:
        os.close(after)
        os.read(before, 1)
        os._exit(0)
with store.lock(0):
    print("free")
os.close(after)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_lock_is_free_though_a_fork_has_inherited_it(project: Project) -> None:
    """As a web server that renews while it starts a worker."""
    line = [sys.executable, "-c", FORKED, str(project.folder)]
    done = subprocess.run(
        line, env={"PYTHONPATH": PACKAGES}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("free\n", "")


def test_a_lock_is_free_after_its_holder_failed(project: Project) -> None:
    """Whatever ended it."""
    store = TokenStore(str(project.folder))
    with pytest.raises(KeyboardInterrupt), store.lock(0):
        raise KeyboardInterrupt
    with store.lock(0):
        pass


def test_sweeping_removes_what_a_killed_run_left_and_nothing_else(project: Project) -> None:
    """Names of others that look a little like ours stay."""
    others = {
        "ci.json",
        ".credentials-provider.tmp",
        f"{TEMPORARY_PREFIX}notes",
        f"x{TEMPORARY_PREFIX}1{TEMPORARY_SUFFIX}",
        "a.tmp",
        LOCK_NAME,
    }
    for name in {*others, LEFTOVER}:
        (project.folder / name).touch()
    (project.folder / f"{TEMPORARY_PREFIX}folder{TEMPORARY_SUFFIX}").mkdir()
    store = TokenStore(str(project.folder))
    assert store.read([])[1]
    store.sweep()
    assert {path.name for path in project.folder.iterdir() if path.is_file()} == others


def test_a_leftover_that_is_a_link_is_removed_and_not_what_it_leads_to(project: Project) -> None:
    """A link is swept as a link."""
    (project.root / "elsewhere").touch()
    a_link(project, project.folder / LEFTOVER)
    TokenStore(str(project.folder)).sweep()
    assert not os.path.lexists(project.folder / LEFTOVER)
    assert (project.root / "elsewhere").exists()


def test_sweeping_or_syncing_a_folder_that_is_gone_is_nothing(tmp_path: Path) -> None:
    """The run's result does not depend on it."""
    store = TokenStore(str(tmp_path / "gone"))
    store.sweep()
    store.sync()


@pytest.mark.parametrize(
    "content", [[], ["ci.json", ".env", "demo", LOCK_NAME]], ids=["empty", "ours"]
)
@pytest.mark.parametrize("wide", [0o755, 0o770, 0o777, 0o701])
def test_a_folder_of_ours_is_closed(project: Project, wide: int, content: list[str]) -> None:
    """What git checks out is open to all."""
    for name in content:
        (project.folder / name).touch()
    project.folder.chmod(wide)
    store = TokenStore(str(project.folder))
    assert store.open_to_others()
    with store.lock(0):
        pass
    assert mode(project.folder) == 0o700
    assert not store.open_to_others()


@pytest.mark.parametrize(
    ("wide", "content"), [(0o1777, None), (0o755, "notes.txt"), (0o775, "bin")], ids=str
)
def test_a_folder_that_is_not_ours_alone_is_left_as_it_is(
    project: Project, wide: int, content: str | None
) -> None:
    """A shared one (sticky), or one that holds other things; it is told instead."""
    if content:
        (project.folder / content).touch()
    project.folder.chmod(wide)
    store = TokenStore(str(project.folder))
    with store.lock(0):
        pass
    assert mode(project.folder) == wide
    assert store.open_to_others()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(project: Project) -> None:
    """Whoever owns it could put another folder, or other files, in its place."""
    os.chown(project.folder, 12345, 12345)
    project.folder.chmod(0o770)
    store = TokenStore(str(project.folder))
    with pytest.raises(UntrustedOwnerError, match="belongs to the user 12345"), store.lock(0):
        pass
    with pytest.raises(UntrustedOwnerError, match="belongs to the user 12345"):
        store.read(["ci"])
    assert mode(project.folder) == 0o770
    assert not list(project.folder.iterdir())


NAN = float("nan")
WRONG: dict[str, list[Any]] = {
    "access_token": [..., None, "", 5, ["x"]],
    "generated_at": [
        *(..., None, "", "soon", True, [], NAN, iso(NOW - 10 * LIFE), "0001-01-01T00:00:00"),
    ],
    "expires_at": [
        *(..., None, "soon", NAN, 10**400, {}, iso(NOW + 10 * LIFE), "9999-12-31T23:59:59-12:00"),
    ],
    "refresh_at": [..., None, "soon", iso(NOW - 61), iso(NOW + LIFE)],
    "expires_on": [..., None, "soon", NAN, NOW, 10**400, NOW - 60 + LIFE + 3],
    "expires_in": [..., None, "3600", NAN, 60, -LIFE, 10**400],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_times_that_are_missing_senseless_or_at_odds_make_a_file_unreadable(
    project: Project, field: str, value: object
) -> None:
    """A file that somebody edited is not believed in part."""
    changes: dict[str, Any] = {field: value}
    project.token("ci", **changes)
    assert read_record(str(project.path("ci"))) is UNREADABLE


@pytest.mark.parametrize("off", [-2, 0, 2])
def test_times_may_differ_by_a_rounding(project: Project, off: int) -> None:
    """Two seconds."""
    project.token("ci", expires_on=NOW - 60 + LIFE + off, expires_in=LIFE - off)
    assert isinstance(read_record(str(project.path("ci"))), TokenRecord)


@pytest.mark.parametrize(
    ("expires_at", "epoch"),
    [
        (NOW + 5, NOW + 5),
        (NOW + 5.5, NOW + 5.5),
        ("2027-01-15T08:00:05+00:00", NOW + 5),
        ("2027-01-15T08:00:05Z", NOW + 5),
        ("2027-01-15T09:00:05+01:00", NOW + 5),
        (datetime.fromtimestamp(NOW + 5, tz=timezone.utc).astimezone().isoformat(), NOW + 5),
        (
            datetime.fromtimestamp(NOW + 5, tz=timezone.utc)
            .astimezone()
            .replace(tzinfo=None)
            .isoformat(),
            NOW + 5,
        ),
    ],
)
def test_a_token_file_of_the_registrys_own_generator_is_taken_at_its_word(
    project: Project, expires_at: object, epoch: float
) -> None:
    """A number, a time with offset, or a naive one, which is local; its definition is unknown."""
    project.path("ci").write_text(json.dumps({"access_token": "x", "expires_at": expires_at}))
    assert read_record(str(project.path("ci"))) == TokenRecord(0, epoch, epoch, None)


@pytest.mark.parametrize("expires_at", [True, None, [], "soon", 2**53, -(2**53), NAN])
def test_a_time_that_is_none_makes_a_token_file_of_the_registry_unreadable(
    project: Project, expires_at: object
) -> None:
    """A truth value is no second of 1970."""
    project.path("ci").write_text(json.dumps({"access_token": "x", "expires_at": expires_at}))
    assert read_record(str(project.path("ci"))) is UNREADABLE


@pytest.mark.parametrize("boot_id", [..., None, 5, "another machine, or an earlier start"])
def test_a_token_file_of_another_machine_is_believed_as_it_is(
    project: Project, boot_id: object
) -> None:
    """Nobody knows whether that one's clock was set."""
    changes: dict[str, Any] = {"boot_id": boot_id, "booted_at": 1.0}
    project.token("ci", **changes)
    record = read_record(str(project.path("ci")))
    assert isinstance(record, TokenRecord)
    assert (record.expires_on, record.clock_was_set) == (NOW - 60 + LIFE, False)


@pytest.mark.parametrize(
    ("by", "was_set"),
    [(0, False), (CLOCK_TOLERANCE, False), (-CLOCK_TOLERANCE, False), (11, True), (-11, True)],
)
def test_a_clock_that_was_set_since_the_mint_is_noticed(
    project: Project, by: float, *, was_set: bool
) -> None:
    """By more than is tolerated, in either direction."""
    project.token("ci", boot_id="this one", booted_at=1000.0)
    record = parse_record(project.document("ci"), Boot("this one", 1000.0 + by))
    assert isinstance(record, TokenRecord)
    assert record.clock_was_set is was_set


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(
    changes=st.dictionaries(
        st.sampled_from(
            ["access_token", "definition", "expires_at", "expires_in", "expires_on", "refresh_at"]
        ),
        JSON,
    )
)
def test_any_document_is_a_record_or_unreadable(
    changes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No exception, and no record whose times are at odds."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.token("ci", **changes)
    record = read_record(str(project.path("ci")))
    if isinstance(record, TokenRecord):
        assert record.refresh_at <= record.expires_on
        assert record.fingerprint is None or record.generated_at <= record.refresh_at
    else:
        assert record is UNREADABLE


def test_a_folder_that_was_replaced_before_its_lock_is_told(project: Project) -> None:
    """The lock has a path: it must be the lock of the folder that was opened."""
    store = TokenStore(str(project.folder))
    store.read([])
    project.folder.rename(project.root / "moved")
    project.folder.mkdir(mode=0o700)
    with pytest.raises(StorageError, match="was replaced while this run used it"), store.lock(0):
        pass
    assert "ci.json" not in os.listdir(project.folder)
    with TokenStore(str(project.folder)).lock(0):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_token_file_of_somebody_else_is_not_believed(project: Project) -> None:
    """Whatever stands in it; its owner was not asked by anybody."""
    project.token("ci")
    assert isinstance(read_record(str(project.path("ci"))), TokenRecord)
    os.chown(project.path("ci"), 12345, 12345)
    assert read_record(str(project.path("ci"))) is UNREADABLE
    assert TokenStore(str(project.folder)).document("ci.json") is None


def test_a_repository_is_neither_closed_nor_hidden_from_git(project: Project) -> None:
    """It may hold files with the same endings as a folder of tokens."""
    (project.folder / ".git").mkdir()
    (project.folder / "package.json").touch()
    project.folder.chmod(0o755)
    with TokenStore(str(project.folder)).lock(0):
        pass
    assert mode(project.folder) == 0o755
    assert not (project.folder / ".gitignore").exists()
