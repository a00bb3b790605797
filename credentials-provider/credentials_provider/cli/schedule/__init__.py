"""`schedule`: prints a timer for this project; installs one only on request."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Group
from credentials_provider.cli.options import Parsed
from credentials_provider.cli.schedule import kubernetes
from credentials_provider.cli.schedule.planning import (
    check_local,
    environment_option,
    jobs_options,
    local_options,
    matching,
    plans,
)
from credentials_provider.errors import EXIT_FAILED, EXIT_OK
from credentials_provider.schedule import cron, launchd, systemd, windows
from credentials_provider.settings import IDENTITIES_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.schedule.calling import FirstRun

_USER = matching("user", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?", "the name or number of a user")
_UNIT = matching(
    "unit", r"[A-Za-z0-9:_.@\\-]+\.(?:service|target)", "the name of a .service or .target"
)


def _credential(text: str) -> tuple[str, str]:
    name, _, path = text.partition(":")
    if not re.fullmatch("[A-Za-z0-9_.-]+", name) or not path or not path.isprintable():
        raise ValueError(f"{text!r} is not NAME:PATH")
    return name, os.path.abspath(path)


@click.group(
    "schedule",
    cls=Group,
    examples="""
    # Your own systemd timer
    credentials-provider schedule systemd --user --install
    # Look at it only
    credentials-provider schedule cron
    """,
)
def command() -> None:
    """Print a timer that keeps the tokens fresh: for systemd, cron, Kubernetes, macOS or Windows.

    Nothing is installed without --install. What follows -- goes to `generate` unchanged, such
    as -- --on-renew 'COMMAND' --metrics-file FILE.
    """


@command.command(
    "systemd",
    short_help="A service and a timer, hardened.",
    examples="""
    # For your own systemd
    credentials-provider schedule systemd --user --install
    # With a hook
    credentials-provider schedule systemd --user --install -- \\
        --on-renew "systemctl --user reload my-agent"
    # A service that stays, instead of the timer
    credentials-provider schedule systemd --user --watch --install
    """,
)
@local_options
@environment_option
@click.option("--user", "of_user", is_flag=True, help="For your own systemd, not the system's.")
@click.option("--run-as", type=_USER, help="Default: the owner of the output folder.")
@click.option("--watch", "stays", is_flag=True, help="A service that runs `watch`, no timer.")
@click.option("--on-failure-unit", type=_UNIT, help="Start it if the job fails (OnFailure=).")
@click.option(
    "--sandbox/--no-sandbox",
    default=True,
    help="Isolate the service with namespaces. Some containers do not allow that.",
)
@click.option(
    "--load-credential",
    "credentials",
    multiple=True,
    type=Parsed("name:path", _credential),
    help="Let systemd read a secret for the service (LoadCredential=). The one "
    f"named {IDENTITIES_FILE} is the identities file.",
)
@click.pass_obj
def systemd_command(root: str, /, **options: Any) -> int:
    """Print a hardened service and timer, for the system or (--user) for your own systemd."""
    check_local(options)
    of_user = options["of_user"]
    if options["uninstall"]:
        return _removed(systemd.uninstall(options["name"], of_user=of_user))
    if IDENTITIES_FILE in dict(options["credentials"]):
        options["identities_file"] = f"${{CREDENTIALS_DIRECTORY}}/{IDENTITIES_FILE}"
    jobs = plans(root, options, stays=options["stays"])
    form = systemd.Form(
        of_user,
        None if of_user else options["run_as"] or _owner(jobs[0].writes[0]),
        options["credentials"],
        options["on_failure_unit"],
        options["sandbox"],
        notify_reload=options["stays"] and systemd.knows_notify_reload(),
    )
    codes = [EXIT_OK]
    for job in jobs:
        units = systemd.units(job, form)
        if options["install"]:
            first = systemd.install(job, form)
            click.echo(f"Installed {', '.join(units)}")
            codes.append(_show_first_run(first))
            continue
        for path, text in units.items():
            shown = re.sub('="(.*)"', "=(this shell's)", text) if path.endswith(".env") else text
            click.echo(f"# {path}\n{shown}")
    if of_user and options["install"]:
        click.echo("It runs while you are logged in; `loginctl enable-linger` lets it run always.")
    return max(codes)


@command.command(
    "cron",
    short_help="One line for your crontab.",
    examples="""
    # Every five minutes
    credentials-provider schedule cron --install
    # No longer
    credentials-provider schedule cron --uninstall
    """,
)
@local_options
@click.pass_obj
def cron_command(root: str, /, **options: Any) -> int:
    """Print one line for your crontab. It is silent unless something is wrong."""
    check_local(options)
    if options["uninstall"]:
        gone = cron.uninstall(options["name"])
        click.echo("Removed from the crontab" if gone else "There is no such line in the crontab")
        return EXIT_OK
    jobs = plans(root, options)
    click.echo("\n".join(map(cron.line, jobs)))
    if not options["install"]:
        return EXIT_OK
    firsts = cron.install(jobs)
    click.echo("Installed in the crontab", err=True)
    return max(_show_first_run(first, err=True) for first in firsts)


@command.command(
    "launchd",
    short_help="A launch agent for macOS.",
    examples="""
    # Your own agent
    credentials-provider schedule launchd --install
    # Look at it only
    credentials-provider schedule launchd --every 10
    """,
)
@local_options
@environment_option
@click.pass_obj
def launchd_command(root: str, /, **options: Any) -> int:
    """Print a launch agent for macOS, which runs while you are logged in."""
    check_local(options)
    if options["uninstall"]:
        return _removed(launchd.uninstall(options["name"]))
    codes = [EXIT_OK]
    for job in plans(root, options):
        if options["install"]:
            first = launchd.install(job)
            click.echo(f"Installed {launchd.path_of(job.name)}")
            codes.append(_show_first_run(first))
            continue
        hidden = dict.fromkeys(job.environment, "(this shell's)")
        text = launchd.agent(dataclasses.replace(job, environment=hidden))
        click.echo(f"<!-- {launchd.path_of(job.name)} -->\n{text}")
    return max(codes)


@command.command(
    "windows",
    short_help="A task for Windows' Task Scheduler.",
    examples="""
    # To be imported
    credentials-provider schedule windows > task.xml
    schtasks /Create /TN credentials-provider /XML task.xml
    # Every ten minutes
    credentials-provider schedule windows --every 10
    """,
)
@jobs_options
@click.pass_obj
def windows_command(root: str, /, **options: Any) -> int:
    """Print a task for Windows' Task Scheduler, as XML for schtasks /Create /XML.

    With --rotate, the task that rotates is printed instead: create both.
    """
    click.echo(windows.task(plans(root, options)[-1]), nl=False)
    return EXIT_OK


command.add_command(kubernetes.command)


def _show_first_run(first: FirstRun, *, err: bool = False) -> int:
    """Show how the job went in its own environment."""
    click.echo(first.what, err=err or not first.done)
    for text in (first.output, first.cure):
        if text:
            click.echo(text, err=True)
    return EXIT_OK if first.done else EXIT_FAILED


def _removed(paths: Sequence[str]) -> int:
    click.echo(f"Removed {', '.join(paths)}" if paths else "There is none of that name")
    return EXIT_OK


def _owner(folder: str) -> str:
    path = Path(folder)
    while not path.exists():
        path = path.parent
    try:
        return path.owner()
    except KeyError:
        return str(path.stat().st_uid)
