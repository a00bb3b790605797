"""Where the value of a variable in `.env` is not what stands there, as python-dotenv reads it.

The registry reads its `.env` with the same library, so its rules count. They are not those of a
shell or of Docker: a user whose secret is refused must see that it was changed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dotenv.parser import Binding

_REFERENCE = re.compile(r"\$\{([^}:]*)(?::-[^}]*)?\}")
_ESCAPE = re.compile(r"\\[abfnrtv]")  # within double quotes


def changed_values(
    path: str, bindings: Iterable[Binding], values: Mapping[str, str | None]
) -> dict[str, str]:
    """A note for each variable whose value was changed, with file and line, without the value.

    `bindings` are the file's lines, `values` what the library makes of them.
    """
    last = {each.key: each for each in bindings if each.key and each.value is not None}
    notes = {}
    for name, binding in last.items():
        why = _change(binding, values.get(name))
        if why is not None:
            notes[name] = f"{path}: line {_line(binding)}: {name} {why}"
    return notes


def _line(binding: Binding) -> int:
    """The line itself: what belongs to a binding can begin with empty lines before it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _change(binding: Binding, value: str | None) -> str | None:
    read = binding.value or ""
    if value != read:
        names = ", ".join(f"${{{name}}}" for name in _REFERENCE.findall(read))
        return (
            f"holds {names or '${…}'}, which is replaced by the value of that variable, or by "
            "nothing where it is not set"
        )
    written = binding.original.string.partition("=")[2].strip()
    if written[:1] == '"' and _ESCAPE.search(written):
        return "has a backslash that is read as an escape; put the value in single quotes"
    return None
