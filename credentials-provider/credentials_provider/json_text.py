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
    from collections.abc import Iterator, Mapping

Path = tuple["str | int", ...]

_BLANKS = re.compile(r"[ \t\r\n]*")
_STRING = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?\*/", re.DOTALL)
# A comma before a closing bracket, if it stands behind a value (the first group has the others).
_LAST_COMMA = re.compile(rf"{_STRING}|[\[{{,:]\s*,|(,)(?=\s*[\]}}])", re.DOTALL)
_INDENT = re.compile(r"\n([ \t]+)\S")
_BOM = "\ufeff"
_INDENTATION = "  "
_DECODER = json.JSONDecoder()


class JSONError(ConfigurationError):
    """Where a text is not JSON, or cannot be changed; line and column count from 1."""

    def __init__(self, text: str, position: int) -> None:
        line = text.count("\n", 0, position) + 1
        self.place = f"line {line}, column {position - text.rfind(chr(10), 0, position)}"
        super().__init__(
            f"the JSON text cannot be changed: {self.place}", hint="Correct it there by hand."
        )


class _Value(NamedTuple):
    """A value in a text, between `start` and `end`. A member of an object begins with its key."""

    begin: int
    start: int
    end: int
    content: Any
    key: str | int = 0
    comma: int | None = None  # where the comma after it stands


