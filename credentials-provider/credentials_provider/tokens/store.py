"""Token files: one folder of them, read without a lock and written under one."""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from credentials_provider.errors import ConfigurationError, LockBusyError, StorageError
from credentials_provider.files import Folder, is_temporary, make_folders
from credentials_provider.model import TokenRecord
from credentials_provider.permissions import is_open
from credentials_provider.policy import LONGEST_LIFE, showable
from credentials_provider.tokens.claims import (
    decode_claims,
    epoch_claim,
    is_bearer_token,
    tenant_and_client,
)
from credentials_provider.tokens.clock import (
    CLOCK_TOLERANCE,
    Boot,
    expires_on,
    this_boot,
    was_set_by,
)
from credentials_provider.tokens.plan import UNREADABLE, OnDisk, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from credentials_provider.minting import Minted
    from credentials_provider.model import Entry

_LONG_WAIT = 0.1  # seconds for the lock that the log speaks of
_POLL = 0.02  # seconds from one look at a busy lock to the next
LOCK_NAME = ".credentials-provider.lock"
_BUSY_HINT = (
    "The next run tries again. If none is running, look for a stopped process that holds it open."
)
_LOCKABLE = "Let the output folder be writable and on a file system with locks."
_ANOTHER_USER = "Was a run started as another user, such as root? Remove the lock file then."
_OWN_FOLDERS = ("demo", "emulator")  # what the commands of these names make in it
_ANOTHER_FOLDER = "Check its owner and permissions, or name another one with --output-dir."
CONSISTENT_WITHIN = 2  # seconds by which a file's several times may differ from one another


def iso(epoch: float) -> str:
    """ISO 8601 in UTC with offset; the registry's readers take a naive time for local time."""
    return datetime.fromtimestamp(showable(epoch), tz=timezone.utc).isoformat()


def token_document(entry: Entry, minted: Minted, refresh_at: int) -> dict[str, Any]:
    """The content of a token file. Flat for most readers, `tokens` for those that want it nested.

    Nothing is null: the registry's refresher does arithmetic on `expires_at`.
    """
    end = minted.issued_at + minted.expires_in
    boot = this_boot()
    return {
        "identity_name": entry.name,
        "access_token": minted.access_token,
        "token_type": "Bearer",
        "expires_in": minted.expires_in,
        "generated_at": iso(minted.issued_at),
        "expires_at": iso(end),
        "refresh_at": iso(refresh_at),
        "expires_on": end,
        "provider": "entra",
        "tenant_id": entry.fields["tenant_id"],
        "client_id": entry.fields["client_id"],
        "scope": entry.fields["scope"],
        "definition": entry.fingerprint,
        "clock_skew": round(minted.clock_skew or 0),
        **({"boot_id": boot.id, "booted_at": round(boot.at, 1)} if boot else {}),
        "tokens": {"access_token": minted.access_token, "expires_at": end},
    }


