"""`identities rotate`: new secrets and certificates through Microsoft Graph."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command, as_started
from credentials_provider.cli.identities.options import asking_options, progress, wait_option
from credentials_provider.cli.options import DURATION, DURATION_OR_NONE, identity_names, settings_of
from credentials_provider.errors import EXIT_FAILED, EXIT_OK, CredentialsProviderError
from credentials_provider.identities.fields import ROTATED, SECRETS_FOLDER
from credentials_provider.identities.reading import read_entries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.lifecycle.rotating import Plan
    from credentials_provider.settings import Settings

_BUSY = 30.0  # seconds to wait for another rotation


@click.command(
    "rotate",
    cls=Command,
    short_help="Make new secrets through Microsoft Graph.",
    examples="""
    # What would be done?
    credentials-provider identities rotate --all --older-than 150d --dry-run
    # One identity now; its old secret goes with the next rotate after a day
    credentials-provider identities rotate ci
    """,
)
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=identity_names)
@click.option("--all", "everyone", is_flag=True, help="All with a client secret or a certificate.")
@click.option("--older-than", type=DURATION, help="Only older ones, as 150d.")
@click.option("--lifetime", type=DURATION, default="180d", help="How long the new one is valid.")
@click.option(
    "--overlap",
    type=DURATION_OR_NONE,
    default="24h",
    help="How long the old one stays valid beside it.",
)
@wait_option(default="10m")
@click.option("--as", "caller", metavar="NAME", help="Another identity that asks Graph.")
@click.option(
    "--finish", "finish_only", is_flag=True, help="Only remove old ones whose overlap is over."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what was changed, or failed.")
@asking_options
@click.pass_obj
def rotate(root: str, /, names: Sequence[str], *, everyone: bool, **options: Any) -> int:
    """Make a new secret, or certificate, prove it by a token, and let the identity use it.

    The old one stays valid for the overlap. A later rotate removes it. Each step can be repeated.
    After a failure, run it again. The identity, or the one of --as, needs the app role
    Application.ReadWrite.OwnedBy of Microsoft Graph, and must be an owner of the application.
    """
    from credentials_provider.lifecycle.rotating import LOCK, Plan  # msal
    from credentials_provider.tokens.store import TokenStore  # with it

    if bool(names) == everyone:
        raise click.UsageError("Name the identities to rotate, or say --all.")
    settings = settings_of(options, root)
    plan = Plan(**{name: options[name] for name in Plan._fields})
    folder = os.path.dirname(os.path.realpath(settings.identities_file))
    with TokenStore(folder).lock(_BUSY, LOCK):
        wanted = dict.fromkeys(names or _rotatable(settings))
        codes = {_rotate_one(settings, name, plan, quiet=options["quiet"]) for name in wanted}
    return EXIT_FAILED if EXIT_FAILED in codes else max(codes, default=EXIT_OK)


def _rotatable(settings: Settings) -> list[str]:
    """Each credential once: identities that share one are rotated together.

    Where a rotation made it, the identity that it was for has the journal, and goes on.
    """
    found: dict[object, str] = {}
    for entry in read_entries(settings).entries:
        kind = next((kind for kind in ROTATED if kind in entry.fields), None)
        if kind and not entry.problems:
            value = str(entry.fields[kind])
            key = (str(entry.fields.get("client_id")).lower(), kind, value)
            if value.startswith(f"{SECRETS_FOLDER}/{entry.name}~"):
                found[key] = entry.name
            found.setdefault(key, entry.name)
    return list(found.values())


def _rotate_one(settings: Settings, name: str, plan: Plan, *, quiet: bool) -> int:
    """Rotate, and report it; the exit code. One that fails does not stop the others."""
    from credentials_provider.lifecycle.rotating import rotate as rotate_identity

    try:
        step = rotate_identity(settings, name, plan, progress=progress)
    except CredentialsProviderError as error:
        where = "" if error.identity_name else f"{name}: "
        click.echo(f"{where}{error.message}", err=True)
        for line in (*(map(str, error.problems) if len(error.problems) > 1 else ()), error.hint):
            if line:
                click.echo(f"  {as_started(line, identity=name)}", err=True)
        return error.exit_code
    if not quiet or step.state not in {"young", "waiting"}:
        click.echo(f"{name}: {step.message}")
    return EXIT_OK
