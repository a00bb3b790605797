"""The output folder, what is in it, and who else can read it."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from credentials_provider.diagnostics.doctor.checks import Check
from credentials_provider.errors import ConfigurationError, quoted
from credentials_provider.permissions import is_open_at
from credentials_provider.tokens.store import LOCK_NAME, TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from credentials_provider.diagnostics.doctor.checks import Examination

_ROOM = 1 << 20  # bytes; a token file has some thousand
_MOST_PATHS = 10  # in one cure


def files(exam: Examination) -> Iterator[Check]:
    """Whether the next run can write, and whether others can read what it wrote."""
    folder = exam.settings.output_dir
    exists = os.path.lexists(folder)
    found = list(_folder(folder)) if exists else []
    yield from found
    if not exists:
        yield Check("files", "ok", f"the first run makes {folder}")
    yield from _open(exam.settings.identities_file, folder)
    if exists and not found:
        yield Check("files", "ok", f"{folder} can be written")


def _folder(folder: str) -> Iterator[Check]:
    try:
        TokenStore(folder).names()
    except ConfigurationError as error:  # a link, a file, or another user's
        yield Check("files", "failure", error.message, error.hint or "")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        seen = f"{folder} cannot be written by {_user()}"
        cure = "Run as its owner, or name another folder with --output-dir."
        yield Check("files", "failure", seen, cure)
        return
    if hasattr(os, "statvfs"):
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize < _ROOM or (room.f_files and not room.f_favail):
            cure = "Make room, or name a folder on another disk with --output-dir."
            yield Check("files", "failure", f"the disk of {folder} is full", cure)
    unreadable = [
        path for path in _tokens(folder) if os.path.isfile(path) and not os.access(path, os.R_OK)
    ]
    if unreadable:
        seen = f"{_user()} cannot read {_some(unreadable)}"
        cure = f"Give them to the user of the timer: sudo chown USER {_words(unreadable)}"
        yield Check("files", "failure", seen, cure)
    yield from _lock(folder)


def _lock(folder: str) -> Iterator[Check]:
    """Whether another process keeps every run waiting (proc(5), /proc/locks)."""
    try:
        inode = os.stat(os.path.join(folder, LOCK_NAME)).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            held = [line.split() for line in file]
    except OSError:
        return
    for words in held:
        # One that waits for the lock has an arrow there.
        if words[1:2] == ["FLOCK"] and any(each.endswith(f":{inode}") for each in words):
            seen = f"process {words[4]} holds the lock of {folder}; a run waits until it ends"
            cure = f"If that is not a run at work (ps -fp {words[4]}), end that process."
            yield Check("files", "warning", seen, cure)


def _open(identities_file: str, folder: str) -> Iterator[Check]:
    tokens = list(_tokens(folder))
    wide = [path for path in dict.fromkeys((identities_file, *tokens)) if is_open_at(path)]
    if wide:
        seen = f"other users can read {_some(wide)}"
        yield Check("files", "warning", seen, f"chmod 600 {_words(wide)}")
    if tokens and is_open_at(folder):  # a folder without tokens is closed by the first run
        seen = f"other users can look into {folder}"
        yield Check("files", "warning", seen, f"chmod 700 {quoted(folder)}")


def _tokens(folder: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if name.endswith(".json") and not name.startswith("."):
            yield os.path.join(folder, name)


def _user() -> str:
    return f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more}"


def _words(paths: Iterable[str]) -> str:
    """Paths for a shell; of many in one folder, the pattern."""
    listed = list(paths)
    if len(listed) <= _MOST_PATHS:
        return shlex.join(listed)
    return f"{quoted(os.path.dirname(listed[-1]))}/*.json"
