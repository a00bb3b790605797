"""`identities create`: from nothing to an identity that has its token."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.assistants.clients import CLIENTS
from credentials_provider.cli.helping import Command, as_started
from credentials_provider.cli.identities.adding import added, entry_fields, read_secret
from credentials_provider.cli.identities.options import (
    identity_options,
    progress,
    registry_accounts,
    registry_options,
    wait_option,
)
from credentials_provider.cli.logs import warn
from credentials_provider.cli.options import settings_of
from credentials_provider.errors import EXIT_OK, quoted
from credentials_provider.identities.fields import FIELDS
from credentials_provider.identities.reading import read_entries
from credentials_provider.model import Observer, RunOptions
from credentials_provider.run.launching import options_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.settings import Settings


@click.command(
    "create",
    cls=Command,
    short_help="Make a machine account at the registry.",
    examples="""
    # An account, its identity and its first token
    credentials-provider identities create ci --groups agents \\
        --registry-url https://gateway.example.com --as admin
    # And an assistant that uses it
    credentials-provider identities create ci --groups agents --assistant claude-code \\
        --registry-url https://gateway.example.com --as admin
    """,
)
@click.argument("name")
@click.option("--groups", required=True, metavar="A,B", help="The account's groups, with commas.")
@click.option("--description", metavar="TEXT", help="For the registry.")
@click.option(
    "--existing",
    metavar="CLIENT_ID",
    help="Register this application instead of a new one. Its secret is asked for.",
)
@click.option(
    "--assistant", type=click.Choice(list(CLIENTS)), help="Also configure this assistant."
)
@wait_option(default="10m")
@registry_options
@identity_options
@click.pass_obj
def create(root: str, /, name: str, groups: str, **options: Any) -> int:
    """Make a machine account at an MCP Gateway Registry, and the identity that uses it.

    The registry is asked once. The account's secret goes to a private file before anything else,
    and is printed nowhere. Then the identity is added and gets its first token. After a failure,
    run the same command again. It goes on.
    """
    from credentials_provider.lifecycle.creating import finish  # urllib3

    settings = settings_of(options, root)
    wanted = [each.strip() for each in groups.split(",") if each.strip()]
    if not wanted:
        raise click.UsageError("Name at least one group: --groups A,B.")
    if problem := FIELDS["identity_name"].problem(name):
        raise click.UsageError(f"NAME {problem}.")
    client_id = options["existing"]
    if client_id and (problem := FIELDS["client_id"].problem(client_id)):
        raise click.UsageError(f"--existing {problem}.")
    if client_id:
        _register(settings, name, client_id, wanted, options)
    else:
        _create(settings, name, wanted, options)
    _first_token(settings, name, options["wait"])
    if not options["assistant"]:
        finish(settings, name)
        then = f"Next: `credentials-provider mcp-config CLIENT --identity {quoted(name)}`"
        progress(as_started(then))
        return EXIT_OK
    code = _configure(root, settings, name, options)
    if code == EXIT_OK:
        finish(settings, name)
    return code


def _create(settings: Settings, name: str, groups: Sequence[str], options: dict[str, Any]) -> None:
    from credentials_provider.lifecycle.creating import create as make  # urllib3

    fields = entry_fields(settings, {**options, "identity_name": name, "client_id": "-"})
    del fields["client_id"]
    text = options["description"]
    with registry_accounts(settings, options) as accounts:
        granted = make(
            settings, name, fields, accounts, groups, description=text, progress=progress
        )
    click.echo(f"{name} made at {accounts.url} and added to {settings.identities_file}")
    if missing := ", ".join(each for each in groups if each not in granted):
        warn(f"the registry does not know the groups {missing}: {name} is not in them")


def _register(
    settings: Settings, name: str, client_id: str, groups: Sequence[str], options: dict[str, Any]
) -> None:
    """Register an application that is there, and add its identity, unless an earlier run did."""
    there = read_entries(settings).entries if os.path.exists(settings.identities_file) else []
    if any((each.name, each.fields.get("client_id")) == (name, client_id) for each in there):
        progress(f"{name} is there already: going on")
        return
    fields = entry_fields(settings, {**options, "identity_name": name, "client_id": client_id})
    secret = read_secret()
    with registry_accounts(settings, options) as accounts:
        accounts.register(client_id, name, groups)
    click.echo(f"{client_id} is registered at {accounts.url} as {name}")
    added(settings, fields, secret)


def _first_token(settings: Settings, name: str, wait: float) -> None:
    from credentials_provider.lifecycle.proving import prove  # msal
    from credentials_provider.lifecycle.replacing import find
    from credentials_provider.run.access import get_token

    prove(settings, find(settings, name), wait=wait, progress=progress)
    get_token(RunOptions(settings, force=True), name, 0.0, Observer())
    click.echo(f"{name} has its first token")


def _configure(root: str, settings: Settings, name: str, options: dict[str, Any]) -> int:
    """Write and prove the assistant's configuration, as `mcp-config` does."""
    from credentials_provider.cli import mcp_config  # only where it is asked for

    words = [options["assistant"], "--identity", name, "--write", *options_of(settings)]
    if options["registry_url"]:
        words += ["--registry-url", options["registry_url"]]
    code: int = mcp_config.command.main(words, standalone_mode=False, obj=root)
    return code or EXIT_OK
