"""Events for a log: one line of JSON each, on stderr; and priorities for the journal."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import click

from credentials_provider import __version__
from credentials_provider.model import Observer
from credentials_provider.tokens.store import iso

if TYPE_CHECKING:
    from credentials_provider.model import Outcome, Report

Level = Literal["error", "warning", "info"]

# sd-daemon(3): the journal takes a line's priority from the number in front of it.
_PRIORITIES: dict[Level, int] = {"error": 3, "warning": 4, "info": 6}
_LEVELS: dict[str, Level] = {"failed": "error", "kept": "warning"}
# Of a failure, in events and reports.
FAILURE_FIELDS = (*("kind", "error", "aadsts", "message", "remedy", "trace_id", "correlation_id"),)


_as_json = False


def set_json(*, wanted: bool) -> None:
    """Whether this process writes events from now on."""
    global _as_json  # noqa: PLW0603  a process has one log
    _as_json = wanted


def is_json() -> bool:
    """Whether it does."""
    return _as_json


def log(text: str, level: Level = "info") -> None:
    """Lines on stderr, or an event; where that is the journal, with their priority."""
    if _as_json:
        event("service" if level == "info" else level, level, message=click.unstyle(text))
        return
    if sys.stderr.isatty():
        from credentials_provider.cli.table import wrapped  # people only

        text = "\n".join(wrapped(line, err=True) for line in text.splitlines())
    _write(text, level)


def _write(text: str, level: Level) -> None:
    if _is_journal():
        text = "\n".join(f"<{_PRIORITIES[level]}>{line}" for line in text.splitlines())
    click.echo(text, err=True)


def _is_journal() -> bool:
    """Whether systemd connected stderr with the journal (systemd.exec(5), JOURNAL_STREAM)."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


def event(name: str, level: Level = "info", **fields: Any) -> None:
    """One line: time, level, event, which process it comes from, and what else is known."""
    known = {field: value for field, value in fields.items() if value is not None}
    shown = {
        "time": iso(time.time()),
        "level": level,
        "event": name,
        **_process(),
        **_shard,
        **known,
    }
    _write(json.dumps(shown), level)


_shard: dict[str, str] = {}


def set_shard(shard: tuple[int, int] | None) -> None:
    """Which part of the identities the events of this process are about."""
    _shard.clear()
    if shard is not None:
        _shard["shard"] = f"{shard[0]}/{shard[1]}"


@functools.cache
def _process() -> dict[str, str]:
    host = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return {"run": os.urandom(4).hex(), "version": __version__, "host": host}


def warn(message: str, remedy: str | None = None) -> None:
    """What stops nothing, and what can be done about it."""
    if _as_json:
        event("warning", "warning", message=message, remedy=remedy)
        return
    log(f"{click.style('warning:', fg='yellow')} {message}", "warning")
    if remedy:
        log(f"    {remedy}", "warning")


def observer() -> Observer:
    """For a command that renews a token while somebody needs it: warnings, and events."""
    return JsonLog() if _as_json else WarningLog()


class WarningLog(Observer):
    """Warnings alone."""

    def warn(self, message: str) -> None:
        warn(message)


class JsonLog(WarningLog):
    """Tells everything that happens as events; quiet: what is wrong alone."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def hook_output(self, line: str) -> None:
        event("hook_output", line=line)

    def finish(self, outcome: Outcome) -> None:
        level = _LEVELS.get(outcome.kind, "info")
        if self._quiet and level == "info":
            return
        failure = outcome.failure
        event(
            "renewal",
            level,
            identity=outcome.identity_name,
            outcome=outcome.kind,
            reason=outcome.reason,
            duration=None if outcome.duration is None else round(outcome.duration, 3),
            attempts=outcome.attempts,
            expires_at=None if outcome.expires_at is None else iso(outcome.expires_at),
            **{name: getattr(failure, name) for name in FAILURE_FIELDS if failure},
        )

    def report(self, report: Report) -> None:
        """What a run came to; failures that no renewal reported, such as a busy lock, too."""
        for outcome in report.results:
            if outcome.failure is not None and outcome.duration is None:
                self.finish(outcome)
        for name, hook in (("hook", report.hook), ("failure_hook", report.failure_hook)):
            if hook is not None and (hook.message is not None or not self._quiet):
                event(name, "info" if hook.message is None else "error", **hook._asdict())
        if report.exit_code or not self._quiet:
            event(
                "run",
                "info" if report.exit_code == 0 else "warning",
                exit_code=report.exit_code,
                **report.counts(),
                duration=round(report.finished_at - report.started_at, 3),
            )


def show_requests() -> None:
    """Put the program's own log on stderr, a line for each request: no body, no secret (`-vv`)."""
    import logging  # for this alone

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if _as_json:
                event("request", message=text)
            else:
                log(text)

    logger = logging.getLogger(__name__.partition(".")[0])
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(Lines())
