"""`mcp-config`: an AI assistant's MCP configuration, printed or merged into its file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from credentials_provider.assistants.clients import CLIENTS, IN_TOKEN_FOLDER, Client
from credentials_provider.assistants.configure import (
    Edit,
    Launch,
    NotWrittenError,
    apply_edit,
    check_name,
    check_url,
    delivery_of,
    diff,
    entries_for,
    plan_edit,
    undo_edit,
)
from credentials_provider.assistants.documents import Change, rendered
from credentials_provider.cli.helping import Command
from credentials_provider.cli.logs import observer, warn
from credentials_provider.cli.options import identity_names, settings_of, settings_options
from credentials_provider.cli.token import check_header_names
from credentials_provider.errors import (
    EXIT_FAILED,
    EXIT_OK,
    ConfigurationError,
    CredentialsProviderError,
)
from credentials_provider.identities.reading import read_entries, select
from credentials_provider.run.child_environment import allowed
from credentials_provider.run.launching import (
    audit_options_of,
    launch_warnings,
    options_of,
    program,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from credentials_provider.assistants.registry import Registry
    from credentials_provider.model import Entry
    from credentials_provider.run.access import ValidToken
    from credentials_provider.settings import Settings

GATEWAY_HEADER = "X-Authorization"
_PROBE_TIMEOUT = 5.0  # seconds to find out whether a server's host is a gateway
_VERSION_TIMEOUT = 10.0  # seconds for an assistant's program to tell its version


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
    epilog="--write starts what it wrote, in an empty environment, and says whether it works.",
)
@click.argument("client_name", metavar="CLIENT", type=click.Choice(list(CLIENTS)))
@click.option(
    "--identity",
    metavar="NAME",
    shell_complete=identity_names,
    help="The identity whose token is used. Default: the only one.",
)
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="NAME=URL",
    help="A server's name and address. Repeatable.",
)
@click.option(
    "--registry-url", metavar="URL", help="Every server that the identity may use at this registry."
)
@click.option(
    "--gateway",
    is_flag=True,
    help="The servers are behind an MCP gateway, which wants X-Authorization.",
)
@click.option(
    "--header-name",
    callback=lambda ctx, param, value: value and check_header_names(ctx, param, value),
    metavar="HEADER",
    help="Default: Authorization, or X-Authorization for a gateway.",
)
@click.option("--bridge", "delivery", flag_value="bridge", hidden=True, help="The default.")
@click.option(
    "--helper",
    "delivery",
    flag_value="helper",
    help="The assistant runs a command for its headers (Claude Code, Codex).",
)
@click.option(
    "--static", "delivery", flag_value="static", help="Write the token itself, which will expire."
)
@click.option("--write", is_flag=True, help="Merge into the assistant's own file.")
@click.option("--check/--no-check", default=True, help="After --write, start what was written.")
@click.option(
    "--if-check-fails",
    type=click.Choice(["ask", "keep", "undo"]),
    default="ask",
    help="Without a terminal, `ask` keeps the entries.",
)
@click.option("--diff", "as_diff", is_flag=True, help="Show what --write would change.")
@click.option("--remove", is_flag=True, help="Remove the servers from the file.")
@click.option(
    "--scope", type=click.Choice(["user", "project"]), help="Your own file, or the project's."
)
@click.option("--file", metavar="FILE", help="Another file than the assistant's own.")
@settings_options
@click.pass_obj
def command(root: str, /, client_name: str, **options: Any) -> int:
    """Make CLIENT use remote MCP servers with a token that is always valid."""
    configurator = _Configurator(root, client_name, settings_of(options, root), options)
    return configurator.remove() if options["remove"] else configurator.configure()


class _Configurator:
    """One run for one client."""

    def __init__(
        self, root: str, client_name: str, settings: Settings, options: dict[str, Any]
    ) -> None:
        self.root = root
        self.client_name = client_name
        self.client = CLIENTS[client_name]
        self.settings = settings
        self.options = options
        self.path = self._path(options["scope"], options["file"])

    def _path(self, scope: str | None, file: str | None) -> str:
        if file is not None:
            return os.path.abspath(file)
        user = self.client.user_file(sys.platform, os.environ)
        project = self.client.project
        if user is not None and scope != "project":
            path = user
        elif project is not None and scope != "user":
            folder = self.settings.output_dir if self.client_name in IN_TOKEN_FOLDER else ""
            path = os.path.abspath(os.path.join(folder, project))
        else:
            raise click.UsageError(f"{self.client.title} has no file for the scope {scope}.")
        # OpenCode reads opencode.jsonc as well as opencode.json.
        return f"{path}c" if self.client.form == "jsonc" and os.path.isfile(f"{path}c") else path

    def remove(self) -> int:
        names: dict[str, None] = {each.partition("=")[0]: None for each in self.options["servers"]}
        if self.options["registry_url"]:
            names |= dict.fromkeys(self._discovered(self._identity().name))
        if not names:
            raise click.UsageError("Name what to remove: --server NAME, or --registry-url URL.")
        write = self.options["write"] or not self.options["as_diff"]
        self._apply(plan_edit(self.path, self.client, names), write=write)
        return EXIT_OK

    def configure(self) -> int:
        options, client = self.options, self.client
        entry = self._identity()
        identity = entry.name
        servers = _servers(options["servers"])
        if options["registry_url"]:
            servers |= self._discovered(identity)
        if not servers:
            raise click.UsageError("Name a server: --server NAME=URL, or --registry-url URL.")
        delivery = delivery_of(client, options["delivery"])
        header = self._header(identity, servers)
        words = [*options_of(self.settings), *audit_options_of(self.settings)]
        launch = Launch(program(self.root), identity, header, words)
        if delivery == "static":
            token = self._token_to_write(identity)
        else:
            token = ""
            for warning in launch_warnings(launch.start, self.settings, [entry]):
                warn(warning)
        if delivery == "helper":
            _check_version(client)
        entries = entries_for(client, delivery, servers, launch, token)
        if not (options["write"] or options["as_diff"]):
            self._print(entries)
            click.echo(f"For {client.title}: {self.path}; --write puts it there.", err=True)
            return EXIT_OK
        try:
            edit = plan_edit(self.path, client, entries)
        except NotWrittenError:
            self._print(entries)
            raise
        backup = self._apply(edit, write=options["write"])
        if not (options["write"] and options["check"]) or delivery == "static":
            return EXIT_OK
        lines = {name: launch.bridge(url) for name, url in servers.items()}
        if _prove(lines, launch.helper() if delivery == "helper" else None):
            return EXIT_OK
        self._decide(edit, backup)
        return EXIT_FAILED

    def _print(self, entries: Mapping[str, Any]) -> None:
        click.echo(rendered(self.client.form, Change(self.client.root, entries)), nl=False)

    def _apply(self, edit: Edit, *, write: bool) -> str | None:
        if self.options["as_diff"]:
            click.echo(diff(edit), nl=False)
        if not edit.has_changes:
            click.echo(f"{edit.path}: nothing to change", err=True)
        elif write:
            backup = apply_edit(edit)
            kept = f"; what was there is in {backup}" if backup else ""
            title = self.client.title
            click.echo(f"Written: {edit.path}{kept}. Restart {title} to let it read this.")
            return backup
        return None

    def _decide(self, edit: Edit, backup: str | None) -> None:
        """Keep what does not work yet, or take it back, as the user says."""
        answer = self.options["if_check_fails"]
        if not edit.has_changes:
            return
        if answer == "ask":
            kept = not sys.stdin.isatty() or click.confirm("Keep it?", default=True, err=True)
            answer = "keep" if kept else "undo"
        if answer == "undo":
            undo_edit(edit, backup)
            click.echo(f"{edit.path} is as it was before.", err=True)
        else:
            click.echo(f"The entries stay in {edit.path}. Run this again after the cure.", err=True)

    def _identity(self) -> Entry:
        name, file = self.options["identity"], read_entries(self.settings)
        names = [entry.name for entry in file.entries]
        if not names:
            raise ConfigurationError(
                "there is no identity yet",
                hint="Make one: `credentials-provider identities init`",
            )
        if name is None and len(names) > 1:
            raise ConfigurationError(
                "which identity?", hint=f"--identity {' or '.join(names[:20])}"
            )
        return select(file.entries, (name,) if name else (), file.path)[0]

    def _header(self, identity: str, servers: Mapping[str, str]) -> str:
        options = self.options
        if options["header_name"]:
            return str(options["header_name"])
        if options["gateway"] or options["registry_url"] or self.client_name in IN_TOKEN_FOLDER:
            return GATEWAY_HEADER
        if options["write"] and options["check"] and self._is_gateway(identity, servers):
            click.echo(f"This is an MCP gateway: the token goes in {GATEWAY_HEADER}.", err=True)
            return GATEWAY_HEADER
        return "Authorization"

    def _is_gateway(self, identity: str, servers: Mapping[str, str]) -> bool:
        """Whether the servers' own host answers like a registry, whose gateway it then is."""
        bases = {"{0.scheme}://{0.netloc}".format(urlsplit(url)) for url in servers.values()}
        if len(bases) != 1:
            return False
        try:
            with self._registry(bases.pop(), identity, timeout=_PROBE_TIMEOUT) as registry:
                return registry.is_registry()
        except CredentialsProviderError:
            return False  # what was written is started later, and says why

    def _discovered(self, identity: str) -> dict[str, str]:
        with self._registry(check_url(self.options["registry_url"]), identity) as registry:
            return registry.servers(warn)

    def _registry(self, url: str, identity: str, **limits: float) -> closing[Registry]:
        from credentials_provider.assistants.registry import Registry  # the network

        token = self._token(identity).token
        return closing(Registry(url, token, self.settings.ca_bundle, **limits))

    def _token(self, identity: str) -> ValidToken:
        """A token with most of its life before it: it may be written down."""
        from credentials_provider.model import RunOptions
        from credentials_provider.run.access import get_token

        return get_token(RunOptions(self.settings), identity, 600.0, observer())

    def _token_to_write(self, identity: str) -> str:
        from credentials_provider.cli.output import local_time

        access = self._token(identity)
        expiry = local_time(access.expires_on, time.time())
        warn(
            f"this token expires at {expiry}. After that {self.client.title} has no valid token "
            "until you run this again"
        )
        return access.token


