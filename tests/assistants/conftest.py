"""The real command, any of its commands, in a project's folder; an identity and an MCP server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from assistants.bench import Bench
from support import Command, apps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.emulator import App
    from support import Project


class AnyCommand(Command):
    """Takes the command's name first."""

    def line(self, *args: str, bare: bool = False) -> list[str]:
        name, *rest = args
        idp = self.project.idp
        reach = () if bare else ("--login-base-url", idp.base_url, "--ca-bundle", idp.ca_file)
        return [sys.executable, "-m", "credentials_provider", name, *reach, *rest]


@pytest.fixture
def run(project: Project) -> Command:
    """The real command in the project's folder."""
    return AnyCommand(project)


@pytest.fixture
def app(project: Project) -> App:
    (made,) = apps(1)
    project.add(made)
    return made


@pytest.fixture
def bench(project: Project, app: App) -> Iterator[Bench]:
    made = Bench(project, app)
    made.start()
    yield made
    made.kill()
