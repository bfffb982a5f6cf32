"""Lines and tables of a PDF page in reading order, with one or two columns.

Columns: the page has two where a vertical strip in its middle is crossed by few lines and both sides are well filled.
Lines across the strip cut the page into bands; in each band the left column comes before the right one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Line", "PageLayout", "TableBlock", "read_page"]

_BOLD = re.compile(r"bold|black|heavy|demi", re.IGNORECASE)
_MONO = re.compile(r"courier|mono|consol|menlo", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text; lengths in points, from the page's top left corner."""

    text: str
    x0: float
    x1: float
    top: float
    bottom: float
    size: float
    bold: bool
    mono: bool


@dataclass(frozen=True, slots=True)
class TableBlock:
    """A ruled table."""

    rows: tuple[tuple[str, ...], ...]
    x0: float
    x1: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class PageLayout:
    """A page's lines and tables in reading order."""

    height: float
    blocks: tuple[Line | TableBlock, ...]


Row = list[dict[str, Any]]


def read_page(page: Any, tables: bool, columns: bool) -> PageLayout:
    """Reads a page.

    Args:
        page: A pdfplumber page.
        tables: Whether ruled tables are kept as tables.
        columns: Whether to look for two columns.
    """
    found = _tables(page) if tables else []
    words = [word for word in _words(page) if not any(_inside(word, table) for table in found)]
    rows = _rows(words)
    gutter = _gutter(rows, page.width) if columns else None
    blocks = _in_order(rows, found, gutter)
    return PageLayout(float(page.height), tuple(blocks))


def _words(page: Any) -> Row:
    places = [(char["text"], round(char["x0"]), round(char["top"])) for char in page.chars]
    if len(set(places)) < 0.9 * len(places):
        page = page.dedupe_chars()  # bold made by drawing the letters twice; slow, so only where it is needed
    words = page.extract_words(
        extra_attrs=["size", "fontname"], x_tolerance_ratio=0.15, y_tolerance=2, keep_blank_chars=False
    )
    words = [word for word in words if word["upright"] and word["text"].strip()]
    for word in words:
        # The place of the bullet in the standard fonts' encodings, which pdfminer does not know.
        word["text"] = word["text"].replace("(cid:127)", "•").replace("(cid:149)", "•")
    return words


def _tables(page: Any) -> list[TableBlock]:
    blocks: list[TableBlock] = []
    for table in page.find_tables():
        cells = [[" ".join((cell or "").split("\n")).strip() for cell in row] for row in table.extract()]
        # Frames round a text, and rules above and below it, are no tables.
        if len(cells) < 2 or max(map(len, cells)) < 2 or sum(bool(cell) for row in cells for cell in row) < 3:
            continue
        x0, top, x1, bottom = table.bbox
        blocks.append(TableBlock(tuple(map(tuple, cells)), x0, x1, top, bottom))
    return blocks


def _inside(word: dict[str, Any], table: TableBlock) -> bool:
    x, y = (word["x0"] + word["x1"]) / 2, (word["top"] + word["bottom"]) / 2
    return table.x0 <= x <= table.x1 and table.top <= y <= table.bottom


def _rows(words: Row) -> list[Row]:
    """Words that stand side by side, from the top down, each row from left to right."""
    rows: list[Row] = []
    middle = 0.0
    for word in sorted(words, key=lambda w: ((w["top"] + w["bottom"]) / 2, w["x0"])):
        at = (word["top"] + word["bottom"]) / 2
        if rows and abs(at - middle) < 0.4 * min(word["size"], rows[-1][0]["size"]):
            rows[-1].append(word)
        else:
            rows.append([word])
            middle = at
    return [sorted(row, key=lambda w: w["x0"]) for row in rows]


def _segments(row: Row) -> list[tuple[float, float, int]]:
    """Start, end and number of words of the stretches of a row without a gap as wide as a gutter."""
    segments: list[tuple[float, float, int]] = []
    for word in row:
        if segments and word["x0"] - segments[-1][1] < max(0.9 * word["size"], 8.0):
            start, end, count = segments[-1]
            segments[-1] = (start, max(end, word["x1"]), count + 1)
        else:
            segments.append((word["x0"], word["x1"], 1))
    return segments


