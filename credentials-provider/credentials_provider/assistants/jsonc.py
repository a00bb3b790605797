"""Changes one member of a JSON text, comments allowed, and leaves every other byte as it is.

No library on PyPI that is kept up writes comments back, so this finds the places and cuts there.
What comes out is read again and compared, so a mistake here is an error and never a broken file.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_GAP = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_WORD = re.compile(r"[-+0-9.eE]+|true|false|null")
_INDENT = re.compile(r"\n([ \t]+)\S")
_DEEPEST = 100


class JSONCError(ValueError):
    """Where a text is no JSON: line and column count from 1."""

    def __init__(self, text: str, position: int) -> None:
        self.line = text.count("\n", 0, position) + 1
        self.column = position - text.rfind("\n", 0, position)
        super().__init__(f"line {self.line}, column {self.column}")


class _Member(NamedTuple):
    key_start: int
    value: _Value
    comma: int | None  # where the comma after it stands


class _Value(NamedTuple):
    start: int
    end: int
    content: Any
    members: dict[str, _Member] | None  # of an object


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def document(self) -> _Value:
        self._gap()
        value = self._value(0)
        self._gap()
        if self.at != len(self.text):
            raise JSONCError(self.text, self.at)
        return value

    def _gap(self) -> None:
        found = _GAP.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _take(self, character: str) -> bool:
        if self.text.startswith(character, self.at):
            self.at += 1
            return True
        return False

    def _scalar(self, pattern: re.Pattern[str]) -> Any:
        found = pattern.match(self.text, self.at)
        if not found:
            raise JSONCError(self.text, self.at)
        try:
            content = json.loads(found[0])
        except ValueError:
            raise JSONCError(self.text, self.at) from None
        self.at = found.end()
        return content

    def _value(self, depth: int) -> _Value:
        if depth > _DEEPEST:
            raise JSONCError(self.text, self.at)
        start = self.at
        if self._take("{"):
            members = self._members(depth)
            content = {key: member.value.content for key, member in members.items()}
            return _Value(start, self.at, content, members)
        if self._take("["):
            items = self._items(depth)
            return _Value(start, self.at, items, None)
        content = self._scalar(_STRING if self.text[start : start + 1] == '"' else _WORD)
        return _Value(start, self.at, content, None)

    def _members(self, depth: int) -> dict[str, _Member]:
        members: dict[str, _Member] = {}
        self._gap()
        while not self._take("}"):
            key_start = self.at
            key = self._scalar(_STRING)
            self._gap()
            if key in members or not self._take(":"):
                raise JSONCError(self.text, self.at)
            self._gap()
            value = self._value(depth + 1)
            members[key] = _Member(key_start, value, self._comma("}"))
        return members

    def _items(self, depth: int) -> list[Any]:
        items = []
        self._gap()
        while not self._take("]"):
            items.append(self._value(depth + 1).content)
            self._comma("]")
        return items

    def _comma(self, end: str) -> int | None:
        self._gap()
        at = self.at
        comma = self._take(",")
        if not comma and not self.text.startswith(end, at):
            raise JSONCError(self.text, at)
        self._gap()
        return at if comma else None


def parse(text: str) -> Any:
    """The content of a JSON text that may have comments and trailing commas.

    Raises:
        JSONCError: it is none.

    """
    return _Reader(text).document().content


def is_empty(text: str) -> bool:
    """Whether a text has comments and white space alone."""
    found = _GAP.match(text)
    return found is not None and found.end() == len(text)


def put(text: str, path: tuple[str, ...], content: Any) -> str:
    """The text with the member at `path` set: replaced where it stands, else added at the end.

    Raises:
        JSONCError: the text is no JSON.
        KeyError: something on the path is no object.

    """
    value = _Reader(text).document()
    depth = 0
    for depth, key in enumerate(path):
        if value.content is None:  # null: an object that is yet to be
            for inner in reversed(path[depth:]):
                content = {inner: content}
            shown = _render(text, content, _indent_at(text, value.start))
            return text[: value.start] + shown + text[value.end :]
        if value.members is None:
            raise KeyError(".".join(path[:depth]))
        if key not in value.members:
            break
        value = value.members[key].value
    else:
        if value.content == content:
            return text
        one_line = "\n" not in text[value.start : value.end] and value.members
        shown = (
            json.dumps(content, ensure_ascii=False)
            if one_line
            else _render(text, content, _indent_at(text, value.start))
        )
        return text[: value.start] + shown + text[value.end :]
    for key in reversed(path[depth + 1 :]):
        content = {key: content}
    return _add(text, value, path[depth], content)


def _add(text: str, parent: _Value, key: str, content: Any) -> str:
    assert parent.members is not None  # noqa: S101  as `put` has seen
    newline = "\r\n" if "\r\n" in text else "\n"
    outer = _indent_at(text, parent.start)
    close = parent.end - 1
    if not parent.members:
        inner = outer + _unit(text)
        shown = f"{json.dumps(key)}: {_render(text, content, inner)}"
        gap = text[parent.start + 1 : close].rstrip()
        return (
            f"{text[: parent.start + 1]}{gap}{newline}{inner}{shown}{newline}{outer}{text[close:]}"
        )
    last = list(parent.members.values())[-1]
    if "\n" not in text[parent.start : last.key_start]:  # all on one line
        comma = "" if last.comma is not None else ","
        at = last.value.end if last.comma is None else last.comma + 1
        shown = f"{json.dumps(key)}: {json.dumps(content, ensure_ascii=False)}"
        return f"{text[:at]}{comma} {shown}{text[at:]}"
    inner = _indent_at(text, last.key_start)
    shown = f"{newline}{inner}{json.dumps(key)}: {_render(text, content, inner)}"
    if last.comma is not None:  # in the style of those before
        shown += ","
    else:
        text = f"{text[: last.value.end]},{text[last.value.end :]}"
        close += 1
    # After a comment that belongs to the member before.
    at = len(text[:close].rstrip())
    return text[:at] + shown + text[at:]


def remove(text: str, path: tuple[str, ...]) -> str:
    """The text without the member at `path`; as it is where there is none.

    Raises:
        JSONCError: the text is no JSON.

    """
    value = _Reader(text).document()
    before: _Member | None = None
    member: _Member | None = None
    for key in path:
        if value.members is None or key not in value.members:
            return text
        before = None
        for name, each in value.members.items():
            if name == key:
                break
            before = each
        member = value.members[key]
        value = member.value
    if member is None:
        return text
    start = len(text[: member.key_start].rstrip(" \t"))
    if start and text[start - 1] == "\n":
        start -= 2 if text[start - 2 : start] == "\r\n" else 1
    end = value.end if member.comma is None else member.comma + 1
    text = text[:start] + text[end:]
    if text[:start].endswith("{") and (rest := text[start:].lstrip()).startswith("}"):
        return text[:start] + rest
    if member.comma is None and before is not None and before.comma is not None:
        text = text[: before.comma] + text[before.comma + 1 :]
    return text


def _render(text: str, content: Any, indent: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    shown = json.dumps(content, indent=_unit(text), ensure_ascii=False)
    return shown.replace("\n", newline + indent)


def _unit(text: str) -> str:
    found = _INDENT.search(text)
    return found[1] if found else "  "


def _indent_at(text: str, position: int) -> str:
    """The white space that the line of a position begins with."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]
