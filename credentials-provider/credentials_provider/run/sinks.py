"""Writes the token wherever else a program wants it: the sinks of the identities.

Files are written here, Kubernetes' Secrets by `cluster`.

After the token files, under the folder's lock, and only what does not hold the token already: a
sink that is missing, older or changed costs no request.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any, Literal

from credentials_provider.errors import CredentialsProviderError, StorageBusyError, StorageError
from credentials_provider.files import not_written, write_whole
from credentials_provider.identities.rules import SHARED_FORMATS
from credentials_provider.identities.sinks import Sink, sinks_of
from credentials_provider.permissions import EVERYBODY, check_links, is_open, is_trusted, read_file
from credentials_provider.run.sink_formats import with_token, without_token
from credentials_provider.tokens.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from credentials_provider.model import Entry, Outcome, RunOptions
    from credentials_provider.run.cluster import Cluster
    from credentials_provider.tokens.store import TokenStore

State = Literal["current", "missing", "other", "unseen"]
_PRIVATE = 0o600
_NOBODY = 65534
_GRACE = 1.0  # seconds past the deadline


def deliver(
    options: RunOptions,
    store: TokenStore,
    entries: Sequence[Entry],
    results: Sequence[Outcome],
    *,
    now: Callable[[], float],
    ends_at: float,
) -> list[Outcome]:
    """What became of each identity once its sinks have its token, too.

    Nothing waits beyond `ends_at`, a `time.monotonic()`, or one second where that has come already:
    identities that use up each run's time must not keep the others' tokens from their sinks.
    """
    file = options.settings.identities_file
    wanted = {entry.name: entry for entry in entries if entry.fields.get("sinks")}
    sinks = {name: sinks_of(entry, file) for name, entry in wanted.items()}
    cluster = None
    if any(sink.secret for each in sinks.values() for sink in each):
        from credentials_provider.run.cluster import Cluster  # only where there is such a sink

        cluster = Cluster(ends_at=max(ends_at, time.monotonic() + _GRACE))

    def behind() -> dict[str, list[Sink]]:
        found = {name: valid_token(store, entry, now()) for name, entry in wanted.items()}
        return {
            name: each
            for name, document in found.items()
            if document
            and (each := [s for s in sinks[name] if state(s, document, cluster) != "current"])
        }

    if not behind():
        return list(results)
    wrong: dict[str, CredentialsProviderError] = {}
    try:
        with store.lock(options.lock_timeout, ends_at=ends_at):
            for name, late in behind().items():
                if document := valid_token(store, wanted[name], now()):
                    for sink in late:
                        if error := _try(sink, document, cluster):
                            wrong.setdefault(name, error)
    except StorageError as error:
        wrong = dict.fromkeys(behind(), error)
    return [_with_failure(each, wrong.get(each.identity_name), options) for each in results]


def states(store: TokenStore, entry: Entry, identities_file: str) -> list[tuple[Sink, State]]:
    """An identity's sinks, and whether each holds the token of its token file."""
    document = {"access_token": "", **(store.document(f"{entry.name}.json") or {})}
    return [(sink, state(sink, document)) for sink in sinks_of(entry, identities_file)]


def state(sink: Sink, document: Mapping[str, Any], cluster: Cluster | None = None) -> State:
    """Whether a sink holds the token, and has the mode and owner that its entry asks for.

    Anything that keeps it from being read counts as another content: writing it says why. A Secret
    is unseen without `cluster`.
    """
    try:
        if sink.secret:
            return cluster.state(sink, document) if cluster else "unseen"
        found = os.stat(sink.path)
        content = read_file(sink.path, owned=False)
        if content is None:
            return "missing"
        as_asked = (sink.mode is None or stat.S_IMODE(found.st_mode) == sink.mode) and all(
            wanted in {-1, there}
            for wanted, there in zip(_ids(sink), (found.st_uid, found.st_gid), strict=True)
        )
        text = content.data.decode()
        return "current" if as_asked and with_token(sink, text, document) == text else "other"
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, CredentialsProviderError):
        return "other"


def readers(sink: Sink) -> dict[str, tuple[int, int] | None]:
    """Who is to read a sink, with the numbers of user and group; None: this user.

    Root knows its owner, and a member of its group that is nobody else.
    """
    if os.name != "posix" or os.geteuid() != 0 or sink.owner is sink.group is None:
        return {"this user": None}
    owner, group = _ids(sink)
    found: dict[str, tuple[int, int] | None] = {}
    if owner >= 0:
        found[f"the user {sink.owner}"] = (owner, _NOBODY)
    if group >= 0:
        found[f"the group {sink.group}"] = (_NOBODY, group)
    return found


