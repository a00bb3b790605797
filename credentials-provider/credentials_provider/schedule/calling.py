"""Calls the programs that keep timers (systemctl, crontab) and explains their failures."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.errors import ConfigurationError
from credentials_provider.run.child_environment import allowed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from credentials_provider.schedule import Plan

_TIMEOUT = 60.0  # seconds for systemctl, crontab and their like
_LAST_LINES = 12


class FirstRun(NamedTuple):
    """How the job went in the environment that it will have."""

    done: bool
    what: str  # a line for people
    output: str = ""
    cure: str = ""


def run(
    line: Sequence[str],
    *,
    timeout: float = _TIMEOUT,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Raises:
        ConfigurationError: it is not on this machine, or does not answer.

    """
    try:
        return subprocess.run(  # noqa: S603  words of ours
            line,
            stdin=subprocess.DEVNULL,
            env=allowed(os.environ) if environment is None else environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no {line[0]} on this machine",
            hint="Take another timer (`credentials-provider schedule --help`), or `watch`.",
        ) from None
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"{line[0]} has not answered for {timeout:g} s", hint="Run it by hand to see why."
        ) from None


def call(line: Sequence[str]) -> str:
    """What a program prints, which must succeed.

    Raises:
        ConfigurationError: it failed.

    """
    done = run(line)
    if done.returncode:
        raise ConfigurationError(
            f"{' '.join(line)} failed: {done.stderr.strip()[:200]}",
            hint="Run it by hand to see more. Where this manager does not run, as in a container, "
            "take another timer (`credentials-provider schedule --help`), or `watch`.",
        )
    return done.stdout


def last_lines(text: str) -> str:
    """The end of a program's output, indented."""
    lines = text.strip().splitlines()[-_LAST_LINES:]
    return "\n".join(f"    {line}" for line in lines)


def timeout_of(plan: Plan) -> float:
    """How long its first run may take, in seconds: a unit gives it an hour, or five minutes."""
    return 3630.0 if plan.rotates else 330.0


def first_run(plan: Plan, line: Sequence[str], environment: Mapping[str, str]) -> FirstRun:
    """Run the job once, as the timer will: in that environment alone."""
    done = run(line, timeout=timeout_of(plan), environment=environment)
    return FirstRun(
        done.returncode in (0, 75),
        f"The first {plan.act} ended with exit code {done.returncode}.",
        last_lines(done.stdout + done.stderr),
    )
