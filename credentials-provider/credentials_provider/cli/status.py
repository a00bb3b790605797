"""`status`: a table of every identity, or one of them explained; from files alone."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command, as_started
from credentials_provider.cli.options import DURATION, identity_names, settings_of, settings_options
from credentials_provider.cli.output import REASONS, local_time, time_left
from credentials_provider.cli.stopping import stoppable
from credentials_provider.diagnostics.status import Row, Status, prune, read_status, tries
from credentials_provider.errors import StoppedError
from credentials_provider.policy import (
    LONG_LIFE,
    MAXIMUM_LEAD_FRACTION,
    MINIMUM_LEAD,
    SPREAD_FRACTION,
    TIMER_JITTER,
    refresh_time,
)
from credentials_provider.tokens.store import iso

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.settings import Settings
    from credentials_provider.tokens.history import LastFailure

_COLOURS = {"fresh": "green", "due": "yellow", "orphan": "cyan"}
_BAR = 10  # cells
_EVERY = 1.0  # seconds between two looks of --watch
_ENOUGH_TRIES = 2


@click.command(
    "status",
    cls=Command,
    examples="""
    # How every token is
    credentials-provider status
    # Why one identity is as it is
    credentials-provider status ci
    """,
    epilog="Exit codes: 0 every identity has a token that serves; 1 one has none; 2 configuration.",
)
@click.argument("name", required=False, shell_complete=identity_names)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("-w", "--watch", is_flag=True, help="Stay, and draw again every second.")
@click.option("--prune", "prunes", is_flag=True, help="Remove tokens whose identity is gone.")
@click.option("-y", "--yes", is_flag=True, help="With --prune: do not ask.")
@click.option(
    "--interval",
    type=DURATION,
    default="5m",
    show_default=True,
    help="Time between the runs of your timer.",
)
@settings_options
@click.pass_obj
def command(root: str, /, **options: Any) -> int:
    """Say how every token is: state, time left, next renewal, last failure. Only reads files."""
    settings = settings_of(options, root)
    name, interval = options["name"], max(options["interval"], 1.0)
    if options["prunes"]:
        if name or options["watch"] or options["as_json"]:
            raise click.UsageError("--prune goes with no name, --watch or --json.")
        return _prune(settings, yes=options["yes"])
    if options["watch"]:
        if options["as_json"] or not sys.stdout.isatty():
            raise click.UsageError("--watch draws on a terminal; without one, use --json.")
        return _watch(settings, name, interval)
    status = read_status(settings, (name,) if name else (), time.time(), interval)
    if options["as_json"]:
        import json  # noqa: PLC0415

        click.echo(json.dumps(status_document(status), indent=2))
    else:
        for warning in status.warnings:
            click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)
        click.echo("\n".join(_lines(status, name)))
    return status.exit_code


def _watch(settings: Settings, name: str | None, interval: float) -> int:
    """Draw over the last picture, in a screen of its own, until a signal comes."""
    click.echo("\x1b[?1049h\x1b[?25l", nl=False)
    lines: list[str] = []
    try:
        with stoppable():
            while True:
                status = read_status(settings, (name,) if name else (), time.time(), interval)
                lines = list(_lines(status, name))
                height = _terminal()[1]
                shown = [f"{line}\x1b[K" for line in lines[: height - 1]]
                click.echo("\x1b[H" + "\n".join(shown) + "\x1b[J", nl=False)
                sys.stdout.flush()
                time.sleep(_EVERY)
    except StoppedError as stop:
        return stop.exit_code
    finally:
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)
        click.echo("\n".join(lines))


def _prune(settings: Settings, *, yes: bool) -> int:
    def approve(rows: list[Row]) -> bool:
        click.echo("These tokens are of identities that are gone:")
        for row in rows:
            click.echo(f"  {row.token_file}")
        if yes:
            return True
        if not sys.stdin.isatty():
            raise click.UsageError("--prune asks first, and nobody is there: add --yes.")
        return click.confirm("Remove them?")

    with stoppable():
        gone = prune(settings, 30.0, approve)
    click.echo(f"Removed {gone} token file{'' if gone == 1 else 's'}")
    return 0


def _lines(status: Status, name: str | None) -> Iterator[str]:
    if not status.rows:
        yield f"No identities, and no tokens in {status.folder}"
    elif name:
        yield from _explained(status, status.rows[0])
    else:
        yield from _table(status)
    yield from _outlook(status)


# The table


def _table(status: Status) -> Iterator[str]:
    at = status.at
    head = ("IDENTITY", "STATE", "LEFT", "", "EXPIRES", "RENEWS")
    cells = [head, *(_cells(row, at) for row in status.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    columns = _terminal()[0] if sys.stdout.isatty() else sys.maxsize
    if sum(widths) + 2 * len(widths) > columns:  # a narrow terminal goes without the bar
        cells = [(*row[:2], *row[3:]) for row in cells]
        cells[0] = (*head[:2], *head[2:3], *head[4:])
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    titles = "  ".join([*_padded(cells[0], widths), "LAST FAILURE"])
    yield click.style(_cut(titles, columns), dim=True)
    for row, texts in zip(status.rows, cells[1:], strict=True):
        name, state, *rest = _padded(texts, widths)
        line = "  ".join(["", *rest, _note(row, at)]).rstrip()
        line = _cut(line, columns - len(name) - len(state) - 2)
        yield f"{name}  {click.style(state, fg=_COLOURS.get(row.state, 'red'))}{line}"


def _cells(row: Row, at: float) -> tuple[str, ...]:
    record = row.record
    if record is None:
        return (row.identity_name, row.state, " " * _BAR, "", "", "")
    left = time_left(record.expires_on - at) if record.expires_on > at else "none"
    renews = "now" if row.reason else ""
    if row.state == "fresh":
        renews = local_time(record.refresh_at, at)
    expires = local_time(record.expires_on, at)
    return (row.identity_name, row.state, _bar(row, at), left, expires, renews)


def _padded(texts: tuple[str, ...], widths: list[int]) -> list[str]:
    return [f"{text:{width}}" for text, width in zip(texts, widths, strict=True)]


def _bar(row: Row, at: float) -> str:
    record = row.record
    if record is None or row.state == "orphan" or not record.generated_at:
        return " " * _BAR
    life = max(record.expires_on - record.generated_at, 1.0)
    share = min(max((record.expires_on - at) / life, 0.0), 1.0)
    full, empty = ("█", "░") if _draws(sys.stdout.encoding) else ("#", ".")
    filled = round(share * _BAR)
    return full * filled + empty * (_BAR - filled)


def _note(row: Row, at: float) -> str:
    if row.state == "orphan":
        return "its identity is gone" if row.ours else "not of this program"
    if row.failure is None:
        return ""
    return f"{local_time(row.failure.at, at)}: {row.failure.message}{_code(row.failure)}"


def _code(failure: LastFailure) -> str:
    return f" (AADSTS{failure.aadsts})" if failure.aadsts else ""


def _cut(text: str, columns: int) -> str:
    return text if len(text) <= columns else text[: max(columns - 1, 0)] + "…"


def _draws(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("-", "") == "utf8"


def _terminal() -> tuple[int, int]:
    """Columns and lines; `shutil` would say the same and costs a third of the start."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return 80, 24
    return size.columns or 80, size.lines or 24


