"""A line of a crontab for each job."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING

from credentials_provider.errors import ConfigurationError
from credentials_provider.files import write_whole
from credentials_provider.schedule import names_of
from credentials_provider.schedule.calling import FirstRun, call, first_run, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.schedule import Plan

COPY = ".crontab.before"  # in the user's home: the crontab as it was before the last change
_NEW = ".crontab.new"  # there too, as long as the crontab is replaced
_ROTATION_TIME = "23 10 * * *"  # when machines are on, and people are there for its mail
LONGEST = 998  # characters that cron takes as a command (vixie-cron's MAX_COMMAND)


def line(plan: Plan) -> str:
    """The line for this plan; the comment at its end is how it is found again.

    Raises:
        ConfigurationError: cron would cut the command off.

    """
    words = shlex.join(plan.command)
    # cron ends the command at a percent sign and gives it the rest as input (crontab(5)).
    command = f"{words} {_mark(plan.name)}".replace("%", "\\%")
    if len(command) > LONGEST:
        raise ConfigurationError(
            f"cron takes {LONGEST} characters at most, and this command has {len(command)}",
            hint="Put what a hook does into a script, and name that.",
        )
    if plan.rotates:
        return f"{_ROTATION_TIME} {command}"
    minutes = "*" if plan.every == 1 else f"*/{plan.every}"
    return f"{minutes} * * * * {command}"


def _mark(name: str) -> str:
    return f"# {name} (schedule cron)"


def install(plans: Sequence[Plan]) -> list[FirstRun]:
    """Put the lines into this user's crontab, after each job ran once in cron's environment.

    Raises:
        ConfigurationError: the crontab cannot be read or written.

    """
    before = after = _crontab()
    for plan in plans:
        after = without_line(after, plan.name) + line(plan) + "\n"
    home = {"HOME": os.path.expanduser("~"), "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    firsts = [first_run(plan, ["/bin/sh", "-c", shlex.join(plan.command)], home) for plan in plans]
    _replace(before, after)
    return firsts


def uninstall(name: str) -> bool:
    """Remove the lines of that name; whether there was one.

    Raises:
        ConfigurationError: the crontab cannot be read or written.

    """
    before = after = _crontab()
    for each in names_of(name):
        after = without_line(after, each)
    if after != before:
        _replace(before, after)
    return after != before


def _replace(before: str, after: str) -> None:
    """Put a crontab in the place of another, whole, and keep a copy of that one.

    From a finished file: a run that is killed while it writes to `crontab -` leaves half of it.
    """
    home = os.path.expanduser("~")
    if before:
        write_whole(os.path.join(home, COPY), before)
    path = os.path.join(home, _NEW)
    try:
        write_whole(path, after)
        call(["crontab", path])
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _crontab() -> str:
    done = run(["crontab", "-l"])
    if done.returncode and "no crontab" not in done.stderr.lower():
        raise ConfigurationError(
            f"crontab -l failed: {done.stderr.strip()[:200]}",
            hint="cron.allow and cron.deny say who may use crontab.",
        )
    if "\N{REPLACEMENT CHARACTER}" in done.stdout:
        raise ConfigurationError(
            "the crontab is not UTF-8 text; it is as it was",
            hint="Convert it (iconv), or add the line yourself with `crontab -e`.",
        )
    return "" if done.returncode else done.stdout


def without_line(crontab: str, name: str) -> str:
    """A crontab without the line of that name."""
    kept = [each for each in crontab.splitlines(keepends=True) if not _is_ours(each, name)]
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    return "".join(kept)


def _is_ours(text: str, name: str) -> bool:
    return not text.lstrip().startswith("#") and text.rstrip().endswith(_mark(name))
