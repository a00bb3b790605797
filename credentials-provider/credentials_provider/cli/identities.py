"""`identities`: makes and keeps the identities file, and checks what it refers to."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Group, as_started
from credentials_provider.cli.options import identity_names, trust_option
from credentials_provider.diagnostics import inventory
from credentials_provider.errors import EXIT_OK, ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.reading import CREDENTIAL_KINDS, LITERALS, read_entries, select
from credentials_provider.settings import CLOUDS, Flags, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from credentials_provider.diagnostics.inventory import Item
    from credentials_provider.settings import Settings

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_FILE_OPTIONS = (
    click.option(
        "-i",
        "--identities-file",
        metavar="FILE",
        help="Default: .oauth-tokens/entra-identities.json",
    ),
    click.option("--env-file", metavar="FILE", help="Default: .env"),
    trust_option,
)
_EXPIRY_OPTIONS = (
    click.option(
        "--check-secret-expiry",
        is_flag=True,
        help="Ask Microsoft Graph when client secrets end; needs Application.Read.All.",
    ),
    click.option(
        "--login-base-url", metavar="URL", help="Login host. Default: Microsoft's public one."
    ),
    click.option("--cloud", type=click.Choice(list(CLOUDS)), help="Microsoft's login host."),
    click.option("--ca-bundle", metavar="FILE", help="Certification authorities to trust, PEM."),
)
_IDENTITY_OPTIONS = (
    click.option("--tenant-id", metavar="ID", help="A GUID or a domain. Default: ENTRA_TENANT_ID"),
    click.option(
        "--scope",
        metavar="SCOPE",
        help="api://{gateway's application}/.default. Default: from ENTRA_CLIENT_ID",
    ),
    click.option("--login-base-url", metavar="URL", help="Another login host, for this identity."),
    click.option("--cloud", type=click.Choice(list(CLOUDS)), help="Another cloud's login host."),
)
_CREDENTIAL_OPTIONS = (
    click.option("--client-secret-stdin", is_flag=True, help="Read the secret's Value from stdin."),
    click.option("--client-secret-env", metavar="NAME", help="A variable that holds the secret."),
    click.option("--client-secret-file", metavar="FILE", help="A file that holds the secret."),
    click.option("--client-secret-keyvault", metavar="URL", help="A secret of an Azure Key Vault."),
    click.option("--client-secret-expires-on", metavar="DATE", help="Warn 30 days before."),
    click.option(
        "--certificate-file", metavar="FILE", help="PEM with key and certificate, or PFX."
    ),
    click.option("--certificate-password-env", metavar="NAME", help="The key's password."),
    click.option("--certificate-password-file", metavar="FILE", help="The key's password."),
    click.option("--federated-token-file", metavar="FILE", help="Workload identity federation."),
    click.option(
        "--managed-identity",
        is_flag=False,
        flag_value="true",
        metavar="[CLIENT_ID]",
        help="This machine's own identity, or one that is assigned to it.",
    ),
)
_QUESTIONS = {
    "identity_name": "Name (of the token file, too)",
    "tenant_id": "Tenant ID (Microsoft Entra ID > Overview)",
    "client_id": "Client ID (App registrations > the identity's app > Overview)",
    "scope": "Scope (api://{gateway's application}/.default)",
}
_KINDS = tuple(kind for kind in CREDENTIAL_KINDS if kind not in LITERALS)


def _with(*groups: Sequence[Decorator]) -> Decorator:
    """A decorator that adds several commands' common options, in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return decorate


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
    """Make and keep the identities file; check what it refers to."""


@command.command(
    "init",
    short_help="Make a file with a first identity.",
    examples="""
    # Be asked for what is needed
    credentials-provider identities init
    # Be asked for nothing but the secret
    credentials-provider identities init ci --tenant-id contoso.com \\
        --client-id ID --scope api://GATEWAY/.default
    """,
)
@click.argument("name", required=False)
@click.option("--client-id", metavar="ID", help="The identity's own application.")
@_with(_IDENTITY_OPTIONS, _CREDENTIAL_OPTIONS, _FILE_OPTIONS)
@click.pass_obj
def init(root: str, /, name: str | None, **options: Any) -> int:
    """Make an identities file with a first identity: from questions, or from options."""
    settings = _settings(root, options)
    if os.path.lexists(settings.identities_file):
        raise ConfigurationError(
            f"{settings.identities_file} is there already",
            hint="Add another identity with `credentials-provider identities add NAME`.",
        )
    code = _add(settings, {"identity_name": name, **options})
    click.echo(as_started("Next: `credentials-provider generate` mints its token"), err=True)
    return code


