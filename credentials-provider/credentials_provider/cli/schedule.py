"""`schedule`: prints a timer for this project; installs one only on request."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli import generate
from credentials_provider.cli.helping import Group
from credentials_provider.errors import ConfigurationError, StorageError
from credentials_provider.files import make_folders, write_whole
from credentials_provider.policy import TIMER_INTERVAL
from credentials_provider.run.child_environment import allowed
from credentials_provider.schedule import NAME, Plan, cron, kubernetes, systemd
from credentials_provider.settings import IDENTITIES_FILE, TOKEN_FOLDER, default_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", re.ASCII)
_MINUTES = tuple(n for n in range(1, 31) if 60 % n == 0)  # what repeats evenly within an hour
_PATIENCE = 60.0  # seconds for systemctl and crontab


class NameType(click.ParamType[str]):
    """A name for units, lines and manifests."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _NAME.fullmatch(str(value)):
            self.fail("must be of a-z, 0-9 and '-', 52 at most", param, ctx)
        return str(value)


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTION...]"),
        click.option(
            "--name",
            type=NameType(),
            default=NAME,
            show_default=True,
            help="Name of the service and timer.",
        ),
        click.option(
            "--every",
            type=click.Choice([str(n) for n in _MINUTES]),
            default=str(TIMER_INTERVAL // 60),
            show_default=True,
            help="Minutes between two runs.",
        ),
    ):
        function = option(function)
    return function


def _local(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--uninstall", is_flag=True, help="Remove what --install made."),
        click.option("--install", is_flag=True, help="Install it; an earlier one is replaced."),
        click.option("--env-file", metavar="FILE", help="Default: .env"),
        click.option("-o", "--output-dir", metavar="FOLDER", help="Default: .oauth-tokens"),
        click.option(
            "-i",
            "--identities-file",
            metavar="FILE",
            help="Default: .oauth-tokens/entra-identities.json",
        ),
    ):
        function = option(function)
    return function


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
    """Print a timer that keeps the tokens fresh: for systemd, cron or Kubernetes.

    Nothing is installed without --install. What stands behind -- goes to `generate` as it is, such
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
    """,
)
@_common
@_local
@click.option("--user", "of_user", is_flag=True, help="For your own systemd, not the system's.")
@click.option("--run-as", metavar="USER", help="Default: the owner of the output folder.")
@click.option(
    "--load-credential",
    "credentials",
    multiple=True,
    metavar="NAME:PATH",
    help="Let systemd read a secret for the service (LoadCredential=); one named "
    f"{IDENTITIES_FILE} is the identities file.",
)
@click.pass_obj
def systemd_command(root: str, /, **options: Any) -> int:
    """Print a hardened service and timer, for the system or (--user) for your own systemd."""
    of_user = options["of_user"]
    folder = systemd.unit_folder(of_user=of_user)
    manager = ["systemctl", "--user"] if of_user else ["systemctl"]
    if options["uninstall"]:
        return _uninstall_units(folder, options["name"], manager)
    credentials = [_credential(each) for each in options["credentials"]]
    if IDENTITIES_FILE in dict(credentials):
        options["identities_file"] = f"${{CREDENTIALS_DIRECTORY}}/{IDENTITIES_FILE}"
    plan = _plan(root, options, (*options["more"], "--quiet"))
    run_as = None if of_user else options["run_as"] or _owner(plan.writes[0])
    try:
        units = systemd.units(plan, run_as=run_as, credentials=credentials)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not options["install"]:
        for name, text in units.items():
            click.echo(f"# {os.path.join(folder, name)}\n{text}")
        return 0
    _make_folders(folder, plan.writes[0])
    for name, text in units.items():
        write_whole(os.path.join(folder, name), text, 0o644)
    _call([*manager, "daemon-reload"])
    _call([*manager, "enable", "--now", f"{plan.name}.timer"])
    click.echo(f"Installed {', '.join(os.path.join(folder, name) for name in units)}")
    if of_user:
        click.echo("It runs while you are logged in; `loginctl enable-linger` lets it run always.")
    return 0


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
@_common
@_local
@click.pass_obj
def cron_command(root: str, /, **options: Any) -> int:
    """Print one line for your crontab. It is silent unless something is wrong."""
    if options["uninstall"]:
        before = _crontab()
        after = cron.without_line(before, options["name"])
        if after == before:
            click.echo("There is no such line in the crontab")
            return 0
        _call(["crontab", "-"], after)
        click.echo("Removed the line from the crontab")
        return 0
    plan = _plan(root, options, (*options["more"], "--quiet"))
    try:
        line = cron.line(plan)
        after = cron.with_line(_crontab(), plan) if options["install"] else ""
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(line)
    if options["install"]:
        _call(["crontab", "-"], after)
        click.echo("Installed in the crontab", err=True)
    return 0


