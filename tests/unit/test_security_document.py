"""SECURITY.md promises nothing that no test shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from support import CHECKOUT

DOCUMENT = Path(CHECKOUT, "SECURITY.md").read_text(encoding="utf-8")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def promises() -> list[str]:
    """The rows of the table, but its head."""
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("|")]
    return rows[2:]


def test_every_promise_names_a_test() -> None:
    """One at least, with whom it protects against."""
    assert len(promises()) > 10
    for row in promises():
        _, promise, against, tests, _ = row.split("|")
        assert promise.strip()
        assert against.strip()
        assert _TEST.search(tests), promise


def test_every_test_that_is_named_exists() -> None:
    """By its path and its name."""
    for path, name in _TEST.findall(DOCUMENT):
        module = ast.parse(Path(CHECKOUT, path).read_text(encoding="utf-8"))
        functions = {each.name for each in module.body if isinstance(each, ast.FunctionDef)}
        assert name in functions, f"{path}::{name}"
    assert DOCUMENT.count("::") == len(_TEST.findall(DOCUMENT))
