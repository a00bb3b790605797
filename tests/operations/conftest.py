"""The whole program in a project's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from operations.running import Program

if TYPE_CHECKING:
    from support import Project


@pytest.fixture
def run(project: Project) -> Program:
    """The program as a process."""
    return Program(project)
