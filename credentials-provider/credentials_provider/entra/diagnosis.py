"""What every explanation of a failure consists of."""

from __future__ import annotations

from typing import NamedTuple


class Diagnosis(NamedTuple):
    """One failure, explained."""

    cause: str  # a fragment in lower case without a period: "the client secret has expired"
    cure: str  # one or two imperative sentences
    transient: bool = False  # trying again later, with nothing changed, can help
