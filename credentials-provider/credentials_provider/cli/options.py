"""Parameters that several commands share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from credentials_provider.cli.helping import LOG_FORMAT, UTC
from credentials_provider.errors import ConfigurationError, CredentialsProviderError, printable
from credentials_provider.identities.reading import read_entries
from credentials_provider.model import RunOptions
from credentials_provider.permissions import TRUST_OPTION, TRUST_VARIABLE, trust_owner
from credentials_provider.policy import parse_duration
from credentials_provider.settings import CLOUDS, Flags, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.settings import Settings

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


T = TypeVar("T")
_WRITTEN = ("output", "metrics_file", "write_env")  # parameters that name a file to write to


class Parsed(click.ParamType[T]):
    """What a function makes of a word; its ValueError says why it is wrong."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        if not isinstance(value, str):  # a default
            return cast("T", value)
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _more_than_zero(text: str) -> float:
    if not (seconds := parse_duration(text)):
        raise ValueError("must be more than 0")
    return seconds


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:  # noqa: PLR2004
        raise ValueError(f"{text!r} is not HOST:PORT, such as 0.0.0.0:8080 or [::]:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    numbers = index.isascii() and index.isdigit() and count.isascii() and count.isdigit()
    if not numbers or not int(index) < int(count):
        raise ValueError(f"{text!r} is not K/N with K from 0 to N-1, such as 0/4")
    return int(index), int(count)


# Seconds, written as 90, 90s, 10m or 1h30m.
DURATION = Parsed("duration", _more_than_zero)
DURATION_OR_NONE = Parsed("duration", parse_duration)
ADDRESS = Parsed("address", _address)  # to listen on; an IPv6 address stands in brackets
SHARD = Parsed("shard", _shard)  # part K, counted from 0, of N


def _log_format(ctx: click.Context, _: click.Parameter, value: str) -> None:
    ctx.meta[LOG_FORMAT] = value
    if value == "json" and not ctx.resilient_parsing:
        from credentials_provider.cli.logs import set_json  # where a log is asked for

        set_json(wanted=True)
        ctx.call_on_close(lambda: set_json(wanted=False))


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    expose_value=False,
    is_eager=True,
    callback=_log_format,
    help="json: one line for each event on stderr.",
)

_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def identity_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001  click's signature
    """The identities that a shell may offer; none where they cannot be read."""
    given = {name: ctx.params.get(name) for name in ("identities_file", "env_file")}
    try:
        entries = read_entries(load_settings(Flags(**given), os.environ, ctx.obj or "")).entries
    except CredentialsProviderError:
        return []
    # Nobody has validated them: in a shell, what is not a name could be a command.
    names = [each.name for each in entries if _NAME_CHARACTERS.issuperset(each.name)]
    return [name for name in names if name and name.startswith(incomplete)]


def _trust(ctx: click.Context, param: click.Parameter, names: tuple[str, ...]) -> None:  # noqa: ARG001  click's signature
    for name in names:
        trust_owner(name)


def with_options(*options: Decorator) -> Decorator:
    """One decorator for several options, in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


trust_option = click.option(
    TRUST_OPTION,
    metavar="NAME",
    multiple=True,
    envvar=TRUST_VARIABLE,
    expose_value=False,
    is_eager=True,
    callback=_trust,
    help="Also trust files of this owner. Default: only yours and root's.",
)
# Times for people in UTC, as `local_time` shows them.
utc_option = click.option(
    "--utc",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.update({UTC: value}),
    help="Show times in UTC instead of local time.",
)
identities_file_option = click.option(
    "-i", "--identities-file", metavar="FILE", help="Default: .oauth-tokens/entra-identities.json"
)
output_dir_option = click.option(
    "-o", "--output-dir", metavar="FOLDER", help="Default: .oauth-tokens"
)
env_file_option = click.option("--env-file", metavar="FILE", help="Default: .env")
cloud_option = click.option(
    "--cloud", type=click.Choice(list(CLOUDS)), help="Microsoft's login host of this cloud."
)
ca_bundle_option = click.option(
    "--ca-bundle", metavar="FILE", help="Certification authorities to trust, PEM."
)
provider_options = with_options(
    click.option(
        "--login-base-url", metavar="URL", help="Login host. Default: Microsoft's public one."
    ),
    cloud_option,
    ca_bundle_option,
)
# Where identities and tokens are and how the provider is reached; `settings_of` reads them.
settings_options = with_options(
    identities_file_option, output_dir_option, env_file_option, trust_option, provider_options
)
# How long a command waits that renews one token while somebody needs it.
renewal_limits = with_options(
    click.option("--timeout", type=DURATION, default="20s", help="Longest time for one request."),
    click.option(
        "--deadline", type=DURATION, default="30s", help="Longest time for a whole renewal."
    ),
)
# Where each token that is handed out leaves a line; `settings_of` reads them.
audit_options = with_options(
    click.option(
        "--audit-file",
        metavar="FILE",
        help="Append a line for each token that is handed out: who got it and when. Without the "
        "line there is no token.",
    ),
    click.option(
        "--audit-syslog",
        flag_value="yes",
        default=None,
        help="The same to syslog, facility authpriv.",
    ),
)


# Of a command that renews one token while somebody needs it; `limited` reads them.
renewing_options = with_options(settings_options, renewal_limits, audit_options, log_format_option)


def limited(settings: Settings, options: dict[str, Any], *, force: bool = False) -> RunOptions:
    """What the options of `renewal_limits` say; nobody waits longer for another run either."""
    timeout, deadline = options["timeout"], options["deadline"]
    return RunOptions(
        settings, force=force, timeout=timeout, deadline=deadline, lock_timeout=deadline
    )


def settings_of(options: dict[str, Any], root: str, **more: str | None) -> Settings:
    """The settings of `flags_of`, the process environment and `.env`.

    A proxy that `.env` names is put into the environment, where all that connects looks for it.

    Raises:
        ConfigurationError: they cannot be used, or would have the identities file written over.

    """
    settings = load_settings(flags_of(options, **more), os.environ, root)
    given = click.get_current_context().params
    for path in (settings.audit_file, *map(given.get, _WRITTEN)):
        if path and _is_same(path, settings.identities_file):
            raise ConfigurationError(
                f"{printable(path)} is the identities file, and would be written over",
                hint="Name another file.",
            )
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        small = name.lower()
        value = settings.environment.get(small) or settings.environment.get(name)
        if value and name not in os.environ and small not in os.environ:
            os.environ[name] = value
    return settings


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one is not there yet
        return False


def flags_of(options: dict[str, Any], **more: str | None) -> Flags:
    """What the options of `settings_options` say, with more of the flags."""
    if options.get("login_base_url") and options.get("cloud"):
        raise click.UsageError("--login-base-url and --cloud exclude one another.")
    names = (
        *("identities_file", "output_dir", "env_file", "login_base_url", "cloud", "ca_bundle"),
        *("audit_file", "audit_syslog"),
    )
    return Flags(**{name: options.get(name) for name in names}, **more)
