"""What a timer runs: the options that several kinds share, and the plans that they make."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli import generate, watch
from credentials_provider.cli.identities.rotating import rotate
from credentials_provider.cli.logs import warn
from credentials_provider.cli.options import (
    Parsed,
    env_file_option,
    flags_of,
    identities_file_option,
    output_dir_option,
    with_options,
)
from credentials_provider.errors import ConfigurationError, CredentialsProviderError
from credentials_provider.identities.reading import read_entries
from credentials_provider.policy import TIMER_INTERVAL
from credentials_provider.run.launching import launch_warnings, options_of, program
from credentials_provider.schedule import DAY, NAME, Plan, names_of
from credentials_provider.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OLD = "--older-than 150d"  # of the 180 days that a new secret is valid
_MINUTES = tuple(n for n in range(1, 31) if 60 % n == 0)  # what repeats evenly within an hour


def matching(name: str, pattern: str, what: str) -> Parsed[str]:
    """The type of a word that must match; `what` says what else it is not."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return Parsed(name, parse)


# For units, lines and manifests.
NAME_TYPE = matching(
    "name", "[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", "a name of a-z, 0-9 and '-', 52 at most"
)

# Those of every kind.
common_options = with_options(
    click.option(
        "--every",
        type=click.Choice([str(n) for n in _MINUTES]),
        default=str(TIMER_INTERVAL // 60),
        help="Minutes between two runs.",
    ),
    click.option(
        "--name", type=NAME_TYPE, default=NAME, help="Name of the timer or the manifests."
    ),
    click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTION...]"),
)
# Those of a job on a machine; `plans` reads them.
jobs_options = with_options(
    common_options,
    click.option(
        "--rotate", "rotates", is_flag=True, help="Also rotate secrets: a second job, daily."
    ),
    click.option(
        "--rotate-with",
        metavar="OPTIONS",
        default=_OLD,
        help="Options of `identities rotate` for --rotate, in one word.",
    ),
    identities_file_option,
    output_dir_option,
    env_file_option,
)
# Those of a job that can be installed on this machine.
local_options = with_options(
    jobs_options,
    click.option(
        "--install", is_flag=True, help="Install it in place of an earlier one, and run it once."
    ),
    click.option("--uninstall", is_flag=True, help="Remove what --install made."),
)
environment_option = click.option(
    "--environment",
    "names",
    multiple=True,
    metavar="NAME",
    help="A variable of this shell that the job needs, as HTTPS_PROXY; repeatable.",
)


def plans(root: str, options: dict[str, Any], *, stays: bool = False) -> list[Plan]:
    """What renews, and after it what rotates, where that was asked for.

    Every path is absolute, so that it runs from anywhere. Warns about what the jobs will not find.
    """
    more = (*options["more"], "--quiet")
    given = check_generate_options(more, stays=stays)
    metrics_file: str | None = given.get("metrics_file")
    file = options["identities_file"]
    of_systemd = bool(file) and file.startswith("$")  # a file that only the service has
    flags = flags_of({**options, "identities_file": None if of_systemd else file})
    settings = load_settings(flags, os.environ, root)
    start = program(root)
    words = [*start, *(["watch"] if stays else ["generate", "--refresh-ahead"])]
    words += options_of(settings)
    if of_systemd:
        words += ["--identities-file", file]
    variables = passed_variables(options.get("names", ()))
    entries: Sequence[Entry] = ()
    try:
        entries = read_entries(settings).entries
    except CredentialsProviderError as error:
        warn(error.message)
    for warning in launch_warnings(start, settings, entries, variables):
        warn(warning)
    output_dir = os.path.abspath(settings.output_dir)
    writes = (output_dir, os.path.dirname(metrics_file)) if metrics_file else (output_dir,)
    every = 0 if stays else int(options["every"])
    if metrics_file and every:  # for an alert; the user's own comes later, and wins
        words += ["--interval", f"{every}m"]
    renewal = Plan((*words, *more), writes, every, options["name"], variables)
    if not options["rotates"]:
        return [renewal]
    if of_systemd:
        raise click.UsageError(
            "--rotate: the identities file is a credential of systemd, which no job can change."
        )
    return [renewal, _rotation(settings, start, {**options, **given}, variables)]


def _rotation(
    settings: Settings, start: Sequence[str], options: dict[str, Any], variables: Mapping[str, str]
) -> Plan:
    """The daily job; it asks the provider that the renewal asks."""
    words = [*start, "identities", "rotate", "--all", "--quiet"]
    words += options_of(settings, tokens=False)
    for option in ("login-base-url", "cloud", "ca-bundle"):
        if value := options[option.replace("-", "_")]:
            words += [f"--{option}", value]
    words += _rotation_words(options["rotate_with"])
    folder = os.path.dirname(os.path.realpath(settings.identities_file))
    _, name = names_of(options["name"])
    return Plan(tuple(words), (folder,), DAY, name, variables)


def _rotation_words(text: str) -> list[str]:
    """Options of `identities rotate`; a mistake in them is reported now."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}", param_hint="'--rotate-with'") from None
    given = rotate.make_context("rotate", [*words]).params
    if given["names"] or given["finish_only"] or given["dry_run"]:
        raise click.BadParameter(
            "takes options of a rotation of all identities", param_hint="'--rotate-with'"
        )
    return words


def passed_variables(names: Sequence[str]) -> dict[str, str]:
    """The variables of `--environment`, with their values; one that is not set is refused."""
    for name in names:
        if not _VARIABLE.fullmatch(name) or not os.environ.get(name):
            raise click.BadParameter(f"{name} is not set here", param_hint="'--environment'")
    return {name: os.environ[name] for name in names}


def check_generate_options(more: Sequence[str], *, stays: bool = False) -> dict[str, Any]:
    """What they mean; a mistake in them is reported now, not by the first run at night."""
    if stays:
        options = watch.command.make_context("watch", [*more]).params
    else:
        options = generate.command.make_context("generate", ["--refresh-ahead=auto", *more]).params
    for name in ("metrics_file", "ca_bundle"):
        path = options.get(name)
        if path and not os.path.isabs(path):
            raise click.UsageError(f"{path}: a timer runs anywhere, give the whole path.")
    return options


def check_local(options: Mapping[str, Any]) -> None:
    """Refuse what no timer of POSIX can do.

    Raises:
        ConfigurationError: this is Windows.

    """
    if options["install"] and options["uninstall"]:
        raise click.UsageError("--install and --uninstall exclude one another.")
    if os.name != "posix":
        raise ConfigurationError(
            "this kind of timer does not exist on Windows", hint="Take `schedule windows`."
        )
