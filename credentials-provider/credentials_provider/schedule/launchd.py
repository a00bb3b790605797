"""A launch agent for macOS: launchd.plist(5). Not run by any test: there is no macOS there."""

from __future__ import annotations

import os
import plistlib
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError

from credentials_provider.errors import ConfigurationError
from credentials_provider.files import write_whole
from credentials_provider.schedule import names_of
from credentials_provider.schedule.calling import FirstRun, call, first_run, run

if TYPE_CHECKING:
    from credentials_provider.schedule import Plan

_MARK = "MadeByCredentialsProvider"
_LOGS = "~/Library/Logs"
_PATH = "/usr/local/bin:/opt/homebrew/bin:/usr/bin:/bin"


def path_of(name: str) -> str:
    """Where launchd looks for a user's agents."""
    return os.path.join(os.path.expanduser("~/Library/LaunchAgents"), f"{name}.plist")


def agent(plan: Plan) -> str:
    """The property list of this plan."""
    log = os.path.join(os.path.expanduser(_LOGS), f"{plan.name}.log")
    document = {
        _MARK: True,
        "Label": plan.name,
        "ProgramArguments": list(plan.command),
        "EnvironmentVariables": {"PATH": _PATH, **plan.environment},
        "StartInterval": plan.every * 60,
        "RunAtLoad": True,
        "ProcessType": "Background",
        "Umask": 0o077,
        "HardResourceLimits": {"Core": 0},
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    return plistlib.dumps(document, sort_keys=False).decode()


def install(plan: Plan) -> FirstRun:
    """Run the job once as launchd does, then write and load the agent.

    Raises:
        ConfigurationError: an agent of that name is somebody else's, or launchctl fails.
        StorageError: the file cannot be written.

    """
    path, text = path_of(plan.name), agent(plan)
    if os.path.lexists(path) and not _is_ours(path):
        raise ConfigurationError(
            f"{path} was not made by this program", hint="Choose another name with --name."
        )
    home = {"HOME": os.path.expanduser("~"), "PATH": _PATH}
    first = first_run(plan, plan.command, {**home, **plan.environment})
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_whole(path, text)  # it may hold the environment's secrets
    run(["launchctl", "bootout", f"{_domain()}/{plan.name}"])
    call(["launchctl", "bootstrap", _domain(), path])
    return first


def uninstall(name: str) -> list[str]:
    """Unload and remove what `install` made of that name; returns its files."""
    gone = []
    for each in names_of(name):
        path = path_of(each)
        if _is_ours(path):
            run(["launchctl", "bootout", f"{_domain()}/{each}"])
            os.unlink(path)
            gone.append(path)
    return gone


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _is_ours(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return bool(plistlib.load(file).get(_MARK))
    except (OSError, ValueError, AttributeError, ExpatError):
        return False
