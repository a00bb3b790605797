"""Renew what is due: under the folder's lock, many at once, each written as soon as it is there."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.entra.explanations import clock_skew_warning
from credentials_provider.errors import StorageError, unexpected
from credentials_provider.minting import Failure, storage_failure
from credentials_provider.model import Outcome, PlanItem, Report, RunOptions, unchanged
from credentials_provider.policy import refresh_time
from credentials_provider.run.workers import start_workers
from credentials_provider.tokens.store import TokenStore, token_document

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from credentials_provider.minting import Minted
    from credentials_provider.model import Entry, Observer

GRACE = 1.0  # seconds past the deadline that a worker gets to hand in what it has
WORKERS_A_CONNECTION = 8  # those that wait as a throttle wants hold none

_OUT_OF_TIME = Failure(
    "unreachable",
    "no answer within the run's deadline",
    "Check the network and the login host, or allow more time with --deadline.",
    transient=True,
)
_DELETED = "was deleted during this run; do not delete it: it locks nothing once the run is over"
_MORE = "(ulimit -u, ulimit -v)"
_REPORT_IT = "This is a mistake of this program: please report it with this line."


class Minter(NamedTuple):
    """How tokens are asked for: `mint` one for an entry; `close` ends all waiting.

    `pause` is for how many seconds an entry's tenant is throttled: to `mint` takes longer by that.
    """

    mint: Callable[[Entry], Minted | Failure]
    close: Callable[[], None]
    pause: Callable[[Entry], float] = lambda _: 0.0


@dataclass(kw_only=True)
class Renewal:
    """One run's renewals."""

    options: RunOptions
    store: TokenStore
    observer: Observer
    replan: Callable[[], list[PlanItem]]  # from what is on disk now
    make_minter: Callable[[], Minter]  # called if something is still due once we hold the lock
    deadline: float  # a `time.monotonic()`
    now: Callable[[], float]  # epoch seconds
    known: Collection[str]  # the names of all identities, selected or not

    def __post_init__(self) -> None:
        self._started_at = self.now()
        self._warned: set[str] = set()
        # No write begins once the run has ended, and it does not end within one.
        self._gate = threading.Condition()
        self._writing = 0
        self._ended = False

    def run(self) -> list[Outcome]:
        """What became of every selected identity."""
        try:
            patience = self.options.lock_timeout
            with self.store.lock(patience, ends_at=self.deadline) as in_place:
                self.store.sweep()
                # The holder of the lock before us may have renewed what is due.
                plan = self.replan()
                due = [item for item in plan if item.due]
                done = self._renew(due) if due else {}
                if done:
                    self._write_history(done.values())
                if not in_place():
                    self._warn_once("lock", f"the lock file in {self.store.folder} {_DELETED}")
        except StorageError as error:
            failure = storage_failure(error)
            plan = self.replan()
            done = {item.entry.name: self._failed(item, failure) for item in plan if item.due}
        return [
            done.get(item.entry.name) or unchanged(item, self._path(item), "fresh") for item in plan
        ]

    def _write_history(self, results: Iterable[Outcome]) -> None:
        """Leave word for the next run and for `status`: last failures, counts."""
        from credentials_provider.tokens import history  # only where something was tried

        outcomes = tuple(results)
        code = Report(self._started_at, self.now(), outcomes).exit_code
        run = history.LastRun(self._started_at, self.now(), code)
        before = history.read_state(self.store)
        after = history.after_run(before, outcomes, run, self.known)

        def write() -> None:
            try:
                history.write_state(self.store, after)
            except StorageError as error:
                self._warn_once("state", error.message)

        # In a thread: a signal's exception strikes the main one, and would leave half a file.
        writer = threading.Thread(target=write)
        try:
            writer.start()
        except RuntimeError:  # the process may start no thread
            write()
        else:
            writer.join()

    def _renew(self, due: Sequence[PlanItem]) -> dict[str, Outcome]:
        minter = self.make_minter()
        todo = _FairQueue(due, minter)
        finished: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

        def work() -> None:
            while not self._ended and (item := todo.next()):
                began = time.monotonic()
                outcome = self._renew_one(item, minter)
                finished.put(outcome._replace(duration=time.monotonic() - began))

        done: dict[str, Outcome] = {}
        self.observer.start(len(due))
        try:
            wanted = min(len(due), self.options.concurrency * WORKERS_A_CONNECTION)
            started = start_workers(wanted, work)
            if started < min(wanted, self.options.concurrency):
                self._warn_once("threads", f"this process may start only {started} threads {_MORE}")
            while len(done) < len(due):
                left = self.deadline + GRACE - time.monotonic()
                outcome = finished.get(timeout=max(left, 0.0))
                done[outcome.identity_name] = outcome
                self.observer.finish(outcome)
        except RuntimeError:
            raise StorageError(
                "this process may not start a single thread", hint=f"Raise its limits {_MORE}."
            ) from None
        except queue.Empty:
            for item in due:
                if item.entry.name not in done:
                    done[item.entry.name] = outcome = self._failed(item, _OUT_OF_TIME)
                    self.observer.finish(outcome)
        finally:
            self._end()
            minter.close()
            self.store.sync()
        return done

    def _renew_one(self, item: PlanItem, minter: Minter) -> Outcome:
        try:
            minted = minter.mint(item.entry)
            if message := clock_skew_warning(minted.clock_skew or 0.0):
                self._warn_once("clock", message)
            for warning in minted.warnings:
                self._warn_once(warning, warning)
            if isinstance(minted, Failure):
                return self._failed(item, minted)
            refresh_at = refresh_time(
                minted.issued_at,
                minted.expires_in,
                identity_name=item.entry.name,
                refresh_in=minted.refresh_in,
            )
            with self._write_gate():
                self.store.write(item.entry.name, token_document(item.entry, minted, refresh_at))
        except StorageError as error:
            return self._failed(item, storage_failure(error))
        except Exception as error:  # noqa: BLE001  one identity's failure is its own
            return self._failed(item, Failure("bad_response", unexpected(error), _REPORT_IT))
        self._warn_of_lead(minted.expires_in)
        return Outcome(
            item.entry.name,
            "renewed",
            self._path(item),
            expires_at=minted.issued_at + minted.expires_in,
            refresh_at=refresh_at,
            attempts=minted.attempts,
            reason=item.reason,
            credential=minted.credential,
            credential_ends=minted.credential_ends,
        )

    def _path(self, item: PlanItem) -> str:
        return self.store.path(item.entry.name)

    def _failed(self, item: PlanItem, failure: Failure) -> Outcome:
        """Kept, where the old token is still valid and nobody insisted on a new one.

        A busy lock is not a failure: another run is renewing.
        """
        expires_on = item.record.expires_on if item.record else 0.0
        valid = item.has_valid_token and expires_on > self.now()
        kept = valid and (failure.is_busy or not self.options.everything)
        return unchanged(item, self._path(item), "kept" if kept else "failed", failure)

    @contextlib.contextmanager
    def _write_gate(self) -> Iterator[None]:
        with self._gate:
            if self._ended:
                raise StorageError("the run ended before this token was written", hint="Run again.")
            self._writing += 1
        try:
            yield
        finally:
            with self._gate:
                self._writing -= 1
                self._gate.notify_all()

    def _end(self) -> None:
        with self._gate:
            self._ended = True
            self._gate.wait_for(lambda: not self._writing, timeout=GRACE)

    def _warn_once(self, about: str, message: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            # A standard error that nobody reads any more must cost no token.
            with contextlib.suppress(OSError):
                self.observer.warn(message)

    def _warn_of_lead(self, life: float) -> None:
        lead = self.options.lead
        if lead is not None and lead.of(life) >= life:
            self._warn_once(
                "lead", "the lead is longer than the life of these tokens: every run renews them"
            )


class _FairQueue:
    """What is to be done: the tenants in turn, and in each the token that expires first.

    A throttled tenant has its turn when the others are done: its identities would take every worker
    and wait there.
    """

    def __init__(self, due: Iterable[PlanItem], minter: Minter) -> None:
        tenants: dict[str, deque[PlanItem]] = {}
        for item in sorted(due, key=_valid_until):
            tenants.setdefault(item.entry.fields["tenant_id"].lower(), deque()).append(item)
        self._tenants = deque(tenants.values())
        self._minter = minter
        self._lock = threading.Lock()

    def next(self) -> PlanItem | None:
        """The next tenant's next one; where all tenants are throttled, of the first to go on."""
        with self._lock:
            soonest = None
            for items in self._tenants:
                pause = self._minter.pause(items[0].entry)
                if soonest is None or pause < soonest[0]:
                    soonest = pause, items
                if not pause:
                    break
            if soonest is None:
                return None
            items = soonest[1]
            item = items.popleft()
            self._tenants.remove(items)
            if items:
                self._tenants.append(items)
            return item


def _valid_until(item: PlanItem) -> float:
    return item.record.expires_on if item.has_valid_token and item.record else 0.0
