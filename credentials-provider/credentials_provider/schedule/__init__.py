"""Timers for this project: a plan, and its text for whatever starts programs by the clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "credentials-provider"
DAY = 24 * 60  # minutes


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run, and how often. Paths are absolute."""

    command: tuple[str, ...]  # the whole command line, program first
    writes: tuple[str, ...]  # folders: tokens first
    every: int  # minutes: a divisor of 60, or DAY; 0 for a service that stays
    name: str = NAME
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def rotates(self) -> bool:
        """Whether it rotates secrets, instead of renewing tokens."""
        return self.every == DAY

    @property
    def act(self) -> str:
        return "rotation" if self.rotates else "run"

    @property
    def purpose(self) -> str:
        return (
            "Rotate the secrets of machine identities"
            if self.rotates
            else "Renew access tokens for machine identities"
        )


def names_of(name: str) -> tuple[str, str]:
    """The names of the two jobs that go by one: what renews, and what rotates."""
    return name, f"{name}.rotation"  # no --name has a dot