@command.command(
    "add",
    short_help="Add an identity.",
    examples="""
    # Be asked for the secret
    credentials-provider identities add ci --client-id ID
    # A machine of Azure, which needs none
    credentials-provider identities add vm --managed-identity CLIENT_ID
    """,
)
@click.argument("name")
@click.option("--client-id", metavar="ID", help="The identity's own application.")
@_with(_IDENTITY_OPTIONS, _CREDENTIAL_OPTIONS, _FILE_OPTIONS)
@click.pass_obj
def add(root: str, /, name: str, **options: Any) -> int:
    """Add an identity. Its secret is asked for, unless an option says where it is."""
    return _add(_settings(root, options), {"identity_name": name, **options})


@command.command(
    "import",
    short_help="Add what the registry's user-create-m2m gave.",
    examples="""
    # From the registry's answer in a file
    credentials-provider identities import ci answer.json
    # From the clipboard
    pbpaste | credentials-provider identities import ci
    """,
)
@click.argument("name")
@click.argument("answer", type=click.File(encoding="utf-8"), default="-")
@_with(_IDENTITY_OPTIONS, _FILE_OPTIONS)
@click.pass_obj
def import_(root: str, /, name: str, answer: Any, **options: Any) -> int:
    """Add the identity that the MCP Gateway Registry made: its JSON, or what it printed.

    ANSWER is a file, or standard input.
    """
    from credentials_provider.identities.registration import read_registration  # noqa: PLC0415

    settings = _settings(root, options)
    if answer.isatty():
        click.echo("Paste what the registry answered, then press Ctrl-D.", err=True)
    found = read_registration(answer.read())
    fields = _fields(settings, {"identity_name": name, "client_id": found.client_id, **options})
    return _added(settings, fields, found.client_secret)


@command.command(
    "remove",
    short_help="Take identities out.",
    examples="""
    # The entry alone
    credentials-provider identities remove ci
    # With its token and its secret
    credentials-provider identities remove ci --purge
    """,
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=identity_names)
@click.option("--purge", is_flag=True, help="Delete its token, and its file in .secrets, too.")
@click.option("-o", "--output-dir", metavar="FOLDER", help="Default: .oauth-tokens")
@_with(_FILE_OPTIONS)
@click.pass_obj
def remove(root: str, /, names: Sequence[str], purge: bool, **options: Any) -> int:
    """Take identities out of the file."""
    settings = _settings(root, options)
    select(read_entries(settings).entries, names, settings.identities_file)
    editing.remove(settings, names)
    for name in names:
        click.echo(f"{name} removed from {settings.identities_file}")
        for path in editing.leftovers(settings, name):
            if purge:
                os.unlink(path)
            click.echo(f"  {path} {'deleted' if purge else 'is still there'}")
    return EXIT_OK


@command.command(
    "migrate",
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
    show_default=True,
    help="Private files in .secrets beside the identities file, or the .env file.",
)
@_with(_FILE_OPTIONS)
@click.pass_obj
def migrate(root: str, /, to: str, **options: Any) -> int:
    """Move secrets out of the identities file, and let it say where they are."""
    settings = _settings(root, options)
    env_file = (options["env_file"] or os.path.join(root, ".env")) if to == "env" else None
    moves = editing.migrate(settings, env_file)
    for move in moves:
        click.echo(f"{move.identity_name}: {move.field} is now {move.new_field} {move.place}")
    if not moves:
        click.echo("There is no secret in the file: nothing to do")
    elif env_file:
        click.echo(f"{env_file} holds them, for its owner's eyes only (chmod 600)")
    return EXIT_OK


@command.command(
    "list",
    short_help="List identities and credentials.",
    examples="""
    # For people
    credentials-provider identities list
    # For programs
    credentials-provider identities list --json
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@_with(_EXPIRY_OPTIONS, _FILE_OPTIONS)
@click.pass_obj
def list_(root: str, /, as_json: bool, check_secret_expiry: bool, **options: Any) -> int:
    """List the identities and where their credentials come from, without a secret."""
    settings = _settings(root, options)
    if check_secret_expiry:
        items, warnings = inventory.check(settings, ask_graph=True)
        _warn(warnings)
    else:
        items = inventory.items(settings)
    if as_json:
        _print_json(settings, items)
    else:
        _print_table(items)
    return EXIT_OK


@command.command(
    "check",
    short_help="Check entries and credentials.",
    examples="""
    # Before a first run
    credentials-provider identities check
    # Does a secret end soon?
    credentials-provider identities check --check-secret-expiry
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@_with(_EXPIRY_OPTIONS, _FILE_OPTIONS)
@click.pass_obj
def check(root: str, /, as_json: bool, check_secret_expiry: bool, **options: Any) -> int:
    """Check every entry, and that every credential is where it says; no token is asked for."""
    settings = _settings(root, options)
    items, warnings = inventory.check(settings, ask_graph=check_secret_expiry)
    _warn(warnings)
    if as_json:
        _print_json(settings, items, warnings=warnings)
    else:
        for item in items:
            ends = f", ends {item.ends}" if item.ends else ""
            click.echo(f"{item.identity_name}: {item.credential}{ends}")
        click.echo(f"All in order: {len(items)} in {settings.identities_file}")
    return EXIT_OK


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)


