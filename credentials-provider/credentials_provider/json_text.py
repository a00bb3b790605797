"""Changes to a JSON text, comments allowed; whatever is not changed stays as it was written.

Order, indentation, line ends, comments and a byte order mark are the author's. A path leads from
the whole to a place by keys and indices. No library on PyPI that is kept up writes comments back,
so this finds the places and cuts there.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

Path = tuple["str | int", ...]

_GAP = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_WORD = re.compile(r"[-+0-9.eE]+|true|false|null|NaN|-?Infinity")
_INDENT = re.compile(r"\n([ \t]+)\S")
_BOM = "\ufeff"
_INDENTATION = "  "
_DEEPEST = 200  # levels; each takes two calls of this module


class JSONError(ConfigurationError):
    """Where a text is not JSON, or cannot be changed; line and column count from 1."""

    def __init__(self, text: str, position: int) -> None:
        line = text.count("\n", 0, position) + 1
        self.place = f"line {line}, column {position - text.rfind(chr(10), 0, position)}"
        super().__init__(
            f"the JSON text cannot be changed: {self.place}", hint="Correct it there by hand."
        )


class _Child(NamedTuple):
    """A member of an object, or an element of an array: it begins with its key, if it has one."""

    begin: int
    value: _Value
    comma: int | None  # where the comma after it stands


class _Value(NamedTuple):
    begin: int
    end: int
    content: Any
    children: dict[str | int, _Child] | None  # by key or index; None: neither object nor array
    doubled: bool = False  # a key stands twice


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = len(_BOM) if text.startswith(_BOM) else 0

    def document(self) -> _Value:
        self._gap()
        value = self._value(0)
        self._gap()
        if self.at != len(self.text):
            raise JSONError(self.text, self.at)
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
        try:
            content = json.loads(found[0]) if found else None
        except ValueError:
            found = None
        if not found:
            raise JSONError(self.text, self.at)
        self.at = found.end()
        return content

    def _value(self, depth: int) -> _Value:
        if depth > _DEEPEST:
            raise JSONError(self.text, self.at)
        begin = self.at
        if self._take("{"):
            children: dict[str | int, _Child] = {}
            count = 0
            self._gap()
            while not self._take("}"):
                count += 1
                key, child = self._member(depth)
                children[key] = child
            content: Any = {key: child.value.content for key, child in children.items()}
            return _Value(begin, self.at, content, children, doubled=count > len(children))
        if self._take("["):
            elements: dict[str | int, _Child] = {}
            self._gap()
            while not self._take("]"):
                at = self.at
                elements[len(elements)] = _Child(at, self._value(depth + 1), self._comma("]"))
            found = [each.value.content for each in elements.values()]
            return _Value(begin, self.at, found, elements)
        content = self._scalar(_STRING if self.text[begin : begin + 1] == '"' else _WORD)
        return _Value(begin, self.at, content, None)

    def _member(self, depth: int) -> tuple[str, _Child]:
        begin = self.at
        key = self._scalar(_STRING)
        self._gap()
        if not self._take(":"):
            raise JSONError(self.text, self.at)
        self._gap()
        return key, _Child(begin, self._value(depth + 1), self._comma("}"))

    def _comma(self, end: str) -> int | None:
        self._gap()
        at = self.at
        comma = self._take(",")
        if not comma and not self.text.startswith(end, at):
            raise JSONError(self.text, at)
        self._gap()
        return at if comma else None


def parse(text: str) -> Any:
    """The content of a JSON text that may have comments and trailing commas.

    Raises:
        JSONError: it is not one.

    """
    return _Reader(text).document().content


def is_empty(text: str) -> bool:
    """Whether a text has comments and white space alone."""
    found = _GAP.match(text)
    return found is not None and found.end() == len(text)


def put(text: str, path: Path, content: Any) -> str:
    """The text with the value at `path` set: replaced where it stands, else added at the end.

    Raises:
        JSONError: the text is not JSON, or an object on the way has a key twice.
        KeyError: something on the path is not an object.

    """
    value = _Reader(text).document()
    for depth, key in enumerate(path):
        if value.content is None:  # null: an object that is yet to be
            return _replaced(text, value, _nested(path[depth:], content))
        if value.children is None:
            raise KeyError(key)
        if value.doubled:
            raise JSONError(text, value.begin)
        if key not in value.children:
            return _added(text, value, str(key), _nested(path[depth + 1 :], content))
        value = value.children[key].value
    return text if value.content == content else _replaced(text, value, content)


def append(text: str, content: Any) -> str:
    """The array with one more element at its end, in the layout of the others."""
    array = _Reader(text).document()
    elements = list((array.children or {}).values())
    newline = _newline(text)
    if not elements:
        shown = _rendered(text, content, _INDENTATION, _INDENTATION)
        end = text[array.end :] or newline
        return f"{text[: array.begin]}[{newline}{_INDENTATION}{shown}{newline}]{end}"
    first, last = elements[0], elements[-1]
    lead = text[array.begin + 1 : first.begin]
    if len(elements) > 1:
        lead = text[elements[-2].value.end : last.begin].rpartition(",")[2] or lead
    outer = lead.rpartition("\n")[2]
    members = list((first.value.children or {}).values())
    within = text[first.begin + 1 : members[0].begin] if members else newline
    if "\n" in within:
        unit = within.rpartition("\n")[2].removeprefix(outer) or _INDENTATION
        shown = _rendered(text, content, outer, unit)
    else:
        shown = json.dumps(content, ensure_ascii=False)
    return f"{text[: last.value.end]},{lead or ' '}{shown}{text[last.value.end :]}"


def update(text: str, path: Path, changes: Mapping[str, Any]) -> str:
    """The object at `path` with members set; taken out where the value is None."""
    for key, value in changes.items():
        place = (*path, key)
        text = remove(text, place) if value is None else put(text, place, value)
    return text


def rename(text: str, path: Path, new_key: str, content: Any) -> str:
    """The member at `path` under another key, with another value, in its old place."""
    child = (_find(text, path[:-1]).children or {})[path[-1]]
    key_end = json.JSONDecoder().raw_decode(text, child.begin)[1]
    between = text[key_end : child.value.begin]  # colon and white space
    shown = f"{json.dumps(new_key)}{between}{json.dumps(content, ensure_ascii=False)}"
    return text[: child.begin] + shown + text[child.value.end :]


def remove(text: str, path: Path) -> str:
    """The text without the value at `path` and its comma; as it is where there is none.

    Raises:
        JSONError: the text is not JSON.

    """
    try:
        parent = _find(text, path[:-1])
        child = (parent.children or {})[path[-1]]
    except KeyError:
        return text
    siblings = list((parent.children or {}).values())
    number = siblings.index(child)
    before = siblings[number - 1] if number else None
    if isinstance(parent.content, list):
        if number + 1 < len(siblings):
            return text[: child.begin] + text[siblings[number + 1].begin :]
        if before is not None:
            return text[: before.value.end] + text[child.value.end :]
        return text[: parent.begin + 1] + text[parent.end - 1 :]
    begin = len(text[: child.begin].rstrip(" \t"))
    if begin and text[begin - 1] == "\n":
        begin -= 2 if text[begin - 2 : begin] == "\r\n" else 1
    end = child.value.end if child.comma is None else child.comma + 1
    text = text[:begin] + text[end:]
    rest = text[begin:].lstrip()
    if text[:begin].endswith("{") and rest.startswith("}"):
        return text[:begin] + rest
    if child.comma is None and before is not None and before.comma is not None:
        text = text[: before.comma] + text[before.comma + 1 :]
    return text


def _find(text: str, path: Path) -> _Value:
    """What stands at a path. Raises KeyError: nothing does."""
    value = _Reader(text).document()
    for key in path:
        value = (value.children or {})[key].value
    return value


def _nested(path: Path, content: Any) -> Any:
    for key in reversed(path):
        content = {key: content}
    return content


def _replaced(text: str, value: _Value, content: Any) -> str:
    one_line = "\n" not in text[value.begin : value.end] and value.children
    shown = (
        json.dumps(content, ensure_ascii=False)
        if one_line
        else _rendered(text, content, _indent_at(text, value.begin))
    )
    return text[: value.begin] + shown + text[value.end :]


def _added(text: str, parent: _Value, key: str, content: Any) -> str:
    newline, close = _newline(text), parent.end - 1
    outer = _indent_at(text, parent.begin)
    shown_key = f"{json.dumps(key, ensure_ascii=False)}: "
    if not parent.children:
        inner = outer + _unit(text)
        shown = shown_key + _rendered(text, content, inner)
        gap = text[parent.begin + 1 : close].rstrip()
        start = text[: parent.begin + 1] + gap
        return f"{start}{newline}{inner}{shown}{newline}{outer}{text[close:]}"
    last = list(parent.children.values())[-1]
    if "\n" not in text[parent.begin : last.begin]:  # all on one line
        comma = "" if last.comma is not None else ","
        at = last.value.end if last.comma is None else last.comma + 1
        shown = shown_key + json.dumps(content, ensure_ascii=False)
        return f"{text[:at]}{comma} {shown}{text[at:]}"
    inner = _indent_at(text, last.begin)
    shown = f"{newline}{inner}{shown_key}{_rendered(text, content, inner)}"
    if last.comma is not None:  # in the style of those before
        shown += ","
    else:
        text = f"{text[: last.value.end]},{text[last.value.end :]}"
        close += 1
    # After a comment that belongs to the member before.
    at = len(text[:close].rstrip())
    return text[:at] + shown + text[at:]


def _rendered(text: str, content: Any, indent: str, unit: str | None = None) -> str:
    shown = json.dumps(content, indent=unit or _unit(text), ensure_ascii=False)
    return shown.replace("\n", _newline(text) + indent)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _unit(text: str) -> str:
    found = _INDENT.search(text)
    return found[1] if found else _INDENTATION


def _indent_at(text: str, position: int) -> str:
    """The white space that the line of a position begins with."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]
