"""`mcp-config`: an AI assistant's MCP configuration, printed or merged into its file."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.assistants.clients import CLIENTS, IN_TOKEN_FOLDER, PLATFORM, Client
from credentials_provider.assistants.configure import (
    Edit,
    Unwritten,
    Way,
    apply_edit,
    check_name,
    check_url,
    diff,
    live_entries,
    plan_edit,
    static_entries,
    unique,
    way_of,
)
from credentials_provider.assistants.documents import Change, shown
from credentials_provider.assistants.program import Launch
from credentials_provider.cli.helping import Command
from credentials_provider.cli.options import identity_names, settings_of, settings_options
from credentials_provider.cli.token import check_header_names
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.reading import read_entries
from credentials_provider.run.launching import left_behind, left_behind_warning, options_of, program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.settings import Settings

GATEWAY_HEADER = "X-Authorization"


@click.command(
    "mcp-config",
    cls=Command,
    examples="""
    # One server, for Claude Code
    credentials-provider mcp-config claude-code --identity ci \\
        --server gh=https://server.example.com/mcp --write
    # All that an identity may use at a registry, for VS Code
    credentials-provider mcp-config vscode --identity ci \\
        --registry-url https://gateway.example.com --write
    """,
)
@click.argument("client_name", metavar="CLIENT", type=click.Choice(list(CLIENTS)))
@click.option(
    "--identity",
    metavar="NAME",
    shell_complete=identity_names,
    help="Whose token. Default: the only identity.",
)
@click.option("--server", "servers", multiple=True, metavar="NAME=URL", help="Repeatable.")
@click.option(
    "--registry-url", metavar="URL", help="Every server that the identity may use at this registry."
)
@click.option(
    "--header-name",
    callback=lambda ctx, param, value: value and check_header_names(ctx, param, value),
    metavar="HEADER",
    help="Default: Authorization; X-Authorization with --registry-url.",
)
@click.option(
    "--bridge",
    "way",
    flag_value="bridge",
    help="Always use the bridge, even where the client can run a header helper.",
)
@click.option(
    "--static",
    "way",
    flag_value="static",
    help="Write the token itself, which will expire.",
)
@click.option("--write", is_flag=True, help="Merge into the assistant's own file.")
@click.option("--diff", "as_diff", is_flag=True, help="Show what --write would change.")
@click.option("--remove", is_flag=True, help="Take the servers out of the file again.")
@click.option("--scope", type=click.Choice(["user", "project"]), help="Which of its files.")
@click.option("--file", metavar="FILE", help="Another file than the assistant's own.")
@settings_options
@click.pass_obj
def command(
    root: str,
    /,
    client_name: str,
    *,
    identity: str | None,
    servers: Sequence[str],
    registry_url: str | None,
    header_name: str | None,
    way: Way | None,
    write: bool,
    as_diff: bool,
    remove: bool,
    scope: str | None,
    file: str | None,
    **options: Any,
) -> int:
    """Make CLIENT use remote MCP servers with a token that never goes stale."""
    client = CLIENTS[client_name]
    settings = settings_of(options, root)
    path = _path(client_name, client, scope, file, settings)
    header = header_name or (
        GATEWAY_HEADER if registry_url or client_name in IN_TOKEN_FOLDER else "Authorization"
    )
    if remove:
        names = {each.partition("=")[0]: None for each in servers}
        if registry_url:
            identity = _identity(identity, settings)
            names |= dict.fromkeys(_discover(registry_url, identity, settings))
        if not names:
            raise click.UsageError("Name what to remove: --server NAME, or --registry-url URL.")
        return _edit(plan_edit(path, client, names), client, write=not as_diff, as_diff=as_diff)

    identity = _identity(identity, settings)
    wanted = unique(_server(each) for each in servers)
    if registry_url:
        wanted |= _discover(registry_url, identity, settings)
    if not wanted:
        raise click.UsageError("Name a server: --server NAME=URL, or --registry-url URL.")
    chosen = way_of(client, way)
    if chosen == "static":
        entries = _static(client, wanted, identity, header, settings)
    else:
        launch = Launch(program(root), identity, header, options_of(settings))
        _warn_of_left_behind(settings, identity)
        entries = live_entries(client, chosen, wanted, launch)
    if not (write or as_diff):
        click.echo(shown(client.form, Change(client.root, entries)), nl=False)
        click.echo(f"For {client.title}: {path}; --write puts it there.", err=True)
        _note(client, chosen)
        return 0
    try:
        edit = plan_edit(path, client, entries)
    except Unwritten:
        click.echo(shown(client.form, Change(client.root, entries)), nl=False)
        raise
    _note(client, chosen)
    return _edit(edit, client, write=write, as_diff=as_diff)


def _path(
    client_name: str, client: Client, scope: str | None, file: str | None, settings: Settings
) -> str:
    if file is not None:
        return os.path.abspath(file)
    place, scope = client.place(scope)
    if place is None:
        raise click.UsageError(f"{client.title} has no file for the scope {scope}.")
    if client_name in IN_TOKEN_FOLDER:
        return os.path.abspath(os.path.join(settings.output_dir, place.linux))
    path = place.path(PLATFORM, os.environ)
    # OpenCode reads opencode.jsonc as well as opencode.json.
    return f"{path}c" if client.form == "jsonc" and os.path.isfile(f"{path}c") else path


def _identity(name: str | None, settings: Settings) -> str:
    names = [entry.name for entry in read_entries(settings).entries]
    if name is None and len(names) == 1:
        return names[0]
    if name is None or name not in names:
        problem = f"no identity is named {name}" if name else "which identity?"
        raise ConfigurationError(problem, hint=f"--identity {' or '.join(names[:20])}")
    return name


def _server(text: str) -> tuple[str, str]:
    name, separator, url = text.partition("=")
    if not separator:
        raise click.UsageError("--server takes NAME=URL.")
    return check_name(name), check_url(url)


def _discover(registry_url: str, identity: str, settings: Settings) -> dict[str, str]:
    from credentials_provider.assistants.registry import discover  # noqa: PLC0415  the network
    from credentials_provider.cli.output import Console  # noqa: PLC0415

    token, _ = _token(identity, settings)
    return discover(check_url(registry_url), token, settings.ca_bundle, Console().warn)


def _token(identity: str, settings: Settings) -> tuple[str, float]:
    """A token with most of its life before it: it is to be written down."""
    from credentials_provider.cli.output import Console  # noqa: PLC0415
    from credentials_provider.model import RunOptions  # noqa: PLC0415
    from credentials_provider.run.access import get_token  # noqa: PLC0415

    access = get_token(RunOptions(settings), identity, 600.0, Console())
    return access.token, access.expires_on


def _static(
    client: Client, servers: dict[str, str], identity: str, header: str, settings: Settings
) -> dict[str, Any]:
    from credentials_provider.cli.output import Console, local_time  # noqa: PLC0415

    token, expires_on = _token(identity, settings)
    Console().warn(
        f"this token expires at {local_time(expires_on, time.time())}, and {client.title} with it "
        "until you run this again"
    )
    return static_entries(client, servers, header, token)


def _warn_of_left_behind(settings: Settings, identity: str) -> None:
    entries = (each for each in read_entries(settings).entries if each.name == identity)
    if names := left_behind(settings, entries):
        click.echo(f"Warning: {left_behind_warning(names, settings)}", err=True)


def _note(client: Client, way: Way) -> None:
    if way == "helper" and client.note:
        click.echo(client.note, err=True)


def _edit(edit: Edit, client: Client, *, write: bool, as_diff: bool) -> int:
    if as_diff:
        click.echo(diff(edit), nl=False)
    if not edit.changes:
        click.echo(f"{edit.path}: nothing to change", err=True)
    elif write:
        backup = apply_edit(edit)
        kept = f"; what was there is in {backup}" if backup else ""
        click.echo(f"Written: {edit.path}{kept}. Restart {client.title} to let it read this.")
    return 0
