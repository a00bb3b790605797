"""A local Entra ID, a project folder, and the real command in it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from credentials_provider.emulator import Emulator
from support import Command, Project, apps

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from credentials_provider.emulator import App

# Who runs the tests in the background of a script, or by nohup, lets them and all that they start
# ignore these. What has a handler here is back at its default in a new program.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed program's defaults are those of the working directory, as in a checkout."""
    monkeypatch.setenv("CREDENTIALS_PROVIDER_HOME", ".")


@pytest.fixture
def idp(tmp_path: pathlib.Path) -> Iterator[Emulator]:
    """A local Entra ID without an app, whose certificate outlives it."""
    with Emulator(ca_file=tmp_path / "ca.pem") as emulator:
        yield emulator


@pytest.fixture
def project(tmp_path: pathlib.Path, idp: Emulator) -> Project:
    """A project folder without identities."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(str(folder), idp)


@pytest.fixture
def app(project: Project) -> App:
    """One identity with an entry."""
    (made,) = apps(1)
    project.add(made)
    return made


@pytest.fixture
def run(project: Project) -> Command:
    """The real command in the project's folder."""
    return Command(project)


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """A bare Debian 12 in a folder; a test changes a copy of it (`debian.copy_of`)."""
    import shutil

    import debian as system

    root = system.make(tmp_path_factory.mktemp("debian"))
    yield root
    shutil.rmtree(root)