class _Document:
    """A text, and the same in strict JSON: blanks stand for comments and for needless commas."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._commas = _without_comments(text)
        self._strict = _LAST_COMMA.sub(lambda found: " " if found[1] else found[0], self._commas)
        start = self._after_blanks(0)
        content, end = self._decode(start)
        self.root = _Value(start, start, end, content)
        if self._after_blanks(end) != len(text):
            raise JSONError(text, self._after_blanks(end))

    def _after_blanks(self, at: int) -> int:
        found = _BLANKS.match(self._commas, at)
        return found.end() if found else at

    def _decode(self, at: int) -> tuple[Any, int]:
        try:
            return _DECODER.raw_decode(self._strict, at)
        except (ValueError, RecursionError) as error:
            raise JSONError(self.text, getattr(error, "pos", at)) from None

    def children(self, parent: _Value) -> Iterator[_Value]:
        """The members of an object, or the elements of an array, in their order."""
        at, index = self._after_blanks(parent.start + 1), 0
        while isinstance(parent.content, (dict, list)) and at < parent.end - 1:
            begin, key = at, index
            if isinstance(parent.content, dict):
                key, at = self._decode(at)
                at = self._after_blanks(self._after_blanks(at) + 1)  # the colon
            content, end = self._decode(at)
            comma = self._after_blanks(end)
            found = comma if self._commas[comma] == "," else None
            yield _Value(begin, at, end, content, key, found)
            at, index = self._after_blanks(comma + 1), index + 1

    def find(self, path: Path) -> _Value:
        """What stands at a path. Raises KeyError: nothing does."""
        value = self.root
        for key in path:
            value = {each.key: each for each in self.children(value)}[key]
        return value


def _without_comments(text: str) -> str:
    """The text with blanks for comments, and for a byte order mark."""
    bare = " " + text[1:] if text.startswith(_BOM) else text
    return _COMMENT.sub(lambda found: found[0] if found[0][0] == '"' else " " * len(found[0]), bare)


def parse(text: str) -> Any:
    """The content of a JSON text that may have comments and trailing commas.

    Raises:
        JSONError: it is not one.

    """
    return _Document(text).root.content


def is_empty(text: str) -> bool:
    """Whether a text has comments and white space alone."""
    return not _without_comments(text).strip()


def put(text: str, path: Path, content: Any) -> str:
    """The text with the value at `path` set: replaced where it stands, else added at the end.

    Raises:
        JSONError: the text is not JSON, or an object on the way has a key twice.
        KeyError: something on the path is not an object.

    """
    document = _Document(text)
    value = document.root
    for depth, key in enumerate(path):
        if value.content is None:  # null: an object that is yet to be
            return _replaced(text, value, _nested(path[depth:], content))
        children = list(document.children(value))
        found = {each.key: each for each in children}
        if len(found) < len(children):
            raise JSONError(text, value.start)
        if key not in found:
            if not isinstance(value.content, dict):
                raise KeyError(key)
            last = children[-1] if children else None
            return _added(text, value, last, str(key), _nested(path[depth + 1 :], content))
        value = found[key]
    return text if value.content == content else _replaced(text, value, content)


def append(text: str, content: Any) -> str:
    """The array with one more element at its end, in the layout of the others."""
    document = _Document(text)
    array = document.root
    elements = list(document.children(array))
    newline = _newline(text)
    if not elements:
        shown = _rendered(text, content, _INDENTATION, _INDENTATION)
        end = text[array.end :] or newline
        return f"{text[: array.start]}[{newline}{_INDENTATION}{shown}{newline}]{end}"
    first, last = elements[0], elements[-1]
    lead = text[array.start + 1 : first.begin]
    if len(elements) > 1:
        lead = text[elements[-2].end : last.begin].rpartition(",")[2] or lead
    outer = lead.rpartition("\n")[2]
    member = next(document.children(first), None)
    within = text[first.begin + 1 : member.begin] if member else newline
    if "\n" in within:
        unit = within.rpartition("\n")[2].removeprefix(outer)
        shown = _rendered(text, content, outer, unit)
    else:
        shown = json.dumps(content, ensure_ascii=False)
    return f"{text[: last.end]},{lead or ' '}{shown}{text[last.end :]}"


def update(text: str, path: Path, changes: Mapping[str, Any]) -> str:
    """The object at `path` with members set; taken out where the value is None."""
    for key, value in changes.items():
        place = (*path, key)
        text = remove(text, place) if value is None else put(text, place, value)
    return text


def rename(text: str, path: Path, new_key: str, content: Any) -> str:
    """The member at `path` under another key, with another value, in its old place."""
    member = _Document(text).find(path)
    between = text[_DECODER.raw_decode(text, member.begin)[1] : member.start]  # colon and blanks
    shown = f"{json.dumps(new_key)}{between}{json.dumps(content, ensure_ascii=False)}"
    return text[: member.begin] + shown + text[member.end :]


def remove(text: str, path: Path) -> str:
    """The text without the value at `path` and its comma; as it is where there is none.

    Raises:
        JSONError: the text is not JSON.

    """
    document = _Document(text)
    try:
        parent = document.find(path[:-1])
        siblings = list(document.children(parent))
        number = {each.key: place for place, each in enumerate(siblings)}[path[-1]]
    except KeyError:
        return text
    child, before = siblings[number], siblings[number - 1] if number else None
    if isinstance(parent.content, list):
        if number + 1 < len(siblings):
            return text[: child.begin] + text[siblings[number + 1].begin :]
        if before is not None:
            return text[: before.end] + text[child.end :]
        return text[: parent.start + 1] + text[parent.end - 1 :]
    begin = len(text[: child.begin].rstrip(" \t"))
    if begin and text[begin - 1] == "\n":
        begin -= 2 if text[begin - 2 : begin] == "\r\n" else 1
    end = child.end if child.comma is None else child.comma + 1
    text = text[:begin] + text[end:]
    rest = text[begin:].lstrip()
    if text[:begin].endswith("{") and rest.startswith("}"):
        return text[:begin] + rest
    if child.comma is None and before is not None and before.comma is not None:
        text = text[: before.comma] + text[before.comma + 1 :]
    return text


def _nested(path: Path, content: Any) -> Any:
    for key in reversed(path):
        content = {key: content}
    return content


def _replaced(text: str, value: _Value, content: Any) -> str:
    shown = (
        json.dumps(content, ensure_ascii=False)
        if isinstance(value.content, (dict, list))
        and value.content
        and "\n" not in text[value.start : value.end]
        else _rendered(text, content, _indent_at(text, value.start))
    )
    return text[: value.start] + shown + text[value.end :]


def _added(text: str, parent: _Value, last: _Value | None, key: str, content: Any) -> str:
    newline, close = _newline(text), parent.end - 1
    outer = _indent_at(text, parent.start)
    shown_key = f"{json.dumps(key, ensure_ascii=False)}: "
    if last is None:
        inner = outer + _unit(text)
        shown = shown_key + _rendered(text, content, inner)
        gap = text[parent.start + 1 : close].rstrip()
        start = text[: parent.start + 1] + gap
        return f"{start}{newline}{inner}{shown}{newline}{outer}{text[close:]}"
    if "\n" not in text[parent.start : last.begin]:  # all on one line
        comma = "" if last.comma is not None else ","
        at = last.end if last.comma is None else last.comma + 1
        shown = shown_key + json.dumps(content, ensure_ascii=False)
        return f"{text[:at]}{comma} {shown}{text[at:]}"
    inner = _indent_at(text, last.begin)
    shown = f"{newline}{inner}{shown_key}{_rendered(text, content, inner)}"
    if last.comma is not None:  # in the style of those before
        shown += ","
    else:
        text = f"{text[: last.end]},{text[last.end :]}"
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
