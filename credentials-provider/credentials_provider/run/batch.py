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
    from collections.abc import Callable, Collection, Mapping, Sequence

    from credentials_provider.errors import Problem
    from credentials_provider.identities.identity import Identity
    from credentials_provider.identities.reading import IdentitiesFile
    from credentials_provider.minting import Failure, Minted
    from credentials_provider.model import OutcomeKind
    from credentials_provider.run.renewal import Minter
    from credentials_provider.settings import Settings

    MakeMinter = Callable[[RunOptions, Mapping[str, Identity], float], Minter]

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
    make_minter: MakeMinter = entra_minter,
    now: Callable[[], float] = time.time,
    read: Callable[[Settings], IdentitiesFile] = read_entries,
) -> Report:
    """Renew what is due and say what became of every selected identity.

    A mistake in an entry costs its own identity alone.

    Raises:
        ConfigurationError: nothing was requested and no token file written.
        StoppedError: a signal came; the files are whole.

    """
    if options.quiet and not options.dry_run:
        from credentials_provider.run.daily import OncePerDay  # a timer's run alone

        daily = OncePerDay(observer, TokenStore(options.settings.output_dir), now())
        options = options._replace(quiet=False)
        report = run(options, daily, make_minter=make_minter, now=now, read=read)
        daily.remember()
        return report
    current = _Run(options, observer, make_minter, now)
    try:
        return current.report(read(options.settings))
    except ConfigurationError:
        current.write_metrics(None, now(), EXIT_USAGE)
        raise


