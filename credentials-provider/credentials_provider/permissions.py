"""Whose files count: one rule for everything that is read and believed, or written into.

A file or folder must belong to this user or to root, or to an owner that was named with
`--trust-owner`. Permission bits that let others read it are a warning, and an error with
`--strict-permissions`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from credentials_provider.errors import ConfigurationError, printable

OTHERS = 0o077  # group and everybody
EVERYBODY = 0o007
TRUST_OPTION = "--trust-owner"
TRUST_VARIABLE = "CREDENTIALS_PROVIDER_TRUST_OWNER"
MAXIMUM_SIZE = 1 << 20  # bytes of a file that is read whole; the largest real ones have a few KiB

# How Linux shows an owner that a user namespace does not map (user_namespaces(7)).
_OVERFLOW = 65534
_MOST_LINKS = 40  # as Linux, path_resolution(7)
_named: dict[str, int] = {}  # as they were given, and their numbers


class UntrustedOwnerError(ConfigurationError):
    """A file or folder belongs to somebody whose word does not count here."""

    def __init__(self, path: str, owner: int) -> None:
        name = _name_of(owner)
        super().__init__(
            f"{printable(path)} belongs to the user {name}, not to you or root: it is not used",
            hint=f"Find out who put it there. If that user may decide where your secrets go, add "
            f"{TRUST_OPTION} {name}.",
        )


class Content:
    """A file that was read whole, and its mode. It may be a secret: no repr shows it.

    No dataclass: every run makes this class, and that would take it a third of a millisecond.
    """

    __slots__ = ("data", "mode", "path")

    def __init__(self, path: str, data: bytes, mode: int) -> None:
        self.path = path  # as messages name it
        self.data = data
        self.mode = mode  # as `shared_mode`

    def __repr__(self) -> str:
        return f"Content({self.path!r})"

    def text(self, encoding: str = "utf-8-sig") -> str:
        """The content as text, without a byte-order mark.

        Raises:
            ConfigurationError: it is not UTF-8.

        """
        try:
            return self.data.decode(encoding)
        except UnicodeDecodeError:
            raise ConfigurationError(
                f"{self.path} cannot be read: it is not UTF-8 text", hint="Save it as UTF-8."
            ) from None


def trust_owner(name: str) -> None:
    """Let the files of one more user count in this process, by name or number.

    Raises:
        ConfigurationError: there is no such user.

    """
    if os.name != "posix":
        return
    if name.isascii() and name.isdigit():
        _named[name] = int(name)
        return
    import pwd  # Windows has none

    try:
        _named[name] = pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigurationError(
            f"{TRUST_OPTION}: this machine has no user {name[:64]!r}",
            hint="Give the name or the number that `ls -l` or `ls -n` shows as the owner.",
        ) from None


def trusted_owners() -> tuple[str, ...]:
    """The owners that were named, as they were given; other processes need them, too."""
    return tuple(_named)


def is_trusted(owner: int) -> bool:
    """Whether the files of the user with this number count.

    Root by `sudo` is still the person who typed it: their own files count, too.
    """
    if os.name != "posix" or owner in _named.values():
        return True
    own = os.geteuid()
    if owner not in {0, own}:
        return own == 0 and str(owner) == os.environ.get("SUDO_UID")
    return owner != _OVERFLOW or _every_owner_is_mapped()


def check_owner(path: str, found: os.stat_result) -> None:
    """Let the rule decide about something that was found at a path.

    Raises:
        UntrustedOwnerError: its owner is not trusted.

    """
    if not is_trusted(found.st_uid):
        raise UntrustedOwnerError(path, found.st_uid)


def is_open(mode: int, to: int = OTHERS) -> bool:
    """Whether the permission bits let others in: group and everybody, or everybody alone."""
    return os.name == "posix" and bool(mode & to)


def shared_mode(found: os.stat_result) -> int:
    """The permission bits; without the group's right to read where the group is this user alone.

    So Kubernetes and systemd provide what stays root's: for a group that only the pod has (this
    machine has no name for it), or for root's own.
    """
    if os.name != "posix" or found.st_uid or not os.geteuid() or not found.st_mode & stat.S_IRGRP:
        return found.st_mode
    import grp  # Windows has none

    if found.st_gid:
        with contextlib.suppress(KeyError):
            grp.getgrgid(found.st_gid)
            return found.st_mode
    return found.st_mode & ~stat.S_IRGRP


def is_open_at(path: str) -> bool:
    """As `is_open`, for a path; False where there is nothing, as in a device (`/dev/null`)."""
    try:
        found = os.stat(path)
        return not stat.S_ISCHR(found.st_mode) and is_open(shared_mode(found))
    except (OSError, ValueError):
        return False


def open_folder_of(path: str) -> str | None:
    """The folder of a path, if every user could put another file in its place there.

    In a sticky folder, as Kubernetes makes them for secrets, only an owner can (unlink(2)).
    """
    folder = os.path.dirname(os.path.abspath(path))
    try:
        mode = os.stat(folder).st_mode
    except (OSError, ValueError):
        return None
    return folder if is_open(mode, stat.S_IWOTH) and not mode & stat.S_ISVTX else None


def check_links(path: str) -> list[str]:
    """The symbolic links on the way to a path, each of which decides what is found there.

    Raises:
        UntrustedOwnerError: one was made by a user who is not trusted.

    """
    followed: list[str] = []
    here = os.sep
    if not os.path.isabs(path):  # else the working directory need not be there any more
        path = os.path.join(os.getcwd(), path)
    parts = path.split(os.sep)
    while parts and len(followed) <= _MOST_LINKS:
        part = parts.pop(0)
        if part in {"", os.curdir}:
            continue
        if part == os.pardir:
            here = os.path.dirname(here)
            continue
        at = os.path.join(here, part)
        try:
            found = os.lstat(at)
            if not stat.S_ISLNK(found.st_mode):
                here = at
                continue
            target = os.readlink(at)
        except (OSError, ValueError):  # opening the path reports it
            break
        check_owner(at, found)
        followed.append(at)
        parts[:0] = target.split(os.sep)
        if target.startswith(os.sep):
            here = os.sep
    return followed


def read_file(
    path: str, *, shown: str | None = None, maximum: int = MAXIMUM_SIZE, owned: bool = True
) -> Content | None:
    """A regular file's whole content; None where there is no file.

    It waits for nobody: a pipe or a device is refused, never read.

    Args:
        path: where it is.
        shown: how messages name the file, where its path is not enough.
        maximum: the most bytes that it may have.
        owned: whether its owner must be one who counts.

    Raises:
        UntrustedOwnerError: its owner, or that of a link on the way to it, does not count.
        ConfigurationError: it cannot be read, is not a regular file, or is too large.

    """
    shown = printable(shown or path)
    if owned and os.name == "posix":
        check_links(path)
    try:
        descriptor = open_to_read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(shown, error) from None
    return read_descriptor(descriptor, shown, maximum=maximum, owned=owned)


def stamp(path: str) -> object:
    """What changes whenever a file, or a folder's list, does; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_uid


