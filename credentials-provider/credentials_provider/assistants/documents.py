"""A configuration file's text with entries put in or taken out, all else as its owner wrote it."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from credentials_provider.assistants.clients import Form

_BOM = "\ufeff"


class UnparsableError(ValueError):
    """The file is not what its client could read."""


class FormattingError(ValueError):
    """The file cannot be changed without losing what its owner wrote around the entries."""


class Change(NamedTuple):
    """What is to be done: entries by name, None takes one out."""

    root: Sequence[str]
    entries: Mapping[str, Mapping[str, Any] | None]


def entries_of(text: str, form: Form, root: Sequence[str]) -> dict[str, Any]:
    """What stands under the root now.

    Raises:
        UnparsableError: the text is not of that form, or something above its root is not a table.

    """
    found: Any = _parse(text.removeprefix(_BOM), form)
    for key in (None, *root):
        if key is not None:
            found = found.get(key)
            found = {} if found is None else found
        if not isinstance(found, dict):
            raise UnparsableError(f"{key or 'the whole'} is not a table of names and values")
    return dict(found)


def changed(text: str, form: Form, change: Change) -> str:
    """The text after the change.

    Raises:
        UnparsableError: the text is not of that form.
        FormattingError: comments or layout would not survive.

    """
    wanted = entries_of(text, form, change.root)
    for name, entry in change.entries.items():
        if entry is None:
            wanted.pop(name, None)
        else:
            wanted[name] = entry
    if wanted == entries_of(text, form, change.root):
        return text
    bare = text.removeprefix(_BOM)
    lines = bare.replace("\r\n", "\n")
    after = {"toml": _toml, "yaml": _yaml}.get(form, _json)(lines, change)
    if "\r\n" in bare:
        if lines.count("\n") != bare.count("\r\n"):
            raise FormattingError("its lines end in two different ways")
        after = after.replace("\n", "\r\n")
    if entries_of(after, form, change.root) != wanted:
        raise FormattingError("the entry could not be put in its place")
    if form in {"toml", "yaml"} and not _comments(after) >= _comments(text):
        raise FormattingError("a comment beside the entry would be lost")
    return text[: len(text) - len(bare)] + after


def _comments(text: str) -> Counter[str]:
    return Counter(line.strip() for line in text.splitlines() if line.lstrip().startswith("#"))


def rendered(form: Form, change: Change) -> str:
    """The entries alone, as a text to paste."""
    start = "{}\n" if form in {"json", "jsonc"} else ""
    return changed(start, form, change)


def _parse(text: str, form: Form) -> Any:
    if not text.strip():
        return {}
    if form == "toml":
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        try:
            return tomlkit.parse(text).unwrap()
        except TOMLKitError as error:
            raise UnparsableError(f"it is not TOML: {str(error)[:120]}") from None
    if form == "yaml":
        return _parse_yaml(text)
    if form == "json":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            place = (
                f": line {error.lineno}, column {error.colno}"
                if isinstance(error, json.JSONDecodeError)
                else ""
            )
            raise UnparsableError(f"it is not JSON{place}") from None
    try:
        return {} if json_text.is_empty(text) else json_text.parse(text)
    except json_text.JSONError as error:
        raise UnparsableError(f"it is not JSON: {error.place}") from None


def _json(text: str, change: Change) -> str:
    if json_text.is_empty(text):
        text = f"{text.rstrip()}\n{{}}\n".lstrip()
    for name, entry in change.entries.items():
        path = (*change.root, name)
        try:
            text = (
                json_text.remove(text, path) if entry is None else json_text.put(text, path, entry)
            )
        except json_text.JSONError as error:  # a key that stands twice: which one counts?
            raise UnparsableError(
                f"the same name stands twice in one object: {error.place}"
            ) from None
    return text


def _toml(text: str, change: Change) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    if tomlkit.dumps(document) != text:
        raise FormattingError("its layout would not survive")
    (key,) = change.root
    for name, entry in change.entries.items():
        servers: Any = document.get(key)
        if entry is None:
            if servers is not None and name in servers:
                del servers[name]
                if not servers:
                    del document[key]
        elif servers is None:
            document[key] = tomlkit.table(is_super_table=True)
            document[key][name] = tomlkit.item(dict(entry))
        elif name in servers:
            _update(servers[name], entry)
        elif isinstance(servers, tomlkit.items.InlineTable):
            servers[name] = tomlkit.inline_table()
            servers[name].update(entry)
        else:
            servers[name] = table = tomlkit.item(dict(entry))
            if list(document)[-1] != key:
                table.add(tomlkit.nl())
    after = tomlkit.dumps(document)
    # The empty line before what stood last.
    return after[:-1] if after.endswith("\n\n") and not text.endswith("\n\n") else after


def _update(table: Any, entry: Mapping[str, Any]) -> None:
    for field in set(table) - set(entry):
        del table[field]
    for field, value in entry.items():
        if table.get(field) != value:
            table[field] = value


def _parse_yaml(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UnparsableError(f"it is not YAML{place}") from None
    return {} if content is None else content


def _yaml(text: str, change: Change) -> str:
    """By ruamel.yaml in the layout of the file, if it has one that comes out as it went in."""
    from ruamel.yaml import YAML

    for mapping, sequence, offset in ((2, 2, 0), (2, 4, 2), (4, 4, 2), (4, 2, 0), (4, 6, 4)):
        yaml: Any = YAML()
        yaml.preserve_quotes = True
        yaml.width = 1 << 16
        yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
        document = yaml.load(text)
        if document is None:  # comments, or nothing
            return f"{text.rstrip()}\n{_dump_yaml(yaml, _nested(change))}".lstrip()
        if _dump_yaml(yaml, document) != text:
            continue
        place: Any = document
        for key in change.root:
            if place.get(key) is None:
                place[key] = {}
            place = place[key]
        for name, entry in change.entries.items():
            if entry is None:
                place.pop(name, None)
            else:
                place[name] = dict(entry)
        return _dump_yaml(yaml, document)
    raise FormattingError("its layout or comments would not survive")


def _nested(change: Change) -> Any:
    """The entries under their root, in a document of their own."""
    found: Any = {name: dict(entry) for name, entry in change.entries.items() if entry is not None}
    for key in reversed(change.root):
        found = {key: found}
    return found


def _dump_yaml(yaml: Any, document: Any) -> str:
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()
