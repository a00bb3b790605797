"""Python and the packages of this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from typing import TYPE_CHECKING

from credentials_provider.diagnostics.doctor.checks import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLDEST_PYTHON = (3, 10)
_LOCKED = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)\s*(;?)")


def python() -> Iterator[Check]:
    """Whether this Python is new enough."""
    seen = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST_PYTHON:
        yield Check("python", "failure", seen, "Install Python 3.10 or newer.")
    else:
        yield Check("python", "ok", seen)


def packages(root: str) -> Iterator[Check]:
    """Whether those of a checkout's lock file are installed, in its versions."""
    wanted = dict(_locked(os.path.join(root, "requirements.lock")))
    missing, other = [], []
    for name, version in wanted.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found != version:
            other.append(f"{name} {found} instead of {version}")
    again = "Remove .venv and run generate_creds.sh, which makes a new one."
    if missing:
        yield Check("packages", "failure", f"missing: {', '.join(missing)}", again)
    if other:
        yield Check("packages", "warning", f"not as locked: {', '.join(other)}", again)
    if not (missing or other):
        seen = f"{len(wanted)} as in requirements.lock" if wanted else "as they were installed"
        yield Check("packages", "ok", seen)


def _locked(path: str) -> Iterator[tuple[str, str]]:
    """Name and version of each pinned package that any platform needs."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        if (pinned := _LOCKED.match(line)) and not pinned[3]:
            yield pinned[1], pinned[2]
