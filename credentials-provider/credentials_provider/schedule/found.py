"""What renews the tokens and rotates secrets on this machine: timers that somebody has set up."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.errors import ConfigurationError
from credentials_provider.run.child_environment import allowed
from credentials_provider.schedule.calling import run
from credentials_provider.schedule.systemd import unit_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TIMEOUT = 10.0  # seconds for a command that is asked
_PROGRAM = "credentials-provider"
_SCRIPT = "generate_creds.sh"
_CRON_MARK = re.compile(r"# (\S+) \(schedule cron\)\s*$")
_ROTATE = ("identities", "rotate")
_RENEWING = {"generate", "watch", "serve"}  # commands; without one it is `generate`
# https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#Process%20Exit%20Codes
_EXIT_STATUS = {
    "200": "its working directory cannot be used (200/CHDIR)",
    "203": "its program cannot be started (203/EXEC)",
    "217": "its user does not exist or cannot be used (217/USER)",
    "218": "this machine does not allow its capabilities (218/CAPABILITIES)",
    "226": "this machine does not allow its namespaces (226/NAMESPACE)",
    "243": "its credentials cannot be read (243/CREDENTIALS)",
}


class Timer(NamedTuple):
    """Something that renews, or rotates; `problem`: why it does not, in words."""

    where: str
    problem: str | None = None
    rotation: tuple[str, ...] | None = None  # arguments of `identities rotate`, if it is that

    def rotates(self, name: str, identities_file: str) -> bool:
        """Whether it rotates the credential of this identity of this file."""
        words = self.rotation or ()
        there = [
            os.path.realpath(file)
            for option, file in pairwise(words)
            if option in {"-i", "--identities-file"}
        ]
        of_file = not there or os.path.realpath(identities_file) in there
        return of_file and ("--all" in words or name in words)


def timers(process: Mapping[str, str], root: str = "") -> list[Timer]:
    """The timers and services of this user and the system, and what the crontab has.

    `process`: the environment for the commands that are asked. `root`: the checkout whose script
    counts; another program's generate_creds.sh does not.
    """
    found = [*_systemd(process, root), *_crontab(process, root)]
    if process.get("KUBERNETES_SERVICE_HOST"):
        found.append(Timer("Kubernetes, if a CronJob or a sidecar is set up there"))
    return found


def _systemd(process: Mapping[str, str], root: str) -> Iterator[Timer]:
    systemctl = shutil.which("systemctl", path=process.get("PATH"))
    if systemctl is None:
        return
    for scope, words in (("user's", ["--user"]), ("system's", [])):
        commands = dict(_units(unit_folder(of_user=bool(words)), root))
        if not commands:
            continue
        ids = [f"{name}.{kind}" for name in commands for kind in ("timer", "service")]
        options = ["-p", "Id,LoadState,ActiveState,Result,ExecMainStatus"]
        answer = _output([systemctl, *words, "show", *options, "--", *ids], process)
        shown = [
            dict(line.partition("=")[::2] for line in block.splitlines())
            for block in answer.split("\n\n")
        ]
        states = {each.get("Id", ""): each for each in shown}
        for name, arguments in commands.items():
            timer, service = (states.get(f"{name}.{kind}", {}) for kind in ("timer", "service"))
            if found := _judged(f"the {scope} {name}", timer, service):
                yield found._replace(rotation=_rotation(arguments))


def _judged(what: str, timer: Mapping[str, str], service: Mapping[str, str]) -> Timer | None:
    """A timer that is active, or a service of its own; what its last run came to."""
    if timer.get("LoadState") == "loaded":
        what += ".timer"
        if timer.get("ActiveState") != "active":
            return Timer(what, "it is not active")
    elif service.get("ActiveState") in {"active", "activating", "reloading", "failed"}:
        what += ".service"
    else:
        return None
    if service.get("Result", "success") == "success":
        return Timer(what)
    status = service.get("ExecMainStatus", "")
    return Timer(what, _EXIT_STATUS.get(status, f"its last run failed with exit code {status}"))


def _units(folder: str, root: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The services in a folder that renew or rotate: names, and the program's arguments."""
    try:
        files = sorted(os.listdir(folder))
    except OSError:
        return
    for file in files:
        name, extension = os.path.splitext(file)
        if extension != ".service":
            continue
        try:
            with open(os.path.join(folder, file), encoding="utf-8", errors="replace") as unit:
                text = unit.read(1 << 16).replace("%%", "%").replace("$$", "$")
        except OSError:
            continue
        for line in text.splitlines():
            arguments = _arguments(line.removeprefix("ExecStart="), root)
            if line.startswith("ExecStart=") and _counts(arguments):
                yield name, arguments or ()


def _crontab(process: Mapping[str, str], root: str) -> Iterator[Timer]:
    crontab = shutil.which("crontab", path=process.get("PATH"))
    if crontab is None:
        return
    found = set()
    for line in _output([crontab, "-l"], process).splitlines():
        arguments = _arguments(line.replace("\\%", "%"), root)
        mark = _CRON_MARK.search(line)
        if arguments is None and mark:  # of another checkout
            arguments = (*_ROTATE, "--all") if mark[1].endswith(".rotation") else ()
        if not line.lstrip().startswith("#") and _counts(arguments):
            found.add(_rotation(arguments or ()))
    for rotation in sorted(found, key=lambda each: each or ()):
        yield Timer("a line in the crontab", rotation=rotation)


def _counts(arguments: tuple[str, ...] | None) -> bool:
    """Whether a command renews or rotates: `status` or a bridge in a unit does neither."""
    if arguments is None:
        return False
    command = arguments[0] if arguments else ""
    return not command[:1].isalpha() or command in _RENEWING or _rotation(arguments) is not None


def _rotation(arguments: tuple[str, ...]) -> tuple[str, ...] | None:
    return arguments[len(_ROTATE) :] if arguments[: len(_ROTATE)] == _ROTATE else None


def _arguments(command: str, root: str) -> tuple[str, ...] | None:
    """What a command line gives this program, found by its name or the script of the checkout."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    script = os.path.join(os.path.realpath(root), _SCRIPT) if root else None
    for number, word in enumerate(words):
        if (
            os.path.basename(word.removesuffix("/__main__.py")) == _PROGRAM
            or word == "credentials_provider"
            or (os.path.basename(word) == _SCRIPT and os.path.realpath(word) == script)
        ):
            return tuple(words[number + 1 :])
    return None


def _output(command: Sequence[str], process: Mapping[str, str]) -> str:
    try:
        return run(command, timeout=_TIMEOUT, environment=allowed(process)).stdout
    except (OSError, ConfigurationError):
        return ""
