"""Files written whole and private, in folders that are opened once.

A file is whole or absent: it is written to a temporary file in the same folder, created 0600,
synced and renamed into place. A rename in an opened folder replaces a symbolic link and follows
none, and it stays in that folder whatever its path leads to by then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from credentials_provider.errors import StorageError, printable
from credentials_provider.permissions import (
    Content,
    check_links,
    check_owner,
    is_trusted,
    open_to_read,
    read_descriptor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TEMPORARY_PREFIX = ".credentials-provider-"
TEMPORARY_SUFFIX = ".tmp"
IGNORE_FILE = ".gitignore"
_ABANDONED = 86400  # seconds until a temporary file is left over, where nothing can be locked
_WRITE_TIMEOUT = 5.0  # seconds to wait for the reader of a pipe
_PIECE = 512  # bytes that a pipe which is ready takes at once (POSIX, PIPE_BUF)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that is being written, or that a killed run left."""
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


class Folder:
    """A folder that is opened once, and what is done in it. Closed when it is forgotten.

    Raises:
        UntrustedOwnerError: its owner is not trusted.
        OSError: it cannot be opened; a symbolic link is not followed unless `follow` says so.

    """

    def __init__(self, path: str, *, owned: bool = True, follow: bool = False) -> None:
        self._descriptor: int | None = None  # Windows opens no folders
        self.path = path
        if owned and os.name == "posix":
            check_links(os.path.dirname(os.path.abspath(path)))
        if os.name == "posix":
            # Where nothing is listed, a folder need not be readable to be written into.
            flags = getattr(os, "O_PATH", os.O_RDONLY) if follow else os.O_RDONLY | _NOFOLLOW
            self._descriptor = os.open(path.rstrip(os.sep) or os.sep, flags | os.O_DIRECTORY)
        if owned:
            check_owner(path, self.status())

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def status(self) -> os.stat_result:
        return os.stat(self.path) if self._descriptor is None else os.fstat(self._descriptor)

    def names(self) -> list[str]:
        return os.listdir(self.path if self._descriptor is None else self._descriptor)

    def has(self, name: str, this: os.stat_result | None = None) -> bool:
        """Whether anything of this name is there (or `this` is), a link that leads nowhere too."""
        try:
            found = os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return False
        return this is None or os.path.samestat(found, this)

    def lock(self, held: contextlib.ExitStack) -> bool:
        """Lock the folder itself until `held` is closed; False: another process has it.

        True without effect where no folder is locked, as on Windows.
        """
        if self._descriptor is None:
            return True
        descriptor = os.open(os.curdir, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._descriptor)
        locked = lock_file(descriptor, exclusive=True)  # NFS locks only what is open for writing
        if locked:
            held.callback(os.close, descriptor)
            import fcntl

            held.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)  # a fork may have inherited it
        else:
            os.close(descriptor)
        return locked is not False

    def make_private(self) -> None:
        """Keep everybody but its owner out."""
        if self._descriptor is not None:
            os.fchmod(self._descriptor, 0o700)

    def read(self, name: str) -> Content | None:
        """A file's content, None where there is none. A symbolic link is not followed.

        Raises:
            UntrustedOwnerError: its owner is not trusted.
            ConfigurationError: it is not a regular file of sensible size.
            OSError: it cannot be opened.

        """
        try:
            descriptor = open_to_read(self._at(name), _NOFOLLOW, self._descriptor)
        except FileNotFoundError:
            return None
        return read_descriptor(descriptor, os.path.join(self.path, name))

    def write(
        self, name: str, text: str, mode: int = 0o600, owner: tuple[int, int] | None = None
    ) -> None:
        """Write a file whole; only all of it gets the mode and the owner (user and group number).

        What root writes in somebody's folder belongs to whom the folder belongs: else that user's
        next run could neither read nor lock it.

        Raises:
            StorageError: it could not be written; what was there is there still.

        """
        try:
            descriptor, temporary = self._create()
            lock: int | None = None
            try:
                with open(descriptor, "wb") as file:
                    file.write(text.encode())
                    file.flush()
                    if os.name == "posix":  # a umask can take from the owner, too
                        os.fchmod(descriptor, mode)
                    self.give(descriptor, owner)
                    os.fsync(descriptor)
                    if os.name == "posix":  # Windows renames no open file
                        lock = os.dup(descriptor)
                at = self._descriptor
                names = self._at(temporary), self._at(name)
                retry_denied(lambda: os.replace(*names, src_dir_fd=at, dst_dir_fd=at))
            except BaseException:
                with contextlib.suppress(OSError):
                    self.remove(temporary)
                raise
            finally:
                if lock is not None:
                    os.close(lock)
        except OSError as error:
            raise not_written(os.path.join(self.path, name), error) from None

    def give(self, descriptor: int, owner: tuple[int, int] | None = None) -> None:
        """Give a file that was made in this folder to an owner, by default as root to the folder's.

        Raises:
            OSError: only the superuser may; never where nobody was named.

        """
        if owner is not None:
            os.fchown(descriptor, *owner)
        elif heir := _heir(self.status()):
            with contextlib.suppress(OSError):  # an owner whom a user namespace does not map
                os.fchown(descriptor, *heir)

    def ensure_file(self, name: str) -> os.stat_result:
        """Make an empty private file unless it is there; its status. A link is not followed.

        Raises:
            OSError: it can be neither made nor opened.

        """
        flags = os.O_RDWR | os.O_CREAT | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(self._at(name), flags, 0o600, dir_fd=self._descriptor)
        try:
            self.give(descriptor)
            if os.name == "posix":  # a umask can take from the owner, too
                with contextlib.suppress(PermissionError):
                    os.fchmod(descriptor, 0o600)
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def ignore_in_git(self) -> None:
        """Let no `git add` take what is in the folder.

        Raises:
            StorageError: that could not be written down.

        """
        if not self.has(IGNORE_FILE):
            self.write(IGNORE_FILE, "*\n")

    def remove(self, name: str) -> None:
        os.unlink(self._at(name), dir_fd=self._descriptor)

    def sweep(self) -> None:
        """Remove what killed runs left: temporary files that nobody is writing."""
        for name in filter(is_temporary, self.names()):
            with contextlib.suppress(OSError):
                self._sweep(name)

    def sync(self) -> None:
        """Make renames last."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._descriptor)

    def _at(self, name: str) -> str:
        if name in {"", os.curdir, os.pardir} or not {os.sep, os.altsep, "\0"}.isdisjoint(name):
            raise OSError(errno.EINVAL, "that is not the name of a file")
        return os.path.join(self.path, name) if self._descriptor is None else name

    def _create(self) -> tuple[int, str]:
        """A new file, locked for as long as it is written, so that `sweep` leaves it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | getattr(os, "O_BINARY", 0)
        while True:
            name = f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(6).hex()}{TEMPORARY_SUFFIX}"
            descriptor = os.open(self._at(name), flags, 0o600, dir_fd=self._descriptor)
            lock_file(descriptor, exclusive=True, wait=True)
            if os.fstat(descriptor).st_nlink:
                return descriptor, name
            os.close(descriptor)  # swept between its making and its lock

    def _sweep(self, name: str) -> None:
        try:
            descriptor = open_to_read(self._at(name), _NOFOLLOW, self._descriptor)
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link: nothing that we write
                self.remove(name)
            return
        try:
            locked = lock_file(descriptor, exclusive=False)
            old = time.time() - os.fstat(descriptor).st_mtime >= _ABANDONED
            if locked or (locked is None and old):
                self.remove(name)
        finally:
            os.close(descriptor)


