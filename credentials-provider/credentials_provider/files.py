"""Files written whole and private, and JSON files read with care.

A file is whole or absent: it is written to a temporary file in the same folder, created 0600,
synced and renamed into place. A rename replaces whatever stands there, a symbolic link included,
and follows nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Any

from credentials_provider.errors import StorageError

TEMPORARY_PREFIX = ".credentials-provider-"
TEMPORARY_SUFFIX = ".tmp"
MAXIMUM_SIZE = 1 << 20  # bytes; a token file has a few thousand


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that is being written, or that a killed run left."""
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def sweep(folder: str) -> None:
    """Remove what killed runs left in a folder. Only under its lock: no writer is active then."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if is_temporary(name):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))


def write_private(path: str, text: str) -> None:
    """Write a file whole, 0600 from its first byte, over whatever stands there.

    Raises:
        StorageError: it could not be written; what was there is there still.

    """
    write_whole(path, text, 0o600)


def write_whole(path: str, text: str, mode: int) -> None:
    """Write a file whole, private until all of it is there and then of that mode.

    Raises:
        StorageError: it could not be written; what was there is there still.

    """
    folder = os.path.dirname(path) or os.curdir
    temporary = os.path.join(
        folder, f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(6).hex()}{TEMPORARY_SUFFIX}"
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(temporary, flags | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with open(descriptor, "wb") as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(descriptor, mode)  # a umask can take from the owner, too
                file.write(text.encode())
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or type(error).__name__}",
            hint="What was there is untouched. Check space, owner and permissions of the folder.",
        ) from None


def read_document(path: str) -> dict[str, Any] | None:
    """A token file's JSON object, None where there is none to be had.

    A symbolic link is not followed and anything but a regular file of sensible size not read:
    what stands in the folder may have been put there by somebody else.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAXIMUM_SIZE:
                return None
            content = os.read(descriptor, found.st_size)
        finally:
            os.close(descriptor)
        document = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
