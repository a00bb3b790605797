"""`identities`: makes and keeps the identities file, and checks what it refers to."""

from __future__ import annotations

import click

from credentials_provider.cli.helping import Group
from credentials_provider.cli.identities import (
    adding,
    creating,
    keeping,
    replacing,
    rotating,
    showing,
    sinks,
)


@click.group(
    "identities",
    cls=Group,
    examples="""
    # A first identity, by questions
    credentials-provider identities init
    # Is every credential where it should be?
    credentials-provider identities check
    """,
)
def command() -> None:
    """Make, change and check the identities file."""


for each in (
    *(adding.init, adding.add, replacing.import_, creating.create),
    *(showing.list_, showing.check),
    *(replacing.secret, rotating.rotate, sinks.command),
    *(keeping.remove, keeping.migrate),
):
    command.add_command(each)
