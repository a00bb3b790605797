"""The command of `--on-renew`: told once of every new token, again and again until it succeeds.

What it was told of stands in the state file, by when each token file was written. So a hook is
pending for as long as there is a token that it does not know, whatever became of the run that
minted it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.errors import StorageError
from credentials_provider.model import HookResult, TokenRecord
from credentials_provider.run.child_environment import without_secrets
from credentials_provider.tokens.history import HookFailure, read_state, write_state
from credentials_provider.tokens.store import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from credentials_provider.model import Entry, Observer, Outcome, RunOptions
    from credentials_provider.tokens.store import TokenStore

HOOK_LOCK = ".credentials-provider-hook.lock"


def run_hook(
    options: RunOptions,
    store: TokenStore,
    entries: Sequence[Entry],
    results: Iterable[Outcome],
    *,
    observer: Observer,
    now: Callable[[], float],
) -> HookResult | None:
    """Run the hook if it has something to hear of; None if it has not.

    Not under the folder's lock: the hook may take its time, and may itself ask for tokens. A lock
    of its own keeps two runs from telling it the same thing.
    """
    if not _pending(store, entries):
        return None
    try:
        with store.lock(options.lock_timeout, HOOK_LOCK):
            pending = _pending(store, entries)
            if not pending:
                return None
            result = _run(options, store, entries, pending, list(results))
            try:
                with store.lock(options.lock_timeout):
                    _remember(store, pending, result, now())
            except StorageError as error:
                observer.warn(f"the hook will run once more: {error.message}")
            return result
    except StorageError as error:
        return HookResult((), None, error.message)


class _News(NamedTuple):
    """A token that the hook has not been told of, and when its file was written."""

    record: TokenRecord
    written_at: float  # epoch seconds; a time of issue is in whole ones, and can repeat


def _pending(store: TokenStore, entries: Sequence[Entry]) -> dict[str, _News]:
    told = read_state(store).told
    # The time first: a file that is replaced in between is told of once more, not never.
    written = {entry.name: _written_at(store.path(entry.name)) for entry in entries}
    on_disk, _ = store.read(entry.name for entry in entries)
    return {
        name: _News(record, written[name])
        for name, record in on_disk.items()
        if isinstance(record, TokenRecord)
        and record.fingerprint is not None
        and told.get(name) != written[name]
    }


def _written_at(path: str) -> float:
    try:
        return os.stat(path, follow_symlinks=False).st_mtime
    except OSError:
        return 0.0


def _remember(
    store: TokenStore, pending: Mapping[str, _News], result: HookResult, now: float
) -> None:
    state = read_state(store)
    if result.message is not None:
        state = state._replace(hook_failure=HookFailure(now, result.message))
    else:
        told = {name: news.written_at for name, news in pending.items()}
        state = state._replace(told={**state.told, **told}, hook_failure=None)
    write_state(store, state)


def _run(
    options: RunOptions,
    store: TokenStore,
    entries: Sequence[Entry],
    pending: Mapping[str, _News],
    outcomes: Sequence[Outcome],
) -> HookResult:
    assert options.on_renew is not None  # noqa: S101  the caller asked
    failed = [each for each in outcomes if each.failure is not None]
    names = tuple(sorted(pending))
    environment = {
        **without_secrets(os.environ, entries, options.settings),
        "RENEWED_IDENTITIES": " ".join(names),
        "FAILED_IDENTITIES": " ".join(sorted(each.identity_name for each in failed)),
    }
    document = json.dumps(_document(store, pending, failed)).encode()
    try:
        process = subprocess.Popen(  # noqa: S602  it is the user's own command line
            options.on_renew,
            shell=True,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=2,  # ours is for the report
            start_new_session=True,
        )
    except OSError as error:
        return HookResult(names, None, f"it cannot be started: {error.strerror}")
    try:
        process.communicate(document, timeout=options.hook_timeout)
    except subprocess.TimeoutExpired:
        _kill(process)
        return HookResult(names, None, f"it was stopped after {options.hook_timeout:g} s")
    except BaseException:
        _kill(process)
        raise
    code = process.returncode
    if code == 0:
        return HookResult(names, 0, None)
    return HookResult(names, code, f"exit code {code}" if code > 0 else f"ended by signal {-code}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the hook and whatever it started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.communicate()


def _document(
    store: TokenStore, pending: Mapping[str, _News], failed: Iterable[Outcome]
) -> dict[str, Any]:
    return {
        "version": 1,
        "output_dir": os.path.abspath(store.folder),
        "renewed": [
            {
                "identity_name": name,
                "token_file": os.path.abspath(store.path(name)),
                "expires_at": iso(record.expires_on),
                "refresh_at": iso(record.refresh_at),
            }
            for name, (record, _) in sorted(pending.items())
        ],
        "failed": [
            {
                "identity_name": each.identity_name,
                "outcome": each.kind,
                "message": each.failure.message if each.failure else None,
                "remedy": each.failure.remedy if each.failure else None,
            }
            for each in failed
        ],
    }
