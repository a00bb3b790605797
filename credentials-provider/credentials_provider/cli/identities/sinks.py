"""`identities sink`: other files, or Kubernetes Secrets, that get an identity's token."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Group
from credentials_provider.cli.identities.adding import stored_path
from credentials_provider.cli.identities.options import file_options
from credentials_provider.cli.options import identity_names, output_dir_option, settings_of
from credentials_provider.errors import EXIT_OK, ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.reading import read_entries, select
from credentials_provider.identities.rules import SHARED_FORMATS, SINK_FORMATS
from credentials_provider.identities.sinks import sinks_of
from credentials_provider.run import sinks
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.identities.sinks import Sink
    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

_LOCK_TIMEOUT = 30.0  # seconds
_SECRET = click.option(
    "--kubernetes-secret", metavar="NAME", help="Instead of PATH: a Secret of the pod's namespace."
)


@click.group(
    "sink",
    cls=Group,
    short_help="Write a token to other files, too.",
    examples="""
    # For a service of another user
    credentials-provider identities sink add ci /run/agent/token --owner agent
    # A line of a .env, beside others
    credentials-provider identities sink add ci api/.env --format dotenv --variable API_TOKEN
    """,
)
def command() -> None:
    """Also write an identity's token to other files, at every renewal."""


@command.command(
    "add",
    short_help="Write the token to another file, too.",
    examples="""
    # Readable by a group
    credentials-provider identities sink add ci token.txt --group agents --mode 0640
    # For curl --netrc
    credentials-provider identities sink add ci ~/.netrc --format netrc --machine api.example.com
    # In a cluster
    credentials-provider identities sink add ci --kubernetes-secret ci-token
    """,
)
@click.argument("name", shell_complete=identity_names)
@click.argument("path", type=click.Path(), required=False)
@_SECRET
@click.option("--key", metavar="KEY", help="For a Secret. Default: token")
@click.option("--format", "form", type=click.Choice(SINK_FORMATS), default="raw")
@click.option("--mode", metavar="MODE", help="Such as 0640. Default: as the file has it, or 0600.")
@click.option("--owner", metavar="USER", help="Name or number. Only root can give a file away.")
@click.option("--group", metavar="GROUP", help="Name or number.")
@click.option("--variable", metavar="NAME", help="For dotenv. Default: ACCESS_TOKEN")
@click.option("--machine", metavar="HOST", help="For netrc.")
@output_dir_option
@file_options
@click.pass_obj
def add(root: str, /, name: str, path: str | None, form: str, **options: Any) -> int:
    """Also write the token of the identity NAME to PATH, at every renewal."""
    secret = _one_place(path, options)
    settings = settings_of(options, root)
    entry = _entry(settings, name)
    if path is None:
        new = {"kubernetes_secret": secret, "format": form}
    else:
        _check_place(settings, entry, path, form)
        new = {"path": stored_path(settings, path), "format": form}
    fields = ("key", "mode", "owner", "group", "variable", "machine")
    new |= {field: options[field] for field in fields if options[field]}
    known = entry.fields.get("sinks") or []
    editing.update(settings, name, {"sinks": [*known, new]})
    click.echo(f"{path or f'The Secret {secret}'} gets the token of {name} from now on")
    if path is None:
        return EXIT_OK
    store = TokenStore(settings.output_dir)
    entry = _entry(settings, name)
    document = sinks.valid_token(store, entry, time.time())
    if document is None:
        click.echo("  the next run writes it", err=True)
        return EXIT_OK
    with store.lock(_LOCK_TIMEOUT):
        sinks.write(sinks_of(entry, settings.identities_file)[-1], document)
    return EXIT_OK


@command.command(
    "remove",
    short_help="Stop writing the token to a file.",
    examples="""
    # With the token in it
    credentials-provider identities sink remove ci /run/agent/token
    # A file that holds other things keeps them
    credentials-provider identities sink remove ci ~/.netrc
    """,
)
@click.argument("name", shell_complete=identity_names)
@click.argument("path", type=click.Path(), required=False)
@_SECRET
@output_dir_option
@file_options
@click.pass_obj
def remove(root: str, /, name: str, path: str | None, **options: Any) -> int:
    """Stop writing the token of the identity NAME to PATH, and remove it there."""
    secret = _one_place(path, options)
    settings = settings_of(options, root)
    entry = _entry(settings, name)
    found = sinks_of(entry, settings.identities_file)
    place = os.path.realpath(path or "")
    going = [
        sink
        for sink in found
        if (sink.secret == secret if sink.secret else os.path.realpath(sink.path) == place)
    ]
    if not going:
        places = ", ".join(sink.place for sink in found) or "none"
        raise ConfigurationError(
            f"{name} has no sink {path or secret}", hint=f"Its sinks: {places}."
        )
    left = [
        each for each, sink in zip(entry.fields["sinks"], found, strict=True) if sink not in going
    ]
    editing.update(settings, name, {"sinks": left or None})
    withdraw(settings, entry, going)
    return EXIT_OK


def withdraw(settings: Settings, entry: Entry, going: Sequence[Sink]) -> None:
    """Take an identity's token out of sinks, and say what became of each.

    Raises:
        CredentialsProviderError: one could not be changed.

    """
    document = TokenStore(settings.output_dir).document(f"{entry.name}.json")
    for sink in going:
        if sink.secret:
            click.echo(
                f"  the Secret {sink.secret} keeps the token until it is deleted: "
                f"kubectl delete secret {sink.secret}"
            )
        elif document is not None and sinks.withdraw(sink, document):
            click.echo(f"  {sink.path}: the token is gone")
        elif os.path.lexists(sink.path):
            click.echo(f"  {sink.path} is still there: it does not hold this token")


def _one_place(path: str | None, options: dict[str, Any]) -> str | None:
    """The Secret's name, where no path is given."""
    secret: str | None = options["kubernetes_secret"]
    if (path is None) == (secret is None):
        raise click.UsageError("Give PATH, or --kubernetes-secret.")
    return secret


def _check_place(settings: Settings, entry: Entry, path: str, form: str) -> None:
    found = sinks_of(entry, settings.identities_file)
    known = [os.path.realpath(sink.path) for sink in found if sink.path]
    if os.path.realpath(path) in known:
        raise ConfigurationError(
            f"{path} is a sink of {entry.name} already",
            hint="To change it, remove it first, then add it again.",
        )
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise ConfigurationError(
            f"there is no folder for {path}",
            hint="Create it, with the permissions that its readers need.",
        )
    if form not in SHARED_FORMATS and os.path.lexists(path) and os.path.getsize(path):
        raise ConfigurationError(
            f"{path} is there already, and holds something",
            hint="Remove it first, if nobody needs it.",
        )


def _entry(settings: Settings, name: str) -> Entry:
    file = read_entries(settings)
    return select(file.entries, (name,), file.path)[0]
