"""What a check found, and what the groups of checks hand on to one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from credentials_provider.identities.reading import authority_base

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from credentials_provider.identities.identity import Identity
    from credentials_provider.minting import Minted
    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

Verdict = Literal["ok", "warning", "failure", "skipped"]
MOST_IDENTITIES = 20  # that a group looks at, unless one is named


class Check(NamedTuple):
    """What one look found, and what to do about it; `identity_names`: whom it is about."""

    name: str
    verdict: Verdict
    seen: str
    cure: str = ""
    link: str = ""
    identity_names: tuple[str, ...] = ()
    trace_id: str | None = None  # of the first of them


def grouped(checks: Iterable[Check]) -> Iterator[Check]:
    """One check for each cause, with everybody whom it is about, in the order of the first."""
    found: dict[Check, list[Check]] = {}
    for check in checks:
        found.setdefault(check._replace(identity_names=(), trace_id=None), []).append(check)
    for cause, members in found.items():
        names = dict.fromkeys(name for each in members for name in each.identity_names)
        yield cause._replace(identity_names=tuple(names), trace_id=members[0].trace_id)


@dataclass(slots=True)
class Examination:
    """What is known so far. `entries` and `identities`: those selected, and those in order."""

    settings: Settings = field(repr=False)
    now: float  # epoch seconds
    ends_at: float  # time.monotonic(): nothing waits beyond it
    entries: list[Entry] = field(default_factory=list)
    identities: Mapping[str, Identity] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)  # login hosts
    without_credential: set[str] = field(default_factory=set)  # identities
    clock_skew: float = 0.0  # this machine's clock minus the provider's, seconds
    minted: dict[str, Minted] = field(default_factory=dict, repr=False)

    @property
    def valid(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.name in self.identities]

    def base_of(self, entry: Entry) -> str:
        return authority_base(entry.fields, self.settings)

    def bases(self) -> list[str]:
        """The login hosts of the identities, or the configured one where there are none."""
        found = dict.fromkeys(self.base_of(entry) for entry in self.valid)
        return list(found) or [self.settings.login_base_url]
