"""Whose files count, and how a file is read: by rule, bounded, without ever waiting."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from credentials_provider import permissions
from credentials_provider.errors import ConfigurationError
from credentials_provider.permissions import (
    Content,
    UntrustedOwnerError,
    check_links,
    is_open,
    is_open_at,
    is_trusted,
    open_folder_of,
    read_file,
    trust_owner,
    trusted_owners,
)
from unit.making import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners are POSIX's")
STRANGER = 12345
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture(autouse=True)
def named() -> Iterator[None]:
    """No owner is named before or after a test."""
    permissions._named.clear()
    yield
    permissions._named.clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


def test_this_user_and_root_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody else."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert is_trusted(1000)
    assert is_trusted(0)
    assert not is_trusted(1001)


def test_an_owner_who_was_named_counts_by_name_and_by_number() -> None:
    """Both are handed on as they were given."""
    assert not is_trusted(STRANGER)
    trust_owner(str(STRANGER))
    trust_owner("root")
    assert is_trusted(STRANGER)
    assert trusted_owners() == (str(STRANGER), "root")


@pytest.mark.parametrize("name", ["nobody-of-this-name", "", "-1", "1.0", "\u0663"])
def test_an_owner_that_does_not_exist_cannot_be_named(name: str) -> None:
    """A misspelt name would trust nobody in silence; another script's digits would trust one."""
    with pytest.raises(ConfigurationError, match=f"no user {name!r}"):
        trust_owner(name)
    assert trusted_owners() == ()


@pytest.mark.parametrize(("user", "counts"), [(0, True), (1000, False)])
def test_who_typed_sudo_counts_for_root_alone(
    monkeypatch: pytest.MonkeyPatch, user: int, *, counts: bool
) -> None:
    """For another user the variable is only what somebody wrote."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    assert is_trusted(STRANGER) is counts
    assert not is_trusted(STRANGER + 1)


def test_the_overflow_user_counts_only_where_every_owner_has_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a user namespace it stands for everybody who is not mapped."""
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    monkeypatch.setattr(permissions, "_every_owner_is_mapped", lambda: True)
    assert is_trusted(65534)
    monkeypatch.setattr(permissions, "_every_owner_is_mapped", lambda: False)
    assert not is_trusted(65534)
    assert is_trusted(0)
    trust_owner("65534")
    assert is_trusted(65534)


def test_a_file_is_read_whole_with_its_mode(file: Path) -> None:
    """Its content is in no repr."""
    content = read_file(str(file))
    assert content is not None
    assert (content.data, content.text(), stat.S_IMODE(content.mode)) == (
        SECRET.encode(),
        SECRET,
        0o600,
    )
    assert SECRET not in repr(content)


