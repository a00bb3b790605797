"""What every unit test runs under."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from unit.making import Project

if TYPE_CHECKING:
    from pathlib import Path

# A loaded machine is no failure: time limits are the tests' own.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project: no identities file, no `.env`, an empty private token folder."""
    return Project(tmp_path)