def _servers(words: Sequence[str]) -> dict[str, str]:
    """Addresses by names, of words like NAME=URL."""
    found: dict[str, str] = {}
    for word in words:
        name, separator, url = word.partition("=")
        if not separator:
            raise click.UsageError("--server takes NAME=URL.")
        if found.setdefault(check_name(name), check_url(url)) != url:
            raise ConfigurationError(
                f"two servers are named {name}",
                hint="Give each a name of its own: --server NAME=URL",
            )
    return found


def _check_version(client: Client) -> None:
    """Warn where the client's program is not known to run the helper again after a 401."""
    name, since = client.helper_since
    try:
        said = subprocess.run(  # noqa: S603  the assistant's own program, by its name
            [name, "--version"],
            env=allowed(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        said = ""
    found = re.search(r"[0-9]+\.[0-9]+\.[0-9]+", said)
    if found is not None and _numbers(found[0]) >= _numbers(since):
        return
    version = f"is {found[0]}" if found else f"does not tell its version (`{name}`)"
    warn(
        f"{client.title} {version}. Before {since} it does not run the helper again "
        "when a token is refused, and stays without one until it is restarted. Leave out --helper "
        "for the bridge, which works with every version."
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split("."))


def _prove(lines: Mapping[str, Sequence[str]], helper: str | None) -> bool:
    """Start what was written, and say what each server answers; whether all did."""
    from credentials_provider.assistants.proving import prove_all  # seldom

    proofs = prove_all(lines, helper)
    for name, proof in proofs.items():
        if proof.problem is not None:
            click.echo(f"Does not work: {name}: {proof.problem}", err=True)
        else:
            tools = "1 tool" if proof.tools == 1 else f"{proof.tools} tools"
            click.echo(f"Works: {name}: {proof.server or 'the server'}, {tools}")
    return not any(proof.problem for proof in proofs.values())
