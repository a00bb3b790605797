"""A service and a timer for systemd, as closed as a program can be that needs the network."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.errors import ConfigurationError, StorageError
from credentials_provider.files import make_folders, write_whole
from credentials_provider.policy import TIMER_JITTER
from credentials_provider.schedule import names_of
from credentials_provider.schedule.calling import FirstRun, call, last_lines, run, timeout_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.schedule import Plan

# By this a file is known to be ours to replace and to remove.
MADE_BY = "# Made by: credentials-provider schedule systemd"

# systemd.exec(5), Process Exit Codes: a part of the sandbox that this machine does not allow.
_SANDBOX_CODES = {"217": "USER", "218": "CAPABILITIES", "226": "NAMESPACE", "228": "SECCOMP"}
# A user's manager needs a user namespace for the sandbox. In it, all other users are this one.
_HIDDEN_OWNER = "belongs to the user nobody"
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+-]+", re.ASCII)

_SERVICE = """\
[Unit]
Description={purpose}
{unit}
[Service]
{kind}ExecStart={command}
{service}LimitCORE=0
UMask=0077

LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
# AF_UNIX: name resolution by systemd-resolved and nscd.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
{sandbox}{install}"""

_TIMED = """\
Type=oneshot
# Not done, but every token is still valid: the next run tries again.
SuccessExitStatus=75
TimeoutStartSec={patience}
"""

_STAYING = """\
{notify}SuccessExitStatus=143
TimeoutStartSec=5min
WatchdogSec=5min
Restart=on-failure
RestartSec=30s
"""

# systemd.service(5): from 253 on it sends SIGHUP itself, and a reload waits until it is done.
_NOTIFY_RELOAD_SINCE = 253
_NOTIFY_RELOAD = "Type=notify-reload\n"
_NOTIFY = 'Type=notify\nExecReload=/bin/sh -c "kill -HUP $MAINPID"\n'

# What needs namespaces, which containers and some kernels do not give.
_SANDBOX = """\

# It writes here and nowhere else; what a hook writes elsewhere needs a line of its own.
ReadWritePaths={writes}
AmbientCapabilities=
CapabilityBoundingSet=
DevicePolicy=closed
KeyringMode=private
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
"""

# The system's: a user's manager has no such target.
_NETWORK = "Wants=network-online.target\nAfter=network-online.target\n"

_TIMER = """\
[Unit]
Description={purpose}, every {every}

[Timer]
OnCalendar={calendar}
RandomizedDelaySec={jitter}
AccuracySec=1s
# A run that was missed while the machine was off is made up for.
Persistent=true

[Install]
WantedBy=timers.target
"""


class Form(NamedTuple):
    """How the units are to be; nothing here has a line break."""

    of_user: bool  # for the user's own manager
    run_as: str | None = None  # a user, for the system's
    credentials: Sequence[tuple[str, str]] = ()  # name and path (LoadCredential=)
    on_failure: str | None = None  # a unit that is started when the job fails
    sandbox: bool = True
    notify_reload: bool = False  # systemd is new enough for that type of service


def units(plan: Plan, form: Form) -> dict[str, str]:
    """Path to text: a service, its timer unless it stays, its environment where it has one."""
    base = os.path.join(unit_folder(of_user=form.of_user), plan.name)
    made = {f"{base}.service": _service(plan, form, f"{base}.env")}
    if plan.every:
        made[f"{base}.timer"] = _TIMER.format(
            purpose=plan.purpose,
            every="day" if plan.rotates else f"{plan.every} min",
            calendar="daily" if plan.rotates else f"*:0/{plan.every}",
            jitter="1h" if plan.rotates else TIMER_JITTER,
        )
    if plan.environment:
        lines = (f"{name}={_value(value)}\n" for name, value in plan.environment.items())
        made[f"{base}.env"] = "".join(lines)
    return {path: f"{MADE_BY}\n{text}" for path, text in made.items()}


def _service(plan: Plan, form: Form, environment: str) -> str:
    unit = "" if form.of_user else _NETWORK
    if form.on_failure:
        unit += f"OnFailure={form.on_failure}\n"
    service = "" if form.of_user or form.run_as is None else f"User={form.run_as}\n"
    for name, path in form.credentials:
        service += f"LoadCredential={name}:{_specifiers(path)}\n"
    if plan.environment:
        service += f"EnvironmentFile={_specifiers(environment)}\n"
    if plan.every:
        kind, install = _TIMED.format(patience="1h" if plan.rotates else "5min"), ""
    else:
        kind = _STAYING.format(notify=_NOTIFY_RELOAD if form.notify_reload else _NOTIFY)
        target = "default.target" if form.of_user else "multi-user.target"
        install = f"\n[Install]\nWantedBy={target}\n"
    sandbox = _SANDBOX.format(writes=" ".join(map(_word, plan.writes))) if form.sandbox else ""
    return _SERVICE.format(
        purpose=plan.purpose,
        unit=unit,
        kind=kind,
        command=_line(plan.command),
        service=service,
        sandbox=sandbox,
        install=install,
    )


def knows_notify_reload() -> bool:
    """Whether this machine's systemd does; False where there is none."""
    try:
        found = re.match(r"systemd (\d+)", run(["systemctl", "--version"]).stdout)
    except ConfigurationError:
        return False
    return found is not None and int(found[1]) >= _NOTIFY_RELOAD_SINCE


