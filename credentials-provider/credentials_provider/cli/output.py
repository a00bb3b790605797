"""Shows a run to people and programs: the result on stdout, the rest on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import UTC, as_started
from credentials_provider.cli.logs import FAILURE_FIELDS, log
from credentials_provider.errors import EXIT_REFUSED
from credentials_provider.model import Observer
from credentials_provider.policy import showable
from credentials_provider.tokens.store import iso

if TYPE_CHECKING:
    from credentials_provider.cli.logs import Level
    from credentials_provider.minting import Failure
    from credentials_provider.model import Outcome, OutcomeKind, Reason, Report, RunOptions

REASONS: dict[Reason | None, str] = {
    "asked": "a new one was asked for",
    "missing": "there is no token file",
    "unreadable": "the token file cannot be read",
    "expired": "the token has expired",
    "changed": "the identity's definition (or the login host) has changed",
    "clock": "the clock was set since the token was minted",
    "refresh": "its time to renew has come",
    None: "not due",
}
_COLOURS = {"renewed": "green", "fresh": "green", "kept": "yellow", "failed": "red", "due": "cyan"}
_HALF_A_DAY = 43_200  # seconds
_MANY = 2  # identities from which on progress is worth a line


class Console(Observer):
    """Warnings and progress on stderr; progress on a terminal only."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._progress: Any = None  # rich.progress.Progress
        self._task: Any = None

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()

    def warn(self, message: str) -> None:
        self._say(f"{click.style('warning:', fg='yellow')} {message}", "warning")

    def hook_output(self, line: str) -> None:
        self._say(line)

    def start(self, due: int) -> None:
        if self._quiet or self._verbose or due < _MANY or not sys.stderr.isatty():
            return
        from rich.console import Console as RichConsole  # a terminal only
        from rich.progress import Progress

        self._progress = Progress(console=RichConsole(stderr=True), transient=True)
        self._task = self._progress.add_task("Minting tokens", total=due)
        self._progress.start()

    def finish(self, outcome: Outcome) -> None:
        if self._progress is not None:
            self._progress.advance(self._task)
        elif self._verbose and not self._quiet:
            tries = f", {outcome.attempts} requests" if outcome.attempts != 1 else ""
            self._say(f"{outcome.identity_name}: {outcome.kind}{tries}")

    def _say(self, line: str, level: Level = "info") -> None:
        if self._progress is not None:
            self._progress.console.print(line, markup=False, highlight=False)
        else:
            log(line, level)


def show_report(
    report: Report, options: RunOptions, *, as_json: bool = False, verbose: bool = False
) -> None:
    """Render a report: every renewal, every failure with its cure, and one line that sums it up."""
    if as_json:
        import json

        click.echo(json.dumps(report_document(report), indent=2))
        return
    now = time.time()
    width = max((len(each.identity_name) for each in report.results), default=0)
    for each in report.results:
        if each.failure is None and not options.quiet and (verbose or each.kind != "fresh"):
            outcome = click.style(f"{each.kind:8}", fg=_COLOURS[each.kind])
            click.echo(f"{each.identity_name:{width}}  {outcome} {_detail(each, now)}")
    failed = [(each, each.failure) for each in report.results if each.failure is not None]
    for place, (each, failure) in enumerate(failed, start=1):
        following = failed[place][1].remedy if place < len(failed) else None
        alone = place == 1 or failed[place - 2][1].remedy != failure.remedy
        cure = as_started(failure.remedy, identity=each.identity_name if alone else None)
        _show_failure(each, failure, now, cure="" if failure.remedy == following else cure)
    if report.hook is not None and report.hook.message is not None:
        log(
            f"{click.style('the hook failed', fg='red')} ({report.hook.message}). It stays pending "
            "and runs again with the next run. The new tokens are in place.",
            "error",
        )
    if report.failure_hook is not None and report.failure_hook.message is not None:
        log(f"the hook of --on-failure failed: {report.failure_hook.message}", "error")
    summary = _summary(report, options.settings.output_dir, dry_run=options.dry_run)
    if report.exit_code:
        log(summary, "warning")
    elif not options.quiet:
        click.echo(summary)


