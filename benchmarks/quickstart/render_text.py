"""Renders a source as plain text: capitals for headings, tables in columns, paragraphs wrapped."""

from __future__ import annotations

import textwrap

from source import Bullets, Code, Heading, Paragraph, Source, Table, plain

_WIDTH = 78


def render(source: Source) -> bytes:
    """The text file."""
    parts = []
    for block in source.blocks:
        if isinstance(block, Heading) and block.level == 1:
            title = plain(block.inline).upper()
            parts.append(f"{title}\n{'=' * len(title)}")
            parts.append(f"{source.code}, version {source.version}, {source.date}")
        elif isinstance(block, Heading):
            parts.append(plain(block.inline).upper())
        elif isinstance(block, Paragraph):
            parts.append(_wrap(plain(block.inline)))
        elif isinstance(block, Code):
            parts.append(textwrap.indent(block.text, "    "))
        elif isinstance(block, Bullets):
            parts.append("\n".join(_list(block, 0)))
        elif isinstance(block, Table):
            parts.append(_table(block))
    return ("\n\n".join(parts) + "\n").encode()


def _wrap(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _list(block: Bullets, depth: int) -> list[str]:
    lines = []
    for number, item in enumerate(block.items, 1):
        mark = "   " * depth + (f"{number}. " if block.ordered else "- ")
        lines.append(_wrap(plain(item.inline), mark, " " * len(mark)))
        lines += [line for below in item.below for line in _list(below, depth + 1)]
    return lines


def _table(block: Table) -> str:
    rows = [[plain(cell) for cell in row] for row in block.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "   ".join("-" * width for width in widths), *lines[1:]])
