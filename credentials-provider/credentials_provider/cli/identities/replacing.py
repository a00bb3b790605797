"""`identities import` and `secret`: stores secrets that others made, and proves them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.identities.adding import added, entry_fields, read_secret
from credentials_provider.cli.identities.options import (
    asking_options,
    identity_options,
    progress,
    wait_option,
)
from credentials_provider.cli.options import ca_bundle_option, identity_names, settings_of
from credentials_provider.errors import EXIT_OK, ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.permissions import read_file

if TYPE_CHECKING:
    from credentials_provider.identities.registration import Registration
    from credentials_provider.lifecycle.replacing import Replaced
    from credentials_provider.settings import Settings

_STDIN = "<stdin>"  # as Python calls it
_MAXIMUM_SIZE = 1 << 16  # bytes of an answer
_PROPAGATION = 180.0  # seconds that Entra ID may take to know what the registry made just now


@click.command(
    "import",
    cls=Command,
    short_help="Add what the registry's user-create-m2m gave.",
    examples="""
    # From the file that the registry wrote, which is deleted then
    credentials-provider identities import ci answer.json --delete
    # From the clipboard
    pbpaste | credentials-provider identities import ci
    # A new secret for an identity that is there
    credentials-provider identities import ci answer.json --replace
    """,
)
@click.argument("name")
@click.argument("answer", type=click.File(encoding="utf-8-sig", errors="replace"), default="-")
@click.option(
    "--replace",
    is_flag=True,
    help="Replace the secret of NAME, which exists, once the new one is proven.",
)
@click.option("--delete", is_flag=True, help="Delete the file with the secret, once it is proven.")
@identity_options
@ca_bundle_option
@click.pass_obj
def import_(
    root: str, /, name: str, answer: Any, *, replace: bool, delete: bool, **options: Any
) -> int:
    """Add the machine account that the MCP Gateway Registry made.

    ANSWER is the file that `user-create-m2m` wrote, what it printed, or the JSON of the registry's
    API. Without it, standard input is read. Other spellings of a client ID and a secret are read,
    too.
    """
    from credentials_provider.identities.registration import read_registration

    settings = settings_of(options, root)
    if answer.isatty():
        progress("Paste what the registry answered, then press Ctrl-D.")
    name_of_answer = str(getattr(answer, "name", _STDIN))
    path = None if name_of_answer == _STDIN else name_of_answer
    found = read_registration(answer.read(_MAXIMUM_SIZE), _read, path)
    if replace:
        _replace(settings, name, found)
    else:
        tenant_id = options.pop("tenant_id") or found.tenant_id
        given = {"identity_name": name, "client_id": found.client_id, "tenant_id": tenant_id}
        added(settings, entry_fields(settings, {**options, **given}), found.client_secret)
    if found.files:
        _delete(settings, name, found, delete=delete, proven=replace)
    return EXIT_OK


def _replace(settings: Settings, name: str, found: Registration) -> None:
    from credentials_provider.lifecycle.replacing import find, replace_secret

    own = find(settings, name).fields.get("client_id")
    if str(own).lower() != found.client_id.lower():
        raise ConfigurationError(
            f"the answer is for the application {found.client_id[:64]}, and {name} is another one",
            hint="Leave out --replace and choose another NAME to add it.",
        )
    done = replace_secret(settings, name, found.client_secret, wait=_PROPAGATION, progress=progress)
    _show(name, done)


def _delete(
    settings: Settings, name: str, found: Registration, *, delete: bool, proven: bool
) -> None:
    """Delete the file that still has the secret, if that is wanted and the secret is proven."""
    (path,) = found.files
    if not delete and sys.stdin.isatty():
        question = f"Delete {path}, which has the secret in the clear, once it is proven?"
        delete = click.confirm(question, default=True, err=True)
    if not delete:
        _tell_of_copy(path)
        return
    if not proven:
        from credentials_provider.lifecycle.proving import prove
        from credentials_provider.lifecycle.replacing import find

        prove(settings, find(settings, name), wait=_PROPAGATION, progress=progress)
    editing.discard([path])
    click.echo(f"  {path} deleted")


@click.command(
    "secret",
    cls=Command,
    short_help="Replace a client secret.",
    examples="""
    # Be asked for the new one
    credentials-provider identities secret ci
    # From a password manager
    op read op://vault/ci/secret | credentials-provider identities secret ci
    """,
)
@click.argument("name", shell_complete=identity_names)
@click.option("--from-file", metavar="FILE", help="Read the new secret from a file's first line.")
@click.option("--client-secret-expires-on", metavar="DATE", help="Its last day, YYYY-MM-DD.")
@wait_option(default="0")
@asking_options
@click.pass_obj
def secret(root: str, /, name: str, from_file: str | None, wait: float, **options: Any) -> int:
    """Replace the client secret of an identity.

    The new one is typed where nobody sees it, or read from standard input or a file. It must
    get a token before the old one is dropped.
    """
    from credentials_provider.lifecycle.replacing import replace_secret  # msal

    settings = settings_of(options, root)
    if from_file is not None:
        value = next(iter(_read(from_file).splitlines()), "").strip()
    else:
        value = read_secret()
    ends = options["client_secret_expires_on"]
    done = replace_secret(settings, name, value, expires_on=ends, wait=wait, progress=progress)
    _show(name, done)
    if from_file is not None and os.path.isfile(from_file):  # a pipe keeps nothing
        _tell_of_copy(from_file)
    return EXIT_OK


def _tell_of_copy(path: str) -> None:
    progress(f"  {path} still has the secret in the clear: delete it")


def _show(name: str, done: Replaced) -> None:
    click.echo(f"{name} has its new secret, in {done.place}")
    if done.before:
        progress(f"  {' '.join(done.before)} is not used any more: clear what it names")


def _read(path: str) -> str:
    content = read_file(path, maximum=_MAXIMUM_SIZE)
    if content is None:
        raise ConfigurationError(f"there is no file {path}", hint="Name the file with the secret.")
    return content.text()
