"""Token files: one folder of them, read without a lock and written under one."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from credentials_provider.errors import ConfigurationError, LockBusyError, StorageError
from credentials_provider.files import is_temporary, read_document, sweep, write_private
from credentials_provider.model import TokenRecord
from credentials_provider.tokens.plan import UNREADABLE, OnDisk, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from credentials_provider.minting import Minted
    from credentials_provider.model import Entry

LOCK_NAME = ".credentials-provider.lock"
_OWN_FOLDERS = ("demo", "emulator")  # what the commands of these names make in it
_ANOTHER_FOLDER = "Check its owner and permissions, or name another one with --output-dir."
CONSISTENT_WITHIN = 2  # seconds by which a file's several times may differ from one another


def iso(epoch: float) -> str:
    """ISO 8601 in UTC with offset; the registry's readers take a naive time for local time."""
    return datetime.fromtimestamp(epoch, tz=timezone.utc).isoformat()


def token_document(entry: Entry, minted: Minted, refresh_at: int) -> dict[str, Any]:
    """The content of a token file. Flat for most readers, `tokens` for those that want it nested.

    Nothing is null: the registry's refresher does arithmetic on `expires_at`.
    """
    expires_on = minted.issued_at + minted.expires_in
    return {
        "identity_name": entry.name,
        "access_token": minted.access_token,
        "token_type": "Bearer",
        "expires_in": minted.expires_in,
        "generated_at": iso(minted.issued_at),
        "expires_at": iso(expires_on),
        "refresh_at": iso(refresh_at),
        "expires_on": expires_on,
        "provider": "entra",
        "tenant_id": entry.fields["tenant_id"],
        "client_id": entry.fields["client_id"],
        "scope": entry.fields["scope"],
        "definition": entry.fingerprint,
        "tokens": {"access_token": minted.access_token, "expires_at": expires_on},
    }


