"""`mcp-bridge`: the remote server of a URL on standard input and output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from credentials_provider.assistants.configure import check_url
from credentials_provider.cli.helping import Command
from credentials_provider.cli.logs import JsonLog, event, is_json
from credentials_provider.cli.options import (
    DURATION,
    identity_names,
    limited,
    renewing_options,
    settings_of,
)
from credentials_provider.cli.process import stoppable
from credentials_provider.cli.token import check_header_names

if TYPE_CHECKING:
    from credentials_provider.model import Observer


@click.command(
    "mcp-bridge",
    cls=Command,
    examples="""
    # A server that takes the token in Authorization
    credentials-provider mcp-bridge --identity ci https://server.example.com/mcp
    # A server behind an MCP gateway
    credentials-provider mcp-bridge --identity ci --header-name X-Authorization https://gateway.example.com/github/mcp
    """,
    epilog="`mcp-config` writes the line that starts it. Standard output is only for MCP.",
)
@click.argument("url")
@click.option(
    "--identity",
    required=True,
    metavar="NAME",
    shell_complete=identity_names,
    help="The identity whose token is used.",
)
@click.option(
    "--header-name",
    default="Authorization",
    callback=check_header_names,
    metavar="HEADER",
    help="The header of the token. An MCP gateway wants X-Authorization.",
)
@click.option(
    "--min-ttl",
    type=DURATION,
    default="5m",
    help="Renew the token first if it expires within this time.",
)
@renewing_options
@click.pass_obj
def command(root: str, /, url: str, identity: str, **options: Any) -> int:
    """Speak MCP on standard input and output for the remote server at URL, with a fresh token."""
    from credentials_provider.assistants import bridge  # the network

    observer: Observer | None = None
    if is_json():
        bridge.trouble.log_by(lambda message: event("bridge", "warning", message=message))
        observer = JsonLog()
    limits, url = limited(settings_of(options, root), options), check_url(url)
    header, min_ttl = options["header_name"], options["min_ttl"]
    with stoppable():
        bridge.run(limits, identity, url, header=header, min_ttl=min_ttl, observer=observer)
    return 0
