"""Command lines as documents and help texts show them, and the program's own reading of them."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click

from credentials_provider.cli import _with_default_command, group
from credentials_provider.cli.helping import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = "generate_creds.sh"
SHIMS = ("generate_tokens.py", "get_m2m_token.py")
_ENDS = frozenset((";", "&&", "||", "|", "(", ")", ">", ">>", "<", "<<", "&"))
_PREFIX = re.compile(
    r"uv|uvx|run|sudo|exec|[A-Z_]+=\S*|[-*/0-9,]+|ExecStart="
)  # a cron line's times, too


def lines(text: str) -> Iterator[str]:
    """The command lines of a shell text: continued ones whole, comments apart."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def calls(line: str) -> Iterator[list[str]]:
    """The words behind the program's name, for each call in a line, as the console script has them.

    What the two shell scripts and the shim make of their words is done.
    """
    for inner in re.findall(r"\$\((.*?)\)", line):  # as in eval "$(…)"
        yield from calls(inner)
    lexer = shlex.shlex(
        re.sub(r"\$\(.*?\)", "INNER", line), posix=True, punctuation_chars="();<>|&"
    )
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if token not in _ENDS:
            words.append(token)
            continue
        while words and _PREFIX.fullmatch(words[0]):
            words.pop(0)
        if words:
            yield from _meant(words[0].rpartition("/")[2].rpartition("=")[2], words[1:])
        words = []


def _meant(name: str, words: list[str]) -> Iterator[list[str]]:
    if name in SHIMS:
        yield ["generate", *words]
    elif name == PROGRAM:
        yield words
    elif name == SCRIPT:
        yield _with_default_command(words)


def parse(words: list[str]) -> click.Context:
    """The context of the command that these words name, its parameters read and checked.

    Raises:
        click.UsageError: there is no such command or option, or a value is wrong.

    """
    ctx = group.make_context(PROGRAM, list(words), obj="")
    while isinstance(ctx.command, click.Group) and (rest := [*ctx._protected_args, *ctx.args]):
        name, command, rest = ctx.command.resolve_command(ctx, rest)
        assert command is not None
        ctx = command.make_context(name, rest, parent=ctx)
        ctx.close()
    return ctx