# What follows for the time to come


def _outlook(status: Status) -> Iterator[str]:
    every = time_left(status.interval)
    at = status.at
    if (outage := status.outage) is not None:
        count = "1 try" if outage.tries == 1 else f"{outage.tries} tries"
        yield ""
        yield (
            "If Entra ID became unreachable now, the first identity to go would be "
            f"{outage.identity_name} at {local_time(outage.at, at)}; with a timer every {every} "
            f"that leaves {count}."
        )
    if hurried := status.hurried:
        yield _warning(
            f"{_some(hurried)}: due less than {time_left(2 * status.interval + TIMER_JITTER)} "
            f"before the end, too little for two tries of a timer every {every}. Run it more "
            "often, or with --refresh-ahead 50%."
        )
    if overdue := status.overdue:
        yield _warning(
            f"{_some(overdue)}: due for a while, and no run has tried. Is the timer running? "
            + as_started("`credentials-provider doctor` looks.")
        )
    if orphans := [row.identity_name for row in status.orphans if row.ours]:
        yield _warning(
            f"{_some(orphans)}: token of an identity that is gone. "
            + as_started("`credentials-provider status --prune` removes it.")
        )


def _warning(text: str) -> str:
    return f"{click.style('warning:', fg='yellow')} {text}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown  # noqa: PLR2004


# One identity