def install(plan: Plan, form: Form) -> FirstRun:
    """Write the units, enable them, and run the job once as the manager does.

    Raises:
        ConfigurationError: a unit of that name is somebody else's, or the manager fails.
        StorageError: a file or folder cannot be made.

    """
    manager = _manager(of_user=form.of_user)
    made = units(plan, form)
    for path in made:
        _refuse_what_is_not_ours(path, manager)
    for folder in (unit_folder(of_user=form.of_user), *plan.writes):
        try:
            make_folders(folder)
        except OSError as error:  # noqa: PERF203  each has its own reason
            raise StorageError(
                f"{error.filename} cannot be made: {error.strerror}",
                hint="Check its owner and permissions. For your own units, add --user.",
            ) from None
    for path, text in made.items():
        write_whole(path, text, 0o600 if path.endswith(".env") else 0o644)
    call([*manager, "daemon-reload"])
    starts = ["--now", f"{plan.name}.timer"] if plan.every else [f"{plan.name}.service"]
    call([*manager, "enable", *starts])
    return _first_run(plan, form, manager)


def uninstall(name: str, *, of_user: bool) -> list[str]:
    """Stop and remove what `install` made of that name; returns its files.

    Raises:
        ConfigurationError: the manager fails.

    """
    folder = unit_folder(of_user=of_user)
    kinds = ("timer", "service", "env")
    paths = [os.path.join(folder, f"{each}.{kind}") for each in names_of(name) for kind in kinds]
    ours = [path for path in paths if _is_ours(path)]
    if ours:
        manager = _manager(of_user=of_user)
        for path in ours:
            if not path.endswith(".env"):
                run([*manager, "disable", "--now", os.path.basename(path)])
        for path in ours:
            os.unlink(path)
        call([*manager, "daemon-reload"])
    return ours


def _first_run(plan: Plan, form: Form, manager: Sequence[str]) -> FirstRun:
    service = f"{plan.name}.service"
    verb = "start" if plan.every else "restart"
    done = run([*manager, verb, service], timeout=timeout_of(plan))
    shown = call([*manager, "show", service, "-p", "ExecMainStatus", "-p", "Result"])
    status = dict(line.partition("=")[::2] for line in shown.splitlines())
    code = status.get("ExecMainStatus", "")
    if done.returncode == 0:
        what = f"The first {plan.act} ended with exit code {code or 0}."
        return FirstRun(True, what if plan.every else "It runs.")
    journal = ["journalctl", *(["--user"] if form.of_user else []), "-u", service]
    said = run([*journal, "-n", "12", "-o", "cat", "--no-pager"]).stdout
    cure = "Install it with --no-sandbox."
    if form.sandbox and code in _SANDBOX_CODES:
        what = f"systemd cannot isolate the service on this machine ({code}/{_SANDBOX_CODES[code]})"
    elif form.of_user and form.sandbox and _HIDDEN_OWNER in said:
        what = "In its sandbox the service cannot see that files of root's are root's."
    else:
        what = f"The first {plan.act} failed: {status.get('Result', 'unknown')}, exit code {code}."
        cure = f"See more: {' '.join(journal)}"
    return FirstRun(False, what, last_lines(said), cure)


def _manager(*, of_user: bool) -> list[str]:
    return ["systemctl", "--user"] if of_user else ["systemctl"]


def _refuse_what_is_not_ours(path: str, manager: Sequence[str]) -> None:
    """Neither a file of somebody else's is replaced nor a unit of the distribution's hidden."""
    found = path if os.path.lexists(path) else ""
    if not found and not path.endswith(".env"):
        line = [*manager, "show", "-p", "FragmentPath", "--value", os.path.basename(path)]
        found = run(line).stdout.strip()
    if found and not _is_ours(found):
        raise ConfigurationError(
            f"{found} was not made by this program", hint="Choose another name with --name."
        )


def _is_ours(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip() == MADE_BY
    except (OSError, ValueError):
        return False


def unit_folder(*, of_user: bool) -> str:
    """Where systemd looks for units that an administrator or a user made."""
    if not of_user:
        return "/etc/systemd/system"
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(home, "systemd", "user")


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _value(text: str) -> str:
    """In an EnvironmentFile= (systemd.exec(5)): the quotes of a shell."""
    return '"' + re.sub(r'([\\"$`])', r"\\\1", text) + '"'


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
