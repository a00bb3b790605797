"""The program without a command: where things stand, and the commands that come next."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import click

from credentials_provider.cli.logs import warn
from credentials_provider.diagnostics.status import read_status
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.reading import read_entries
from credentials_provider.schedule.found import timers
from credentials_provider.settings import Flags, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from credentials_provider.diagnostics.status import Row
    from credentials_provider.identities.reading import IdentitiesFile
    from credentials_provider.settings import Settings


class Step(NamedTuple):
    """What was found, and commands without the program's name, each with what it does."""

    found: str
    commands: Sequence[tuple[str, str]]


def show(root: str, program: str) -> None:
    """Say where things stand in the project of this folder, and what comes next.

    Raises:
        ConfigurationError: settings or identities that cannot be used; it says what to correct.

    """
    settings = load_settings(Flags(), os.environ, root)
    step = next_step(settings, time.time(), lambda: _working_timers(root))
    click.echo(f"{step.found}. Next:\n")
    if settings.moved:
        warn(settings.moved)
    width = max(len(command) for command, _ in step.commands)
    for command, does in step.commands:
        click.echo(f"  {program} {command:{width}}  {does}")
    click.echo(f"\n{program} --help lists every command.")


def _working_timers(root: str) -> list[str]:
    found = timers(os.environ, root)
    return [each.where for each in found if each.problem is None and each.rotation is None]


def next_step(settings: Settings, now: float, find_timers: Callable[[], Sequence[str]]) -> Step:
    """The first thing that is missing on the way to tokens that stay fresh."""
    if not os.path.exists(settings.identities_file) and not _defines_ingress(settings):
        return Step(
            f"There is no identities file at {settings.identities_file}",
            [
                ("identities init", "asks for a first identity and writes the file"),
                ("demo", "shows the whole job, without a tenant"),
            ],
        )
    file = read_entries(settings)
    if _is_wrong(file):
        return Step(
            f"{file.path} has mistakes",
            [("identities check", "names them all, by entry and field")],
        )
    if not file.entries:
        return Step(f"{file.path} is empty", [("identities add NAME", "adds an identity")])
    status = read_status(settings, (), now)
    rows = [row for row in status.rows if row.state != "orphan"]
    return _for_tokens(rows) or _for_the_future(rows, find_timers())


def _for_tokens(rows: Sequence[Row]) -> Step | None:
    """What to do about tokens that are missing or due."""
    without = [row for row in rows if not row.has_valid_token]
    failed = [row for row in rows if row.failure is not None]
    if failed:
        name = failed[0].identity_name
        return Step(
            f"{_of(failed, rows)} could not be renewed",
            [(f"status {name}", "says why, and the cure"), ("doctor", "checks the whole way")],
        )
    if without:
        return Step(
            f"{_of(without, rows)} {'has' if len(without) == 1 else 'have'} no valid token",
            [("generate --refresh-ahead", "mints what is missing")],
        )
    if any(row.reason for row in rows):
        return Step(
            "Every token is valid, and some are due",
            [("generate --refresh-ahead", "renews what is due")],
        )
    return None


def _for_the_future(rows: Sequence[Row], timers: Sequence[str]) -> Step:
    """What to do once every token is fresh."""
    if not timers:
        return Step(
            "Every token is fresh, but no timer of yours keeps it so",
            [
                ("schedule systemd --user --install", "renews ahead of time, by systemd"),
                ("schedule cron --install", "the same, by cron"),
                ("watch", "the same, in the foreground"),
            ],
        )
    return Step(
        "Every token is fresh, and a timer keeps it so",
        [
            ("status", "says how every token is"),
            (f"token {rows[0].identity_name}", "prints one"),
            ("mcp-config CLIENT", "gives an AI assistant tokens that never expire in a session"),
        ],
    )


def _defines_ingress(settings: Settings) -> bool:
    """Whether the environment makes an identity, without a file."""
    return bool(settings.tenant_id and settings.client_id and settings.client_secret)


def _is_wrong(file: IdentitiesFile) -> bool:
    if file.obvious:
        return False
    from credentials_provider.identities.validation import validate  # only for a doubt

    try:
        validate(file)
    except ConfigurationError:
        return True
    return False


def _of(some: Sequence[Row], rows: Sequence[Row]) -> str:
    return f"{len(some)} of {len(rows)} identit{'y' if len(rows) == 1 else 'ies'}"
