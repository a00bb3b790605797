"""`identities init`, `add` and `import`: new entries."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command, as_started
from credentials_provider.cli.identities.options import (
    CLIENT_OPTION,
    CREDENTIAL_FIELDS,
    CREDENTIAL_OPTIONS,
    FILE_OPTIONS,
    IDENTITY_OPTIONS,
    KINDS,
    settings_of,
    with_options,
)
from credentials_provider.errors import EXIT_OK, ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.fields import FIELDS
from credentials_provider.identities.reading import default_scope

if TYPE_CHECKING:
    from credentials_provider.settings import Settings

_QUESTIONS = {
    "identity_name": "Name (of the token file, too)",
    "tenant_id": "Tenant ID (Microsoft Entra ID > Overview)",
    "client_id": "Client ID (App registrations > the identity's app > Overview)",
    "scope": "Scope (api://{gateway's application}/.default)",
}


@click.command(
    "init",
    cls=Command,
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
@with_options(CLIENT_OPTION, IDENTITY_OPTIONS, CREDENTIAL_OPTIONS, FILE_OPTIONS)
@click.pass_obj
def init(root: str, /, name: str | None, **options: Any) -> int:
    """Make an identities file with a first identity: from questions, or from options."""
    settings = settings_of(root, options)
    if os.path.lexists(settings.identities_file):
        raise ConfigurationError(
            f"{settings.identities_file} is there already",
            hint="Add another identity with `credentials-provider identities add NAME`.",
        )
    code = _add(settings, {"identity_name": name, **options})
    click.echo(as_started("Next: `credentials-provider generate` mints its token"), err=True)
    return code


@click.command(
    "add",
    cls=Command,
    short_help="Add an identity.",
    examples="""
    # Be asked for the secret
    credentials-provider identities add ci --client-id ID
    # A machine of Azure, which needs none
    credentials-provider identities add vm --managed-identity CLIENT_ID
    """,
)
@click.argument("name")
@with_options(CLIENT_OPTION, IDENTITY_OPTIONS, CREDENTIAL_OPTIONS, FILE_OPTIONS)
@click.pass_obj
def add(root: str, /, name: str, **options: Any) -> int:
    """Add an identity. Its secret is asked for, unless an option says where it is."""
    return _add(settings_of(root, options), {"identity_name": name, **options})


@click.command(
    "import",
    cls=Command,
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
@with_options(IDENTITY_OPTIONS, FILE_OPTIONS)
@click.pass_obj
def import_(root: str, /, name: str, answer: Any, **options: Any) -> int:
    """Add the identity that the MCP Gateway Registry made: its JSON, or what it printed.

    ANSWER is a file, or standard input.
    """
    from credentials_provider.identities.registration import read_registration  # noqa: PLC0415

    settings = settings_of(root, options)
    if answer.isatty():
        click.echo("Paste what the registry answered, then press Ctrl-D.", err=True)
    found = read_registration(answer.read())
    fields = _fields(settings, {"identity_name": name, "client_id": found.client_id, **options})
    return _added(settings, fields, found.client_secret)


def _add(settings: Settings, options: dict[str, Any]) -> int:
    if options["managed_identity"] not in {None, "true"} and not options["client_id"]:
        options["client_id"] = options["managed_identity"]
    fields = _fields(settings, options)
    folder = os.path.dirname(os.path.abspath(settings.identities_file))
    for field in CREDENTIAL_FIELDS:
        if options[field]:
            is_path = field.endswith("_file")
            fields[field] = _stored_path(options[field], folder) if is_path else options[field]
    if fields.get("managed_identity") == "true":
        fields["managed_identity"] = True
    secret = None
    if options["client_secret_stdin"]:
        secret = sys.stdin.readline().strip()
    elif not any(options[kind] for kind in KINDS):
        secret = _ask_secret()
    return _added(settings, fields, secret)


def _stored_path(typed: str, folder: str) -> str:
    """A path for the file, where it is relative to that; typed, it is to the working directory."""
    if typed.startswith(("~", "$")) or os.path.isabs(typed):
        return typed
    full = os.path.abspath(typed)
    return os.path.relpath(full, folder) if full.startswith(folder + os.sep) else full


def _fields(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    """What every entry has, from options, environment and, on a terminal, questions."""
    defaults = {"tenant_id": settings.tenant_id, "scope": default_scope(settings)}
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
    def checked(value: str) -> str:
        if problem := FIELDS[field].problem(value.strip()):
            raise click.UsageError(problem)
        return value.strip()

    answer: str = click.prompt(question, default=default, value_proc=checked, err=True)
    return answer


def _ask_secret() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(
            "Say where the secret is: --client-secret-stdin reads it from standard input, "
            f"{', '.join(FIELDS[kind].option for kind in KINDS)} name a place."
        )
    text: str = click.prompt("Client secret (its Value; not shown)", hide_input=True, err=True)
    return text.strip()


def _added(settings: Settings, fields: dict[str, Any], secret: str | None) -> int:
    place = editing.add(settings, fields, secret)
    click.echo(f"{fields['identity_name']} added to {settings.identities_file}")
    if place:
        click.echo(f"  its secret is in {place} beside it, for its owner's eyes only")
    return EXIT_OK