def open_to_read(path: str, flags: int = 0, dir_fd: int | None = None) -> int:
    """A descriptor for a path, without waiting for a pipe's other end."""
    flags |= os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    return os.open(path, flags | getattr(os, "O_BINARY", 0), dir_fd=dir_fd)


def read_descriptor(
    descriptor: int, shown: str, *, maximum: int = MAXIMUM_SIZE, owned: bool = True
) -> Content:
    """As `read_file`, for an open descriptor, which is closed.

    Raises:
        UntrustedOwnerError: its owner is not trusted.
        ConfigurationError: it cannot be read, is not a regular file, or is too large.

    """
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(
                f"{shown} is not a regular file", hint="A pipe or a device is not read."
            )
        if owned:
            check_owner(shown, found)
        data, portion = b"", min(found.st_size, maximum) + 1
        while len(data) <= maximum and (more := os.read(descriptor, portion)):
            data += more
    except OSError as error:
        raise _unreadable(shown, error) from None
    finally:
        os.close(descriptor)
    if len(data) > maximum:
        raise ConfigurationError(
            f"{shown} is too large: more than {maximum} bytes", hint="Is it the right file?"
        )
    return Content(shown, data, shared_mode(found))


def _unreadable(shown: str, error: OSError | ValueError) -> ConfigurationError:
    why = (error.strerror if isinstance(error, OSError) else None) or "that is not a path"
    return ConfigurationError(
        f"{shown} cannot be read: {why}",
        hint="Check that the user who runs this may read it, and every folder above it.",
    )


def _name_of(owner: int) -> str:
    import pwd  # only for a message; Windows has none

    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)


def _every_owner_is_mapped() -> bool:
    """Whether each owner is shown by a number of its own, as outside of user namespaces."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() == ["0", "0", "4294967295"]
    except OSError:  # no Linux, no user namespaces
        return True
