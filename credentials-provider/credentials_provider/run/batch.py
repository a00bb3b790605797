"""The main job: load, plan, renew, report."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from credentials_provider.errors import EXIT_USAGE, ConfigurationError, StorageError
from credentials_provider.identities.reading import authority_base, read_entries, select
from credentials_provider.model import (
    Entry,
    Observer,
    Outcome,
    PlanItem,
    Report,
    RunOptions,
    unchanged,
)
from credentials_provider.policy import shard_of
from credentials_provider.tokens.plan import make_plan
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from credentials_provider.errors import Problem
    from credentials_provider.identities.identity import Identity
    from credentials_provider.identities.reading import IdentitiesFile
    from credentials_provider.minting import Failure, Minted
    from credentials_provider.run.renewal import Minter
    from credentials_provider.settings import Settings

_FILES_A_CONNECTION = 5  # open at once: its socket, and the token files of its workers
_FILES_BESIDES = 32  # those of the program itself


def entra_minter(
    options: RunOptions, identities: Mapping[str, Identity], deadline: float
) -> Minter:
    """Tokens from Entra ID; nothing waits beyond `deadline`, a `time.monotonic()`."""
    # msal and its connections: only a run that renews something needs them.
    from credentials_provider.credentials.resolver import Resolver
    from credentials_provider.entra.rotation import acquire
    from credentials_provider.run.child_environment import keep_out_of_dumps
    from credentials_provider.run.renewal import Minter
    from credentials_provider.transport.retrying import Transport

    keep_out_of_dumps()
    transport = Transport(
        timeout=options.timeout,
        max_attempts=options.max_attempts,
        deadline=deadline,
        connections=options.concurrency,
        ca_bundle=options.settings.ca_bundle,
    )
    resolver = Resolver(
        options.settings,
        time.time,
        timeout=options.timeout,
        strict=options.strict_permissions,
        transport=transport,
    )

    def mint_entry(entry: Entry) -> Minted | Failure:
        base = authority_base(entry.fields, options.settings)
        return acquire(identities[entry.name], resolver.resolve, base, transport)

    def pause(entry: Entry) -> float:
        base = authority_base(entry.fields, options.settings)
        return transport.pause(base, entry.fields["tenant_id"])

    return Minter(mint_entry, transport.close, pause)


def run(
    options: RunOptions,
    observer: Observer,
    *,
    make_minter: Callable[[RunOptions, Mapping[str, Identity], float], Minter] = entra_minter,
    now: Callable[[], float] = time.time,
    read: Callable[[Settings], IdentitiesFile] = read_entries,
) -> Report:
    """Renew what is due and say what became of every selected identity.

    A mistake in an entry costs its own identity alone.

    Raises:
        ConfigurationError: nothing was requested and no token file written.
        StoppedError: a signal came; the files are whole.

    """
    started_at = now()
    if options.quiet and not options.dry_run:
        from credentials_provider.run.daily import OncePerDay  # a timer's run alone

        daily = OncePerDay(observer, TokenStore(options.settings.output_dir), started_at)
        report = run(
            options._replace(quiet=False), daily, make_minter=make_minter, now=now, read=read
        )
        daily.remember()
        return report
    try:
        return _run(options, observer, make_minter, now, read)
    except ConfigurationError:
        if options.metrics_file and not options.dry_run:
            store = TokenStore(options.settings.output_dir)
            _write_metrics(options, store, None, observer, (started_at, now(), EXIT_USAGE))
        raise


def _run(
    options: RunOptions,
    observer: Observer,
    make_minter: Callable[[RunOptions, Mapping[str, Identity], float], Minter],
    now: Callable[[], float],
    read: Callable[[Settings], IdentitiesFile],
) -> Report:
    started_at = now()
    deadline = time.monotonic() + options.deadline
    settings = options.settings
    store = TokenStore(settings.output_dir)
    file = read(settings)
    for warning in (*options.warnings, *settings.warnings, *file.warnings):
        observer.warn(warning)
    _check_permissions(options, file.entries, observer)
    selected = shard_entries(select(file.entries, options.names, file.path), options.shard)
    plan, leftovers = _read_plan(options, store, selected, started_at)
    due = any(item.due for item in plan)

    identities: Mapping[str, Identity] = {}
    invalid: Mapping[int, Outcome] = {}
    if due or options.dry_run or not all(entry.obvious for entry in selected):
        identities, invalid = _validated(options, file, plan, observer, started_at)
        plan = [item for item in plan if item.entry.index not in invalid]
        due = any(item.due for item in plan)
    if due and not options.dry_run:
        from credentials_provider.run.renewal import Renewal

        options = options._replace(concurrency=_within_file_limit(options.concurrency))
        valid = [item.entry for item in plan]
        results = Renewal(
            options,
            store,
            observer,
            replan=lambda: _read_plan(options, store, valid, now())[0],
            make_minter=lambda: make_minter(options, identities, deadline),
            deadline=deadline,
            now=now,
            known={entry.name for entry in file.entries},
        ).run()
    else:
        results = _unchanged(store, plan)
        if leftovers and not options.dry_run:
            _sweep(store)
    if not options.dry_run and any(entry.fields.get("sinks") for entry in selected):
        from credentials_provider.run.sinks import deliver  # only where there are any

        results = deliver(options, store, [item.entry for item in plan], results, now=now)
    if store.open_to_others():
        observer.warn(f"{store.folder} is open to other users of this machine; chmod 700 closes it")
    in_order = iter(results)
    merged = tuple(invalid.get(entry.index) or next(in_order) for entry in selected)
    report = Report(started_at, now(), merged)
    if options.dry_run:
        return report
    mine = shard_entries(file.entries, options.shard)
    return _run_hooks(options, store, mine, report, observer=observer, now=now, deadline=deadline)


def _unchanged(store: TokenStore, plan: Sequence[PlanItem]) -> list[Outcome]:
    return [
        unchanged(item, store.path(item.entry.name), "due" if item.due else "fresh")
        for item in plan
    ]


def _validated(
    options: RunOptions,
    file: IdentitiesFile,
    plan: Sequence[PlanItem],
    observer: Observer,
    now: float,
) -> tuple[dict[str, Identity], dict[int, Outcome]]:
    """The valid identities by name, and by place in the file what to say of the others.

    Raises:
        ConfigurationError: all of them are invalid.

    """
    from credentials_provider.identities.validation import (  # only where it is needed
        mistakes,
        validate_each,
    )

    validated = validate_each(item.entry for item in plan)
    if plan and not validated.identities:
        raise mistakes(file.path, validated.problems.values())
    for warning in validated.warnings:
        observer.warn(warning)
    return validated.identities, {
        item.entry.index: _invalid(options, file.path, item, problems, now)
        for item in plan
        if (problems := validated.problems.get(item.entry.index))
    }


def _invalid(
    options: RunOptions, path: str, item: PlanItem, problems: Sequence[Problem], now: float
) -> Outcome:
    """What to say of an identity whose entry has mistakes; its old token may still be valid."""
    entry = item.entry
    failure = mistaken(path, problems)
    kept = item.record is not None and item.record.expires_on > now and not options.everything
    token_file = TokenStore(options.settings.output_dir).path(entry.name) if item.record else ""
    outcome = unchanged(item, token_file, "kept" if kept else "failed", failure)
    return outcome._replace(identity_name=entry.name or f"entry {entry.index}", reason=None)


def mistaken(path: str, problems: Sequence[Problem]) -> Failure:
    """Why an identity of this file is not renewed."""
    from credentials_provider.minting import Failure

    return Failure(
        "configuration",
        "; ".join(str(each._replace(identity_name=None)) for each in problems),
        f"Correct the entry in {path}; `credentials-provider identities check` says when all is "
        "well.",
        problems=tuple(problems),
    )


def _run_hooks(
    options: RunOptions,
    store: TokenStore,
    mine: Sequence[Entry],
    report: Report,
    *,
    observer: Observer,
    now: Callable[[], float],
    deadline: float,
) -> Report:
    """What follows a run once its files are in place: the hooks, the metrics."""
    if options.on_renew or (options.on_failure and report.exit_code):
        from credentials_provider.run.hooks import Hooks  # only where there is one

        ends_at = deadline if options.deadline_given else float("inf")
        hooks = Hooks(options, store, mine, observer, now=now, ends_at=ends_at)
        if options.on_renew:
            report = report._replace(hook=hooks.renewed(report))
        if options.on_failure:
            report = report._replace(failure_hook=hooks.failed(report))
    if options.metrics_file:
        ran = (report.started_at, report.finished_at, report.exit_code)
        _write_metrics(options, store, mine, observer, ran)
    return report


def _write_metrics(
    options: RunOptions,
    store: TokenStore,
    entries: Sequence[Entry] | None,
    observer: Observer,
    ran: tuple[float, float, int],
) -> None:
    assert options.metrics_file is not None  # noqa: S101  the caller asked
    from credentials_provider.run.metrics import Subject, write_metrics  # prometheus
    from credentials_provider.tokens.history import LastRun

    try:
        subject = Subject(store, entries, options.shard, LastRun(*ran), options.interval)
        write_metrics(options.metrics_file, subject)
    except (ConfigurationError, StorageError) as error:
        observer.warn(error.message)


def _within_file_limit(connections: int) -> int:
    """As many connections as this process may have files open for.

    Lifts the limit (RLIMIT_NOFILE) as far as it needs and may; macOS begins with 256 files.
    """
    try:
        import resource  # Windows has none, and no such limit
    except ImportError:
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections * _FILES_A_CONNECTION + _FILES_BESIDES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    lifted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lifted, hard))
        soft = lifted
    return max((soft - _FILES_BESIDES) // _FILES_A_CONNECTION, 1)


def shard_entries(entries: list[Entry], shard: tuple[int, int] | None) -> list[Entry]:
    """The entries of a shard, all of them without one."""
    if shard is None:
        return entries
    return [entry for entry in entries if shard_of(entry.name, shard[1]) == shard[0]]


def _check_permissions(options: RunOptions, entries: Sequence[Entry], observer: Observer) -> None:
    if not (options.strict_permissions or options.settings.environment.open_file):
        return
    from credentials_provider.run import child_environment  # seldom needed

    if options.strict_permissions:
        child_environment.refuse_exposed(options.settings, entries)
    if warning := child_environment.exposed_dotenv(options.settings, entries):
        observer.warn(warning)


def _read_plan(
    options: RunOptions, store: TokenStore, selected: Sequence[Entry], now: float
) -> tuple[list[PlanItem], bool]:
    """A plan from what is on disk now, and whether a killed run left something there."""
    on_disk, leftovers = store.read(entry.name for entry in selected)
    plan = make_plan(selected, on_disk, now, lead=options.lead, everything=options.everything)
    return plan, leftovers


def _sweep(store: TokenStore) -> None:
    """Clear up after a killed run, unless another run is at work, which will."""
    with contextlib.suppress(StorageError), store.lock(0):
        store.sweep()
