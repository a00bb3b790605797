"""One line for a crontab."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING

from credentials_provider.errors import ConfigurationError
from credentials_provider.files import write_private
from credentials_provider.schedule.calling import FirstRun, call, first_run, run

if TYPE_CHECKING:
    from credentials_provider.schedule import Plan

COPY = ".crontab.before"  # in the user's home: the crontab as it was before the last change
_NEW = ".crontab.new"  # there too, as long as the crontab is replaced
LONGEST = 998  # characters that cron takes as a command (vixie-cron's MAX_COMMAND)


def line(plan: Plan) -> str:
    """The line for this plan; the comment at its end is how it is found again.

    Raises:
        ValueError: cron would cut the command off, or take it for more than one line.

    """
    words = shlex.join(plan.command)
    # cron ends the command at a percent sign and gives it the rest as input (crontab(5)).
    command = f"{words} {_mark(plan.name)}".replace("%", "\\%")
    if not command.isprintable() or len(command) > LONGEST:
        raise ValueError("cron cannot take this command: too long, or with a line break")
    minutes = "*" if plan.every == 1 else f"*/{plan.every}"
    return f"{minutes} * * * * {command}"


def _mark(name: str) -> str:
    return f"# {name} (schedule cron)"


def install(plan: Plan) -> FirstRun:
    """Put the line into this user's crontab, after the job ran once in cron's environment.

    Raises:
        ConfigurationError: the crontab cannot be read or written.
        ValueError: cron cannot take the command.

    """
    before = _crontab()
    after = with_line(before, plan)
    home = {"HOME": os.path.expanduser("~"), "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    first = first_run(["/bin/sh", "-c", shlex.join(plan.command)], home)
    _replace(before, after)
    return first


def uninstall(name: str) -> bool:
    """Remove the line of that name; whether there was one.

    Raises:
        ConfigurationError: the crontab cannot be read or written.

    """
    before = _crontab()
    after = without_line(before, name)
    if after != before:
        _replace(before, after)
    return after != before


def _replace(before: str, after: str) -> None:
    """Put a crontab in the place of another, whole, and keep a copy of that one.

    From a finished file: a run that is killed while it writes to `crontab -` leaves half of it.
    """
    home = os.path.expanduser("~")
    if before:
        write_private(os.path.join(home, COPY), before)
    path = os.path.join(home, _NEW)
    try:
        write_private(path, after)
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
    return "" if done.returncode else done.stdout


def with_line(crontab: str, plan: Plan) -> str:
    """A crontab with this plan's line instead of its former one, everything else as it is."""
    return without_line(crontab, plan.name) + line(plan) + "\n"


def without_line(crontab: str, name: str) -> str:
    """A crontab without the line of that name."""
    kept = [each for each in crontab.splitlines(keepends=True) if not _is_ours(each, name)]
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    return "".join(kept)


def _is_ours(text: str, name: str) -> bool:
    return not text.lstrip().startswith("#") and text.rstrip().endswith(_mark(name))