class _Run:
    """One run, with what each of its steps needs."""

    def __init__(
        self,
        options: RunOptions,
        observer: Observer,
        make_minter: MakeMinter,
        now: Callable[[], float],
    ) -> None:
        self._options = options
        self._observer = observer
        self._make_minter = make_minter
        self._now = now
        self._started_at = now()
        self._deadline = time.monotonic() + options.deadline
        self._store = TokenStore(options.settings.output_dir)

    def report(self, file: IdentitiesFile) -> Report:
        options, store = self._options, self._store
        for warning in (*options.warnings, *options.settings.warnings, *file.warnings):
            self._observer.warn(warning)
        self._check_permissions(file.entries)
        selected = shard_entries(select(file.entries, options.names, file.path), options.shard)
        plan, leftovers = self._plan(selected)
        identities: Mapping[str, Identity] = {}
        invalid: Mapping[int, Outcome] = {}
        is_obvious = all(entry.obvious for entry in selected)
        if options.dry_run or not is_obvious or any(item.due for item in plan):
            identities, invalid = self._validated(file.path, plan)
            plan = [item for item in plan if item.entry.index not in invalid]
        if any(item.due for item in plan) and not options.dry_run:
            results = self._renewed(plan, identities, {entry.name for entry in file.entries})
        else:
            results = [
                unchanged(item, store.path(item.entry.name), "due" if item.due else "fresh")
                for item in plan
            ]
            if leftovers and not options.dry_run:
                self._sweep()
        if not options.dry_run and any(entry.fields.get("sinks") for entry in selected):
            from credentials_provider.run.sinks import deliver  # only where there are any

            entries = [item.entry for item in plan]
            results = deliver(
                options, store, entries, results, now=self._now, ends_at=self._deadline
            )
        if store.open_to_others():
            problem = f"{store.folder} is open to other users of this machine"
            self._observer.warn(f"{problem}; chmod 700 closes it")
        in_order = iter(results)
        merged = tuple(invalid.get(entry.index) or next(in_order) for entry in selected)
        report = Report(self._started_at, self._now(), merged)
        return report if options.dry_run else self._after(report, file.entries)

    def _check_permissions(self, entries: Sequence[Entry]) -> None:
        settings = self._options.settings
        strict = self._options.strict_permissions
        if strict or settings.environment.open_file:
            from credentials_provider.run import child_environment  # seldom needed

            if strict:
                child_environment.refuse_exposed(settings, entries)
            if warning := child_environment.exposed_dotenv(settings, entries):
                self._observer.warn(warning)

    def _plan(self, entries: Sequence[Entry]) -> tuple[list[PlanItem], bool]:
        """A plan from what is on disk now, and whether a killed run left something there."""
        on_disk, leftovers = self._store.read(entry.name for entry in entries)
        lead, everything = self._options.lead, self._options.everything
        return make_plan(entries, on_disk, self._now(), lead=lead, everything=everything), leftovers

    def _validated(
        self, path: str, plan: Sequence[PlanItem]
    ) -> tuple[dict[str, Identity], dict[int, Outcome]]:
        """The valid identities by name, and by place in the file the outcome of the others.

        Raises:
            ConfigurationError: all of them are invalid.

        """
        from credentials_provider.identities import validation  # only where it is needed

        validated = validation.validate_each(item.entry for item in plan)
        if plan and not validated.identities:
            raise validation.mistakes(path, validated.problems.values())
        for warning in validated.warnings:
            self._observer.warn(warning)
        return validated.identities, {
            item.entry.index: self._invalid(item, mistaken(path, problems))
            for item in plan
            if (problems := validated.problems.get(item.entry.index))
        }

    def _invalid(self, item: PlanItem, failure: Failure) -> Outcome:
        """The outcome of an identity whose entry has mistakes; its old token may still be valid."""
        entry, record = item.entry, item.record
        is_valid = record is not None and record.expires_on > self._started_at
        kind: OutcomeKind = "kept" if is_valid and not self._options.everything else "failed"
        outcome = unchanged(item, self._store.path(entry.name) if record else "", kind, failure)
        return outcome._replace(identity_name=entry.name or f"entry {entry.index}", reason=None)

    def _renewed(
        self,
        plan: Sequence[PlanItem],
        identities: Mapping[str, Identity],
        known: Collection[str],
    ) -> list[Outcome]:
        from credentials_provider.run.renewal import Renewal

        concurrency = _within_file_limit(self._options.concurrency)
        options = self._options._replace(concurrency=concurrency)
        entries = [item.entry for item in plan]
        return Renewal(
            options=options,
            store=self._store,
            observer=self._observer,
            replan=lambda: self._plan(entries)[0],
            make_minter=lambda: self._make_minter(options, identities, self._deadline),
            deadline=self._deadline,
            now=self._now,
            known=known,
        ).run()

    def _sweep(self) -> None:
        """Clear up after a killed run, unless another run is at work, which will."""
        with contextlib.suppress(StorageError), self._store.lock(0):
            self._store.sweep()

    def _after(self, report: Report, entries: list[Entry]) -> Report:
        """What follows once the files are in place: the hooks, the metrics."""
        options = self._options
        mine = shard_entries(entries, options.shard)
        if options.on_renew or (options.on_failure and report.exit_code):
            from credentials_provider.run.hooks import Hooks  # only where there is one

            ends_at = self._deadline if options.deadline_given else float("inf")
            hooks = Hooks(options, self._store, mine, self._observer, self._now, ends_at)
            report = report._replace(hook=hooks.renewed(report), failure_hook=hooks.failed(report))
        self.write_metrics(mine, report.finished_at, report.exit_code)
        return report

    def write_metrics(
        self, entries: Sequence[Entry] | None, finished_at: float, exit_code: int
    ) -> None:
        options = self._options
        if not options.metrics_file or options.dry_run:
            return
        from credentials_provider.run.metrics import Subject, write_metrics  # prometheus
        from credentials_provider.tokens.history import LastRun

        try:
            ran = LastRun(self._started_at, finished_at, exit_code)
            subject = Subject(self._store, entries, options.shard, ran, options.interval)
            write_metrics(options.metrics_file, subject)
        except (ConfigurationError, StorageError) as error:
            self._observer.warn(error.message)


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
