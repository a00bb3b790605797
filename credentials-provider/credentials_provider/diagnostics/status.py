"""What is on disk, and what it means for each identity: reads files alone, decides nothing new."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from credentials_provider.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_REFUSED,
    ConfigurationError,
    StorageError,
)
from credentials_provider.identities.reading import FINGERPRINT_VERSION, read_entries, select
from credentials_provider.model import Reason, TokenRecord
from credentials_provider.policy import TIMER_INTERVAL, TIMER_JITTER
from credentials_provider.tokens.history import HookFailure, LastFailure, LastRun, State, read_state
from credentials_provider.tokens.plan import make_plan
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from credentials_provider.diagnostics.endings import Ending
    from credentials_provider.identities.reading import IdentitiesFile
    from credentials_provider.model import Entry, PlanItem
    from credentials_provider.settings import Settings

Condition = Literal[Reason, "fresh", "due", "refused", "throttled", "invalid", "orphan"]
# Somebody must act on these, even while their tokens are still valid; the worst first.
_TO_ACT_ON: dict[Condition, int] = {"invalid": 1, "refused": 2, "throttled": 3}

# The registry's own files in the folder, which hold something else than one identity's token.
_NO_TOKENS = {"mcp", "vscode_mcp"}


class SinkState(NamedTuple):
    """One sink of an identity, and whether it holds the token."""

    path: str  # or the Secret's name
    format: str
    state: Literal["current", "missing", "other", "unseen"]


class Row(NamedTuple):
    """One identity, or an orphan: a token file whose identity is gone. Times in epoch seconds."""

    identity_name: str
    state: Condition
    token_file: str
    has_valid_token: bool
    reason: Reason | None = None
    record: TokenRecord | None = None
    failure: LastFailure | None = None
    ours: bool = True  # an orphan that this program wrote
    problems: tuple[str, ...] = ()  # mistakes of its entry
    sinks: tuple[SinkState, ...] = ()
    ending: Ending | None = None  # of its credential, where that was asked for


class Outage(NamedTuple):
    """What expires first if no token could be renewed from now on."""

    identity_name: str
    at: float  # epoch seconds
    tries: int  # runs of the timer between its renewal time and its end


class Status(NamedTuple):
    """Everything that `status` shows; what needs somebody's attention first comes first."""

    at: float
    folder: str
    rows: tuple[Row, ...]
    interval: float  # seconds between the timer's runs
    last_run: LastRun | None
    warnings: tuple[str, ...]
    hook_failure: HookFailure | None = None

    @property
    def identities(self) -> list[Row]:
        """The rows without the orphans."""
        return [row for row in self.rows if row.state != "orphan"]

    @property
    def exit_code(self) -> int:
        if not all(row.has_valid_token for row in self.identities):
            return EXIT_FAILED
        refused = any(row.state in {"invalid", "refused"} for row in self.identities)
        return EXIT_REFUSED if refused else EXIT_OK

    @property
    def any_valid(self) -> bool:
        """Whether at least one identity has a valid token, and its sinks have it too."""
        return any(
            row.has_valid_token and all(sink.state in {"current", "unseen"} for sink in row.sinks)
            for row in self.identities
        )

    @property
    def outage(self) -> Outage | None:
        """None where no token is valid."""
        valid = [
            (row.record, row.identity_name)
            for row in self.identities
            if row.has_valid_token and row.record
        ]
        if not valid:
            return None
        record, name = min(valid, key=lambda each: each[0].expires_on)
        left = record.expires_on - max(self.at, record.refresh_at)
        return Outage(name, record.expires_on, tries(left, self.interval))

    @property
    def too_late_for_timer(self) -> list[str]:
        """Identities whose token is due too shortly before its end for this timer."""
        return [
            row.identity_name
            for row in self.identities
            if row.record is not None
            and row.record.fingerprint is not None
            and row.record.expires_on - row.record.refresh_at < self._two_runs
        ]

    @property
    def overdue(self) -> list[str]:
        """Identities that a timer would have tried by now, and nobody has."""
        latest = self.at - self._two_runs
        return [
            row.identity_name
            for row in self.rows
            if row.state in {"due", "throttled", "expired"}
            and row.record is not None
            and row.record.refresh_at < latest
            and (row.failure is None or row.failure.at < latest)
        ]

    @property
    def _two_runs(self) -> float:
        """Seconds in which a timer surely runs twice."""
        return 2 * self.interval + TIMER_JITTER


