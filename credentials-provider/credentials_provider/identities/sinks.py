"""Where else an identity's token goes: the sinks of an entry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.identities import rules

if TYPE_CHECKING:
    from credentials_provider.model import Entry


class Sink(NamedTuple):
    """One file, or key of a Kubernetes Secret, that gets an identity's token, too.

    `mode` None: as it is, 0600 if it is new.
    """

    path: str  # full; empty for a Secret
    format: str
    mode: int | None
    owner: str | None  # name or number
    group: str | None
    variable: str
    machine: str
    secret: str = ""  # the Secret's name
    key: str = ""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.path or f"kubernetes_secret {self.secret} (key {self.key})"


def sinks_of(entry: Entry, identities_file: str) -> list[Sink]:
    """The sinks of a valid entry; none of one whose sinks are not in order."""
    given = entry.fields.get("sinks")
    if not given or rules.sinks(given):
        return []
    folder = os.path.dirname(os.path.abspath(identities_file))
    return [
        Sink(
            os.path.join(folder, os.path.expanduser(each["path"])) if "path" in each else "",
            each.get("format", "json" if "path" in each else "raw"),
            int(each["mode"], 8) if "mode" in each else None,
            each.get("owner"),
            each.get("group"),
            each.get("variable", "ACCESS_TOKEN"),
            each.get("machine", ""),
            each.get("kubernetes_secret", ""),
            each.get("key", rules.SECRET_KEY),
        )
        for each in given
    ]