def test_a_file_is_read_though_the_working_directory_is_gone(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its full path."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert read_file(str(file)) is not None


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    """It is for the caller to say what that means."""
    assert read_file(str(tmp_path / "none")) is None


@root
def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    """By file and owner, never by content; what is only shown may be anybody's."""
    os.chown(file, STRANGER, STRANGER)
    with pytest.raises(UntrustedOwnerError, match=f"{file} belongs to the user 12345") as error:
        read_file(str(file))
    assert "--trust-owner 12345" in str(error.value.hint)
    assert SECRET not in f"{error.value} {error.value.hint}"
    assert read_file(str(file), owned=False) is not None
    trust_owner(str(STRANGER))
    assert read_file(str(file)) is not None


@root
@pytest.mark.parametrize("place", ["file", "folder", "behind a link of ours"])
def test_a_link_of_somebody_else_is_refused_wherever_it_stands(
    tmp_path: Path, file: Path, place: str
) -> None:
    """Who made it decides which of our own files is read."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path if place == "folder" else file)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    path = link / "file" if place == "folder" else link
    if place == "behind a link of ours":
        path = tmp_path / "ours"
        path.symlink_to("link")
    with pytest.raises(UntrustedOwnerError, match="link belongs to the user 12345"):
        read_file(str(path))
    assert read_file(str(path), owned=False) is not None


def test_links_of_ours_are_followed_as_kubernetes_makes_them(tmp_path: Path) -> None:
    """A projected secret is reached through `..data`, which leads to a folder with a date."""
    (tmp_path / "..2026_11_25").mkdir()
    (tmp_path / "..2026_11_25" / "secret").write_text(SECRET)
    (tmp_path / "..data").symlink_to("..2026_11_25")
    (tmp_path / "secret").symlink_to("..data/secret")
    content = read_file(str(tmp_path / "secret"))
    assert content is not None
    assert content.text() == SECRET
    found = [os.path.basename(each) for each in check_links(str(tmp_path / "secret"))]
    assert found[-2:] == ["secret", "..data"]


@pytest.mark.parametrize(
    ("way", "found"),
    [
        ("folder/../link", ["link"]),
        ("./link/./none", ["link"]),
        ("link/../link", ["link", "link"]),
        ("far/../inner", ["far", "deep/inner"]),
        ("folder/link", []),
    ],
)
def test_links_are_found_on_any_way(tmp_path: Path, way: str, found: list[str]) -> None:
    """A step up from where a link leads is one from there."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "far").symlink_to(tmp_path / "deep" / "down")
    (tmp_path / "deep" / "inner").symlink_to("down")
    here = os.path.realpath(tmp_path)
    assert check_links(f"{here}/{way}") == [f"{here}/{each}" for each in found]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    """With the system's own words."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ConfigurationError, match="Too many levels of symbolic links"):
        read_file(str(tmp_path / "a"))


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def too_much(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(101)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("put", "says"),
    [
        (a_folder, "cannot be read: Is a directory"),
        (a_pipe, "is not a regular file"),
        (a_link_to_a_device, "is not a regular file"),
        (too_much, "is too large: more than 100 bytes"),
    ],
)
def test_what_is_no_file_to_read_is_refused_at_once(
    tmp_path: Path, put: Callable[[Path], None], says: str
) -> None:
    """Nobody waits for a pipe's other end, and nothing endless is read."""
    put(tmp_path / "odd")
    with pytest.raises(ConfigurationError, match=says) as error:
        read_file(str(tmp_path / "odd"), maximum=100)
    assert error.value.hint


def test_a_file_of_just_the_largest_size_is_read(file: Path) -> None:
    """One byte less is allowed than is refused."""
    assert read_file(str(file), maximum=len(SECRET)) is not None
    with pytest.raises(ConfigurationError, match="too large"):
        read_file(str(file), maximum=len(SECRET) - 1)


def test_a_file_without_a_size_is_read_whole() -> None:
    """As those below /proc are."""
    content = read_file("/proc/self/status")
    assert content is not None
    assert content.data.count(b"\n") > 5


def test_a_path_that_is_none_is_refused() -> None:
    """As configuration, not by an exception of Python's."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_file("a\0b")


def test_what_is_not_utf_8_is_refused_without_its_content() -> None:
    """Another encoding is the usual cause."""
    content = Content("name", SECRET.encode("utf-16"), 0o600)
    with pytest.raises(ConfigurationError, match="name cannot be read: it is not UTF-8") as error:
        content.text()
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("mode", "others", "everybody"),
    [
        (0o600, False, False),
        (0o640, True, False),
        (0o604, True, True),
        (0o602, True, True),
        (0o610, True, False),
    ],
)
def test_who_else_the_bits_let_in(file: Path, mode: int, *, others: bool, everybody: bool) -> None:
    """Group and everybody, or everybody alone."""
    assert is_open(mode) is others
    assert is_open(mode, permissions.EVERYBODY) is everybody
    file.chmod(mode)
    assert is_open_at(str(file)) is others
    assert not is_open_at(f"{file}-none")


@pytest.mark.parametrize(
    ("mode", "is_told"), [(0o700, False), (0o775, False), (0o707, True), (0o1777, False)]
)
def test_a_folder_where_everybody_can_replace_a_file_is_told(
    tmp_path: Path, mode: int, *, is_told: bool
) -> None:
    """Not a sticky one: there, only a file's owner can."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    assert open_folder_of(str(folder / "file")) == (str(folder) if is_told else None)


@pytest.mark.parametrize("path", ["none/file", "a\0b/file"])
def test_a_path_that_leads_nowhere_is_open_to_nobody(path: str) -> None:
    """Whoever reads it says what is wrong."""
    assert open_folder_of(path) is None
    assert not is_open_at(path)
