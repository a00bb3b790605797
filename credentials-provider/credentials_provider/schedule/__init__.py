"""Timers for this project: a plan, and its text for systemd, cron and Kubernetes."""

from __future__ import annotations

from typing import NamedTuple

NAME = "credentials-provider"


class Plan(NamedTuple):
    """What is to run, and how often. Paths are absolute."""

    command: tuple[str, ...]  # the whole command line, program first
    writes: tuple[str, ...]  # folders: tokens first
    every: int  # minutes, a divisor of 60
    name: str = NAME
