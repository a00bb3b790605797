"""Where else an identity's token goes: the sinks of an entry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.identities import rules

if TYPE_CHECKING:
    from credentials_provider.model import Entry


class Sink(NamedTuple):
    """One file that gets an identity's token, too. `mode` None: as it is, 0600 if it is new."""

    path: str  # full
    format: str
    mode: int | None
    owner: str | None  # name or number
    group: str | None
    variable: str
    machine: str


def sinks_of(entry: Entry, identities_file: str) -> list[Sink]:
    """The sinks of a valid entry; none of one whose sinks are not in order."""
    given = entry.fields.get("sinks")
    if not given or rules.sinks(given):
        return []
    folder = os.path.dirname(os.path.abspath(identities_file))
    return [
        Sink(
            os.path.join(folder, os.path.expanduser(each["path"])),
            each.get("format", "json"),
            int(each["mode"], 8) if "mode" in each else None,
            each.get("owner"),
            each.get("group"),
            each.get("variable", "ACCESS_TOKEN"),
            each.get("machine", ""),
        )
        for each in given
    ]
