"""Tables and paragraphs for a terminal: every command's look the same, and no line is too long."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_WIDEST = 100  # columns of a paragraph
_NARROWEST = 8  # columns of a cell that says anything still


def table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    colours: Mapping[int, Mapping[str, str]] | None = None,
    shrinking: Sequence[int] = (),
) -> Iterator[str]:
    """Lines of a table with a dim head; cut at the terminal's edge, where there is a terminal.

    `colours`: by column, the colour of each text that has one. `shrinking`: the columns that give
    up room before anything else is cut.
    """
    cells = [tuple(titles), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    columns = terminal()[0] if sys.stdout.isatty() else sys.maxsize
    while shrinking and sum(widths) + 2 * len(widths) > columns:
        widest = max(shrinking, key=lambda column: widths[column])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    for number, whole in enumerate(cells):
        row = [cut(text, width) for text, width in zip(whole, widths, strict=True)]
        line = "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True))
        line = cut(line.rstrip(), columns)
        if not number:
            yield click.style(line, dim=True)
            continue
        for column, of_texts in sorted((colours or {}).items(), reverse=True):
            begin = sum(widths[:column]) + 2 * column
            end = begin + widths[column]
            if (colour := of_texts.get(row[column])) and line[begin:end]:
                line = line[:begin] + click.style(line[begin:end], fg=colour) + line[end:]
        yield line


def cut(text: str, columns: int) -> str:
    """A text that fits into these columns."""
    return text if len(text) <= columns else text[: max(columns - 1, 0)] + "…"


def wrapped(text: str, *, err: bool = False, hang: int = 0) -> str:
    """A line as a paragraph of the terminal's width, if it goes to one; words stay whole.

    `hang`: columns before its other lines; by default as the first has, or two.
    """
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        return text
    import textwrap  # people only

    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.fill(
        text.lstrip(),
        min(terminal()[0], _WIDEST),
        initial_indent=indent,
        subsequent_indent=" " * hang or indent or "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def marked(word: str, colour: str, text: str, *, hang: int = 0) -> str:
    """The paragraph of a coloured word, with the blanks around it, and what it is about."""
    paragraph = wrapped(f"{word}{text}", hang=hang)
    return click.style(word, fg=colour) + paragraph[len(word) :]


def terminal() -> tuple[int, int]:
    """Columns and lines of the terminal, of whichever stream is one."""
    for stream in (sys.stdout, sys.stderr):
        try:
            size = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            continue
        return size.columns or 80, size.lines or 24
    return 80, 24
