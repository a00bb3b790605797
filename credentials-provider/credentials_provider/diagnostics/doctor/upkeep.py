"""What keeps the tokens fresh: timers, the last run, the hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from credentials_provider.diagnostics import guide
from credentials_provider.diagnostics.doctor.checks import MOST_IDENTITIES, Check
from credentials_provider.diagnostics.endings import BY_HAND, ending
from credentials_provider.diagnostics.status import read_status
from credentials_provider.errors import ConfigurationError
from credentials_provider.schedule.found import timers
from credentials_provider.tokens.history import read_state
from credentials_provider.tokens.store import TokenStore, iso

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from credentials_provider.diagnostics.doctor.checks import Examination, Verdict
    from credentials_provider.diagnostics.status import Row
    from credentials_provider.schedule.found import Timer


def timer(exam: Examination, process: Mapping[str, str], root: str) -> Iterator[Check]:
    """What renews the tokens, and what rotates credentials that end.

    `process`: the environment of the commands asked.
    """
    found = timers(process, root)
    for each in found:
        if each.problem is not None:
            name = each.where.rpartition(" ")[2]
            user = "--user " if "user's" in each.where else ""
            cure = f"Look at its log: journalctl {user}-u {name.rpartition('.')[0]}"
            about = "timer" if each.rotation is None else "rotation"
            yield Check(about, "failure", f"{each.where}: {each.problem}", cure)
    renewals = [each for each in found if each.rotation is None]
    if good := [each.where for each in renewals if each.problem is None]:
        yield Check("timer", "ok", " and ".join(good))
    elif not renewals:
        seen = "no timer of this user renews the tokens"
        cure = (
            "`credentials-provider schedule systemd --user --install`, "
            "`credentials-provider schedule cron --install`, or `credentials-provider watch` as a "
            "service."
        )
        yield Check("timer", "warning", seen, cure)
    yield from _endings(exam, [each for each in found if each.rotation is not None])


def _endings(exam: Examination, rotations: Sequence[Timer]) -> Iterator[Check]:
    state = read_state(TokenStore(exam.settings.output_dir))
    for entry in exam.valid[:MOST_IDENTITIES]:
        found = ending(exam.settings, entry, state.credential_end(entry.name), lambda: rotations)
        if found is None:
            continue
        seen, cure = found.told(exam.now), ""
        if found.rotated_by == BY_HAND:
            cure = f"R{found.rotation('NAME')[1:]}"
        else:
            seen += f"; {found.rotation(entry.name)}"
        if found.expires_on is None and found.kind != "certificate_file":
            asks = "`credentials-provider identities check --check-secret-expiry` asks Graph."
            cure = f"{asks} {cure}".strip()
        verdict: Verdict = "skipped" if found.expires_on is None else "ok"
        yield Check("rotation", verdict, seen, cure, identity_names=(entry.name,))


def last_run(exam: Examination) -> Iterator[Check]:
    """What runs have left behind: failures, tokens that nobody renewed, a hook that fails."""
    try:
        status = read_status(exam.settings, [each.name for each in exam.valid], exam.now)
    except ConfigurationError:
        return  # reported with the identities
    if overdue := status.overdue:
        seen = "no run has tried to renew them, though they have been due for a while"
        cure = "Start the timer, and look at its log: systemctl status, or cron's mail."
        yield Check("last run", "failure", seen, cure, identity_names=tuple(overdue))
    for row in status.rows:
        yield from _row(row)
    if hook := status.hook_failure:
        seen = f"--on-renew failed at {iso(int(hook.at))}: {hook.message}"
        cure = "It runs again with the next run. Correct the command if it keeps failing."
        yield Check("hook", "warning", seen, cure)
    seen = "no run has renewed anything here yet"
    if run := status.last_run:
        seen = f"{iso(int(run.finished_at))} was the last that renewed or tried to"
    yield Check("last run", "ok", seen)


def _row(row: Row) -> Iterator[Check]:
    names = (row.identity_name,)
    if (failure := row.failure) is not None:
        verdict: Verdict = "warning" if row.has_valid_token else "failure"
        link = guide.about_code(failure.aadsts) if failure.aadsts else ""
        yield Check("last run", verdict, failure.message, failure.remedy, link, names)
    elif row.state in {"missing", "unreadable", "changed", "clock"}:
        clock = row.state == "clock"
        seen = "the clock was set back" if clock else f"the token file is {row.state}"
        cure = "`credentials-provider generate --refresh-ahead` renews it."
        yield Check("last run", "warning", seen, cure, identity_names=names)
