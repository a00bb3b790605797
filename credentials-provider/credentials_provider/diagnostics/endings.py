"""When credentials end, as far as that is known here, and what makes new ones."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.errors import CredentialsProviderError, quoted
from credentials_provider.identities.fields import CREDENTIAL_KINDS, ROTATED, day_of, secret_end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from credentials_provider.model import Entry
    from credentials_provider.schedule.found import Timer
    from credentials_provider.settings import Settings

BY_HAND = "hand"
_THAT_END = (*ROTATED, "client_secret_keyvault")  # nobody has to make a new one of the others


class Ending(NamedTuple):
    """The end of one identity's credential, with its field as `kind`.

    `expires_on` and `old_until` in epoch seconds: its end, where that is known, and when the
    credential before it may go, while a rotation is under way. `rotated_by`: a timer of this
    machine, or `BY_HAND`; None: nothing is known.
    """

    kind: str
    expires_on: float | None = None
    rotated_by: str | None = None
    old_until: float | None = None

    @property
    def noun(self) -> str:
        return "certificate" if self.kind == "certificate_file" else "client secret"

    def told(self, now: float) -> str:
        """When it ends, in words; `now` in epoch seconds."""
        if self.expires_on is None:
            return f"it is not known when its {self.noun} expires"
        day = day_of(self.expires_on)
        if self.expires_on <= now:
            return f"its {self.noun} expired on {day}"
        days = int((self.expires_on - now) // 86400)
        return f"its {self.noun} expires on {day}, in {days} day{'' if days == 1 else 's'}"

    def rotation(self, name: str) -> str:
        """What makes a new one, in words, with the command where that is a person."""
        if self.rotated_by is None:
            return "nothing is known that rotates it"
        if self.rotated_by == BY_HAND:
            return f"rotate it by hand: `credentials-provider identities rotate {quoted(name)}`"
        return f"{self.rotated_by} rotates it"


def find_rotations(root: str) -> list[Timer]:
    """The timers of this machine that rotate secrets; systemd and cron are asked."""
    from credentials_provider.schedule.found import timers  # subprocess

    return [each for each in timers(os.environ, root) if each.rotation is not None]


def ending(
    settings: Settings,
    entry: Entry,
    seen: float | None,
    find: Callable[[], Sequence[Timer]],
    before: float = math.inf,
) -> Ending | None:
    """The end of an identity's credential; None: it is of a kind that has none.

    `seen` is the end that the last renewal saw, in epoch seconds; it counts for a vault's secret.
    `find` gives the timers that rotate. It is asked only about a credential that ends `before` this
    (epoch seconds), and without that limit about every one.
    """
    kind = next((each for each in CREDENTIAL_KINDS if each in entry.fields), None)
    if kind not in _THAT_END:
        return None
    certificate = kind == "certificate_file"
    end = _certificate_end(settings, entry) if certificate else secret_end(entry.fields)
    if kind not in ROTATED:
        end = end or seen
    found = Ending(kind, end)
    if before < math.inf and (end is None or end > before):
        return found
    if kind in ROTATED:
        found = found._replace(rotated_by=_rotated_by(settings, entry, find()))
    return found._replace(old_until=_old_until(settings, entry))


def _certificate_end(settings: Settings, entry: Entry) -> float | None:
    from credentials_provider.credentials.resolver import Resolver  # cryptography
    from credentials_provider.identities.identity import Identity
    from credentials_provider.identities.validation import validate_entry

    found = validate_entry(entry)
    if not isinstance(found, Identity):
        return None
    return Resolver(settings, time.time).certificate_end(found)


def _rotated_by(settings: Settings, entry: Entry, found: Sequence[Timer]) -> str:
    mine = [each for each in found if each.rotates(entry.name, settings.identities_file)]
    if not mine:
        return BY_HAND
    best = min(mine, key=lambda each: each.problem is not None)
    return f"{best.where} ({best.problem})" if best.problem else best.where


def _old_until(settings: Settings, entry: Entry) -> float | None:
    from credentials_provider.lifecycle.journal import ROTATIONS  # editing

    try:
        rotation = ROTATIONS.read(settings, entry.name)
    except CredentialsProviderError:
        return None  # the next `rotate` says what is wrong with it
    return rotation.remove_at if rotation else None
