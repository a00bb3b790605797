"""Timers for this project: a plan, and its text for whatever starts programs by the clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from credentials_provider.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "credentials-provider"
DAY = 24 * 60  # minutes


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run, and how often. Paths are absolute.

    Raises:
        ConfigurationError: a word has a line break, which ends a line of every kind of timer.

    """

    command: tuple[str, ...]  # the whole command line, program first
    writes: tuple[str, ...]  # folders: tokens first
    every: int  # minutes: a divisor of 60, or DAY; 0 for a service that stays
    name: str = NAME
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        words = (*self.command, *self.writes, *self.environment.values())
        if not all(map(str.isprintable, words)):
            raise ConfigurationError(
                "a path, option or variable of the timer has a line break or a control character",
                hint="Leave it out, or put it into a script or a .env that the timer's job uses.",
            )

    @property
    def rotates(self) -> bool:
        """Whether it rotates secrets, instead of renewing tokens."""
        return self.every == DAY

    @property
    def act(self) -> str:
        return "rotation" if self.rotates else "run"

    @property
    def purpose(self) -> str:
        if self.rotates:
            return "Rotate the secrets of machine identities"
        return "Renew access tokens for machine identities"


def names_of(name: str) -> tuple[str, str]:
    """The names of the two jobs that go by one: what renews, and what rotates."""
    return name, f"{name}.rotation"  # no --name has a dot
