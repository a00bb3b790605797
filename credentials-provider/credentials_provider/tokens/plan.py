"""Entries, what is on disk and the time make a plan: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from credentials_provider.model import Entry, PlanItem, Reason, TokenRecord
from credentials_provider.policy import LONGEST_LIFE
from credentials_provider.tokens.claims import differs
from credentials_provider.tokens.clock import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credentials_provider.policy import Lead


Unreadable = Literal["unreadable"]  # a token file that is there but cannot be understood
UNREADABLE: Unreadable = "unreadable"
OnDisk = TokenRecord | Unreadable | None  # None: no file


def make_plan(
    entries: Iterable[Entry],
    on_disk: Mapping[str, OnDisk],
    now: float,
    *,
    lead: Lead | None = None,
    everything: bool = False,
) -> list[PlanItem]:
    """Decide for each entry whether it is due at `now`.

    `lead` replaces each token's own `refresh_at`; `everything` makes all of them due.
    """
    plan = []
    for entry in entries:
        found = on_disk.get(entry.name)
        if isinstance(found, TokenRecord) and not _believed(entry, found, now):
            found = UNREADABLE
        record = found if isinstance(found, TokenRecord) else None
        reason = _reason(entry, found, now, lead)
        if everything:
            reason = "asked"
        plan.append(PlanItem(entry, record, reason, _is_valid(entry, record, now)))
    return plan


def _reason(entry: Entry, found: OnDisk, now: float, lead: Lead | None) -> Reason | None:
    if found is None:
        return "missing"
    if found == UNREADABLE:
        return found
    if found.fingerprint != entry.fingerprint:
        return "changed"
    if found.generated_at > now + CLOCK_TOLERANCE:
        return "clock"
    if found.expires_on <= now:
        return "expired"
    if found.clock_was_set:  # readers of the file take its times for right
        return "clock"
    refresh_at = found.refresh_at
    if lead is not None:
        refresh_at = found.expires_on - lead.of(found.expires_on - found.generated_at)
    return "refresh" if refresh_at <= now else None


def _believed(entry: Entry, record: TokenRecord, now: float) -> bool:
    """Whether the token can be this identity's: anybody can write a file, and a fingerprint."""
    tenant_id, client_id = (str(entry.fields.get(name)) for name in ("tenant_id", "client_id"))
    return (
        record.expires_on <= now + LONGEST_LIFE
        and not differs(record.tenant_id, tenant_id)
        and not differs(record.client_id, client_id)
    )


def _is_valid(entry: Entry, record: TokenRecord | None, now: float) -> bool:
    """Whether the token on disk can be used, whatever becomes of its renewal.

    One of another definition cannot be used: it is for another identity. One that this program did
    not write, or an older version of it, has no comparable fingerprint and is taken at its word.
    """
    if record is None or record.expires_on <= now or record.generated_at > now + CLOCK_TOLERANCE:
        return False
    if record.fingerprint is None:
        return True
    version = entry.fingerprint.partition(":")[0]
    return record.fingerprint == entry.fingerprint or not record.fingerprint.startswith(
        f"{version}:"
    )