class TokenStore:
    """One output folder. Readers need no lock; writers hold it from plan to last write.

    The folder is opened once and everything is done relative to its descriptor: replacing the
    folder, also by a link, changes nothing for a run that has begun.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder.rstrip(os.sep) or os.sep  # a slash would follow a link
        self._opened: Folder | None = None

    def path(self, identity_name: str) -> str:
        return os.path.join(self.folder, f"{identity_name}.json")

    def read(self, names: Iterable[str]) -> tuple[dict[str, OnDisk], bool]:
        """What is on disk of these identities, and whether a killed run left something behind.

        Raises:
            ConfigurationError: the output folder is not a folder, may not be read, or belongs to
                somebody who does not count.

        """
        present = set(self.names())
        # Listing the folder once is cheaper than failing to open, and finds leftovers. Case is
        # left to the file system: the open decides.
        folded = {name.lower() for name in present}
        found = {name: self.record(name) for name in names if f"{name}.json".lower() in folded}
        return found, any(is_temporary(name) for name in present)

    def names(self) -> list[str]:
        """The names of the files in the folder; none where there is no folder yet.

        Raises:
            ConfigurationError: the output folder cannot be used.

        """
        try:
            folder = self._open()
            return folder.names() if folder else []
        except OSError as error:
            raise self._unusable(error) from None

    def document(self, file_name: str) -> dict[str, Any] | None:
        """A file's JSON object, None where there is none to be believed.

        A symbolic link is not followed, and only a regular file of sensible size is read, whose
        owner counts: what stands in the folder may have been put there by somebody else.
        """
        try:
            content = folder.read(file_name) if (folder := self._open()) else None
            document = json.loads(content.data) if content else None
        except (ConfigurationError, OSError, ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    def record(self, identity_name: str) -> OnDisk:
        """What a token file says of its token."""
        name = f"{identity_name}.json"
        document = self.document(name)
        if document is None:
            return UNREADABLE if self._opened and self._opened.has(name) else None
        return parse_record(document)

    def token(self, identity_name: str) -> tuple[dict[str, Any], TokenRecord] | None:
        """A token file's content and times, from one reading; None where none can be used."""
        document = self.document(f"{identity_name}.json")
        record = parse_record(document) if document is not None else None
        if document is None or not isinstance(record, TokenRecord):
            return None
        return document, record

    @contextlib.contextmanager
    def lock(
        self, timeout: float, name: str = LOCK_NAME, *, ends_at: float = math.inf
    ) -> Iterator[Callable[[], bool]]:
        """Hold the folder's one lock (or another of that name), creating the folder if need be.

        Yields whether the lock's file is still in its place.

        Raises:
            LockBusyError: it stayed busy for `timeout` seconds, or until `ends_at`, a
                `time.monotonic()`.
            StorageError: the folder or the lock cannot be made.

        """
        from filelock import FileLock, Timeout  # readers need none

        folder = self._make()
        path = os.path.join(self.folder, name)
        began = time.monotonic()
        timeout = min(timeout, max(ends_at - began, 0.0))
        # In place of flock filelock would make do with the file's existence: such a lock survives
        # its holder, and a run with the other kind knows nothing of it.
        lock = FileLock(
            path, mode=0o600, timeout=timeout, thread_local=False, fallback_to_soft=False
        )
        with contextlib.ExitStack() as held:
            try:
                made = folder.ensure_file(name)
                lock.acquire(poll_interval=_POLL)
                held.callback(lock.release)
                if name == LOCK_NAME:
                    _lock_folder(folder, held, began + timeout)
                if (waited := time.monotonic() - began) > _LONG_WAIT:
                    import logging  # filelock has loaded it

                    logging.getLogger(__name__).debug("waited %.1f s for %s", waited, path)
                self._check_place(folder)
            except Timeout:
                raise LockBusyError(
                    f"another run has held {path} for {timeout:g} s", hint=_BUSY_HINT
                ) from None
            except (OSError, NotImplementedError) as error:
                why = getattr(error, "strerror", None) or "the file system has no locks"
                hint = _ANOTHER_USER if isinstance(error, PermissionError) else _LOCKABLE
                raise StorageError(f"{path} cannot be locked: {why}", hint=hint) from None
            yield lambda: folder.has(name, made)

    def _open(self) -> Folder | None:
        """The folder, opened at its first use; None while it does not exist.

        Raises:
            UntrustedOwnerError: its owner is not trusted.
            OSError: it cannot be opened.

        """
        if self._opened is None:
            with contextlib.suppress(FileNotFoundError):
                self._opened = Folder(self.folder)
        return self._opened

    def _make(self) -> Folder:
        try:
            if (folder := self._open()) is None:
                make_folders(self.folder)
                folder = self._opened = Folder(self.folder)
            self._keep_private(folder)
        except NotADirectoryError as error:
            if os.path.islink(self.folder):
                raise self._unusable(error) from None
            raise ConfigurationError(
                f"the output folder {self.folder} cannot be made: a file is in the way",
                hint=_ANOTHER_FOLDER,
            ) from None
        except OSError as error:
            raise StorageError(
                f"the output folder {self.folder} cannot be made: {error.strerror}",
                hint=_ANOTHER_FOLDER,
            ) from None
        return folder

    def _keep_private(self, folder: Folder) -> None:
        """Close the folder and hide it from git, unless it holds things that are not ours."""
        found, names = folder.status(), folder.names()
        if found.st_mode & stat.S_ISVTX or ".git" in names or not all(map(_belongs, names)):
            return
        if is_open(found.st_mode) and os.geteuid() in {0, found.st_uid}:
            folder.make_private()
        with contextlib.suppress(StorageError):  # a full disk: writing the tokens reports it
            folder.ignore_in_git()

    def _unusable(self, error: OSError) -> ConfigurationError:
        if os.path.islink(self.folder):
            return ConfigurationError(
                f"the output folder {self.folder} is a symbolic link",
                hint="Name the folder that it leads to with --output-dir: a link can be changed "
                "while tokens are written.",
            )
        if isinstance(error, NotADirectoryError):
            return ConfigurationError(
                f"the output folder {self.folder} is not a folder", hint=_ANOTHER_FOLDER
            )
        return ConfigurationError(
            f"the output folder {self.folder} cannot be read: {error.strerror}",
            hint=_ANOTHER_FOLDER,
        )

    def _check_place(self, folder: Folder) -> None:
        """The lock has a path for filelock's sake: it must lead into the opened folder."""
        if os.name == "posix" and not os.path.samestat(os.lstat(self.folder), folder.status()):
            raise StorageError(
                f"the output folder {self.folder} was replaced while this run used it",
                hint="Run again. Who else can write into the folder above it?",
            )

    def open_to_others(self) -> bool:
        """Whether other users may look into the folder."""
        folder = self._open()
        return folder is not None and is_open(folder.status().st_mode)

    def sweep(self) -> None:
        """Remove what killed runs left behind."""
        with contextlib.suppress(OSError):
            if folder := self._open():
                folder.sweep()

    def write(self, identity_name: str, document: dict[str, Any]) -> None:
        """Put a token file in place: after this it is the old one or the new one, never part.

        Raises:
            StorageError: it could not be written; what was there is there still.

        """
        self.write_text(f"{identity_name}.json", json.dumps(document, indent=2) + "\n")

    def write_text(self, file_name: str, text: str) -> None:
        """Put a private file into the folder, which `lock` has made.

        Raises:
            StorageError: it could not be written; what was there is there still.

        """
        (self._opened or self._make()).write(file_name, text)

    def remove(self, file_name: str) -> None:
        """Take a file out of the folder.

        Raises:
            OSError: it is not there, or may not be removed.

        """
        if folder := self._open():
            folder.remove(file_name)

    def sync(self) -> None:
        """Make the batch's renames last: one fsync of the folder."""
        if self._opened:
            self._opened.sync()


