"""Timers for this project: a plan, and its text for whatever starts programs by the clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "credentials-provider"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run, and how often. Paths are absolute."""

    command: tuple[str, ...]  # the whole command line, program first
    writes: tuple[str, ...]  # folders: tokens first
    every: int  # minutes, a divisor of 60; 0 for a service that stays
    name: str = NAME
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