def _detail(outcome: Outcome, now: float) -> str:
    if outcome.kind == "due" or outcome.expires_at is None:
        return REASONS[outcome.reason]
    again = f", due {local_time(outcome.refresh_at, now)}" if outcome.refresh_at else ""
    return f"until {local_time(outcome.expires_at, now)}{again}"


def _show_failure(outcome: Outcome, failure: Failure, now: float, *, cure: str) -> None:
    """Cause, trace id and cure; the cure of several in a row once, below the last."""
    state = click.style(outcome.kind, fg=_COLOURS[outcome.kind])
    left = ""
    if outcome.expires_at is not None and outcome.expires_at > now:
        left = f" (the token on disk is valid for another {time_left(outcome.expires_at - now)})"
    lines = [f"{outcome.identity_name}: {state}{left}: {failure.cause}"]
    if failure.trace_id:
        lines.append(f"    Trace ID {failure.trace_id}")
    if cure:
        lines.append(f"    {cure}")
    log("\n".join(lines), "error" if outcome.kind == "failed" else "warning")


def _summary(report: Report, folder: str, *, dry_run: bool) -> str:
    kinds: tuple[OutcomeKind, ...] = ("renewed", "fresh", "due", "kept", "failed")
    counted = ", ".join(f"{count} {kind}" for kind in kinds if (count := report.count(kind)))
    counted = counted or "none"
    if dry_run:
        return f"Dry run: {counted}; nothing was requested or written"
    if report.count("failed"):
        return f"Not every identity got its token: {counted}, in {folder}"
    if report.count("kept"):
        what = "Somebody must act" if report.exit_code == EXIT_REFUSED else "Try again later"
        return f"{what}: {counted}, in {folder}; every token there is still valid"
    return f"Tokens saved: {counted}, in {folder}"


def report_document(report: Report) -> dict[str, Any]:
    """The report as `--json` prints it."""
    return {
        "version": 1,
        "started_at": iso(report.started_at),
        "finished_at": iso(report.finished_at),
        "exit_code": report.exit_code,
        "summary": {"identities": len(report.results), **report.counts()},
        "results": [
            {
                "identity_name": each.identity_name,
                "outcome": each.kind,
                "reason": each.reason,
                "token_file": os.path.abspath(each.token_file) if each.token_file else None,
                "expires_at": _iso_or_none(each.expires_at),
                "refresh_at": _iso_or_none(each.refresh_at),
                "attempts": each.attempts,
                "credential": each.credential,
                "error": _error_document(each.failure),
            }
            for each in report.results
        ],
        **({"hook": report.hook._asdict()} if report.hook else {}),
        **({"failure_hook": report.failure_hook._asdict()} if report.failure_hook else {}),
    }


def _error_document(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        **{name: getattr(failure, name) for name in (*FAILURE_FIELDS, "transient")},
        **({"problems": [each._asdict() for each in failure.problems]} if failure.problems else {}),
    }


def _iso_or_none(epoch: float | None) -> str | None:
    return None if epoch is None else iso(epoch)


def local_time(epoch: float, now: float) -> str:
    """A time for people: the hour, the day too unless it is today or soon, and the zone."""
    ctx = click.get_current_context(silent=True)
    zone = timezone.utc if ctx is not None and ctx.meta.get(UTC) else None
    when, today = (datetime.fromtimestamp(showable(each), timezone.utc) for each in (epoch, now))
    with contextlib.suppress(ValueError):  # TZ may be a day or more from UTC
        when, today = when.astimezone(zone), today.astimezone(zone)
    near = when.date() == today.date() or abs(epoch - now) < _HALF_A_DAY
    form = "%H:%M %Z" if near else "%Y-%m-%d %H:%M %Z"
    return when.strftime(form)


def time_left(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 23 min, 5 h 10 min, 3 d."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{int(seconds)} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 1:
        return f"{minutes} min"
    days = hours // 24
    return f"{days} d {hours % 24} h" if days else f"{hours} h {minutes} min"
