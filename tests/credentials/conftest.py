"""What the tests of the whole job share with these."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from credentials.commanding import Tell
from e2e.conftest import no_backoff
from support import Project, apps

if TYPE_CHECKING:
    from credentials_provider.emulator import App

__all__ = ["no_backoff"]


@pytest.fixture
def tell(project: Project) -> Tell:
    return Tell(project)


@pytest.fixture
def app(project: Project) -> App:
    (made,) = apps(1)
    project.idp.add_app(made)
    return made
