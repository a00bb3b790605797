"""`identities init` and `add`: new entries, from options or from questions."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command, as_started
from credentials_provider.cli.identities.options import CREDENTIAL_FIELDS, KINDS, new_options
from credentials_provider.cli.options import settings_of
from credentials_provider.errors import EXIT_OK, ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.fields import FIELDS
from credentials_provider.identities.identity import Identity
from credentials_provider.identities.reading import default_scope, make_entry
from credentials_provider.identities.validation import validate_entry
from credentials_provider.minting import Failure

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
@new_options
@click.pass_obj
def init(root: str, /, name: str | None, **options: Any) -> int:
    """Make an identities file with a first identity: from questions, or from options."""
    settings = settings_of(options, root)
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
@new_options
@click.pass_obj
def add(root: str, /, name: str, **options: Any) -> int:
    """Add an identity. Its secret is asked for, unless an option says where it is."""
    return _add(settings_of(options, root), {"identity_name": name, **options})


def _add(settings: Settings, options: dict[str, Any]) -> int:
    if options["managed_identity"] not in {None, "true"} and not options["client_id"]:
        options["client_id"] = options["managed_identity"]
    fields = entry_fields(settings, options)
    typed = options["client_secret_stdin"]
    if not typed and not any(options[kind] for kind in KINDS):
        typed = _ask_kind(options)
    for field in CREDENTIAL_FIELDS:
        if value := options[field]:
            fields[field] = stored_path(settings, value) if field.endswith("_file") else value
    if fields.get("managed_identity") == "true":
        fields["managed_identity"] = True
    if "certificate_file" in fields:
        _check_certificate(settings, fields)
    return added(settings, fields, read_secret() if typed else None)


def _ask_kind(options: dict[str, Any]) -> bool:
    """Ask where the credential is; it goes into the options, unless it is a secret to be typed."""
    if not sys.stdin.isatty():
        raise click.UsageError(
            "Say where the secret is: --client-secret-stdin reads it from standard input, "
            f"{', '.join(FIELDS[kind].option for kind in KINDS)} name a place."
        )
    click.echo("What is its credential?\n  1. client_secret: its Value, typed now", err=True)
    for number, kind in enumerate(KINDS, start=2):
        click.echo(f"  {number}. {kind}: {FIELDS[kind].help}", err=True)
    choice: int = click.prompt(
        "Number", default=1, type=click.IntRange(1, len(KINDS) + 1), err=True
    )
    if choice == 1:
        return True
    kind = KINDS[choice - 2]
    options[kind] = _ask(kind, kind, "true" if kind == "managed_identity" else None)
    if kind == "certificate_file":
        key = click.prompt(
            "Private key, where it is not in that file", default="", show_default=False, err=True
        )
        options["certificate_key_file"] = key or None
    return False


def _check_certificate(settings: Settings, fields: dict[str, Any]) -> None:
    """Refuse a certificate that is not there or has no key, unless its path is for elsewhere."""
    paths = [value for name, value in fields.items() if name.endswith("_file")]
    identity = validate_entry(make_entry(1, fields, settings))
    if any("$" in path for path in paths) or not isinstance(identity, Identity):
        return
    from credentials_provider.credentials.resolver import Resolver  # cryptography

    found = Resolver(settings, time.time).resolve(identity, "certificate_file")
    if isinstance(found, Failure):
        raise ConfigurationError(f"{found.message}; nothing was added", hint=found.remedy)


def stored_path(settings: Settings, typed: str) -> str:
    """A path as the identities file has it, from one that was typed in the working directory."""
    if typed.startswith(("~", "$")) or os.path.isabs(typed):
        return typed
    folder = os.path.dirname(os.path.abspath(settings.identities_file))
    full = os.path.abspath(typed)
    return os.path.relpath(full, folder) if full.startswith(folder + os.sep) else full


def entry_fields(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    """What every entry has, from options, environment and, on a terminal, questions."""
    defaults = {"tenant_id": settings.tenant_id, "scope": default_scope(settings)}
    fields: dict[str, Any] = {}
    for field, question in _QUESTIONS.items():
        value = options[field]
        if not value and sys.stdin.isatty():
            value = _ask(field, question, defaults.get(field))
        value = value or defaults.get(field)
        if not value:
            where = "NAME" if field == "identity_name" else FIELDS[field].option
            raise click.UsageError(f"Missing {where}.")
        fields[field] = value
    for field in ("login_base_url", "cloud"):
        if options[field]:
            fields[field] = options[field]
    return fields


def _ask(field: str, question: str, default: str | None) -> str:
    def checked(value: str) -> str:
        plain: Any = True if value.strip() == "true" else value.strip()
        if problem := FIELDS[field].problem(plain):
            raise click.UsageError(problem)
        return value.strip()

    answer: str = click.prompt(question, default=default, value_proc=checked, err=True)
    return answer


def read_secret() -> str:
    """A client secret: typed where nobody sees it, or a line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    text: str = click.prompt("Client secret (its Value; not shown)", hide_input=True, err=True)
    return text.strip()


def added(settings: Settings, fields: dict[str, Any], secret: str | None) -> int:
    """Add an entry and report it; the exit code."""
    place = editing.add(settings, fields, secret)
    click.echo(f"{fields['identity_name']} added to {settings.identities_file}")
    if place:
        click.echo(f"  its secret is in {place} beside it, for its owner's eyes only")
    return EXIT_OK
