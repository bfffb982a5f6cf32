"""Whole sentences packed into chunks.

The result is that of llama-index's `SentenceSplitter`, with exact offsets. Sentences are found by NLTK's Punkt
tokenizer (Kiss & Strunk, "Unsupervised multilingual sentence boundary detection", 2006), as that splitter does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Literal

from pydantic import Field

from ...core.components import Resources
from ...core.types import Chunk, Document
from ._spans import SizedSettings, Span, as_chunks, token_counter

__all__ = ["SentenceChunker", "SentenceSettings"]

# llama-index's CHUNKING_REGEX: phrases, for sentences that are too long.
_PHRASE = re.compile(r"[^,.;。？！]+[,.;。？！]?|[,.;。？！]")


class SentenceSettings(SizedSettings):
    """Whole sentences, as many as fit into `size` tokens; sentences that are too long are cut at commas, then words."""

    cost: ClassVar[str] = "about 10 ms a document, 1.5 s once to load"
    kind: Literal["sentence"] = "sentence"
    paragraph_separator: str = Field(default="\n\n", min_length=1)
    """What ends a paragraph; no sentence runs across it."""

    def build(self, resources: Resources) -> SentenceChunker:
        """Makes the chunker."""
        return SentenceChunker(self)


class SentenceChunker:
    """Cuts a document between sentences."""

    def __init__(self, settings: SentenceSettings) -> None:
        """Loads the tokenizers."""
        from nltk.tokenize.punkt import PunktSentenceTokenizer

        self._settings = settings
        self._count = token_counter(settings.tokenizer).count
        self._sentences = PunktSentenceTokenizer()

    def chunk(self, document: Document) -> list[Chunk]:
        """Chunks in order; a single character of more tokens than `size` (as `cl100k` has) is a chunk of its own."""
        text = document.text
        pieces: list[tuple[Span, int, bool]] = []
        if text.strip():
            self._split(text, (0, len(text)), pieces)
        return as_chunks(document, _merge(pieces, self._settings.size, self._settings.overlap))

    def _split(self, text: str, span: Span, out: list[tuple[Span, int, bool]]) -> None:
        """Adds pieces with their length, and whether they are whole sentences."""
        length = self._count(text[span[0] : span[1]])
        if length <= self._settings.size:
            out.append((span, length, True))
            return
        pieces, whole = self._finer(text, span)
        for piece in pieces:
            length = self._count(text[piece[0] : piece[1]])
            if length <= self._settings.size or len(pieces) == 1:
                out.append((piece, length, whole))
            else:
                self._split(text, piece, out)

    def _finer(self, text: str, span: Span) -> tuple[list[Span], bool]:
        """The first way of splitting that gives more than one piece."""
        inside = text[span[0] : span[1]]
        ways: list[tuple[Callable[[str], list[int]], bool]] = [
            (lambda part: _occurrences(part, self._settings.paragraph_separator), True),
            (lambda part: [start for start, _ in self._sentences.span_tokenize(part)], True),
            (lambda part: [match.start() for match in _PHRASE.finditer(part)], False),
            (lambda part: _occurrences(part, " "), False),
            (lambda part: list(range(len(part))), False),
        ]
        for starts_of, whole in ways:
            cuts = sorted({0, *starts_of(inside), len(inside)})
            if len(cuts) > 2:
                return [(span[0] + a, span[0] + b) for a, b in zip(cuts, cuts[1:], strict=False)], whole
        return [span], False


def _occurrences(text: str, separator: str) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(separator), text)]


def _merge(pieces: list[tuple[Span, int, bool]], size: int, overlap: int) -> list[Span]:
    """Packs pieces as `SentenceSplitter._merge` does: an overlap gives way to a piece that needs the room."""
    merged: list[Span] = []
    first = total = position = 0
    fresh = True
    while position < len(pieces):
        length = pieces[position][1]
        if total + length > size and not fresh:
            merged.append((pieces[first][0][0], pieces[position - 1][0][1]))
            earliest, first = first, position
            total, fresh = 0, True
            while first > earliest and total + pieces[first - 1][1] <= overlap:
                first -= 1
                total += pieces[first][1]
            continue
        while fresh and first < position and total + length > size:
            total -= pieces[first][1]
            first += 1
        total, position, fresh = total + length, position + 1, False
    if not fresh:
        merged.append((pieces[first][0][0], pieces[-1][0][1]))
    return merged
