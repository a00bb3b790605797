"""`exec`: a command with a fresh token in its environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.options import identity_names
from credentials_provider.cli.token import (
    check_variable,
    settings_of_token,
    take_token,
    token_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.settings import Settings

# As env(1), nohup(1) and shells have it.
_CANNOT_RUN = 126
_NOT_FOUND = 127
_SIGNALS = ("HUP", "USR1", "USR2")


class ExecCommand(Command):
    """Options end at NAME, or at the `--` that takes its place: the rest is the command's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_interspersed_args = False
        if not ctx.resilient_parsing:
            own: list[click.Parameter] = [
                each for each in self.get_params(ctx) if isinstance(each, click.Option)
            ]
            options = click.Command(self.name, params=own, add_help_option=False)
            rest = options.make_parser(ctx).parse_args(args=list(args))[1]
            before = args[: len(args) - len(rest)]
            if before[-1:] == ["--"]:
                args = [*before[:-1], "", *rest]
            elif rest[1:2] == ["--"]:
                args = [*before, rest[0], *rest[2:]]
            elif rest[1:] and rest[1].startswith("-"):
                raise click.UsageError(f"{rest[1]} follows NAME: options stand before it.", ctx)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx)[:1], "{NAME | --}", "COMMAND..."]


@click.command(
    "exec",
    cls=ExecCommand,
    examples="""
    # With the token in ACCESS_TOKEN
    credentials-provider exec ci ./deploy.sh --all
    # In another variable, of the only identity
    credentials-provider exec --env-var TOKEN -- ./deploy.sh
    # With tokens for Azure's client libraries
    credentials-provider exec --endpoint ci ./upload.py
    # A program that runs for a week
    credentials-provider exec --watch --restart ci ./agent
    """,
    epilog="Exit codes: the command's own; 126 it cannot be run; 127 there is none; 1 no valid "
    "token; 2 usage or configuration.",
)
@click.argument("name", shell_complete=identity_names)
@click.argument("line", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.option(
    "--env-var",
    default="ACCESS_TOKEN",
    show_default=True,
    callback=check_variable,
    metavar="VARIABLE",
    help="Where the command finds the token.",
)
@click.option(
    "--endpoint",
    is_flag=True,
    help="Give COMMAND a local token endpoint in place of a token: Azure's client libraries in any "
    "language use it unchanged, for as long as COMMAND runs.",
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
    "--restart", is_flag=True, help="With --watch: start COMMAND anew with each new token."
)
@token_options
@click.pass_obj
def command(root: str, /, name: str, line: Sequence[str], **options: Any) -> int:
    """Run COMMAND with the token of the identity NAME in its environment.

    Options end at NAME: what follows belongs to COMMAND. Where there is one identity, `--` may
    stand in place of NAME. The process becomes the command; its exit code is the command's.

    The command inherits the environment without the secrets of the identities. The token in it is
    never renewed: it expires, within the hour as a rule. For what runs longer there are --watch
    (the path of the token file is in ACCESS_TOKEN_FILE) and --endpoint.
    """
    settings = settings_of_token(root, options)
    stays = options["endpoint"] or options["watch"]
    if (options["signal_name"] or options["restart"]) and not options["watch"]:
        raise click.UsageError("--signal and --restart need --watch.")
    if stays and (options["no_store"] or options["client_id"]):
        raise click.UsageError("--endpoint and --watch need an entry, and a place for its token.")
    if options["endpoint"] and options["watch"]:
        raise click.UsageError("--endpoint and --watch exclude one another.")
    try:
        if stays:
            from credentials_provider.cli import staying  # noqa: PLC0415  only for what stays

            run = staying.with_endpoint if options["endpoint"] else staying.watched
            return run(name, line, settings, options)
        access = take_token(name, settings, options)
        environment = {**inherited(settings), options["env_var"]: access.token}
        if os.name == "nt":  # a process there is not replaced but left behind
            import subprocess  # noqa: PLC0415

            return subprocess.run(list(line), env=environment, check=False).returncode  # noqa: S603  as below
        os.execvpe(line[0], list(line), environment)  # noqa: S606  the user's own command
    except FileNotFoundError:
        click.echo(f"{line[0]}: there is no such command", err=True)
        return _NOT_FOUND
    except OSError as error:
        click.echo(f"{line[0]}: cannot be run: {error.strerror}", err=True)
        return _CANNOT_RUN


def inherited(settings: Settings) -> dict[str, str]:
    """The environment for the user's command: our own, without the secrets of the identities."""
    from credentials_provider.errors import ConfigurationError  # noqa: PLC0415
    from credentials_provider.identities.reading import read_entries  # noqa: PLC0415
    from credentials_provider.run.child_environment import without_secrets  # noqa: PLC0415

    try:
        entries = read_entries(settings).entries
    except ConfigurationError:  # an identity of options needs no file
        entries = []
    return without_secrets(os.environ, entries, settings)