def _gutter(rows: Sequence[Row], width: float) -> float | None:
    """Where the strip between two columns is; None for one column."""
    segments = [_segments(row) for row in rows]
    total = sum(len(row) for row in rows)
    if len(rows) < 6:
        return None
    left_edge = min(row[0]["x0"] for row in rows)
    right_edge = max(word["x1"] for row in rows for word in row)
    best: tuple[int, float, float] | None = None
    for step in range(31):
        x = float(width) * (0.35 + 0.01 * step)
        crossed = sum(any(a < x < b for a, b, _ in row) for row in segments)
        free = [row for row in segments if not any(a < x < b for a, b, _ in row)]
        left = [segment for row in free for segment in row if segment[1] <= x]
        right = [segment for row in free for segment in row if segment[0] >= x]
        if crossed > 0.3 * len(rows) or min(_count(left), _count(right)) < 0.12 * total:
            continue
        # Short pieces side by side are a table without rules, which is read row by row.
        if _fill(left, x - left_edge) < 0.5 or _fill(right, right_edge - x) < 0.5:
            continue
        distance = min(x - max(b for _, b, _ in left), min(a for a, _, _ in right) - x)
        if best is None or (crossed, -distance) < best[:2]:
            best = (crossed, -distance, x)
    return best[2] if best else None


def _count(segments: Sequence[tuple[float, float, int]]) -> int:
    return sum(count for _, _, count in segments)


def _fill(segments: Sequence[tuple[float, float, int]], width: float) -> float:
    return sum(end - start for start, end, _ in segments) / (max(width, 1.0) * len(segments))


def _in_order(rows: Sequence[Row], tables: Sequence[TableBlock], gutter: float | None) -> list[Line | TableBlock]:
    items: list[tuple[float, Row | TableBlock]] = [(min(w["top"] for w in row), row) for row in rows]
    items += [(table.top, table) for table in tables]
    items.sort(key=lambda item: item[0])
    ordered: list[Line | TableBlock] = []
    left: list[Line | TableBlock] = []
    right: list[Line | TableBlock] = []
    for _, item in items:
        if gutter is None:
            ordered.append(item if isinstance(item, TableBlock) else _line(item))
            continue
        spans = [(item.x0, item.x1)] if isinstance(item, TableBlock) else [(a, b) for a, b, _ in _segments(item)]
        if any(start < gutter < end for start, end in spans):
            ordered += [*left, *right, item if isinstance(item, TableBlock) else _line(item)]
            left, right = [], []
        elif isinstance(item, TableBlock):
            (left if item.x1 <= gutter else right).append(item)
        else:
            for side, words in (
                (left, [w for w in item if w["x1"] <= gutter]),
                (right, [w for w in item if w["x1"] > gutter]),
            ):
                if words:
                    side.append(_line(words))
    return ordered + left + right


def _line(words: Row) -> Line:
    parts = [words[0]["text"]]
    for before, word in zip(words, words[1:], strict=False):
        # Words are also cut where the font changes, which is no space.
        parts.append(("" if word["x0"] - before["x1"] < 0.12 * word["size"] else " ") + word["text"])
    sizes: Counter[float] = Counter()
    bold = mono = 0
    for word in words:
        letters = len(word["text"])
        sizes[round(word["size"] * 2) / 2] += letters
        bold += letters if _BOLD.search(word["fontname"]) else 0
        mono += letters if _MONO.search(word["fontname"]) else 0
    total = sum(sizes.values())
    return Line(
        "".join(parts),
        min(word["x0"] for word in words),
        max(word["x1"] for word in words),
        min(word["top"] for word in words),
        max(word["bottom"] for word in words),
        sizes.most_common(1)[0][0],
        bold > 0.95 * total,
        mono > 0.95 * total,
    )