def retry_denied(
    act: Callable[[], None],
    *,
    windows: bool = os.name == "nt",
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Replace a file; for a second on Windows, which replaces none that a reader has open.

    Raises:
        PermissionError: it was not allowed; elsewhere at once.

    """
    if not windows:
        return act()
    import tenacity  # there alone

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(PermissionError),
        wait=tenacity.wait_exponential(0.01),
        stop=tenacity.stop_after_attempt(8),
        sleep=sleep,
        reraise=True,
    )(act)


def make_folders(path: str) -> None:
    """Make a folder, and those above it that are missing, each for its owner alone.

    Raises:
        NotADirectoryError: something else is in the way.
        OSError: it cannot be made.

    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(os.path.abspath(path))
    if above != path:  # a drive of Windows that is not there
        make_folders(above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if os.path.isdir(path):  # another run's
            return
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
    if os.name == "posix":
        if os.lstat(path).st_mode & 0o700 != 0o700:  # noqa: PLR2004  a umask can take from the owner, too
            os.chmod(path, 0o700)
        if heir := _heir(os.stat(above)):
            with contextlib.suppress(OSError):
                os.chown(path, *heir, follow_symlinks=False)


def write_whole(
    path: str, text: str, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> None:
    """Write a file that somebody named, private until all of it is there.

    A link stays one: what it leads to is written. A device or a pipe stays what it is: the text
    goes there. What a killed run left beside the file is removed.

    Raises:
        StorageError: it could not be written; what was there is there still.
        UntrustedOwnerError: a link on the way was made by a user who is not trusted.

    """
    links = check_links(path) if os.name == "posix" else []
    try:
        if _is_stream(path, links):
            _write_stream(path, text.encode())
            return
        if os.path.islink(path):
            path = os.path.realpath(path)
        folder, name = os.path.split(os.path.abspath(path))
        with contextlib.suppress(OSError):  # one that may be written into need not be readable
            Folder(os.path.realpath(folder), owned=False).sweep()
        Folder(folder, owned=False, follow=True).write(name, text, mode, owner)
    except OSError as error:
        raise not_written(path, error) from None


def not_written(path: str, error: OSError) -> StorageError:
    """The error for a file that could not be put in place."""
    cure = "Check space, owner and permissions of the folder."
    if error.errno == errno.EBUSY:  # a mount point cannot be replaced
        cure = "The file is mounted by itself (in a container): mount the folder that it is in."
    return StorageError(
        f"{printable(path)} cannot be written: {error.strerror or type(error).__name__}",
        hint=f"What was there is untouched. {cure}",
    )


def _is_stream(path: str, links: Sequence[str]) -> bool:
    """Whether a path is a device or a pipe, or leads to what some process has open."""
    if any(each.startswith(("/proc/", "/dev/fd/")) for each in (*links, os.path.realpath(path))):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a socket or a disk")
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _write_stream(path: str, data: bytes) -> None:
    import select  # hardly ever

    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nobody reads from it") from None
        raise
    try:
        while data:
            if os.name == "posix" and not select.select([], [descriptor], [], _WRITE_TIMEOUT)[1]:
                raise OSError(errno.EAGAIN, "nobody reads from it")
            data = data[os.write(descriptor, data[:_PIECE]) :]
    finally:
        os.close(descriptor)


def _heir(above: os.stat_result) -> tuple[int, int] | None:
    """The owner (user and group) of what root makes in another user's folder; None: root."""
    if os.name != "posix" or os.geteuid() != 0 or not above.st_uid or not is_trusted(above.st_uid):
        return None
    return above.st_uid, above.st_gid


def lock_file(descriptor: int, *, exclusive: bool, wait: bool = False) -> bool | None:
    """Lock an open file or folder until it is closed; False: another process has it.

    None where nothing can be locked: some file systems, and Windows, which protects an open file
    by itself.
    """
    try:
        import fcntl

        # A lock to read with needs no file that is open for writing, which NFS asks for.
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, ImportError):
        return None
    return True