class TokenStore:
    """One output folder. Readers need no lock; writers hold it from plan to last write."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, identity_name: str) -> str:
        return os.path.join(self.folder, f"{identity_name}.json")

    def read(self, names: Iterable[str]) -> tuple[dict[str, OnDisk], bool]:
        """What is on disk of these identities, and whether a dead run left something behind.

        Raises:
            ConfigurationError: the output folder is not a folder, or may not be read.

        """
        try:
            present = set(os.listdir(self.folder))
        except FileNotFoundError:
            return {}, False
        except NotADirectoryError:
            raise ConfigurationError(
                f"the output folder {self.folder} is not a folder", hint=_ANOTHER_FOLDER
            ) from None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigurationError(
                f"the output folder {self.folder} cannot be read: {why}", hint=_ANOTHER_FOLDER
            ) from None
        # Asking the folder once is cheaper than failing to open, and tells of leftovers. Case is
        # left to the file system: the open decides.
        folded = {name.lower() for name in present}
        found = {
            name: read_record(self.path(name)) for name in names if f"{name}.json".lower() in folded
        }
        return found, any(is_temporary(name) for name in present)

    @contextlib.contextmanager
    def lock(self, timeout: float, name: str = LOCK_NAME) -> Iterator[None]:
        """Hold the folder's one lock (or another of that name), creating the folder if need be.

        Raises:
            LockBusyError: it stayed busy for `timeout` seconds.
            StorageError: the folder or the lock cannot be made.

        """
        from filelock import FileLock, Timeout  # noqa: PLC0415  readers need none

        self._open_folder()
        path = os.path.join(self.folder, name)
        # In place of flock filelock would make do with the file's existence: such a lock survives
        # its holder, and a run with the other kind knows nothing of it.
        lock = FileLock(
            path, mode=0o600, timeout=timeout, thread_local=False, fallback_to_soft=False
        )
        try:
            lock.acquire(poll_interval=0.02)
        except Timeout:
            raise LockBusyError(
                f"another run has held {path} for {timeout:g} s",
                hint="It will be tried again by the next run. If none is running, look for a "
                "stopped process that holds the file open.",
            ) from None
        except (OSError, NotImplementedError) as error:
            why = getattr(error, "strerror", None) or "the file system has no locks"
            hint = "Let the output folder be writable and on a file system with locks."
            if isinstance(error, PermissionError):
                hint = "Was a run started as another user, such as root? Remove the lock file then."
            raise StorageError(f"{path} cannot be locked: {why}", hint=hint) from None
        try:
            yield
        finally:
            lock.release()

    def _open_folder(self) -> None:
        try:
            os.makedirs(os.path.dirname(os.path.abspath(self.folder)), exist_ok=True)
            try:
                os.mkdir(self.folder, 0o700)
                os.chmod(self.folder, 0o700)  # a umask can take from the owner, too
            except FileExistsError:
                self._make_private()
        except NotADirectoryError:
            raise ConfigurationError(
                f"the output folder {self.folder} cannot be made: a file is in the way",
                hint=_ANOTHER_FOLDER,
            ) from None
        except OSError as error:
            raise StorageError(
                f"the output folder {self.folder} cannot be made: {error.strerror}",
                hint=_ANOTHER_FOLDER,
            ) from None

    def _make_private(self) -> None:
        """Close a folder that is ours alone; one that holds other things is not ours to close."""
        if os.name != "posix":
            return
        found = os.stat(self.folder)
        wide = found.st_mode & 0o077
        ours = found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX
        if wide and ours and all(_belongs(name) for name in os.listdir(self.folder)):
            os.chmod(self.folder, 0o700)

    def open_to_others(self) -> bool:
        """Whether other users may look into the folder."""
        try:
            return os.name == "posix" and bool(os.stat(self.folder).st_mode & 0o077)
        except OSError:
            return False

    def sweep(self) -> None:
        """Remove what killed runs left behind. Only under the lock: no writer lives then."""
        sweep(self.folder)

    def write(self, identity_name: str, document: dict[str, Any]) -> None:
        """Put a token file in place: after this it is the old one or the new one, never part.

        Raises:
            StorageError: it could not be written; what was there is there still.

        """
        write_private(self.path(identity_name), json.dumps(document, indent=2) + "\n")

    def sync(self) -> None:
        """Make the batch's renames last: one fsync of the folder."""
        if os.name != "posix":  # Windows opens no folder
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def read_record(path: str) -> OnDisk:
    """What a token file says of its token."""
    document = read_document(path)
    if document is None:
        return UNREADABLE if os.path.lexists(path) else None
    return parse_record(document)


def parse_record(document: dict[str, Any]) -> TokenRecord | Unreadable:
    """What a token file's content says of its token."""
    try:
        return _record(document)
    except (
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        OSError,
    ):  # OSError: Windows, before 1970
        return UNREADABLE


def _record(document: dict[str, Any]) -> TokenRecord:
    """The times of a token file, as long as they agree with one another."""
    token = document["access_token"]
    if not isinstance(token, str) or not token:
        raise ValueError
    fingerprint = document.get("definition")
    if not isinstance(fingerprint, str):  # the registry's own generator, or a hand
        expires_on = _epoch(document["expires_at"])
        return TokenRecord(0.0, expires_on, expires_on, None)
    generated_at = _epoch(document["generated_at"])
    expires_on = _epoch(document["expires_at"])
    refresh_at = _epoch(document["refresh_at"])
    told = (document["expires_on"], generated_at + document["expires_in"])
    if not all(abs(other - expires_on) <= CONSISTENT_WITHIN for other in told):  # NaN is not
        raise ValueError
    if not generated_at <= refresh_at <= expires_on:
        raise ValueError
    return TokenRecord(generated_at, expires_on, refresh_at, fingerprint)


def _epoch(value: object) -> float:
    """Epoch seconds of a number or an ISO 8601 time; a naive time is local, as in the registry."""
    if isinstance(value, str):
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    raise TypeError


def _belongs(name: str) -> bool:
    return name.endswith(".json") or name.startswith(".") or name in _OWN_FOLDERS
