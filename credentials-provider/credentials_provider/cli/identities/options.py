"""What the commands of `identities` have in common: options from the table of fields, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.options import DURATION_OR_NONE, load, trust_option
from credentials_provider.identities.fields import FIELDS
from credentials_provider.settings import CLOUDS, Flags

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from credentials_provider.identities.fields import Field
    from credentials_provider.settings import Settings

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


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


def _of(*parts: str) -> tuple[Decorator, ...]:
    names = (each for each in FIELDS.values() if each.part in parts and each.metavar)
    return tuple(_option(field) for field in names if field.name != "client_id")


FILE_OPTIONS = (
    click.option(
        "-i",
        "--identities-file",
        metavar="FILE",
        help="Default: .oauth-tokens/entra-identities.json",
    ),
    click.option("--env-file", metavar="FILE", help="Default: .env"),
    trust_option,
)
PROVIDER_OPTIONS = (
    click.option(
        "--login-base-url", metavar="URL", help="Login host. Default: Microsoft's public one."
    ),
    click.option("--cloud", type=click.Choice(list(CLOUDS)), help="Microsoft's login host."),
    click.option("--ca-bundle", metavar="FILE", help="Certification authorities to trust, PEM."),
)
IDENTITY_OPTIONS: tuple[Decorator, ...] = _of("definition", "authority")
CLIENT_OPTION = (_option(FIELDS["client_id"]),)
CREDENTIAL_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--client-secret-stdin",
        is_flag=True,
        cls=CredentialOption,
        help="Read the secret's Value from stdin.",
    ),
    *_of("credential", "companion"),
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
    """Say something that is not the result."""
    click.echo(line, err=True)


def with_options(*groups: Sequence[Decorator]) -> Decorator:
    """A decorator that adds several commands' common options, in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return decorate


def settings_of(root: str, options: dict[str, Any]) -> Settings:
    """The settings of a command of this group.

    Raises:
        ConfigurationError: they cannot be used.

    """
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
    return load(flags, root)
