"""What commands need to call an MCP Gateway Registry as its administrator."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.options import identity_names, with_options
from credentials_provider.errors import ConfigurationError
from credentials_provider.model import Observer, RunOptions
from credentials_provider.permissions import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.lifecycle.accounts import Accounts
    from credentials_provider.settings import Settings

_MIN_LIFE = 120.0  # seconds of an administrator's token: a call takes up to 60

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
)


@contextlib.contextmanager
def registry_accounts(settings: Settings, options: dict[str, Any]) -> Iterator[Accounts]:
    """The accounts of the registry that the options name, with an administrator's token.

    Raises:
        ConfigurationError: the address or the token's file cannot be used.
        NoTokenError: the administrator has no token.

    """
    from credentials_provider.assistants.configure import check_url  # seldom needed
    from credentials_provider.lifecycle.accounts import Accounts  # urllib3
    from credentials_provider.run.access import get_token

    url, name, path = (options[each] for each in ("registry_url", "administrator", "token_file"))
    if not url:
        raise click.UsageError("Name the registry: --registry-url URL.")
    if bool(name) == bool(path):
        raise click.UsageError("Say who asks: --as NAME, or --token-file FILE.")
    check_url(url)
    if path:
        token = _token(path)
    else:
        token = get_token(RunOptions(settings), name, _MIN_LIFE, Observer()).token
    accounts = Accounts(url, token, settings.ca_bundle)
    try:
        yield accounts
    finally:
        accounts.close()


def _token(path: str) -> str:
    """The token of a file: one of this program's, of the registry's, or the token alone."""
    content = read_file(path)
    text = content.text().strip() if content else ""
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        document = text
    if isinstance(document, dict):
        nested = document.get("tokens")
        document = document.get("access_token") or document.get("token")
        if not document and isinstance(nested, dict):
            document = nested.get("access_token")
    if not isinstance(document, str) or not document.isprintable() or " " in document:
        document = ""
    if not document:
        raise ConfigurationError(f"{path} has no token", hint="Name a token file, or the token.")
    return str(document)