def _explained(status: Status, row: Row) -> Iterator[str]:
    at = status.at
    yield f"{row.identity_name}: {click.style(row.state, fg=_COLOURS.get(row.state, 'red'))}"
    yield f"  Token file: {row.token_file}"
    record = row.record
    if row.reason in {"missing", "unreadable"} or record is None:
        yield f"  Due, because {REASONS[row.reason]}."
    else:
        end = local_time(record.expires_on, at)
        if record.expires_on > at:
            yield f"  It expires at {end}, in {time_left(record.expires_on - at)}."
        else:
            yield f"  It expired at {end}, {time_left(at - record.expires_on)} ago."
        if record.fingerprint is not None:
            yield from _formula(status, row)
        if row.reason is None:
            wait = time_left(record.refresh_at - at)
            yield f"  Not due: its time comes at {local_time(record.refresh_at, at)}, in {wait}."
        else:
            yield f"  Due, because {REASONS[row.reason]}."
        if row.reason is not None and row.serves:
            yield "  The token on disk serves until then."
        elif row.reason == "changed":
            yield "  The token on disk is for another definition and does not serve."
    yield "  Next: " + _next(row, at)
    if (failure := row.failure) is not None:
        runs = f", in {failure.runs} runs in a row" if failure.runs > 1 else ""
        when = local_time(failure.at, at)
        yield f"  Last failure: {when}{runs}: {failure.message}{_code(failure)}."
        yield f"  Cure: {as_started(failure.remedy)}"
        if failure.trace_id:
            yield f"  Trace ID {failure.trace_id}"


def _next(row: Row, at: float) -> str:
    if row.reason is None and row.record is not None:
        return f"the first run after {local_time(row.record.refresh_at, at)} renews it."
    return as_started(
        "the next run tries to renew it (`credentials-provider generate --refresh-ahead`)."
    )


def _formula(status: Status, row: Row) -> Iterator[str]:
    """How its renewal time came about, with the numbers."""
    record = row.record
    assert record is not None  # noqa: S101  asked for by the caller
    life = record.expires_on - record.generated_at
    lead = record.expires_on - record.refresh_at
    issued_at, lives = int(record.generated_at), int(life)
    ours = refresh_time(issued_at, lives, identity_name=row.identity_name)
    yield (
        f"  It was asked for at {local_time(record.generated_at, status.at)} and lives "
        f"{time_left(life)} in all."
    )
    if abs(ours - record.refresh_at) > 1:
        yield f"  Entra ID itself asked for a renewal {time_left(lead)} before the end."
    else:
        share, part = (2, "half") if life >= LONG_LIFE else (3, "two thirds")
        base = min(max(life / share, MINIMUM_LEAD), MAXIMUM_LEAD_FRACTION * life)
        yield (
            f"  It is renewed {time_left(lead)} before its end: after {part} of its life, at least "
            f"{time_left(MINIMUM_LEAD)} and at most half the life before the end "
            f"({time_left(base)}), and {time_left(lead - base)} earlier, its own share of up to "
            f"{SPREAD_FRACTION:.0%} of the life, so that a fleet spreads out."
        )
    count = tries(lead, status.interval)
    fits = "" if count >= _ENOUGH_TRIES else ": too few, run the timer more often"
    yield f"  A timer every {time_left(status.interval)} has {count} tries in that time{fits}."


# For programs


def status_document(status: Status) -> dict[str, Any]:
    """The status as `--json` prints it."""
    outage = status.outage
    run = status.last_run
    return {
        "version": 1,
        "at": iso(status.at),
        "exit_code": status.exit_code,
        "output_dir": status.folder,
        "identities": [_row_document(row, status.at) for row in status.rows],
        "outage": outage
        and {
            "identity_name": outage.identity_name,
            "at": iso(outage.at),
            "tries": outage.tries,
            "timer_interval": status.interval,
        },
        "too_late_for_the_timer": status.hurried,
        "overdue": status.overdue,
        "last_run": run
        and {
            "started_at": iso(run.started_at),
            "finished_at": iso(run.finished_at),
            "exit_code": run.exit_code,
        },
        "warnings": list(status.warnings),
    }


def _row_document(row: Row, at: float) -> dict[str, Any]:
    record = row.record
    return {
        "identity_name": row.identity_name,
        "state": row.state,
        "serves": row.serves,
        "reason": row.reason,
        "token_file": row.token_file,
        "generated_at": iso(record.generated_at) if record and record.generated_at else None,
        "expires_at": iso(record.expires_on) if record else None,
        "refresh_at": iso(record.refresh_at) if record and record.fingerprint else None,
        "seconds_left": max(0, int(record.expires_on - at)) if record else None,
        "ours": row.ours,
        "last_failure": row.failure and {**row.failure._asdict(), "at": iso(row.failure.at)},
    }
