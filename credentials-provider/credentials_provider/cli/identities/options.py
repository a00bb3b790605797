"""What the commands of `identities` have in common: options from the table of fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.options import (
    DURATION_OR_NONE,
    env_file_option,
    identities_file_option,
    trust_option,
    with_options,
)
from credentials_provider.identities.fields import FIELDS

if TYPE_CHECKING:
    from credentials_provider.cli.options import Decorator
    from credentials_provider.identities.fields import Field


class CredentialOption(click.Option):
    """An option that help shows among the kinds of credentials."""

    group = "Credential, exactly one"


def _option(field: Field) -> Decorator:
    """The option of `identities add` for a field of the table."""
    more: dict[str, Any] = {"metavar": field.metavar, "help": field.help}
    if field.part in {"credential", "companion"}:
        more["cls"] = CredentialOption
    if field.name == "managed_identity":
        more |= {"is_flag": False, "flag_value": "true"}
    if "enum" in field.schema:
        more |= {"type": click.Choice(list(field.schema["enum"])), "metavar": None}
    return click.option(field.option, **more)


def _of(*parts: str) -> Decorator:
    fields = (each for each in FIELDS.values() if each.part in parts and each.metavar)
    return with_options(*(_option(each) for each in fields if each.name != "client_id"))


file_options = with_options(identities_file_option, env_file_option, trust_option)
identity_options = _of("definition", "authority")
client_option = _option(FIELDS["client_id"])
credential_options = with_options(
    click.option(
        "--client-secret-stdin",
        is_flag=True,
        cls=CredentialOption,
        help="Read the secret's Value from stdin.",
    ),
    _of("credential", "companion"),
)
# What `add` takes of the credential as it was typed; `client_secret` itself is never an option.
CREDENTIAL_FIELDS = tuple(
    each.name
    for each in FIELDS.values()
    if each.part in {"credential", "companion"} and each.metavar
)
KINDS = tuple(name for name in CREDENTIAL_FIELDS if FIELDS[name].part == "credential")


def wait_option(default: str) -> Decorator:
    """How long to wait for Entra ID; a default of "0" is not shown."""
    return click.option(
        "--wait",
        type=DURATION_OR_NONE,
        default=default,
        show_default=default != "0",
        metavar="DURATION",
        help="How long Entra ID may take to know what was made just now.",
    )


def progress(line: str) -> None:
    """Say something on standard error."""
    click.echo(line, err=True)
