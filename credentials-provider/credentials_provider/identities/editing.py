"""Keeps the identities file: every change whole, private, and under the lock of its folder."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider import json_text
from credentials_provider.errors import ConfigurationError, StorageError
from credentials_provider.files import Folder, make_folders, write_private
from credentials_provider.identities.fields import LITERALS
from credentials_provider.identities.reading import MAXIMUM_SIZE, IdentitiesFile, parse_entries
from credentials_provider.identities.validation import validate
from credentials_provider.permissions import read_file
from credentials_provider.settings import dotenv_with
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from credentials_provider.settings import Settings

SECRETS_FOLDER = ".secrets"
LOCK_TIMEOUT = 30.0  # seconds


class Move(NamedTuple):
    """A literal secret that went somewhere else: from one field to another of the entry."""

    identity_name: str
    field: str
    new_field: str
    place: str  # path or variable


def add(settings: Settings, fields: Mapping[str, Any], secret: str | None = None) -> str | None:
    """Append an entry, making the file if there is none; where its `secret` was put, if any.

    The file must be in order with it.

    Raises:
        ConfigurationError: the file or the entry cannot be used; nothing was written.

    """
    name = fields.get("identity_name", "")
    place = f"{SECRETS_FOLDER}/{name}" if secret else None
    entry = {**fields, **({"client_secret_file": place} if place else {})}

    def change(text: str) -> str:
        new = json_text.append(text or "[]\n", entry)
        validate(_parse(settings, new))
        if place and secret:
            _keep(settings, place, secret)
        return new

    _edit(settings, change)
    return place


def remove(settings: Settings, names: Sequence[str]) -> None:
    """Take entries out, whatever else is wrong with the file.

    Raises:
        ConfigurationError: there is no such file, or it cannot be read.

    """

    def change(text: str) -> str:
        entries = _parse(settings, text).entries
        for entry in reversed(entries):  # from the end, so that the places before stay right
            if entry.name in names:
                text = json_text.remove(text, entry.index - 1)
        return text

    _edit(settings, change)


def leftovers(settings: Settings, name: str) -> list[str]:
    """What there still is of an identity: its token, and the secret that `add` put into a file."""
    folder = os.path.dirname(settings.identities_file)
    paths = (
        os.path.join(settings.output_dir, f"{name}.json"),
        os.path.join(folder, SECRETS_FOLDER, name),
    )
    return [path for path in paths if os.path.lexists(path)]


def migrate(settings: Settings, env_file: str | None) -> list[Move]:
    """Move literal secrets into private files, or into a `.env`, and let the entries name those.

    The secrets are in their new place before the entries say so.

    Raises:
        ConfigurationError: the file is not in order; nothing was written.

    """
    moves: list[Move] = []

    def change(text: str) -> str:
        file = _parse(settings, text)
        validate(file)
        values: dict[str, str] = {}
        for entry in file.entries:
            for field in LITERALS:
                if field not in entry.fields:
                    continue
                secret = entry.fields[field]
                if env_file is None:
                    suffix = "" if field == "client_secret" else ".previous"
                    new_field, place = f"{field}_file", f"{SECRETS_FOLDER}/{entry.name}{suffix}"
                    _keep(settings, place, secret)
                else:
                    new_field = f"{field}_env"
                    place = _variable(f"{entry.name}_{field}", secret, values, settings)
                    values[place] = secret
                text = json_text.rename(text, entry.index - 1, field, new_field, place)
                moves.append(Move(entry.name, field, new_field, place))
        if env_file is not None and values:
            old = _read(env_file) or ""
            write_private(os.path.realpath(env_file), dotenv_with(old, values))
        return text

    _edit(settings, change)
    return moves


def _variable(name: str, secret: str, taken: Mapping[str, str], settings: Settings) -> str:
    """A free variable for a secret, or the one that holds it already."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).upper()
    base = f"_{plain}" if plain[0].isdigit() else plain
    number, variable = 1, base
    while variable in taken or settings.environment.get(variable) not in {None, secret}:
        number += 1
        variable = f"{base}_{number}"
    return variable


def _edit(settings: Settings, change: Callable[[str], str]) -> None:
    """Put the text that `change` makes of the file in its place; an absent file is empty text."""
    path = os.path.realpath(settings.identities_file)
    store = TokenStore(os.path.dirname(path))
    with store.lock(LOCK_TIMEOUT):
        text = _read(path)
        new = change(text or "")
        if new != text:
            write_private(path, new)
            store.sync()


def _read(path: str) -> str | None:
    content = read_file(path, maximum=MAXIMUM_SIZE)
    return content.text("utf-8") if content else None  # a byte-order mark stays


def _parse(settings: Settings, text: str) -> IdentitiesFile:
    if not text:
        raise ConfigurationError(
            f"there is no identities file at {settings.identities_file}",
            hint="Make one with `credentials-provider identities init`.",
        )
    return parse_entries(text.encode(), settings)


def _keep(settings: Settings, place: str, secret: str) -> None:
    """Write a secret to a private file beside the identities file, and keep git away from it."""
    path = os.path.join(os.path.dirname(os.path.realpath(settings.identities_file)), place)
    path, name = os.path.split(path)
    try:
        make_folders(path)
        folder = Folder(path)
    except OSError as error:
        raise StorageError(
            f"the folder {path} cannot be made: {error.strerror}",
            hint="Check owner and permissions of the folder above; it must not be a link.",
        ) from None
    folder.ignore_in_git()
    folder.write(name, f"{secret}\n")
