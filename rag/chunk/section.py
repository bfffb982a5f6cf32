"""Sections of a document: no chunk holds text from under two headings."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field

from ...core.components import Resources
from ...core.types import Chunk, Document
from ._spans import SizedSettings, Span, as_chunks, merge_spans, token_counter
from .recursive import split_recursively

__all__ = ["SectionChunker", "SectionSettings"]

_BLANK = re.compile(r"\n[ \t]*\n\s*")
_TABLE_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*\n?")
_SEPARATORS = ("\n", ". ", " ", "")


class SectionSettings(SizedSettings):
    """A chunk for each section; long ones are split at paragraphs, list items and table rows."""

    cost: ClassVar[str] = "milliseconds a document"
    kind: Literal["section"] = "section"
    overlap: int = Field(default=0, ge=0)
    """Tokens that a chunk repeats from the one before, inside a section. Costs embedding time and index size."""
    table_header: bool = True
    """Adds a table's header row to the heading of chunks that begin further down in that table; with the context
    `heading` it is embedded, at the cost of a few tokens."""

    def build(self, resources: Resources) -> SectionChunker:
        """Makes the chunker."""
        return SectionChunker(self)


class SectionChunker:
    """Cuts a document at its headings."""

    def __init__(self, settings: SectionSettings) -> None:
        """Loads the tokenizer."""
        self._settings = settings
        self._count = token_counter(settings.tokenizer).count

    def chunk(self, document: Document) -> list[Chunk]:
        """Chunks in order. A heading with no text of its own goes with the section below it."""
        settings = self._settings
        headers: dict[int, str] = {}
        spans: list[Span] = []
        for region in _regions(document):
            atoms = self._atoms(document.text, region, headers)
            lengths = [self._count(document.text[a:b]) for a, b in atoms]
            spans += merge_spans(atoms, lengths, settings.size, settings.overlap)

        def heading(offset: int) -> tuple[str, ...]:
            path = document.heading_path(offset)
            return (*path, headers[offset]) if settings.table_header and offset in headers else path

        return as_chunks(document, spans, heading)

    def _atoms(self, text: str, region: Span, headers: dict[int, str]) -> list[Span]:
        """Adjacent pieces of at most `size` tokens where that is possible; notes the header row of table rows."""
        atoms: list[Span] = []
        for block in _blocks(text, region):
            rows = _table_rows(text, block)
            if rows:
                header = text[rows[0][0] : rows[0][1]].strip().split("\n")[0].strip("| \t")
                headers.update((row[0], header) for row in rows[1:])
            if self._count(text[block[0] : block[1]]) <= self._settings.size:
                atoms.append(block)
            elif rows:
                atoms += rows
            else:
                atoms += split_recursively(text, block, _SEPARATORS, self._settings.size, 0, self._count)
        return atoms


def _regions(document: Document) -> list[Span]:
    """Stretches between headings, a bare heading joined to what follows."""
    text = document.text
    cuts = sorted({0, *(section.start for section in document.sections), len(text)})
    headings = {section.start for section in document.sections}
    regions: list[Span] = []
    begin = None
    for start, end in zip(cuts, cuts[1:], strict=False):
        begin = start if begin is None else begin
        lines = text[start:end].strip().split("\n")
        if start in headings and len(lines) == 1 and end < len(text):
            continue
        regions.append((begin, end))
        begin = None
    return regions


def _blocks(text: str, region: Span) -> list[Span]:
    """Paragraphs, lists and tables of a stretch, each with the blank lines below it."""
    inside = text[region[0] : region[1]]
    cuts = sorted({0, *(match.end() for match in _BLANK.finditer(inside)), len(inside)})
    return [(region[0] + a, region[0] + b) for a, b in zip(cuts, cuts[1:], strict=False)]


def _table_rows(text: str, block: Span) -> list[Span]:
    """Rows of a Markdown table, the first with its header and rule; empty where the block is no table."""
    lines = text[block[0] : block[1]].splitlines(keepends=True)
    if len(lines) < 3 or "|" not in lines[0] or not _TABLE_RULE.fullmatch(lines[1]) or "|" not in lines[1]:
        return []
    ends = [block[0]]
    for line in lines:
        ends.append(ends[-1] + len(line))
    return list(zip([ends[0], *ends[3:-1]], ends[3:], strict=True))
