"""`exec`: a command with a fresh token in its environment."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, NoReturn

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.logs import log, observer, warn
from credentials_provider.cli.options import identity_names, limited
from credentials_provider.cli.process import waking_main_thread
from credentials_provider.cli.token import (
    env_var_option,
    settings_of_token,
    take_token,
    token_options,
)
from credentials_provider.errors import ConfigurationError, UnknownIdentityError
from credentials_provider.identities.reading import read_entries, select
from credentials_provider.run.access import audit_for, only_name
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.run.access import ValidToken
    from credentials_provider.settings import Settings

# As env(1), nohup(1) and shells have it.
_CANNOT_RUN = 126
_NOT_FOUND = 127
_ONLY_ONE = "Where there is one identity: exec -- COMMAND."
_SIGNALS = ("HUP", "USR1", "USR2")
# Other machines' identity endpoints, which client libraries would take for this one.
_OTHER_ENDPOINTS = (
    *("IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET"),
    "AZURE_FEDERATED_TOKEN_FILE",
)
_LOOPBACK = "127.0.0.1,localhost"


class ExecCommand(Command):
    """Options end at COMMAND: the rest is its own. `--` may replace NAME."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_interspersed_args = False
        if not ctx.resilient_parsing:
            options, rest = self._split(ctx, args)
            if options[-1:] == ["--"]:
                args = [*options[:-1], "", *rest]
            elif len(rest) == 1:
                raise click.UsageError(f"Missing COMMAND. {_ONLY_ONE}", ctx)
            elif rest:
                more, line = self._split(ctx, rest[1:])
                args = [*options, *(more[:-1] if more[-1:] == ["--"] else more), rest[0], *line]
        return super().parse_args(ctx, args)

    def _split(self, ctx: click.Context, args: list[str]) -> tuple[list[str], list[str]]:
        """The options at the beginning, a `--` at their end included, and what follows."""
        own: list[click.Parameter] = [
            each for each in self.get_params(ctx) if isinstance(each, click.Option)
        ]
        parser = click.Command(self.name, params=own, add_help_option=False).make_parser(ctx)
        rest = parser.parse_args(args=list(args))[1]
        return args[: len(args) - len(rest)], rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["{NAME | --}", *super().collect_usage_pieces(ctx)[:1], "COMMAND..."]