@command.command(
    "kubernetes",
    short_help="Manifests for kubectl apply.",
    examples="""
    # A CronJob
    credentials-provider schedule kubernetes --image registry.example.com/tokens:1 \\
        | kubectl apply -f -
    # Beside your own container
    credentials-provider schedule kubernetes --kind sidecar
    """,
)
@_common
@click.option(
    "--kind",
    type=click.Choice(["cronjob", "fleet", "sidecar"]),
    default="cronjob",
    show_default=True,
    help="A CronJob; one of indexed Jobs, each with its part; `watch` beside your container.",
)
@click.option("--image", default=f"{NAME}:latest", show_default=True, help="See docs.")
@click.option(
    "--shards", type=click.IntRange(1, 1000), default=4, show_default=True, help="For a fleet."
)
def kubernetes_command(**options: Any) -> int:
    """Print manifests for kubectl apply -f -, or kubectl delete -f -."""
    _checked(options["more"])
    text = kubernetes.manifests(
        options["kind"],
        image=options["image"],
        every=int(options["every"]),
        shards=options["shards"],
        name=options["name"],
        more=options["more"],
    )
    click.echo(text, nl=False)
    return 0


def _plan(root: str, options: dict[str, Any], more: Sequence[str]) -> Plan:
    """The command line with every path absolute, so that it runs from anywhere."""
    metrics_file = _checked(more)
    script = os.path.join(root, "generate_creds.sh") if root else ""
    checkout = bool(script) and os.path.exists(script)
    program = [script] if checkout else [sys.executable, "-m", "credentials_provider", "generate"]
    words = [*program, "--refresh-ahead"]
    output_dir = os.path.abspath(
        options["output_dir"] or default_path(root, os.environ, TOKEN_FOLDER)
    )
    identities_file = options["identities_file"]
    if not checkout and not identities_file:
        default = default_path(root, os.environ, TOKEN_FOLDER, IDENTITIES_FILE)
        identities_file = default if os.path.exists(default) else None
    if identities_file:
        path = identities_file
        words += ["--identities-file", path if path.startswith("$") else os.path.abspath(path)]
    if options["output_dir"] or not checkout:
        words += ["--output-dir", output_dir]
    env_file = options["env_file"] or default_path(root, os.environ, ".env")
    if options["env_file"] or (not checkout and os.path.exists(env_file)):
        words += ["--env-file", os.path.abspath(env_file)]
    writes = (output_dir, os.path.dirname(metrics_file)) if metrics_file else (output_dir,)
    return Plan((*words, *more), writes, int(options["every"]), options["name"])


def _checked(more: Sequence[str]) -> str | None:
    """The metrics file; a mistake in the options is reported now, not by the first run at night."""
    options = generate.command.make_context("generate", ["--refresh-ahead=auto", *more]).params
    for name in ("metrics_file", "ca_bundle"):
        path = options[name]
        if path and not os.path.isabs(path):
            raise click.UsageError(f"{path}: a timer runs anywhere, give the whole path.")
    metrics_file: str | None = options["metrics_file"]
    return metrics_file


def _credential(text: str) -> tuple[str, str]:
    name, colon, path = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or not path:
        raise click.BadParameter(f"{text!r} is not NAME:PATH", param_hint="'--load-credential'")
    return name, os.path.abspath(path)


def _owner(folder: str) -> str:
    import pwd  # noqa: PLC0415  where systemd is, it is

    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    uid = os.stat(folder).st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _make_folders(units: str, output_dir: str) -> None:
    try:
        os.makedirs(units, exist_ok=True)
        make_folders(output_dir)
    except OSError as error:
        raise StorageError(
            f"{error.filename} cannot be made: {error.strerror}",
            hint="Check its owner and permissions; your own units go with --user.",
        ) from None


def _uninstall_units(folder: str, name: str, manager: Sequence[str]) -> int:
    paths = [os.path.join(folder, f"{name}.{kind}") for kind in ("timer", "service")]
    ours = [path for path in paths if _is_ours(path)]
    if not ours:
        click.echo(f"There is none of that name in {folder}")
        return 0
    _call([*manager, "disable", "--now", f"{name}.timer"])
    for path in ours:
        os.unlink(path)
    _call([*manager, "daemon-reload"])
    click.echo(f"Removed {', '.join(ours)}")
    return 0


def _is_ours(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip() == systemd.MADE_BY
    except (OSError, ValueError):
        return False


def _crontab() -> str:
    done = _run(["crontab", "-l"])
    if done.returncode and "no crontab" not in done.stderr.lower():
        raise ConfigurationError(
            f"crontab -l failed: {done.stderr.strip()[:200]}",
            hint="cron.allow and cron.deny say who may use crontab.",
        )
    return "" if done.returncode else done.stdout


def _call(line: Sequence[str], text: str | None = None) -> None:
    done = _run(line, text)
    if done.returncode:
        raise ConfigurationError(
            f"{' '.join(line)} failed: {done.stderr.strip()[:200]}",
            hint="Run it by hand to see more. Without --install the timer is only printed.",
        )


def _run(line: Sequence[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  words of ours
            line,
            env=allowed(os.environ),
            input=text or "",
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no {line[0]} on this machine",
            hint="Take another timer (`credentials-provider schedule --help`), or `watch`.",
        ) from None
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"{line[0]} has not answered for {_PATIENCE:g} s", hint="Run it by hand to see why."
        ) from None
