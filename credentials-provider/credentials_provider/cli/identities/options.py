"""What the commands of `identities` have in common: options, and the registry that they name."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.options import (
    DURATION_OR_NONE,
    ca_bundle_option,
    env_file_option,
    identities_file_option,
    identity_names,
    output_dir_option,
    provider_options,
    trust_option,
    with_options,
)
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.fields import FIELDS
from credentials_provider.model import Observer, RunOptions
from credentials_provider.permissions import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.cli.options import Decorator
    from credentials_provider.identities.fields import Field
    from credentials_provider.lifecycle.accounts import Accounts
    from credentials_provider.settings import Settings

_MIN_LIFE = 120.0  # seconds of an administrator's token: a call takes up to 60

progress = functools.partial(click.echo, err=True)


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
asking_options = with_options(provider_options, file_options)  # where Entra ID or Graph is asked
identity_options = with_options(_of("definition", "authority"), file_options)
new_options = with_options(
    _option(FIELDS["client_id"]),
    identity_options,
    click.option(
        "--client-secret-stdin",
        is_flag=True,
        cls=CredentialOption,
        help="Read the secret's Value from stdin.",
    ),
    _of("credential", "companion"),
)
registry_options = with_options(
    click.option("--registry-url", metavar="URL", help="The registry's address, as https://host."),
    click.option(
        "--as",
        "administrator",
        metavar="NAME",
        shell_complete=identity_names,
        help="Ask with the token of this identity, an administrator.",
    ),
    click.option("--token-file", metavar="FILE", help="Ask with the token in this file."),
    ca_bundle_option,
    output_dir_option,
)
# What `add` takes of the credential as it was typed; `client_secret` itself is never an option.
CREDENTIAL_FIELDS = tuple(
    each.name
    for each in FIELDS.values()
    if each.part in {"credential", "companion"} and each.metavar
)
KINDS = tuple(name for name in CREDENTIAL_FIELDS if FIELDS[name].part == "credential")
wait_option = functools.partial(
    click.option,
    "--wait",
    type=DURATION_OR_NONE,
    help="How long Entra ID may take to know what was made just now.",
)


@contextlib.contextmanager
def registry_accounts(settings: Settings, options: dict[str, Any]) -> Iterator[Accounts]:
    """The accounts of the registry of `registry_options`, with an administrator's token.

    Raises:
        ConfigurationError: the address or the token's file cannot be used.
        NoTokenError: the administrator has no token.

    """
    from credentials_provider.assistants.configure import check_url  # seldom needed
    from credentials_provider.diagnostics.inspection.decoding import find_token
    from credentials_provider.lifecycle.accounts import Accounts  # urllib3
    from credentials_provider.run.access import get_token

    url, name, path = (options[each] for each in ("registry_url", "administrator", "token_file"))
    if not url:
        raise click.UsageError("Name the registry: --registry-url URL.")
    if bool(name) == bool(path):
        raise click.UsageError("Say who asks: --as NAME, or --token-file FILE.")
    check_url(url)
    if path:
        content = read_file(path)
        found = find_token(content.text()) if content else None
        if found is None or not found.text.isprintable() or " " in found.text:
            raise ConfigurationError(
                f"{path} has no token",
                hint="Name a file with a token: one of this program's, or of the registry's.",
            )
        token = found.text
    else:
        token = get_token(RunOptions(settings), name, _MIN_LIFE, Observer()).token
    with contextlib.closing(Accounts(url, token, settings.ca_bundle)) as accounts:
        yield accounts
