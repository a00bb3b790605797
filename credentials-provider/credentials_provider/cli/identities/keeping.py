"""`identities remove` and `migrate`: changes of existing entries."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.identities.options import (
    file_options,
    registry_accounts,
    registry_options,
)
from credentials_provider.cli.identities.sinks import withdraw
from credentials_provider.cli.options import identity_names, settings_of
from credentials_provider.errors import EXIT_OK, ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.reading import read_entries, select
from credentials_provider.identities.rules import composed
from credentials_provider.identities.sinks import sinks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings


@click.command(
    "remove",
    cls=Command,
    short_help="Take identities out, with what was made for them.",
    examples="""
    # With its token and its secret
    credentials-provider identities remove ci
    # The entry alone
    credentials-provider identities remove ci --keep
    """,
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=identity_names)
@click.option(
    "--purge/--keep",
    default=True,
    help="Delete its token (in its sinks, too) and its files in .secrets, or keep them.",
)
@click.option(
    "--at-registry",
    is_flag=True,
    help="Delete its account at the registry first. Needs --as or --token-file.",
)
@registry_options
@file_options
@click.pass_obj
def remove(
    root: str, /, names: Sequence[str], *, purge: bool, at_registry: bool, **options: Any
) -> int:
    """Remove identities, with their tokens and the secrets that are stored here."""
    settings = settings_of(options, root)
    names = list(dict.fromkeys(map(composed, names)))
    if at_registry:
        there = os.path.exists(settings.identities_file)
        known = read_entries(settings).entries if there else []
        _delete_accounts(settings, names, known, options)
        names = [name for name in names if any(each.name == name for each in known)]
        if not names:
            return EXIT_OK
    file = read_entries(settings)
    entries = select(file.entries, names, file.path)
    going = {entry.name for entry in entries}
    files = editing.files_of(settings, going)
    editing.remove(settings, going)
    for name in names:
        click.echo(f"{name} removed from {settings.identities_file}")
    if purge:
        for entry in entries:
            withdraw(settings, entry, sinks_of(entry, settings.identities_file))
        editing.discard(files)
    for path in files:
        click.echo(f"  {path} {'deleted' if purge else 'is still there'}")
    return EXIT_OK


def _delete_accounts(
    settings: Settings, names: Sequence[str], entries: Sequence[Entry], options: dict[str, Any]
) -> None:
    """Delete the accounts of identities, and those that a lost `create` left without an identity.

    Raises:
        ConfigurationError: two accounts have a name that no identity has.
        LifecycleError: the registry refused, or did not answer; nothing was removed here.

    """
    clients = {entry.name: entry.fields.get("client_id") for entry in entries}
    with registry_accounts(settings, options) as accounts:
        for name in names:
            client_id = clients.get(name)
            found = [client_id] if isinstance(client_id, str) else accounts.called(name)
            if len(found) > 1:
                raise ConfigurationError(
                    f"the registry has {len(found)} accounts called {name}",
                    hint="Delete the right one there.",
                )
            gone = found and accounts.remove(found[0])
            click.echo(f"{name}: {'account deleted' if gone else 'no account'} at {accounts.url}")


@click.command(
    "migrate",
    cls=Command,
    short_help="Move secrets out of the file.",
    examples="""
    # Into private files
    credentials-provider identities migrate
    # Into .env
    credentials-provider identities migrate --to env
    """,
)
@click.option(
    "--to",
    type=click.Choice(["files", "env"]),
    default="files",
    help="Private files in .secrets beside the identities file, or the .env file.",
)
@file_options
@click.pass_obj
def migrate(root: str, /, to: str, **options: Any) -> int:
    """Move secrets out of the identities file, and let it say where they are."""
    settings = settings_of(options, root)
    env_file = settings.environment.path if to == "env" else None
    moves = editing.migrate(settings, env_file)
    for move in moves:
        click.echo(f"{move.identity_name}: {move.field} is now {move.new_field} {move.place}")
    if not moves:
        click.echo("There is no secret in the file: nothing to do")
    elif env_file:
        click.echo(f"{env_file} holds them, for its owner's eyes only (chmod 600)")
    return EXIT_OK
