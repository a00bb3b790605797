"""A service and a timer for systemd, as closed as a program can be that needs the network."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from credentials_provider.policy import TIMER_JITTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.schedule import Plan

# By this a file is known to be ours to remove.
MADE_BY = "# Made by: credentials-provider schedule systemd"

_PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+-]+", re.ASCII)

_SERVICE = """\
{made_by}
[Unit]
Description=Renew access tokens for machine identities
{network}
[Service]
Type=oneshot
ExecStart={command}
# Not renewed, but every token is still valid: the next run tries again.
SuccessExitStatus=75
TimeoutStartSec=5min
{user}{credentials}
# It writes here and nowhere else; what a hook writes elsewhere needs a line of its own.
ReadWritePaths={writes}
UMask=0077

AmbientCapabilities=
CapabilityBoundingSet=
DevicePolicy=closed
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateTmp=yes
PrivateUsers=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
# AF_UNIX: name resolution by systemd-resolved and nscd.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
"""

# The system's: a user's manager has no such target.
_NETWORK = "Wants=network-online.target\nAfter=network-online.target\n"

_TIMER = """\
{made_by}
[Unit]
Description=Renew access tokens for machine identities, every {every} min

[Timer]
OnCalendar=*:0/{every}
RandomizedDelaySec={jitter}
AccuracySec=1s
# A run that was missed while the machine was off is made up for.
Persistent=true

[Install]
WantedBy=timers.target
"""


def units(
    plan: Plan, *, run_as: str | None, credentials: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """File name to text. `run_as`: a user, None for a user's own manager.

    `credentials`: name and path of what systemd reads for the service (LoadCredential=).

    Raises:
        ValueError: a path or an argument cannot stand in a unit.

    """
    return {
        f"{plan.name}.service": _SERVICE.format(
            made_by=MADE_BY,
            command=_line(plan.command),
            user=f"User={run_as}\n" if run_as else "",
            credentials="".join(
                f"LoadCredential={name}:{_specifiers(path)}\n" for name, path in credentials
            ),
            network="" if run_as is None else _NETWORK,
            writes=" ".join(_word(path) for path in plan.writes),
        ),
        f"{plan.name}.timer": _TIMER.format(made_by=MADE_BY, every=plan.every, jitter=TIMER_JITTER),
    }


def unit_folder(*, of_user: bool) -> str:
    """Where systemd looks for units that an administrator or a user made."""
    if not of_user:
        return "/etc/systemd/system"
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(home, "systemd", "user")


def _specifiers(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!r} cannot stand in a unit")
    return text.replace("%", "%%")


def _line(command: Sequence[str]) -> str:
    """ExecStart= (systemd.service(5), Command lines): variables stand in arguments alone."""
    program, *arguments = command
    return " ".join([_word(program), *(_argument(each) for each in arguments)])


def _argument(text: str) -> str:
    folder = "${CREDENTIALS_DIRECTORY}"  # the one variable that is meant
    if text.startswith(folder):
        return folder + _word(text.removeprefix(folder))
    return _word(text.replace("$", "$$"))


def _word(text: str) -> str:
    escaped = _specifiers(text).replace("\\", "\\\\").replace('"', '\\"')
    return escaped if _PLAIN.fullmatch(text) else f'"{escaped}"'