def tries(seconds: float, interval: float) -> int:
    """How many runs of a timer surely fall into these seconds."""
    return max(0, int((seconds - TIMER_JITTER) // interval))


def read_status(
    settings: Settings,
    names: Sequence[str],
    now: float,
    interval: float = TIMER_INTERVAL,
    read: Callable[[Settings], IdentitiesFile] = read_entries,
    *,
    look: Callable[[Entry, float | None], Ending | None] | None = None,
) -> Status:
    """The state of every identity, or of those named; orphans only with all.

    `look` says when the credential of an entry ends; it gets what the last renewal saw of that.

    Raises:
        ConfigurationError: no identities file, or none that is a JSON array; an unknown name; an
            output folder that may not be read.

    """
    file = read(settings)
    entries = select(file.entries, names, file.path)
    store = TokenStore(settings.output_dir)
    on_disk, _ = store.read(entry.name for entry in entries)
    state = read_state(store)
    problems = {} if file.obvious else _problems(entries)
    rows = [
        _row(item, store, state, problems.get(item.entry.index, ()), now)._replace(
            sinks=_sinks(settings, store, item.entry) if item.entry.fields.get("sinks") else (),
            ending=look(item.entry, state.credential_end(item.entry.name)) if look else None,
        )
        for item in make_plan(entries, on_disk, now)
    ]
    rows.sort(key=_urgency)
    if not names:
        rows += _orphans(store, {entry.name for entry in file.entries}, file.path)
    return Status(
        now,
        settings.output_dir,
        tuple(rows),
        interval,
        state.last_run,
        (*settings.warnings, *file.warnings),
        state.hook_failure,
    )


def _sinks(settings: Settings, store: TokenStore, entry: Entry) -> tuple[SinkState, ...]:
    from credentials_provider.run.sinks import states  # only where there are any

    return tuple(
        SinkState(sink.place, sink.format, found)
        for sink, found in states(store, entry, settings.identities_file)
    )


def _problems(entries: Iterable[Entry]) -> dict[int, tuple[str, ...]]:
    """The mistakes of the entries that have some, by index."""
    from credentials_provider.identities.validation import validate_each  # pydantic

    found = validate_each(entries).problems
    return {
        index: tuple(str(each._replace(entry=None, identity_name=None)) for each in problems)
        for index, problems in found.items()
    }


def _row(
    item: PlanItem, store: TokenStore, state: State, problems: tuple[str, ...], now: float
) -> Row:
    history = state.identities.get(item.entry.name)
    failure = history.failure if history else None
    if failure and item.record and item.record.generated_at > failure.at:
        failure = None  # somebody renewed it since
    valid = item.has_valid_token
    condition: Condition = "fresh" if item.reason is None else "due"
    if problems:
        # A mistake changes the fingerprint, but not what the token of before is good for.
        valid = item.record is not None and item.record.expires_on > now
        condition = "invalid"
    elif item.reason is not None and not valid:
        condition = item.reason
    elif failure is not None and not failure.transient:
        condition = "refused"
    elif failure is not None and failure.kind == "throttled" and item.reason is not None:
        condition = "throttled"
    return Row(
        item.entry.name or f"entry {item.entry.index}",
        condition,
        store.path(item.entry.name),
        valid,
        item.reason,
        item.record,
        failure,
        problems=problems,
    )


def _urgency(row: Row) -> tuple[bool, int, float, str]:
    """Who has no valid token, then who needs somebody, then whose token expires first."""
    end = row.record.expires_on if row.record else 0.0
    return row.has_valid_token, _TO_ACT_ON.get(row.state, 9), end, row.identity_name


def _orphans(store: TokenStore, known: Collection[str], identities_file: str) -> Iterator[Row]:
    # Case does not count: on some file systems CI.json is the file of the identity ci.
    others = {name.lower() for name in known} | _NO_TOKENS
    others.add(os.path.splitext(os.path.basename(identities_file))[0].lower())
    for file in sorted(store.names()):
        name, extension = os.path.splitext(file)
        ours = extension == ".json" and name.isprintable() and not name.startswith(".")
        if not ours or name.lower() in others:
            continue
        document = store.document(file) or {}
        if isinstance(document.get("access_token"), str):
            record = store.record(name)
            yield Row(
                name,
                "orphan",
                store.path(name),
                has_valid_token=False,
                record=record if isinstance(record, TokenRecord) else None,
                ours=_is_ours(document, name),
            )


def _is_ours(document: dict[str, Any], name: str) -> bool:
    """Whether this program wrote the file for an identity of the file's name."""
    definition = document.get("definition")
    return (
        document.get("provider") == "entra"
        and document.get("identity_name") == name
        and isinstance(definition, str)
        and definition.startswith(f"{FINGERPRINT_VERSION}:")
    )


def prune(settings: Settings, lock_timeout: float, approve: Callable[[list[Row]], bool]) -> int:
    """Remove the token files of ours whose identity is gone, if `approve` says so of them.

    Returns how many are gone. What came back or changed hands while it was asked for stays.

    Raises:
        ConfigurationError: the identities file has mistakes: nobody knows what is an orphan.
        StorageError: the folder is busy, or a file cannot be removed.

    """
    rows = _prunable(settings)
    if not rows or not approve(rows):
        return 0
    store = TokenStore(settings.output_dir)
    with store.lock(lock_timeout):
        still = {row.token_file for row in _prunable(settings)}
        gone = [row for row in rows if row.token_file in still]
        try:
            for row in gone:
                store.remove(f"{row.identity_name}.json")
        except OSError as error:
            raise StorageError(
                f"{os.path.join(store.folder, error.filename)} cannot be removed: {error.strerror}",
                hint="Check owner and permissions of the output folder.",
            ) from None
        store.sync()
    return len(gone)


def _prunable(settings: Settings) -> list[Row]:
    file = read_entries(settings)
    if file.problems:
        raise ConfigurationError(
            f"{file.path} has mistakes; nothing was removed",
            hint="Correct it first: until then nobody knows whose tokens are left over.",
            problems=file.problems,
        )
    known = {entry.name for entry in file.entries}
    found: Iterable[Row] = _orphans(TokenStore(settings.output_dir), known, file.path)
    return [row for row in found if row.ours]
