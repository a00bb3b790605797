"""What a `.env` file means: python-dotenv decides.

The registry reads its `.env` with the same library, so its rules count. They are not those of a
shell or of Docker: a user whose secret is refused must see that it was changed.
"""

from __future__ import annotations

import io
import logging
import re
from typing import TYPE_CHECKING

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from credentials_provider.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dotenv.parser import Binding

_REFERENCE = re.compile(r"\$\{([^}:]*)(?::-[^}]*)?\}")
_ESCAPE = re.compile(r"\\[abfnrtv]")  # within double quotes


def parsed(path: str, text: str) -> tuple[dict[str, str], tuple[str, ...], dict[str, str]]:
    """The values of a file, warnings, and a note for each variable that is not read as written.

    A note has file, line and name, never the value.
    """
    logging.getLogger("dotenv").addHandler(logging.NullHandler())
    values, bindings = _values(text), list(parse_stream(io.StringIO(text)))
    bad = ", ".join(str(each.original.line) for each in bindings if each.error)
    warnings = (f"{path}: line {bad} is ignored: write NAME=value",) if bad else ()
    last = {each.key: each for each in bindings if each.key}
    notes = {
        name: f"{path}: line {_line(binding)}: {name} {change}"
        for name, binding in last.items()
        if (change := _change(binding, values.get(name)))
    }
    return {name: value for name, value in values.items() if value is not None}, warnings, notes


def _values(text: str) -> dict[str, str | None]:
    return dotenv_values(stream=io.StringIO(text))


def _line(binding: Binding) -> int:
    """The line itself: what belongs to a binding can begin with empty lines before it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _change(binding: Binding, value: str | None) -> str | None:
    read = binding.value or ""
    if value is not None and value != read:
        names = ", ".join(f"${{{name}}}" for name in _REFERENCE.findall(read))
        return (
            f"holds {names or '${…}'}, which is replaced by the value of that variable, or by "
            "nothing where it is not set"
        )
    written = binding.original.string.partition("=")[2].strip()
    if written[:1] == '"' and _ESCAPE.search(written):
        return "has a backslash that is read as an escape; put the value in single quotes"
    return None


def dotenv_with(text: str, values: Mapping[str, str]) -> str:
    """The text of a `.env` with more variables at its end.

    Raises:
        ConfigurationError: one of them is there with another value, or could not be read back.

    """
    present = _values(text)
    new = text if not text or text.endswith("\n") else f"{text}\n"
    for name, value in values.items():
        if present.get(name) not in {None, "", value}:
            raise ConfigurationError(
                f"{name} is in the .env file already, with another value",
                hint="Remove it there, or move the secrets into files: leave out --to env.",
            )
        if present.get(name) != value:
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            new += f"{name}='{quoted}'\n"
    read = _values(new)
    if bad := [name for name, value in values.items() if read.get(name) != value]:
        raise ConfigurationError(
            f"the .env file cannot hold the characters of {' or '.join(bad)}",
            hint="Move the secrets into files: leave out --to env.",
        )
    return new
