"""Keeps the identities file: every change whole, private, and under the lock of its folder."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider import json_text
from credentials_provider.errors import ConfigurationError, StorageError
from credentials_provider.files import Folder, make_folders, write_whole
from credentials_provider.identities import rules
from credentials_provider.identities.fields import FIELDS, LITERALS, SECRETS_FOLDER
from credentials_provider.identities.identity import Identity
from credentials_provider.identities.reading import (
    MAXIMUM_SIZE,
    IdentitiesFile,
    parse_entries,
    read_entries,
    select,
)
from credentials_provider.identities.validation import validate_entry
from credentials_provider.permissions import read_file
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

VALUE_HINT = "Give the secret's Value, and nothing else."
LOCK_TIMEOUT = 30.0  # seconds


class Move(NamedTuple):
    """A literal secret that went somewhere else: from one field to another of the entry."""

    identity_name: str
    field: str
    new_field: str
    place: str  # path or variable


def add(settings: Settings, fields: Mapping[str, Any], secret: str | None = None) -> str | None:
    """Append an entry, making the file if there is none; where its `secret` was put, if any.

    Raises:
        ConfigurationError: the file cannot be read, or the entry has mistakes; nothing was written.

    """
    name = fields.get("identity_name", "")
    place = free_place(settings, name) if secret else None
    entry = {**fields, **({"client_secret_file": place} if place else {})}

    def change(text: str) -> str:
        new = json_text.append(text or "[]\n", entry)
        _checked(_parse(settings, new).entries[-1])
        if place and secret:
            problem = rules.secret(secret)
            if problem:
                raise ConfigurationError(f"the client secret {problem}", hint=VALUE_HINT)
            keep(settings, place, secret)
        return new

    _edit(settings, change)
    return place


def update(settings: Settings, name: str, changes: Mapping[str, Any]) -> None:
    """Set fields of an entry, or take them out where the value is None.

    Raises:
        ConfigurationError: there is no such entry, or it would have mistakes; nothing was written.

    """

    def change(text: str) -> str:
        file = _parse(settings, text)
        (entry, *_) = select(file.entries, [name], file.path)
        new = json_text.update(text, (entry.index - 1,), changes)
        _checked(_parse(settings, new).entries[entry.index - 1])
        return new

    _edit(settings, change)


def _checked(entry: Entry) -> None:
    found = validate_entry(entry)
    if not isinstance(found, Identity):
        count = "a mistake" if len(found) == 1 else f"{len(found)} mistakes"
        raise ConfigurationError(
            f"the identity has {count}; nothing was written",
            hint="Each line names the field.",
            problems=found,
        )


def remove(settings: Settings, names: Collection[str]) -> None:
    """Take entries out, whatever else is wrong with the file.

    Raises:
        ConfigurationError: there is no such file, or it cannot be read.

    """

    def change(text: str) -> str:
        for entry in reversed(_parse(settings, text).entries):  # the places before stay right
            if entry.name in names and entry.name:
                text = json_text.remove(text, (entry.index - 1,))
        return text

    _edit(settings, change)


def files_of(settings: Settings, names: Collection[str]) -> list[str]:
    """The files that were made for identities and for nobody else, as far as they are there.

    Those are their tokens, and their secrets in our own folder. Asked before the entries go.
    """
    known = read_entries(settings).entries
    going = [entry for entry in known if entry.name in names]
    others = {path for entry in known if entry not in going for path in _own_files(settings, entry)}
    found: list[str] = []
    for entry in going:
        if rules.identity_name(entry.name) is not None:  # no file can have that name
            continue
        base = full_path(settings, f"{SECRETS_FOLDER}/{entry.name}")
        found += [
            os.path.join(settings.output_dir, f"{entry.name}.json"),
            *(base, f"{base}.previous", *_begun(base)),
            *_own_files(settings, entry),
        ]
    return [each for each in dict.fromkeys(found) if each not in others and os.path.lexists(each)]


def _begun(base: str) -> list[str]:
    """What a rotation made for an identity: its files begin with what no name can hold."""
    folder, name = os.path.split(base)
    try:
        found = os.listdir(folder)
    except OSError:
        return []
    return [os.path.join(folder, each) for each in found if each.startswith(f"{name}~")]


def discard(paths: Iterable[str]) -> None:
    """Delete files; all that can be are gone before the first that cannot is reported.

    Raises:
        StorageError: some could not be deleted.

    """
    left = []
    for path in filter(os.path.lexists, paths):
        try:
            os.unlink(path)
        except OSError as error:  # noqa: PERF203  each has its own reason
            left.append(f"{path} ({error.strerror})")
    if left:
        raise StorageError(
            f"cannot be deleted: {', '.join(left)}",
            hint="Check what is there, and who owns the folder. Then delete it by hand.",
        )


def is_own_alone(settings: Settings, place: str, name: str) -> bool:
    """Whether a path of an entry is a file of our own folder that no other entry names."""
    return _is_own(settings, place) and full_path(settings, place) not in _named(settings, name)


def free_place(settings: Settings, name: str) -> str:
    """Where to put an identity's secret: a path in our own folder that no other entry names."""
    return _free(settings, name, _named(settings, name))


