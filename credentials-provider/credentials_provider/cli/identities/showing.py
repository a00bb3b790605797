"""`identities list` and `check`: what the file holds, without a secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.identities.options import asking_options
from credentials_provider.cli.logs import warn
from credentials_provider.cli.options import settings_of, with_options
from credentials_provider.cli.table import table
from credentials_provider.diagnostics import inventory
from credentials_provider.errors import EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.diagnostics.inventory import Item
    from credentials_provider.settings import Settings

_list_options = with_options(
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    click.option(
        "--check-secret-expiry",
        is_flag=True,
        help="Ask Microsoft Graph when client secrets end. Needs Application.Read.All.",
    ),
    asking_options,
)


@click.command(
    "list",
    cls=Command,
    short_help="List identities and credentials.",
    examples="""
    # For people
    credentials-provider identities list
    # For programs
    credentials-provider identities list --json
    """,
)
@_list_options
@click.pass_obj
def list_(root: str, /, as_json: bool, check_secret_expiry: bool, **options: Any) -> int:
    """List the identities and where their credentials come from, without a secret."""
    settings = settings_of(options, root)
    if check_secret_expiry:
        items, warnings = inventory.check(settings, ask_graph=True)
        for warning in warnings:
            warn(warning)
    else:
        items = inventory.items(settings)
    if as_json:
        _print_json(settings, items)
        return EXIT_OK
    titles = ("NAME", "TENANT", "CLIENT", "SCOPE", "CREDENTIAL", "ENDS")
    rows = [[text or "-" for text in item.row()] for item in items]
    # Where the terminal is narrow, ids lose their ends: names and credentials say more.
    ids = [titles.index(title) for title in ("TENANT", "CLIENT", "SCOPE")]
    click.echo("\n".join(table(titles, rows, shrinking=ids)))
    return EXIT_OK


@click.command(
    "check",
    cls=Command,
    short_help="Check entries and credentials.",
    examples="""
    # Before a first run
    credentials-provider identities check
    # Does a secret end soon?
    credentials-provider identities check --check-secret-expiry
    """,
)
@_list_options
@click.pass_obj
def check(root: str, /, as_json: bool, check_secret_expiry: bool, **options: Any) -> int:
    """Check every entry, and the source of every credential. No token is requested."""
    settings = settings_of(options, root)
    items, warnings = inventory.check(settings, ask_graph=check_secret_expiry)
    for warning in warnings:
        warn(warning)
    if as_json:
        _print_json(settings, items, warnings=warnings)
    else:
        for item in items:
            ends = f", ends {item.ends}" if item.ends else ""
            click.echo(f"{item.identity_name}: {item.origin}{ends}")
        click.echo(f"All in order: {len(items)} in {settings.identities_file}")
    return EXIT_OK


def _print_json(settings: Settings, items: Sequence[Item], **more: object) -> None:
    document = {
        "version": 1,
        "exit_code": EXIT_OK,
        "identities_file": settings.identities_file,
        "identities": [item.document() for item in items],
        **more,
    }
    click.echo(json.dumps(document, indent=2))
