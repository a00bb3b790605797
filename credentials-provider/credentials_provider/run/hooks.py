"""The commands of `--on-renew` and `--on-failure`.

`--on-renew` runs once for each new token, and again until it succeeds. The state file holds a hash
of each token that it was given. A hook is pending for as long as there is another token, whatever
became of the run that minted it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.errors import StorageError
from credentials_provider.model import HookResult
from credentials_provider.run.child_environment import allowed
from credentials_provider.tokens.history import HookFailure, LastRun, read_state, write_state
from credentials_provider.tokens.store import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from credentials_provider.model import (
        Entry,
        Observer,
        Outcome,
        Report,
        RunOptions,
        TokenRecord,
    )
    from credentials_provider.tokens.store import TokenStore

HOOK_LOCK = ".credentials-provider-hook.lock"
_LONGEST_VARIABLE = 100_000  # bytes; execve(2) takes 128 KiB a string
_LONGEST_LINE = 1 << 16  # bytes of its output that are shown as one
_GRACE = 1.0  # seconds for its last output; a process that it left running may keep the pipe open


@dataclass
class Hooks:
    """The hooks of one run, once its files are in place."""

    options: RunOptions
    store: TokenStore
    entries: Sequence[Entry]
    observer: Observer
    now: Callable[[], float]  # epoch seconds
    ends_at: float  # a `time.monotonic()`: nothing here waits any longer

    def renewed(self, report: Report) -> HookResult | None:
        """Run `--on-renew` if there are tokens that it does not know; None if there are none.

        Not under the folder's lock: the hook may take its time, and may itself ask for tokens. A
        lock of its own keeps two runs from telling it the same thing.
        """
        command, patience = self.options.on_renew, self.options.lock_timeout
        if not command or not self._pending():
            return None
        try:
            with self.store.lock(patience, HOOK_LOCK, ends_at=self.ends_at):
                pending = self._pending()
                if not pending:
                    return None
                failed = [each for each in report.results if each.failure]
                result = self._run(command, pending, failed)
                try:
                    with self.store.lock(patience, ends_at=self.ends_at):
                        self._remember(pending, report._replace(hook=result))
                except StorageError as error:
                    self.observer.warn(f"the hook will run once more: {error.message}")
                return result
        except StorageError as error:
            return HookResult((), None, error.message)

    def failed(self, report: Report) -> HookResult | None:
        """Run `--on-failure` if a renewal failed; None if none did.

        A token that is kept because another run is renewing is not a failure.
        """
        command = self.options.on_failure
        failed = [
            each
            for each in report.results
            if each.failure and not (each.kind == "kept" and each.failure.is_busy)
        ]
        return self._run(command, {}, failed) if command and failed else None

    def _pending(self) -> dict[str, _PendingToken]:
        known = read_state(self.store).hooked
        pending = {}
        for entry in self.entries:
            if (found := self.store.token(entry.name)) and found[1].fingerprint:
                digest = hashlib.sha256(found[0]["access_token"].encode()).hexdigest()[:32]
                if known.get(entry.name) != digest:
                    pending[entry.name] = _PendingToken(found[1], digest)
        return pending

    def _remember(self, pending: Mapping[str, _PendingToken], report: Report) -> None:
        """Under the folder's lock."""
        state = read_state(self.store)
        now, result = self.now(), report.hook
        if result is not None and result.message is not None:
            since = state.hook_failure.since if state.hook_failure else now
            failure = HookFailure(now, result.message, since or now, len(pending))
            state = state._replace(hook_failure=failure)
        else:
            hooked = {name: news.digest for name, news in pending.items()}
            state = state._replace(hooked={**state.hooked, **hooked}, hook_failure=None)
        last_run = LastRun(report.started_at, now, report.exit_code)
        write_state(self.store, state._replace(last_run=last_run))

    def _run(
        self, command: str, pending: Mapping[str, _PendingToken], failed: Sequence[Outcome]
    ) -> HookResult:
        names = tuple(sorted(pending))
        environment = {
            **allowed(os.environ, self.options.hook_env),
            **self._variables("RENEWED", names),
            **self._variables("FAILED", sorted(each.identity_name for each in failed)),
        }
        left = max(self.ends_at - time.monotonic(), 0.0)
        timeout = min(self.options.hook_timeout, left)
        try:
            process = subprocess.Popen(  # noqa: S602  it is the user's own command line
                command,
                shell=True,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return HookResult(names, None, f"it cannot be started: {error.strerror}")
        document = json.dumps(_document(self.store, pending, failed)).encode()
        try:
            reader = self._communicate(process, document)
            code = process.wait(timeout)
            reader.join(_GRACE)
        except subprocess.TimeoutExpired:
            return HookResult(names, None, f"it was stopped after {timeout:.3g} s")
        except RuntimeError:
            _kill(process)
            for pipe in filter(None, (process.stdin, process.stdout)):
                pipe.close()
            return HookResult(names, None, "this process may start no thread for it (ulimit -u)")
        finally:
            _kill(process)
        if code == 0:
            return HookResult(names, 0, None)
        ended = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
        return HookResult(names, code, ended)

    def _variables(self, which: str, names: Sequence[str]) -> dict[str, str]:
        """The names and their number; the number alone where the names are too long together."""
        joined = " ".join(names)
        if len(joined.encode()) > _LONGEST_VARIABLE:
            joined = ""
            self.observer.warn(
                f"{which}_IDENTITIES is empty: {len(names)} names do not fit into the environment. "
                "The hook has them on its standard input."
            )
        return {f"{which}_IDENTITIES": joined, f"{which}_COUNT": str(len(names))}

    def _communicate(self, process: subprocess.Popen[bytes], document: bytes) -> threading.Thread:
        """Write the hook's input and pass on its output, in threads."""

        def write() -> None:
            assert process.stdin is not None  # noqa: S101  a pipe
            with contextlib.suppress(OSError), process.stdin as pipe:
                pipe.write(document)

        def read() -> None:
            assert process.stdout is not None  # noqa: S101  a pipe
            with contextlib.suppress(OSError, ValueError), process.stdout as pipe:
                while line := pipe.readline(_LONGEST_LINE):
                    self.observer.hook_output(line.decode(errors="replace").rstrip("\r\n"))

        threads = [threading.Thread(target=each, daemon=True) for each in (write, read)]
        for thread in threads:
            thread.start()
        return threads[1]


class _PendingToken(NamedTuple):
    """A token that the hook was not given yet, and its hash."""

    record: TokenRecord
    digest: str


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the hook and the processes of its session, if it has not ended."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _document(
    store: TokenStore, pending: Mapping[str, _PendingToken], failed: Iterable[Outcome]
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
                "kind": each.failure.kind,
                "message": each.failure.message,
                "remedy": each.failure.remedy,
                "expires_at": iso(each.expires_at)
                if each.kind == "kept" and each.expires_at
                else None,
            }
            for each in failed
            if each.failure is not None
        ],
    }