def _settings(root: str, options: dict[str, Any]) -> Settings:
    if options.get("login_base_url") and options.get("cloud"):
        raise click.UsageError("--login-base-url and --cloud exclude one another.")
    flags = Flags(
        identities_file=options["identities_file"],
        output_dir=options.get("output_dir"),
        env_file=options["env_file"],
        login_base_url=options.get("login_base_url"),
        cloud=options.get("cloud"),
        ca_bundle=options.get("ca_bundle"),
    )
    return load_settings(flags, os.environ, root)


def _add(settings: Settings, options: dict[str, Any]) -> int:
    if options["managed_identity"] not in {None, "true"} and not options["client_id"]:
        options["client_id"] = options["managed_identity"]
    fields = _fields(settings, options)
    folder = os.path.dirname(os.path.abspath(settings.identities_file))
    for field in (*_KINDS, "certificate_password_env", "certificate_password_file"):
        if options[field]:
            is_path = field.endswith("_file")
            fields[field] = _stored_path(options[field], folder) if is_path else options[field]
    if fields.get("managed_identity") == "true":
        fields["managed_identity"] = True
    secret = None
    if options["client_secret_stdin"]:
        secret = sys.stdin.readline().strip()
    elif not any(options[kind] for kind in _KINDS):
        secret = _ask_secret()
    if options["client_secret_expires_on"]:
        fields["client_secret_expires_on"] = options["client_secret_expires_on"]
    return _added(settings, fields, secret)


def _stored_path(typed: str, folder: str) -> str:
    """A path for the file, where it is relative to that; typed, it is to the working directory."""
    if typed.startswith(("~", "$")) or os.path.isabs(typed):
        return typed
    full = os.path.abspath(typed)
    return os.path.relpath(full, folder) if full.startswith(folder + os.sep) else full


def _fields(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    """What every entry has, from options, environment and, on a terminal, questions."""
    scope = f"api://{settings.client_id}/.default" if settings.client_id else None
    defaults = {"tenant_id": settings.tenant_id, "scope": scope}
    fields: dict[str, Any] = {}
    for field, question in _QUESTIONS.items():
        value = options[field]
        if not value and sys.stdin.isatty():
            value = _ask(field, question, defaults.get(field))
        value = value or defaults.get(field)
        if not value:
            where = "NAME" if field == "identity_name" else f"--{field.replace('_', '-')}"
            raise click.UsageError(f"Missing {where}.")
        fields[field] = value
    for field in ("login_base_url", "cloud"):
        if options[field]:
            fields[field] = options[field]
    return fields


def _ask(field: str, question: str, default: str | None) -> str:
    from credentials_provider.identities.fields import RULES  # noqa: PLC0415  only where it is asked

    def checked(value: str) -> str:
        if problem := RULES[field](value.strip()):
            raise click.UsageError(problem)
        return value.strip()

    answer: str = click.prompt(question, default=default, value_proc=checked, err=True)
    return answer


def _ask_secret() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(
            "Say where the secret is: --client-secret-stdin reads it from standard input, "
            f"{', '.join('--' + kind.replace('_', '-') for kind in _KINDS)} name a place."
        )
    text: str = click.prompt("Client secret (its Value; not shown)", hide_input=True, err=True)
    return text.strip()


def _added(settings: Settings, fields: dict[str, Any], secret: str | None) -> int:
    place = editing.add(settings, fields, secret)
    click.echo(f"{fields['identity_name']} added to {settings.identities_file}")
    if place:
        click.echo(f"  its secret is in {place} beside it, for its owner's eyes only")
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


def _print_table(items: Sequence[Item]) -> None:
    from rich.console import Console  # noqa: PLC0415  a table only
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("NAME", "TENANT", "CLIENT", "SCOPE", "CREDENTIAL", "ENDS"):
        # Where the terminal is narrow, ids lose their ends: names and credentials say more.
        is_id = title in {"TENANT", "CLIENT", "SCOPE"}
        table.add_column(title, no_wrap=not is_id, overflow="ellipsis")
    for item in items:
        table.add_row(*(text or "-" for text in item.row()))
    # A pipe has no width: whoever reads it wants lines whole. What stands in brackets is no markup.
    width = None if sys.stdout.isatty() else 1000
    Console(width=width, markup=False, emoji=False).print(table)
