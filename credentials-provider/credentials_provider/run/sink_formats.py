"""What a sink's file says: a token in the form that its reader wants.

Pure text. `dotenv` and `netrc` files hold other things, too: their other lines stay as they are.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from credentials_provider.identities.sinks import Sink

NETRC_LOGIN = "token"  # servers that take a token instead of a password read no user from it

# One variable of a `.env`, as python-dotenv reads it; a quoted value may have several lines.
_VARIABLE = re.compile(
    r"""^(?P<before>[^\S\r\n]*(?:export[^\S\r\n]+)?(?P<name>\w+)[^\S\r\n]*=[^\S\r\n]*)
    (?:'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | (?!['"])(?:\S+(?:[^\S\r\n]+(?!\#)\S+)*)?)
    (?P<after>(?:[^\S\r\n]+\#[^\r\n]*|[^\S\r\n]*)(?:\r?$|\Z))""",
    re.MULTILINE | re.VERBOSE | re.DOTALL,
)
# A netrc file's words, https://www.gnu.org/software/inetutils/manual/html_node/The-_002enetrc-file.html
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_SPACE = " \t\r\n"
_WITH_VALUE = frozenset(("machine", "login", "user", "account", "password"))


def with_token(sink: Sink, old: str, document: Mapping[str, Any]) -> str:
    """The text of a sink's file, from what it holds now and a token file's content.

    Raises:
        StorageError: it is a netrc file with several entries of the machine.

    """
    token = document["access_token"]
    if sink.format == "raw":
        return str(token)
    if sink.format == "header":
        return f"Authorization: Bearer {token}\n"
    if sink.format == "dotenv":
        return _with_variable(old, sink.variable, token)
    if sink.format == "netrc":
        return _with_password(sink, old, token)
    return json.dumps(document, indent=2) + "\n"


def without_token(sink: Sink, old: str) -> str:
    """The text without the token; empty where nothing else is left."""
    if sink.format == "dotenv":
        kept = _VARIABLE.sub(lambda each: "\0" if each["name"] == sink.variable else each[0], old)
        return re.sub("\0(\r?\n)?", "", kept)
    if sink.format == "netrc":
        found = _entry_of(old, sink.machine)
        return old if found is None else f"{old[: found.begin]}{old[found.end :].lstrip(_SPACE)}"
    return ""


def _with_variable(old: str, name: str, token: str) -> str:
    if all(each["name"] != name for each in _VARIABLE.finditer(old)):
        return _appended(old, f"{name}={token}")
    return _VARIABLE.sub(
        lambda each: f"{each['before']}{token}{each['after']}" if each["name"] == name else each[0],
        old,
    )


def _appended(old: str, line: str) -> str:
    newline = "\r\n" if "\r\n" in old else "\n"
    return f"{old}{newline if old and not old.endswith(newline) else ''}{line}{newline}"


def _with_password(sink: Sink, old: str, token: str) -> str:
    found = _entry_of(old, sink.machine)
    if found is not None and found.password is not None:
        begin, end = found.password
        return f"{old[:begin]}{token}{old[end:]}"
    if found is not None:
        return f"{old[: found.end]} password {token}{old[found.end :]}"
    line = f"machine {sink.machine} login {NETRC_LOGIN} password {token}"
    # The entry for all other machines: nothing behind it counts.
    default = next((each.begin for each in _netrc(old) if each.key == "default"), None)
    return _appended(old, line) if default is None else f"{old[:default]}{line}\n{old[default:]}"


class _Word(NamedTuple):
    """A word of a netrc file and its value, from `begin` to `end`."""

    key: str
    begin: int
    value: str
    value_begin: int
    end: int


class _Entry(NamedTuple):
    """Where a machine's entry stands in a netrc file, and the value of its password."""

    begin: int
    end: int
    password: tuple[int, int] | None = None


def _entry_of(text: str, machine: str) -> _Entry | None:
    entries: list[_Entry] = []
    inside = False
    for word in _netrc(text):
        if word.key in {"machine", "default"}:
            inside = word.key == "machine" and word.value == machine
            entries += [_Entry(word.begin, word.end)] if inside else []
        elif inside:
            password = (word.value_begin, word.end) if word.key == "password" else None
            entries[-1] = entries[-1]._replace(
                end=word.end, password=password or entries[-1].password
            )
    if len(entries) > 1:
        raise StorageError(
            f"it has {len(entries)} entries of the machine {machine}", hint="Keep one of them."
        )
    return entries[0] if entries else None


def _netrc(text: str) -> Iterator[_Word]:
    """The words of a netrc file; comments and the bodies of macros are none."""
    at = 0
    while found := _WORD.search(text, at):
        key, at = found[0], found.end()
        if key.startswith("#"):
            at = _place(text, "\n", at)
        elif key == "macdef":
            at = _place(text, "\n\n", at)
        elif key not in _WITH_VALUE:
            yield _Word(key, found.start(), "", at, at)
        elif value := _WORD.search(text, at):
            at = value.end()
            plain = re.sub(r"\\(.)", r"\1", value[0][1:-1]) if value[0][0] == '"' else value[0]
            yield _Word(key, found.start(), plain, value.start(), at)


def _place(text: str, of: str, after: int) -> int:
    found = text.find(of, after)
    return len(text) if found < 0 else found