def write(sink: Sink, document: Mapping[str, Any]) -> None:
    """Put the token into a sink, whole; what else is in the file stays.

    Mode, owner and group are those of the entry, else those that the file has, without rights for
    everybody.

    Raises:
        CredentialsProviderError: it could not be written; what was there is there still.

    """
    _replace(sink, lambda old: with_token(sink, old, document))


def withdraw(sink: Sink, document: Mapping[str, Any]) -> bool:
    """Take a token out of a sink that holds it, or the file away; False where it holds another.

    Raises:
        CredentialsProviderError: it could not be changed.

    """
    content = read_file(sink.path, owned=False) if os.path.isfile(sink.path) else None
    token = str(document.get("access_token") or "").encode()
    if content is None or not token or token not in content.data:
        return False
    if without_token(sink, content.data.decode(errors="replace")):
        _replace(sink, lambda old: without_token(sink, old))
        return True
    try:
        os.unlink(sink.path)
    except OSError as error:
        raise not_written(sink.path, error) from None
    return True


def valid_token(store: TokenStore, entry: Entry, now: float) -> dict[str, Any] | None:
    """The content of an identity's token file, if its token is valid."""
    if (found := store.token(entry.name)) is None:
        return None
    (item,) = make_plan([entry], {entry.name: found[1]}, now)
    return found[0] if item.has_valid_token else None


def _with_failure(
    result: Outcome, error: CredentialsProviderError | None, options: RunOptions
) -> Outcome:
    if error is None or result.failure is not None:
        return result
    from credentials_provider.minting import storage_failure  # only where something fails

    failure = storage_failure(error)
    kept = failure.is_busy or not options.everything
    return result._replace(kind="kept" if kept else "failed", failure=failure)


def _try(
    sink: Sink, document: Mapping[str, Any], cluster: Cluster | None
) -> CredentialsProviderError | None:
    try:
        if cluster and sink.secret:
            cluster.write(sink, document)
        else:
            write(sink, document)
    except CredentialsProviderError as error:
        message = f"the sink {sink.place} cannot be written: {error.message}"
        kind = StorageBusyError if isinstance(error, StorageBusyError) else StorageError
        return kind(message, hint=error.hint)
    except OSError as error:  # it went away, or its folder did, since it was looked at
        return not_written(sink.path, error)
    return None


def _replace(sink: Sink, change: Callable[[str], str]) -> None:
    owner, group = _ids(sink)
    if os.name == "posix":
        check_links(sink.path)
    path = os.path.realpath(sink.path)
    content = read_file(path, owned=False)
    text, mode = "", _PRIVATE
    if content is not None:
        found = os.stat(path)
        _check_owner(path, found, owner)
        mode = stat.S_IMODE(found.st_mode) & ~EVERYBODY
        owner = found.st_uid if owner < 0 else owner
        group = found.st_gid if group < 0 else group
        try:
            text = content.data.decode()
        except UnicodeDecodeError:
            if sink.format in SHARED_FORMATS:
                raise StorageError("it is not UTF-8 text", hint="Save it as UTF-8.") from None
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise StorageError(
            f"there is no folder {folder}",
            hint="Create it, with the permissions that its readers need.",
        )
    is_named = owner >= 0 or group >= 0
    write_whole(path, change(text), sink.mode or mode, (owner, group) if is_named else None)


def _check_owner(path: str, found: os.stat_result, owner: int) -> None:
    """Keep a token out of a file that somebody else put there."""
    if found.st_uid == owner or is_trusted(found.st_uid):
        return
    folder = os.stat(os.path.dirname(path))
    if is_open(folder.st_mode, 0o022) or not is_trusted(folder.st_uid):
        raise StorageError(
            "it belongs to another user", hint="Remove it, or name its owner in the sink."
        )


def _ids(sink: Sink) -> tuple[int, int]:
    """The numbers of owner and group; -1 where nobody is named, as chown(2) has it.

    Raises:
        StorageError: this machine has no such user or group.

    """
    if os.name != "posix" or sink.owner is sink.group is None:
        return -1, -1
    import grp  # Windows has none
    import pwd

    try:
        owner = _number(sink.owner, lambda name: pwd.getpwnam(name).pw_uid)
        return owner, _number(sink.group, lambda name: grp.getgrnam(name).gr_gid)
    except KeyError as error:
        raise StorageError(
            f"this machine has no user or group {error.args[0]!r}"[:200],
            hint="Name one that `getent passwd` or `getent group` shows, or give its number.",
        ) from None


def _number(name: str | None, look_up: Callable[[str], int]) -> int:
    if name is None:
        return -1
    return int(name) if name.isascii() and name.isdigit() else look_up(name)
