"""Entra ID's own errors, by AADSTS number; `aadsts.txt` beside this module has them all."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Meaning(NamedTuple):
    """What Entra ID says for one AADSTS number; `text` has `{placeholders}` for the request's."""

    error: str
    text: str
    status: int


class EntraError(Exception):
    """A request that Entra ID refuses with `code`; `values` fill the placeholders of its text."""

    def __init__(self, code: int, **values: str) -> None:
        super().__init__(code)
        self.code = code
        self.values = values


def _meanings() -> dict[int, Meaning]:
    found = {}
    for line in Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            code, error, status, text = line.split(maxsplit=3)
            found[int(code)] = Meaning(error, text, int(status))
    return found


UNKNOWN = Meaning("invalid_request", "The request could not be processed.", 400)
"""What any other number gets."""

MEANINGS = _meanings()
"""Every AADSTS number that the emulator knows; a `Fault("aadsts", code=…)` takes any other too."""
