"""`demo`: the main job on the local emulator, which leaves only its own folder."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from credentials_provider.cli import generate, status
from credentials_provider.cli.emulator import write_identities
from credentials_provider.cli.helping import Command
from credentials_provider.cli.table import wrapped
from credentials_provider.emulator import Emulator, sample_apps
from credentials_provider.errors import EXIT_FAILED, EXIT_OK
from credentials_provider.files import make_folders
from credentials_provider.settings import IDENTITIES_FILE, TOKEN_FOLDER, default_path

if TYPE_CHECKING:
    from collections.abc import Sequence

_WRONG = "a-secret-that-was-rotated-away"


@click.command(
    "demo",
    cls=Command,
    examples="""
    # See all of it in some seconds
    credentials-provider demo
    # The same in a checkout
    ./generate_creds.sh --demo
    """,
)
@click.pass_obj
def command(root: str, /) -> int:
    """Mint, repair and renew sample identities on a local emulator, in .oauth-tokens/demo/."""
    folder = default_path(root, os.environ, TOKEN_FOLDER, "demo")
    make_folders(folder)
    identities_file = os.path.join(folder, IDENTITIES_FILE)
    apps = sample_apps(4)
    broken = apps[-1].name
    with Emulator(apps) as emulator:
        arguments = ["-a", "entra", "-i", identities_file, "-o", folder, "--env-file", os.devnull]
        arguments += ["--login-base-url", emulator.base_url, "--ca-bundle", emulator.ca_file]

        _title(f"1. Mint a token for each of {len(apps)} identities; {broken}'s secret is wrong")
        write_identities(identities_file, apps, **{broken: _WRONG})
        first = _run(generate.command, arguments)

        _title(f"2. Repair {broken}, and renew what is due: only that one")
        write_identities(identities_file, apps)
        second = _run(generate.command, [*arguments, "--refresh-ahead"])

        _title("3. Once more, as a timer would every few minutes: nothing to do")
        third = _run(generate.command, [*arguments, "--refresh-ahead"])

    _title(f"What is there now: a token file for each identity, in {folder}")
    where = ["-i", identities_file, "-o", folder, "--login-base-url", emulator.base_url]
    _run(status.command, [*where, "--env-file", os.devnull])
    program = click.get_current_context().find_root().info_name
    _title("To see this table again")
    click.echo(f"  {program} status {shlex.join(where)}")
    _title("Next, with your own tenant")
    click.echo(
        f"  {program} identities init           asks for an identity\n"
        f"  {program} generate                  mints a token for each\n"
        f"  {program} generate --refresh-ahead  renews what is due, as timers do\n"
        f"  {program} schedule --help           timers"
    )
    return EXIT_OK if (first, second, third) == (EXIT_FAILED, EXIT_OK, EXIT_OK) else EXIT_FAILED


def _run(command: click.Command, arguments: Sequence[str]) -> int:
    root = click.get_current_context().find_root()
    with command.make_context(command.name, list(arguments), parent=root, obj="") as ctx:
        return int(command.invoke(ctx) or 0)


def _title(text: str) -> None:
    click.echo("\n" + click.style(wrapped(text), bold=True))
