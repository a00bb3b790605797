"""`mcp-bridge`: the remote server of a URL on standard input and output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from credentials_provider.assistants.configure import check_url
from credentials_provider.cli.helping import Command
from credentials_provider.cli.logs import JsonLog, event, is_json
from credentials_provider.cli.options import (
    DURATION,
    audit_options,
    identity_names,
    log_format_option,
    renewal_limits,
    settings_of,
    settings_options,
)
from credentials_provider.cli.signals import stoppable
from credentials_provider.cli.token import check_header_names
from credentials_provider.model import RunOptions

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
    epilog="Assistants start it by the line that `mcp-config` writes. Standard output is only for "
    "MCP.",
)
@click.argument("url")
@click.option(
    "--identity",
    required=True,
    metavar="NAME",
    shell_complete=identity_names,
    help="Whose token.",
)
@click.option(
    "--header-name",
    default="Authorization",
    show_default=True,
    callback=check_header_names,
    metavar="HEADER",
    help="X-Authorization for an MCP gateway.",
)
@click.option(
    "--min-ttl",
    type=DURATION,
    default="5m",
    show_default=True,
    help="Renew first if less life is left.",
)
@settings_options
@renewal_limits
@audit_options
@log_format_option
@click.pass_obj
def command(
    root: str, /, url: str, *, identity: str, header_name: str, min_ttl: float, **options: Any
) -> int:
    """Speak MCP on standard input and output for the remote server at URL, with a fresh token."""
    from credentials_provider.assistants import bridge  # the network

    observer: Observer | None = None
    if is_json():
        bridge.trouble.log_by(lambda message: event("bridge", "warning", message=message))
        observer = JsonLog()
    settings = settings_of(options, root)
    run_options = RunOptions(
        settings,
        timeout=options["timeout"],
        deadline=options["deadline"],
        lock_timeout=options["deadline"],
    )
    with stoppable():
        bridge.run(
            run_options,
            identity,
            check_url(url),
            header=header_name,
            min_ttl=min_ttl,
            observer=observer,
        )
    return 0
