"""What `status` shows to people: a table, what follows from it, one identity explained."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from credentials_provider import policy
from credentials_provider.cli.helping import as_started
from credentials_provider.cli.output import REASONS, local_time, time_left
from credentials_provider.cli.table import table, terminal, wrapped
from credentials_provider.diagnostics.status import Condition, Row, Status, tries
from credentials_provider.identities.fields import EXPIRY_WARNING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from credentials_provider.tokens.history import LastFailure

_COLOURS = {
    **dict.fromkeys(("refused", "invalid", "expired", "missing", "unreadable"), "red"),
    **dict.fromkeys(("changed", "clock"), "red"),
    "fresh": "green",
    "due": "yellow",
    "throttled": "yellow",
    "orphan": "cyan",
}
_BAR = 10  # cells
_COUNTED = 10  # from this number of rows on, their states are counted
_ENOUGH_TRIES = 2
_MOST_ENDINGS = 3


def status_lines(status: Status, name: str | None, rows: int) -> Iterator[str]:
    """What is shown: at most `rows` rows of the table, and everything below it."""
    if not status.rows:
        yield f"No identities, and no tokens in {status.folder}"
    elif name:
        yield from map(wrapped, _explained(status, status.rows[0]))
    else:
        yield from _table(status, rows)
    yield from map(wrapped, _outlook(status))
    if not name:  # else it is explained already
        yield from map(wrapped, _endings(status))


def screen_lines(status: Status, name: str | None, height: int) -> list[str]:
    """What of it a screen has lines for: the table gives way, and the outage stays."""
    rest = len(_split(status_lines(status, name, 0)))
    lines = _split(status_lines(status, name, max(height - rest, 0)))
    if len(lines) > height:
        lines = [line for line in lines if line]
    if len(lines) <= height:
        return lines
    below = [line for line in _split(map(wrapped, _outlook(status))) if line]
    above = lines[: len(lines) - len(below)]
    room = max(height - len(below), 1)
    return [*(above[:room] if name else above[-room:]), *below][:height]


def _split(paragraphs: Iterable[str]) -> list[str]:
    return "\n".join(paragraphs).split("\n")


# The table


def _table(status: Status, most: int) -> Iterator[str]:
    at = status.at
    shown = status.rows[:most]
    titles: tuple[str, ...] = ("IDENTITY", "STATE", "LEFT", "", "EXPIRES", "RENEWS", "LAST FAILURE")
    cells = [_cells(row, at) for row in shown]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)][:-1]
    columns = terminal()[0] if sys.stdout.isatty() else sys.maxsize
    if sum(widths) + 2 * len(widths) > columns:  # a narrow terminal goes without the bar
        cells = [(*row[:2], *row[3:]) for row in cells]
        titles = (*titles[:3], *titles[4:])
    yield from table(titles, cells, {1: _COLOURS})
    if hidden := status.rows[most:]:
        counts = _counts(hidden)
        yield f"… {len(hidden)} more: {counts} (--all shows them)"
    if len(status.rows) > _COUNTED:
        yield f"{len(status.rows)} in all: {_counts(status.rows)}"


def _counts(rows: Sequence[Row]) -> str:
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _cells(row: Row, at: float) -> tuple[str, ...]:
    record = row.record
    if record is None:
        return (row.identity_name, row.state, " " * _BAR, "", "", "", _note(row, at))
    left = time_left(record.expires_on - at) if record.expires_on > at else "none"
    renews = "now" if row.reason else local_time(record.refresh_at, at)
    if row.state in {"orphan", "invalid"}:
        renews = ""
    expires = local_time(record.expires_on, at)
    bar = _bar(row, at)
    return (row.identity_name, row.state, bar, left, expires, renews, _note(row, at))


def _bar(row: Row, at: float) -> str:
    record = row.record
    if record is None or row.state == "orphan" or not record.generated_at:
        return " " * _BAR
    life = max(record.expires_on - record.generated_at, 1.0)
    share = min(max((record.expires_on - at) / life, 0.0), 1.0)
    draws = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    full, empty = "█░" if draws else "#."
    filled = round(share * _BAR)
    return full * filled + empty * (_BAR - filled)


def _note(row: Row, at: float) -> str:
    if row.state == "orphan":
        return "its identity is gone" if row.ours else "another program's file"
    if row.problems:
        more = f" (and {len(row.problems) - 1} more)" if row.problems[1:] else ""
        return f"{row.problems[0]}{more}"
    if row.failure is None:
        return ""
    return f"{local_time(row.failure.at, at)}: {row.failure.message}{_code(row.failure)}"


def _code(failure: LastFailure) -> str:
    return f" (AADSTS{failure.aadsts})" if failure.aadsts else ""


# What follows for the time to come


def _outlook(status: Status) -> Iterator[str]:
    every = time_left(status.interval)
    at = status.at
    if (outage := status.outage) is not None:
        count = "1 try" if outage.tries == 1 else f"{outage.tries} tries"
        yield ""
        yield (
            f"If Entra ID became unreachable now, the first token to expire would be that of "
            f"{outage.identity_name}, at {local_time(outage.at, at)}. If a timer runs every "
            f"{every}, that leaves {count}."
        )
    least = time_left(2 * status.interval + policy.TIMER_JITTER)
    concerns = {
        "the renewal is refused, and trying again does not help. "
        "`credentials-provider status NAME` has the cure.": _in_state(status, "refused"),
        "the entry has mistakes, so nothing renews the token. "
        "`credentials-provider identities check` lists them.": _in_state(status, "invalid"),
        "the token was requested by another entry or at another login host. If you gave "
        "--login-base-url or --cloud then, give it here, too.": _in_state(status, "changed"),
        f"due less than {least} before the end, too little for two tries of a timer every {every}. "
        "Run it more often, or with --refresh-before 50%.": status.too_late_for_timer,
        "due for a while, and no run has tried. Is a timer running? "
        "`credentials-provider doctor` looks.": status.overdue,
        "a token whose identity is gone. "
        "`credentials-provider status --prune` removes it.": _in_state(status, "orphan"),
    }
    for text, names in concerns.items():
        if names:
            yield warning(f"{_first_names(names)}: {as_started(text)}")
    if (hook := status.hook_failure) is not None:
        yield warning(
            f"--on-renew failed at {local_time(hook.at, at)}: {hook.message}. It runs again with "
            "the next run."
        )


def _in_state(status: Status, state: Condition) -> list[str]:
    """The identities in a state; of the orphans, those that this program wrote."""
    return [row.identity_name for row in status.rows if row.state == state and row.ours]


def _endings(status: Status) -> Iterator[str]:
    """The credentials that end soon, the first to end first."""
    found = [
        (each.expires_on, row.identity_name, each)
        for row in status.rows
        if (each := row.ending) and each.expires_on and each.expires_on < status.at + EXPIRY_WARNING
    ]
    found.sort()
    for _, name, each in found[:_MOST_ENDINGS]:
        yield warning(f"{name}: {each.told(status.at)}; {as_started(each.rotation(name))}")
    if more := len(found[_MOST_ENDINGS:]):
        yield warning(
            f"{more} more credentials expire soon. "
            + as_started("`credentials-provider identities list` shows when.")
        )


def warning(text: str) -> str:
    """A line that begins with the word."""
    return f"{click.style('warning:', fg='yellow')} {text}"


def _first_names(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown  # noqa: PLR2004


# One identity

_SINKS = {
    "current": "holds the token",
    "missing": "is not there: the next run writes it",
    "other": "holds something else or has other rights: the next run writes it",
    "unseen": "is in the cluster: `doctor` looks at it there",
}


def _explained(status: Status, row: Row) -> Iterator[str]:
    at = status.at
    yield f"{row.identity_name}: {click.style(row.state, fg=_COLOURS.get(row.state, 'red'))}"
    yield f"  Token file: {row.token_file}"
    for problem in row.problems:
        yield f"  Mistake in its entry: {problem}"
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
        elif not row.problems:
            yield f"  Due, because {REASONS[row.reason]}."
        if row.reason is not None and row.has_valid_token:
            yield "  The token on disk is valid until then."
        elif row.reason == "changed":
            yield "  The token on disk is for another definition and cannot be used."
    yield "  Next: " + _next(row, at)
    yield from _ending(row, at)
    for sink in row.sinks:
        yield f"  Sink {sink.path} ({sink.format}) {_SINKS[sink.state]}."
    yield from _last_failure(row, at)


def _ending(row: Row, at: float) -> Iterator[str]:
    if (ending := row.ending) is not None:
        told = f"{ending.told(at)}; {as_started(ending.rotation(row.identity_name))}"
        yield f"  {told[0].upper()}{told[1:]}"
        if ending.old_until is not None:
            when = local_time(ending.old_until, at)
            yield f"  The one before it is removed by the first rotation after {when}."


def _last_failure(row: Row, at: float) -> Iterator[str]:
    failure = row.failure
    if failure is None:
        return
    runs = f", in {failure.runs} runs in a row" if failure.runs > 1 else ""
    when = local_time(failure.at, at)
    yield f"  Last failure: {when}{runs}: {failure.message}{_code(failure)}."
    if row.state == "refused":
        yield "  Trying again does not help: somebody must act."
    yield f"  Cure: {as_started(failure.remedy, identity=row.identity_name)}"
    if failure.trace_id:
        yield f"  Trace ID {failure.trace_id}"


def _next(row: Row, at: float) -> str:
    if row.problems:
        return as_started(
            "correct the entry; `credentials-provider identities check` lists every mistake."
        )
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
    ours = policy.refresh_time(issued_at, lives, identity_name=row.identity_name)
    yield (
        f"  It was requested at {local_time(record.generated_at, status.at)} and is valid for "
        f"{time_left(life)} in all."
    )
    if abs(ours - record.refresh_at) > 1:
        yield f"  Entra ID itself asked for a renewal {time_left(lead)} before the end."
    else:
        share, part = (2, "half") if life >= policy.LONG_LIFE else (3, "two thirds")
        base = min(max(life / share, policy.MINIMUM_LEAD), policy.MAXIMUM_LEAD_FRACTION * life)
        # Rounded so that the numbers that are shown add up.
        spread = max(0, round(lead / 60) - round(base / 60)) * 60
        yield (
            f"  It is renewed {_minutes(lead)} before its end: after {part} of its life, at least "
            f"{time_left(policy.MINIMUM_LEAD)} and at most half the life before the end "
            f"({_minutes(base)}), and {_minutes(spread)} earlier, its own share of up to "
            f"{policy.SPREAD_FRACTION:.0%} of the life, so that not all are renewed at once."
        )
    count = tries(lead, status.interval)
    fits = "" if count >= _ENOUGH_TRIES else ": too few, run it more often"
    yield f"  A timer every {time_left(status.interval)} has {count} tries in that time{fits}."


def _minutes(seconds: float) -> str:
    """Rounded to the minute, where `time_left` rounds down."""
    return time_left(round(seconds / 60) * 60) if seconds >= 60 else time_left(seconds)  # noqa: PLR2004
