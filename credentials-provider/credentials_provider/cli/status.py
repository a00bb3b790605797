"""`status`: a table of every identity, or one of them explained; from files alone."""

from __future__ import annotations

import functools
import math
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.options import (
    DURATION,
    identity_names,
    settings_of,
    settings_options,
    utc_option,
)
from credentials_provider.cli.process import stoppable
from credentials_provider.cli.status_text import screen_lines, status_lines, warning
from credentials_provider.cli.table import terminal, wrapped
from credentials_provider.diagnostics.endings import ending, find_rotations
from credentials_provider.diagnostics.status import Row, Status, prune, read_status
from credentials_provider.errors import EXIT_FAILED, EXIT_OK, StoppedError
from credentials_provider.identities.fields import EXPIRY_WARNING, day_of
from credentials_provider.tokens.store import iso

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.settings import Settings

_MOST_ROWS = 50  # that are shown without --all
_EVERY = 1.0  # seconds between two looks of --watch
_REST_SHARE = 19  # times as long as a look takes: a twentieth of the time is spent looking


@click.command(
    "status",
    cls=Command,
    examples="""
    # How every token is
    credentials-provider status
    # Why one identity is as it is
    credentials-provider status ci
    """,
    exit_codes={
        0: "every identity has a valid token (with --any: at least one has)",
        1: "an identity has none (with --any: all have none)",
        2: "usage or configuration",
        78: "every token is valid, but a renewal was refused or an entry is invalid",
    },
)
@click.argument("name", required=False, shell_complete=identity_names)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("-w", "--watch", is_flag=True, help="Stay and redraw every second.")
@click.option("--all", "everything", is_flag=True, help="Show every line of a long table.")
@click.option(
    "--any", "one_is_enough", is_flag=True, help="Exit with 0 if one is valid, also in its sinks."
)
@utc_option
@click.option("--prune", "prunes", is_flag=True, help="Remove tokens whose identity is gone.")
@click.option("-y", "--yes", is_flag=True, help="With --prune: do not ask.")
@click.option(
    "--interval", type=DURATION, default="5m", help="Time between the runs of your timer."
)
@settings_options
@click.pass_obj
def command(root: str, /, **options: Any) -> int:
    """Show the state of every token: time left, next renewal, last failure. Only reads files."""
    settings = settings_of(options, root)
    name, interval = options["name"], max(options["interval"], 1.0)
    find = functools.cache(lambda: find_rotations(root))
    soon = math.inf if name or options["as_json"] else time.time() + EXPIRY_WARNING
    look = functools.partial(ending, settings, find=find, before=soon)
    names = (name,) if name else ()
    read = functools.partial(read_status, settings, names, interval=interval, look=look)
    if options["prunes"]:
        if name or options["watch"] or options["as_json"]:
            raise click.UsageError("--prune goes with no name, --watch or --json.")
        return _prune(settings, yes=options["yes"])
    if options["watch"]:
        if options["as_json"] or not sys.stdout.isatty():
            raise click.UsageError("--watch draws on a terminal. Without one, use --json.")
        return _watch(lambda: read(time.time()), name)
    status = read(time.time())
    if options["as_json"]:
        import json

        click.echo(json.dumps(status_document(status), indent=2))
    else:
        for text in status.warnings:
            click.echo(wrapped(warning(text), err=True), err=True)
        rows = sys.maxsize if options["everything"] else _MOST_ROWS
        click.echo("\n".join(status_lines(status, name, rows)))
    if options["one_is_enough"]:
        return EXIT_OK if status.any_valid else EXIT_FAILED
    return status.exit_code


def _watch(read: Callable[[], Status], name: str | None) -> int:
    """Draw over the last picture, in a screen of its own, until a signal comes."""
    click.echo("\x1b[?1049h\x1b[?25l", nl=False)
    lines: list[str] = []
    try:
        with stoppable():
            while True:
                began = time.monotonic()
                status = read()
                height = terminal()[1] - 1
                lines = screen_lines(status, name, height)
                shown = [f"{line}\x1b[K" for line in lines]
                click.echo("\x1b[H" + "\n".join(shown) + "\x1b[J", nl=False)
                sys.stdout.flush()
                # A large folder takes a while to read: most of the time belongs to others.
                time.sleep(max(_EVERY, _REST_SHARE * (time.monotonic() - began)))
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
            raise click.UsageError("--prune asks first, but there is no terminal: add --yes.")
        return click.confirm("Remove them?")

    with stoppable():
        gone = prune(settings, 30.0, approve)
    click.echo(f"Removed {gone} token file{'' if gone == 1 else 's'}")
    return 0


# For programs


def status_document(status: Status) -> dict[str, Any]:
    """The status as `--json` prints it."""
    outage, run, hook = status.outage, status.last_run, status.hook_failure
    return {
        "version": 1,
        "at": iso(status.at),
        "exit_code": status.exit_code,
        "output_dir": status.folder,
        "identities": [_row_document(row, status.at) for row in status.rows],
        "outage": outage
        and {**outage._asdict(), "at": iso(outage.at), "timer_interval": status.interval},
        "too_late_for_the_timer": status.too_late_for_timer,
        "overdue": status.overdue,
        "last_run": run
        and {
            "started_at": iso(run.started_at),
            "finished_at": iso(run.finished_at),
            "exit_code": run.exit_code,
        },
        "hook": hook and {"at": iso(hook.at), "message": hook.message},
        "warnings": list(status.warnings),
    }


def _row_document(row: Row, at: float) -> dict[str, Any]:
    record = row.record
    end = row.ending and row.ending.expires_on
    return {
        "identity_name": row.identity_name,
        "state": row.state,
        "serves": row.has_valid_token,
        "reason": row.reason,
        "problems": list(row.problems),
        "token_file": row.token_file,
        "generated_at": iso(record.generated_at) if record and record.generated_at else None,
        "expires_at": iso(record.expires_on) if record else None,
        "refresh_at": iso(record.refresh_at) if record and record.fingerprint else None,
        "seconds_left": max(0, int(record.expires_on - at)) if record else None,
        "ours": row.ours,
        "credential": row.ending and row.ending.kind,
        "credential_expires_on": day_of(end) if end else None,
        "credential_rotated_by": row.ending and row.ending.rotated_by,
        "sinks": [sink._asdict() for sink in row.sinks],
        "last_failure": row.failure and {**row.failure._asdict(), "at": iso(row.failure.at)},
    }
