"""Timers of this program that are set up on this machine."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from credentials_provider.schedule import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PATIENCE = 10.0  # seconds for a command that is asked
_UNIT = f"{NAME}.timer"
_PROGRAMS = ("generate_creds.sh", "credentials_provider", "credentials-provider")


def timers(process: Mapping[str, str]) -> list[str]:
    """What renews the tokens, in words: this user's systemd, the system's, the crontab.

    `process` is the environment that the commands that tell get.
    """
    found = []
    if shutil.which("systemctl"):
        for scope, words in (("user's", ["--user"]), ("system's", [])):
            if _output(["systemctl", *words, "is-active", _UNIT], process).strip() == "active":
                found.append(f"the {scope} {_UNIT}")
    if shutil.which("crontab"):
        lines = _output(["crontab", "-l"], process).splitlines()
        if any(
            any(program in line for program in _PROGRAMS)
            for line in lines
            if not line.lstrip().startswith("#")
        ):
            found.append("a line in the crontab")
    if process.get("KUBERNETES_SERVICE_HOST"):
        found.append("Kubernetes, if a CronJob or a sidecar is set up there")
    return found


def _output(command: Sequence[str], process: Mapping[str, str]) -> str:
    try:
        return subprocess.run(  # noqa: S603  fixed words
            command,
            env=process,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
