"""One line for a crontab."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from credentials_provider.schedule import Plan

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