def _free(settings: Settings, name: str, named: Collection[str]) -> str:
    place, number = f"{SECRETS_FOLDER}/{name}", 1
    while full_path(settings, place) in named:
        number += 1
        place = f"{SECRETS_FOLDER}/{name}~{number}"
    return place


def _named(settings: Settings, name: str) -> set[str]:
    """The files in our own folder that other entries than this name."""
    there = os.path.exists(settings.identities_file)
    entries = read_entries(settings).entries if there else ()
    others = (entry for entry in entries if entry.name != name)
    return {path for entry in others for path in _own_files(settings, entry)}


def _is_own(settings: Settings, place: str) -> bool:
    folder = full_path(settings, SECRETS_FOLDER)
    return os.path.dirname(full_path(settings, place)) == folder


def _own_files(settings: Settings, entry: Entry) -> list[str]:
    """The files in our own folder that an entry, valid or not, names."""
    values = (entry.fields.get(field) for field in FIELDS if field.endswith("_file"))
    return [
        full_path(settings, value)
        for value in values
        if isinstance(value, str) and _is_own(settings, value)
    ]


def full_path(settings: Settings, place: str) -> str:
    """Where a path of an entry is: relative ones belong to the folder of the identities file."""
    folder = os.path.dirname(os.path.realpath(settings.identities_file))
    return os.path.normpath(os.path.join(folder, place))


def migrate(settings: Settings, env_file: str | None) -> list[Move]:
    """Move literal secrets into private files, or into a `.env`, and let the entries name those.

    The secrets are in their new place before the entries say so. An entry with mistakes stays as
    it is.

    Raises:
        ConfigurationError: the file cannot be read; nothing was written.

    """
    moves: list[Move] = []

    def change(text: str) -> str:
        file = _parse(settings, text)
        values: dict[str, str] = {}
        files = (path for entry in file.entries for path in _own_files(settings, entry))
        named = set(filter(os.path.lexists, files))
        for entry in file.entries:
            if not isinstance(validate_entry(entry), Identity):
                continue
            for field in LITERALS:
                if field not in entry.fields:
                    continue
                secret = entry.fields[field]
                if env_file is None:
                    suffix = "" if field == "client_secret" else ".previous"
                    new_field = f"{field}_file"
                    place = _free(settings, f"{entry.name}{suffix}", named)
                    named.add(full_path(settings, place))
                    keep(settings, place, secret)
                else:
                    new_field = f"{field}_env"
                    place = _variable(f"{entry.name}_{field}", secret, values, settings)
                    values[place] = secret
                text = json_text.rename(text, (entry.index - 1, field), new_field, place)
                moves.append(Move(entry.name, field, new_field, place))
        if env_file is not None and values:
            from credentials_provider.dotenv_file import dotenv_with  # dotenv

            old = _read(env_file) or ""
            write_whole(os.path.realpath(env_file), dotenv_with(old, values))
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
        store.sweep()
        text = _read(path)
        new = change(text or "")
        if new != text:
            write_whole(path, new)
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


def keep(settings: Settings, place: str, secret: str) -> None:
    """Write a secret to a private file beside the identities file, and keep git away from it."""
    path, name = os.path.split(full_path(settings, place))
    try:
        make_folders(path)
        folder = Folder(path)
    except OSError as error:
        raise StorageError(
            f"the folder {path} cannot be made: {error.strerror}",
            hint="Check owner and permissions of the folder above. It must not be a link.",
        ) from None
    folder.sweep()
    folder.ignore_in_git()
    folder.write(name, f"{secret}\n")
