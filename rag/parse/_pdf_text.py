"""Headings, paragraphs, lists and tables from the lines of a PDF."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from ._base import TextBuilder, markdown_table, squeeze
from ._pdf_layout import Line, PageLayout, TableBlock

__all__ = ["write_pages"]

_BULLET = re.compile(r"[•‣◦▪●○■–*·-]\s+(?=\S)")
_NUMBER = re.compile(r"(?:\d{1,2}|[a-z])[.)]\s+(?=\S)")
_PAGE_NUMBER = re.compile(r"(?:page|p\.|seite|pagina)?\s*\d+(?:\s*(?:of|/|von|van|-)\s*\d+)?", re.IGNORECASE)
_MARGIN = 0.12  # of the page's height, where running headers and footers are looked for
_INDENT = 7  # points by which the levels of a list differ at least; numbers of two digits hang out by less
_EDGE = 0.08  # where small print that does not repeat, and bare page numbers, count as such too


def write_pages(builder: TextBuilder, pages: Sequence[PageLayout], running_headers: bool) -> None:
    """Writes the pages' text to a builder.

    Args:
        builder: Takes the blocks.
        pages: Lines and tables in reading order.
        running_headers: Keeps what repeats at the top and bottom of pages.
    """
    body = _body_size(pages)
    if not running_headers:
        pages = _without_running(pages, body)
    levels = _heading_levels(pages, body)
    writer = _Writer(builder, _hyphen_rule(pages), body, levels, _leading(pages))
    for page in pages:
        writer.page(page)
    writer.flush()


def _lines(pages: Sequence[PageLayout]) -> Iterator[Line]:
    for page in pages:
        yield from (block for block in page.blocks if isinstance(block, Line))


def _body_size(pages: Sequence[PageLayout]) -> float:
    """The size of most letters; small print at the edges counts only where there is nothing else."""
    inner: Counter[float] = Counter()
    edge: Counter[float] = Counter()
    for page in pages:
        for line in _lines([page]):
            at_edge = line.bottom < _EDGE * page.height or line.top > (1 - _EDGE) * page.height
            (edge if at_edge else inner)[line.size] += len(line.text)
    sizes = inner or edge
    return sizes.most_common(1)[0][0] if sizes else 10.0


def _leading(pages: Sequence[PageLayout]) -> float:
    """Usual distance between the tops of two lines of a paragraph, in line heights."""
    steps = []
    for page in pages:
        for above, line in zip(page.blocks, page.blocks[1:], strict=False):
            if isinstance(above, Line) and isinstance(line, Line) and above.size == line.size and line.top > above.top:
                steps.append((line.top - above.top) / line.size)
    close = [step for step in steps if step < 2]
    return median(close) if close else 1.2


def _heading_levels(pages: Sequence[PageLayout], body: float) -> dict[float, int]:
    """Level of each font size that is larger than the body's, the largest first."""
    larger = sorted({line.size for line in _lines(pages) if line.size > body * 1.08}, reverse=True)
    return {size: min(level, 5) for level, size in enumerate(larger, 1)}


def _without_running(pages: Sequence[PageLayout], body: float) -> list[PageLayout]:
    def key(page: PageLayout, line: Line) -> tuple[str, int] | None:
        at_edge = line.bottom < _MARGIN * page.height or line.top > (1 - _MARGIN) * page.height
        # Numbers differ from page to page; the place does not.
        return (re.sub(r"\d+", "#", line.text), round(line.top / 4)) if at_edge else None

    counts = Counter(key(page, line) for page in pages for line in _lines([page]))
    often = max(2.0, 0.4 * len(pages))

    def is_running(page: PageLayout, block: Line | TableBlock) -> bool:
        if not isinstance(block, Line):
            return False
        place = key(page, block)
        if place is not None and counts[place] >= often:
            return True
        outermost = block.bottom < _EDGE * page.height or block.top > (1 - _EDGE) * page.height
        return outermost and (block.size < 0.95 * body or _PAGE_NUMBER.fullmatch(block.text) is not None)

    return [
        PageLayout(page.height, tuple(block for block in page.blocks if not is_running(page, block))) for page in pages
    ]


def _hyphen_rule(pages: Sequence[PageLayout]) -> Callable[[str, str], str]:
    """How two lines are joined: a hyphen goes, unless the document writes that word with it elsewhere."""
    words: set[str] = set()
    texts = [line.text for line in _lines(pages)]
    tables = [block for page in pages for block in page.blocks if isinstance(block, TableBlock)]
    texts += [cell for table in tables for row in table.rows for cell in row]
    for text in texts:
        words.update(word.lower() for word in re.findall(r"\w+(?:-\w+)+|\w{4,}", text.rstrip("-")))

    def join(above: str, below: str) -> str:
        if above.endswith("\u00ad"):
            return above[:-1] + below
        start = re.search(r"(\w+)-$", above)
        end = re.match(r"\w+", below)
        if not start or not end or not start.group(1)[-1].isalpha() or not end.group()[0].islower():
            # A code such as WF-20- / 118 keeps its hyphen, without a space.
            return above + below if re.search(r"\w-$", above) and below[:1].isalnum() else f"{above} {below}"
        kept = f"{start.group(1)}-{end.group()}".lower()
        mended = kept.replace("-", "")
        return above + below if kept in words and mended not in words else above[:-1] + below

    return join


