"""`exec`: a command with a fresh token in its environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.options import DURATION, identity_names, settings_options
from credentials_provider.cli.token import check_variable, take_token

if TYPE_CHECKING:
    from collections.abc import Sequence

# As env(1), nohup(1) and shells have it.
_CANNOT_RUN = 126
_NOT_FOUND = 127


@click.command(
    "exec",
    cls=Command,
    examples="""
    # With the token in ACCESS_TOKEN
    credentials-provider exec ci -- ./deploy.sh --all
    # In another variable
    credentials-provider exec ci --env-var TOKEN -- ./deploy.sh
    """,
    epilog="Exit codes: the command's own; 126 it cannot be run; 127 there is none; 1 no token "
    "that lives; 2 usage or configuration.",
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
    "--min-ttl", type=DURATION, default="5m", show_default=True, help="Renew first if less is left."
)
@click.option("-f", "--force", is_flag=True, help="Renew first in any case.")
@settings_options
@click.option("--timeout", type=DURATION, default="20s", show_default=True, help="For one request.")
@click.option(
    "--deadline", type=DURATION, default="30s", show_default=True, help="For a renewal in all."
)
@click.pass_obj
def command(root: str, /, name: str, line: Sequence[str], *, env_var: str, **options: Any) -> int:
    """Run COMMAND with the token of the identity NAME in its environment.

    The process becomes the command; its exit code is the command's.
    """
    access = take_token(root, name, options)
    environment = {**os.environ, env_var: access.token}
    try:
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
