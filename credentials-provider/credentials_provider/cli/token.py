"""`token`: one identity's token in the form that its reader wants."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command, as_started
from credentials_provider.cli.logs import observer, warn
from credentials_provider.cli.options import (
    DURATION,
    identity_names,
    limited,
    renewing_options,
    settings_of,
    with_options,
)
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.reading import identity_of_options, read_entries
from credentials_provider.policy import showable
from credentials_provider.run.access import ValidToken, audit_for, get_token, mint_token, only_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.cli.options import Decorator
    from credentials_provider.settings import Settings

_FORMATS = ("raw", "header", "headers-json", "env", "powershell", "json", "exec-credential")
_EXEC_API = "client.authentication.k8s.io/"
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_DIGITS = frozenset("0123456789")
_HEADER_CHARACTERS = _LETTERS | _DIGITS | frozenset("!#$%&'*+-.^`|~")  # RFC 9110 section 5.6.2


def check_header_names(
    ctx: click.Context, param: click.Parameter, value: Sequence[str] | str
) -> Sequence[str] | str:
    """What an HTTP header may be called."""
    for name in (value,) if isinstance(value, str) else value:
        if not name or not _HEADER_CHARACTERS.issuperset(name):
            raise click.BadParameter("is not a name of an HTTP header", ctx, param)
    return value


def _check_variable(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """What an environment variable may be called, in every shell."""
    if not value or value[0] in _DIGITS or not (_LETTERS | _DIGITS).issuperset(value):
        raise click.BadParameter("is not a name of an environment variable", ctx, param)
    return value


def env_var_option(help: str) -> Decorator:  # noqa: A002  click's own word
    """The variable that a token stands in."""
    return click.option(
        "--env-var",
        default="ACCESS_TOKEN",
        callback=_check_variable,
        metavar="VARIABLE",
        help=help,
    )


# How a token is chosen, renewed and reached; `take_token` reads them.
token_options = with_options(
    click.option(
        "--min-ttl",
        type=DURATION,
        default="5m",
        help="Renew the token first if it expires within this time, or, where it is never valid "
        "for so long, when half of its life is left.",
    ),
    click.option("-f", "--force", is_flag=True, help="Renew first in any case, as after a 401."),
    click.option("--no-store", is_flag=True, help="Mint a token and write no file."),
    click.option("--tenant-id", metavar="ID", help="With --client-id. Or ENTRA_TENANT_ID."),
    click.option(
        "--client-id",
        metavar="ID",
        help="An identity without an entry. Its credential comes from the environment, and its "
        "token is never stored.",
    ),
    click.option(
        "--scope", metavar="SCOPE", help="With --client-id. Or ENTRA_SCOPE: api://…/.default"
    ),
    renewing_options,
)


@click.command(
    "token",
    cls=Command,
    examples="""
    # In an HTTP request
    credentials-provider token ci --format header | curl -H @- https://gateway.example.com/api/servers
    # In the environment of a shell
    eval "$(credentials-provider token ci --format env)"
    """,
    epilog="Exit codes: 0 a valid token; 1 none, and nothing is printed; 2 usage or configuration.",
)
@click.argument("name", required=False, default="", shell_complete=identity_names)
@click.option("--format", "form", type=click.Choice(_FORMATS), default="raw")
@click.option(
    "--header-name",
    "header_names",
    multiple=True,
    default=["Authorization"],
    show_default="Authorization",
    callback=check_header_names,
    metavar="HEADER",
    help="For header and headers-json. An MCP gateway wants X-Authorization. Repeatable.",
)
@env_var_option("For env and powershell.")
@click.option("--output", metavar="FILE", help="Write it to this file, readable by you alone.")
@token_options
@click.pass_obj
def command(root: str, /, name: str, form: str, output: str | None, **options: Any) -> int:
    """Print the token of the identity NAME, valid for --min-ttl or longer.

    NAME may be left out where there is one identity.
    """
    api_version = _exec_api_version() if form == "exec-credential" else ""
    access = take_token(name, settings_of_token(root, options), options)
    header_names, variable = options["header_names"], options["env_var"]
    text = {
        "raw": lambda: access.token,
        "header": lambda: "\n".join(f"{each}: Bearer {access.token}" for each in header_names),
        "headers-json": lambda: json.dumps(dict.fromkeys(header_names, f"Bearer {access.token}")),
        # Nothing in a token ends the quotes.
        "env": lambda: f"export {variable}='{access.token}'",
        "powershell": lambda: f"$env:{variable} = '{access.token}'",
        "json": lambda: json.dumps(access.document, indent=2),
        "exec-credential": lambda: json.dumps(_exec_credential(access, api_version)),
    }[form]()
    if output is None:
        click.echo(text)
    else:
        from credentials_provider.files import write_whole  # only for a file

        write_whole(output, text + "\n")
    return 0


def settings_of_token(root: str, options: dict[str, Any]) -> Settings:
    """The settings that the options of `token_options` make.

    Raises:
        ConfigurationError: they cannot be used.

    """
    if not options["client_id"] and (options["tenant_id"] or options["scope"]):
        raise click.UsageError("--tenant-id and --scope need --client-id.")
    given = {name: options[name] for name in ("tenant_id", "client_id", "scope")}
    return settings_of(options, root, **given)


def take_token(name: str, settings: Settings, options: dict[str, Any]) -> ValidToken:
    """A token as the options of `token_options` want it; warns where it is an old one."""
    audit = audit_for(settings, click.get_current_context().info_name or "")
    name, access = _take(name, settings, options)
    if audit is not None:
        audit.record(name, access)
    return access


def _take(name: str, settings: Settings, options: dict[str, Any]) -> tuple[str, ValidToken]:
    """A token, and whose it is."""
    run_options = limited(settings, options, force=options["force"])
    if options["client_id"]:
        if name:
            raise click.UsageError("NAME and --client-id exclude one another.")
        file = identity_of_options(settings)
        name = file.entries[0].name
        return name, mint_token(run_options, file, name, observer())
    if options["no_store"] or not name:
        file = read_entries(settings)
        name = name or only_name(file.entries, file.path)
        if options["no_store"]:
            return name, mint_token(run_options, file, name, observer())
    access = get_token(run_options, name, options["min_ttl"], observer())
    if access.kept is not None:
        import time  # only for an old one

        from credentials_provider.cli.output import time_left

        left = time_left(max(0.0, access.expires_on - time.time()))
        warn(
            f"{name}: this token expires in {left}; it was not renewed: {access.kept.cause}",
            as_started(access.kept.remedy, identity=name),
        )
    return name, access


def _exec_api_version() -> str:
    """The API version that kubectl asks for.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
    """
    info = os.environ.get("KUBERNETES_EXEC_INFO")
    if not info:
        return f"{_EXEC_API}v1"
    try:
        version = json.loads(info)["apiVersion"]
    except (ValueError, KeyError, TypeError):
        version = None
    if version not in (f"{_EXEC_API}v1", f"{_EXEC_API}v1beta1"):
        raise ConfigurationError(
            "KUBERNETES_EXEC_INFO asks for no version of ExecCredential that is known here",
            hint=f"Set apiVersion: {_EXEC_API}v1 in the kubeconfig's exec section.",
        )
    return str(version)


def _exec_credential(access: ValidToken, api_version: str) -> dict[str, Any]:
    from datetime import datetime, timezone

    expiry = datetime.fromtimestamp(int(showable(access.expires_on)), tz=timezone.utc)
    return {
        "apiVersion": api_version,
        "kind": "ExecCredential",
        "status": {
            "expirationTimestamp": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "token": access.token,
        },
    }
