"""Changes to the text of a JSON array of objects; whatever is not changed stays as it was written.

Order, indentation, line ends and a byte order mark are the author's. Each function takes a text
that is known to be a JSON array and gives the new one.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_SPACE = re.compile(r"[ \t\r\n\ufeff]*")
_INDENT = "  "
_decode = json.JSONDecoder().raw_decode


class Span(NamedTuple):
    """Where a value stands, and in an object its key: `begin` to `end`."""

    begin: int
    end: int
    key: str = ""
    key_begin: int = 0


def append(text: str, entry: Mapping[str, Any]) -> str:
    """The array with one more object at its end, indented as the others are."""
    newline = "\r\n" if "\r\n" in text else "\n"
    spans = _items(text, _skip(text, 0))
    if not spans:
        begin = _skip(text, 0)
        end = text.index("]", begin) + 1
        inner = _rendered(entry, _INDENT, _INDENT, newline)
        return f"{text[:begin]}[{newline}{_INDENT}{inner}{newline}]{text[end:] or newline}"
    first, last = spans[0], spans[-1]
    lead = text[_skip(text, 0) + 1 : first.begin]
    if len(spans) > 1:
        lead = text[spans[-2].end : last.begin].rpartition(",")[2] or lead
    outer = lead.rpartition("\n")[2]
    members = _items(text, first.begin)
    within = text[first.begin + 1 : members[0].key_begin] if members else newline
    if "\n" in within:
        inner = within.rpartition("\n")[2]
        unit = inner.removeprefix(outer) or _INDENT
        shown = _rendered(entry, outer, unit, newline)
    else:
        shown = json.dumps(entry, ensure_ascii=False)
    return f"{text[: last.end]},{lead or ' '}{shown}{text[last.end :]}"


def remove(text: str, index: int) -> str:
    """The array without its object number `index`, from 0."""
    begin = _skip(text, 0)
    spans = _items(text, begin)
    if len(spans) == 1:
        return f"{text[: begin + 1]}{text[text.index(']', spans[0].end) :]}"
    return _without(text, spans, index)


def _without(text: str, spans: list[Span], number: int) -> str:
    """The text without one of several elements, or members, and the comma that belongs to it."""
    if number == len(spans) - 1:
        return text[: spans[number - 1].end] + text[spans[number].end :]
    return text[: spans[number].key_begin] + text[spans[number + 1].key_begin :]


def update(text: str, index: int, changes: Mapping[str, Any]) -> str:
    """The array with members of its object number `index` set; taken out where the value is None.

    The object keeps at least one member.
    """
    for key, value in changes.items():
        begin = _items(text, _skip(text, 0))[index].begin
        members = _items(text, begin)
        number = next((n for n, member in enumerate(members) if member.key == key), None)
        shown = json.dumps(value, ensure_ascii=False)
        if number is None:
            if value is not None:
                text = _with_member(text, begin, members, f"{json.dumps(key)}: {shown}")
        elif value is None:
            text = _without(text, members, number)
        else:
            text = text[: members[number].begin] + shown + text[members[number].end :]
    return text


def _with_member(text: str, begin: int, members: list[Span], shown: str) -> str:
    last = members[-1]
    before = members[-2].end if len(members) > 1 else begin + 1
    between = text[before : last.key_begin]  # a comma perhaps, and white space
    lead = between if "," in between else f",{between}"
    return f"{text[: last.end]}{lead}{shown}{text[last.end :]}"


def rename(text: str, index: int, key: str, new_key: str, value: str) -> str:
    """The array with a member of its object number `index` under another key, of another value."""
    spans = _items(text, _skip(text, 0))
    member = next(each for each in _items(text, spans[index].begin) if each.key == key)
    between = text[_decode(text, member.key_begin)[1] : member.begin]  # colon and white space
    shown = f"{json.dumps(new_key)}{between}{json.dumps(value, ensure_ascii=False)}"
    return text[: member.key_begin] + shown + text[member.end :]


def _rendered(entry: Mapping[str, Any], outer: str, unit: str, newline: str) -> str:
    lines = json.dumps(entry, indent=unit, ensure_ascii=False).split("\n")
    return (newline + outer).join(lines)


def _items(text: str, begin: int) -> list[Span]:
    """The elements of the array, or the members of the object, that begins there."""
    closing = "]" if text[begin] == "[" else "}"
    spans: list[Span] = []
    place = _skip(text, begin + 1)
    while text[place] != closing:
        key, key_begin = "", place
        if closing == "}":
            key, place = _decode(text, place)
            place = _skip(text, _skip(text, place) + 1)  # the colon
        end = _decode(text, place)[1]
        spans.append(Span(place, end, key, key_begin))
        place = _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)
    return spans


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place
