"""What people read is plain English: words that most readers must look up twice stay out.

The list has what to write instead. It is checked in the documents, in the help of every command,
and in the messages, docstrings and comments of the program.
"""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from credentials_provider.cli import group
from credentials_provider.cli.helping import PROGRAM
from support import CHECKOUT, PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = {
    r"(dies|died|dying)": "expires, ends, fails",
    r"(is|are|was|were|be|being) dead": "expired, ended",
    r"dead (token|run|process)": "expired, ended",
    r"(lives|lived) (about|for|less|longer|another|[0-9{])": "is valid for",
    r"(that|which|token|still|it) lives": "is valid",
    r"(still|that|token|it|which|disk|file) serves": "is valid, can be used",
    r"mends?|mended": "repair, correct",
    r"(is|are|was|were|be|being) told": "is shown, is reported",
    r"to be had": "available",
    r"go(es|ne)? astray": "is in the wrong place",
    r"so many": "this many, at most",
    r"as without": "the default",
    r"of what is": "say it with a subject",
    r"(?<!there )(?<!There )(is|are|was) no (?!longer\b)": "is not a",
    r"none such": "none of these",
    r"ever more": "more and more",
    r"needs? must|must needs": "must",
    r"nobody there": "not found",
    r"a look at": "look at, check",
    r"what there is": "say it with a subject",
    r"makes do": "uses",
    r"for good": "for ever, permanently",
    r"by turns": "in turn",
    r"beforehand": "before",
}
_FOUND = {re.compile(rf"\b(?:{word})\b", re.IGNORECASE): cure for word, cure in WORDS.items()}

DOCUMENTS = [
    os.path.join(folder, name)
    for folder in ("", "docs", "tests")
    for name in os.listdir(os.path.join(CHECKOUT, folder))
    if name.endswith(".md")
]


def unplain(text: str) -> list[str]:
    """What is on the list, with what to write instead."""
    return [
        f"{found[0]!r} in …{text[max(0, found.start() - 40) : found.end() + 40]}…: {cure}"
        for pattern, cure in _FOUND.items()
        for found in pattern.finditer(re.sub(r"\s+", " ", text))
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_is_plain(document: str) -> None:
    """Blocks of code aside."""
    with open(os.path.join(CHECKOUT, document), encoding="utf-8") as file:
        text = re.sub(r"^ *```.*?^ *```$", "", file.read(), flags=re.MULTILINE | re.DOTALL)
    assert unplain(text) == []


def helps(ctx: click.Context) -> Iterator[str]:
    yield ctx.get_help()
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, name)
            assert command is not None
            yield from helps(click.Context(command, info_name=name, parent=ctx))


def test_help_is_plain() -> None:
    """Of every command."""
    for text in helps(click.Context(group, info_name=PROGRAM)):
        assert unplain(text) == [], text.splitlines()[0]


def read_by_people(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings, messages and comments of a module, by line."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    block: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            block.append(token.string.lstrip("# "))
        elif token.type != tokenize.NL and block:
            yield token.start[0], " ".join(block)
            block = []


MODULES = sorted((Path(PACKAGES) / "credentials_provider").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGES)))
def test_a_module_is_plain(path: Path) -> None:
    """Its messages, docstrings and comments."""
    found = [f"{line}: {each}" for line, text in read_by_people(path) for each in unplain(text)]
    assert found == []