@click.command(
    "exec",
    cls=ExecCommand,
    examples="""
    # With the token in ACCESS_TOKEN
    credentials-provider exec ci ./deploy.sh --all
    # In another variable, of the only identity
    credentials-provider exec --env-var TOKEN -- ./deploy.sh
    # With tokens for Azure's client libraries
    credentials-provider exec ci --endpoint ./upload.py
    # A program that runs for a week
    credentials-provider exec ci --watch --restart ./agent
    """,
    epilog="Exit codes: the command's own; 126 it cannot be run; 127 there is no such command; 1 "
    "no valid token; 2 usage or configuration.",
)
@click.argument("name", shell_complete=identity_names)
@click.argument("line", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@env_var_option("Where the command finds the token.")
@click.option(
    "--endpoint",
    is_flag=True,
    help="Give COMMAND a local token endpoint instead of a token. Azure's client libraries in any "
    "language use it without changes while COMMAND runs.",
)
@click.option(
    "--watch", is_flag=True, help="Keep the token file fresh for as long as COMMAND runs."
)
@click.option(
    "--signal",
    "signal_name",
    type=click.Choice(_SIGNALS, case_sensitive=False),
    help="With --watch: tell COMMAND of each new token by this signal.",
)
@click.option(
    "--restart", is_flag=True, help="With --watch: start COMMAND again with each new token."
)
@token_options
@click.pass_obj
def command(root: str, /, name: str, line: Sequence[str], **options: Any) -> int:
    """Run COMMAND with the token of the identity NAME in its environment.

    Options come before COMMAND. What follows it belongs to it. Where there is one identity, `--`
    may replace NAME. The process becomes the command, so its exit code is the command's.

    The command inherits the environment without the secrets of the identities. The token in it is
    not renewed, and usually expires within an hour. For longer, use --watch (the path of the token
    file is in ACCESS_TOKEN_FILE) or --endpoint.
    """
    settings = settings_of_token(root, options)
    stays = options["endpoint"] or options["watch"]
    if (options["signal_name"] or options["restart"]) and not options["watch"]:
        raise click.UsageError("--signal and --restart need --watch.")
    if stays and (options["no_store"] or options["client_id"]):
        raise click.UsageError("--endpoint and --watch need an entry, and a place for its token.")
    if options["signal_name"] and options["restart"]:
        raise click.UsageError("--signal and --restart exclude one another.")
    if options["endpoint"] and options["watch"]:
        raise click.UsageError("--endpoint and --watch exclude one another.")
    try:
        if stays:
            run = _run_with_endpoint if options["endpoint"] else _run_with_renewals
            with waking_main_thread():
                return run(name, line, settings, options)
        access = take_token(name, settings, options)
        environment = {**_inherited(settings), options["env_var"]: access.token}
        if os.name == "nt":  # a process there is not replaced but left behind
            import subprocess

            return subprocess.run(list(line), env=environment, check=False).returncode  # noqa: S603  as below
        _become(line, environment)
    except UnknownIdentityError as error:
        error.hint = f"{error.hint} {_ONLY_ONE}"
        raise
    except FileNotFoundError:
        log(f"{line[0]}: there is no such command", "error")
        return _NOT_FOUND
    except OSError as error:
        log(f"{line[0]}: cannot be run: {error.strerror}", "error")
        return _CANNOT_RUN


def _become(line: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """Replace this process by the command."""
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and so would the command
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execvpe(line[0], list(line), environment)  # noqa: S606  the user's own command


def _run_with_endpoint(
    name: str, line: Sequence[str], settings: Settings, options: dict[str, Any]
) -> int:
    """Run a command beside the local token endpoint; its exit code."""
    from credentials_provider.cli.serve import endpoint
    from credentials_provider.run.source import TokenSource
    from credentials_provider.run.supervising import Child

    source = TokenSource(limited(settings, options), observer())
    file = read_entries(settings)
    name = name or only_name(file.entries, file.path)
    source.get(name, options["min_ttl"])  # what keeps it from a token is said before it starts
    entry, *_ = select(file.entries, (name,), file.path)
    with endpoint(source, settings, (name,)) as variables:
        environment = {**_inherited(settings), **variables}
        environment["AZURE_CLIENT_ID"] = str(entry.fields["client_id"])
        for other in _OTHER_ENDPOINTS:
            environment.pop(other, None)
        for proxies in ("NO_PROXY", "no_proxy"):  # the endpoint is not behind a proxy
            known = environment.get(proxies)
            environment[proxies] = f"{known},{_LOOPBACK}" if known else _LOOPBACK
        return Child(line).run(environment)


def _run_with_renewals(
    name: str, line: Sequence[str], settings: Settings, options: dict[str, Any]
) -> int:
    """Run a command and keep its token fresh; its exit code."""
    from credentials_provider.run.source import TokenSource
    from credentials_provider.run.supervising import Child, keep_fresh

    if not name:
        file = read_entries(settings)
        name = only_name(file.entries, file.path)
    audit = audit_for(settings, "exec")
    source = TokenSource(limited(settings, options), observer(), audit=audit)
    child = Child(line)
    variable = options["env_var"]

    def environment(access: ValidToken) -> dict[str, str]:
        token_file = os.path.abspath(TokenStore(settings.output_dir).path(name))
        return {**_inherited(settings), variable: access.token, f"{variable}_FILE": token_file}

    def renewed(access: ValidToken) -> None:
        if options["restart"]:
            child.restart(environment(access))
        elif options["signal_name"]:
            child.send(signal.Signals[f"SIG{options['signal_name']}"])

    access = source.get(name, options["min_ttl"])
    keep_fresh(source, name, access, renewed=renewed, warn=warn)
    return child.run(environment(access))


def _inherited(settings: Settings) -> dict[str, str]:
    """The environment for the user's command: our own, without the secrets of the identities."""
    from credentials_provider.run.child_environment import without_secrets

    try:
        entries = read_entries(settings).entries
    except ConfigurationError:  # an identity of options needs no file
        entries = []
    return without_secrets(os.environ, entries, settings)
