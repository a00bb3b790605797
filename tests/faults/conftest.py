"""An emulator that keeps its answers back, and a project of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import Command, Project

from .tracing import Held

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def held() -> Iterator[Held]:
    """A local Entra ID that answers when `go` is set, and until then."""
    emulator = Held()
    emulator.go.set()
    with emulator:
        yield emulator
        emulator.go.set()


@pytest.fixture
def held_project(tmp_path: pathlib.Path, held: Held) -> Project:
    """A project folder of that emulator, without identities."""
    folder = tmp_path / "held"
    folder.mkdir()
    return Project(str(folder), held)


@pytest.fixture
def held_run(held_project: Project) -> Command:
    """The real command in that folder."""
    return Command(held_project)