def parse_record(document: dict[str, Any], boot: Boot | None = None) -> TokenRecord | Unreadable:
    """What a token file's content says of its token, on this machine as it runs now."""
    try:
        return _record(document, boot or this_boot())
    # OSError: Windows, before 1970
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return UNREADABLE


def _record(document: dict[str, Any], boot: Boot | None) -> TokenRecord:
    """The times of a token file, as long as they agree with one another.

    The token itself says how long it is valid, and for whom: whatever else stands in the file.
    """
    token = document["access_token"]
    if not is_bearer_token(token):
        raise ValueError
    claims = decode_claims(token) or {}
    said, exp = tenant_and_client(claims), epoch_claim(claims, "exp")
    fingerprint = document.get("definition")
    if not isinstance(fingerprint, str):  # the registry's own generator, or a hand
        end = _epoch(document["expires_at"])
        if exp is not None:
            end = min(end, exp)
        return TokenRecord(0.0, end, end, None, *said)
    generated_at = _epoch(document["generated_at"])
    reckoned = _epoch(document["expires_at"])
    refresh_at = _epoch(document["refresh_at"])
    stated = (document["expires_on"], generated_at + document["expires_in"])
    if not all(abs(other - reckoned) <= CONSISTENT_WITHIN for other in stated):  # NaN is not
        raise ValueError
    if not generated_at <= refresh_at <= reckoned <= generated_at + LONGEST_LIFE:
        raise ValueError
    set_by = was_set_by(_boot(document), boot)
    end = expires_on(reckoned, exp, _epoch(document.get("clock_skew", 0)), set_by)
    was_set = set_by is not None and abs(set_by) > CLOCK_TOLERANCE
    return TokenRecord(generated_at, end, min(refresh_at, end), fingerprint, *said, was_set)


def _boot(document: dict[str, Any]) -> Boot | None:
    boot_id = document.get("boot_id")
    return Boot(boot_id, _epoch(document["booted_at"])) if isinstance(boot_id, str) else None


def _epoch(value: object) -> float:
    """Epoch seconds of a number or an ISO 8601 time; a naive time is local, as in the registry."""
    if isinstance(value, str):
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    raise TypeError


def _belongs(name: str) -> bool:
    return name.endswith(".json") or name.startswith(".") or name in _OWN_FOLDERS


def _lock_folder(folder: Folder, held: contextlib.ExitStack, ends_at: float) -> None:
    """Lock the folder itself, too: a lock file that somebody deletes would let two runs in."""
    while not folder.lock(held):
        if time.monotonic() >= ends_at:
            raise LockBusyError(
                f"another run uses {folder.path}, and its lock file was deleted", hint=_BUSY_HINT
            )
        time.sleep(_POLL)
