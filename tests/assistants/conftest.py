"""The real command, any of its commands, in a project's folder; an identity and an MCP server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from assistants.bench import Bench
from operations.running import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.emulator import App
    from support import Command, Project


@pytest.fixture
def run(project: Project) -> Command:
    """The real command in the project's folder."""
    return Program(project)


@pytest.fixture
def bench(project: Project, app: App) -> Iterator[Bench]:
    made = Bench(project, app)
    made.start()
    yield made
    made.kill()