class _Writer:
    """Takes lines one by one and closes a block where the next line does not belong to it."""

    def __init__(
        self,
        builder: TextBuilder,
        join: Callable[[str, str], str],
        body: float,
        levels: dict[float, int],
        leading: float,
    ) -> None:
        self._builder = builder
        self._join = join
        self._body = body
        self._levels = levels
        self._leading = leading
        self._above: Line | None = None
        self._text = ""
        self._level = 0  # of the heading in hand, 0 for text
        self._items: list[str] = []  # of the list in hand
        self._indents: list[float] = []
        self._code: list[str] = []
        self._rows: list[tuple[str, ...]] = []  # of the table in hand, which may go on on the next page
        self._flushes = 0
        self._late_pages = 0  # pages to start after the block in hand

    def page(self, page: PageLayout) -> None:
        in_hand = bool(self._text or self._items or self._rows or self._code)
        before = self._flushes
        for position, block in enumerate(page.blocks):
            if isinstance(block, TableBlock):
                self._table(block, continues=position == 0)
            else:
                self._line(block)
            if position == 0:
                self._start_page(runs_over=in_hand and self._flushes == before)
        if not page.blocks:
            self._start_page(runs_over=in_hand)

    def _start_page(self, runs_over: bool) -> None:
        if runs_over:  # the block that began on the page before is not written yet
            self._late_pages += 1
        else:
            self._builder.page()

    def flush(self) -> None:
        """Writes what is in hand."""
        self._flushes += 1
        if self._rows:
            self._builder.block(markdown_table(self._rows))
        if self._code:
            self._builder.block("\n".join(["```", *self._code, "```"]))
        self._close_text()
        if self._items:
            self._builder.block("\n".join(self._items))
        self._rows, self._code, self._items, self._indents = [], [], [], []
        self._above = None
        for _ in range(self._late_pages):
            self._builder.page()
        self._late_pages = 0

    def _close_text(self) -> None:
        if not self._text:
            return
        if self._level:
            self._builder.heading(self._level, self._text)
        elif self._indents:
            self._items.append(self._text)
        else:
            self._builder.block(self._text)
        self._text, self._level = "", 0

    def _table(self, table: TableBlock, continues: bool) -> None:
        rows = list(table.rows)
        same = bool(self._rows) and len(self._rows[0]) == len(rows[0])
        if continues and same:
            # A header that is repeated on the next page stands once.
            self._rows += rows[1:] if rows[0] == self._rows[0] else rows
            return
        self.flush()
        self._rows = rows

    def _line(self, line: Line) -> None:
        above = self._above
        level = self._levels.get(line.size, 0)
        if line.mono and not level:
            if not self._code:
                self.flush()
            self._code.append(line.text)
            return
        if not level and line.bold and line.size >= 0.95 * self._body and self._stands_alone(line):
            level = max(self._levels.values(), default=0) + 1
        if self._code or self._rows:
            self.flush()
            above = None
        mark = None if level else self._mark(line)
        goes_on = above is not None and mark is None and level == self._level and self._goes_on(above, line)
        if goes_on:
            self._text = self._join(self._text, line.text)
        elif mark is not None:
            if self._text and not self._indents:
                self.flush()
            self._close_text()
            self._text = self._item(line, mark)
        else:
            self.flush()
            self._text, self._level = squeeze(line.text), level
        self._above = line

    def _stands_alone(self, line: Line) -> bool:
        """Whether a bold line may be a heading: short, not a sentence, and apart from the line above."""
        if len(line.text) > 90 or line.text.endswith((".", ",", ";", ":")) or self._mark(line):
            return False
        above = self._above
        return above is None or line.top < above.top or (line.top - above.top) > 1.25 * self._leading * line.size

    def _mark(self, line: Line) -> str | None:
        """The mark of a list item: `-` or its number."""
        if match := _BULLET.match(line.text):
            return "-" if line.text[0] not in "-–*·" or self._sentence_ended() else None
        match = _NUMBER.match(line.text)
        return match.group().strip() if match and self._sentence_ended() else None

    def _sentence_ended(self) -> bool:
        """Whether a dash or number that begins a line can be a list's mark, and not the middle of a sentence."""
        if self._above is None or self._indents or self._level:
            return True
        return self._text.endswith((".", ":", ";", "!", "?"))

    def _goes_on(self, above: Line, line: Line) -> bool:
        if abs(above.size - line.size) > 0.5 or (self._level and above.bold != line.bold):
            return False
        step = line.top - above.top
        if step <= 0 or step > 4 * self._leading * line.size:  # next column or page
            return not self._level and not self._text.rstrip().endswith((".", "!", "?", ":"))
        if self._indents and line.x0 <= self._indents[-1] + 2:
            return False
        return step <= 1.25 * self._leading * line.size

    def _item(self, line: Line, mark: str) -> str:
        moved = bool(self._indents) and self._above is not None and line.top < self._above.top
        if moved and all(abs(line.x0 - indent) > _INDENT for indent in self._indents):
            # A list that goes on in the next column stands further right.
            shift = line.x0 - self._indents[-1]
            self._indents = [indent + shift for indent in self._indents]
        while self._indents and line.x0 < self._indents[-1] - _INDENT:
            self._indents.pop()
        if not self._indents or line.x0 > self._indents[-1] + _INDENT:
            self._indents.append(line.x0)
        text = squeeze((_BULLET.match(line.text) or _NUMBER.match(line.text)).re.sub("", line.text, count=1))  # type: ignore[union-attr]
        return f"{'  ' * (len(self._indents) - 1)}{mark} {text}"
