"""Splits at the coarsest separator that there is, then at finer ones where a piece is too long.

The result is that of LangChain's `RecursiveCharacterTextSplitter` with its defaults, with exact offsets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from ...core.components import Resources
from ...core.types import Chunk, Document
from ._spans import SizedSettings, Span, as_chunks, merge_spans, token_counter

__all__ = ["RecursiveChunker", "RecursiveSettings", "split_recursively"]


class RecursiveSettings(SizedSettings):
    """Paragraphs, else lines, else words, packed into chunks of at most `size`: a good general default."""

    cost: ClassVar[str] = "milliseconds a document"
    kind: Literal["recursive"] = "recursive"
    separators: tuple[str, ...] = Field(default=("\n\n", "\n", " ", ""), min_length=1)
    """Where to split, coarsest first; the empty string, between any two characters, can only be the last."""
    unit: Literal["tokens", "characters"] = "tokens"
    """What `size` and `overlap` count."""

    @field_validator("separators")
    @classmethod
    def _empty_only_last(cls, separators: tuple[str, ...]) -> tuple[str, ...]:
        if "" in separators[:-1]:
            raise ValueError("the empty separator must be the last, since nothing is split further after it")
        return separators

    def build(self, resources: Resources) -> RecursiveChunker:
        """Makes the chunker."""
        return RecursiveChunker(self)


class RecursiveChunker:
    """Cuts a document at paragraphs, lines and words."""

    def __init__(self, settings: RecursiveSettings) -> None:
        """Loads the tokenizer."""
        self._settings = settings
        self._length: Callable[[str], int] = (
            len if settings.unit == "characters" else token_counter(settings.tokenizer).count
        )

    def chunk(self, document: Document) -> list[Chunk]:
        """Chunks in order; a piece that no separator splits may be longer than `size`."""
        settings = self._settings
        whole = (0, len(document.text))
        spans = split_recursively(
            document.text, whole, settings.separators, settings.size, settings.overlap, self._length
        )
        return as_chunks(document, spans)


def split_recursively(
    text: str, span: Span, separators: Sequence[str], size: int, overlap: int, length: Callable[[str], int]
) -> list[Span]:
    """Splits a stretch of a text.

    Args:
        text: The whole text.
        span: The stretch to split.
        separators: Where to split, coarsest first.
        size: Most that `length` may give for a chunk.
        overlap: Most that is repeated from the chunk before.
        length: Measures a piece of text.

    Returns:
        Spans in order that together hold every visible character of the stretch.
    """
    inside = text[span[0] : span[1]]
    # With none of the separators there, the last one stands in and splits nothing.
    at = next((n for n, separator in enumerate(separators) if separator in inside), len(separators) - 1)
    finer = separators[at + 1 :] if separators[at] in inside else ()
    result: list[Span] = []
    waiting: list[Span] = []
    lengths: list[int] = []
    for piece in _split_at(inside, separators[at], span[0]):
        measure = length(text[piece[0] : piece[1]])
        if measure < size:
            waiting.append(piece)
            lengths.append(measure)
            continue
        result += merge_spans(waiting, lengths, size, overlap)
        waiting, lengths = [], []
        result += split_recursively(text, piece, finer, size, overlap, length) if finer else [piece]
    return result + merge_spans(waiting, lengths, size, overlap)


def _split_at(inside: str, separator: str, offset: int) -> list[Span]:
    """Pieces that begin with the separator, as offsets in the whole text."""
    if not separator:
        return [(offset + n, offset + n + 1) for n in range(len(inside))]
    cuts = [0, *(match.start() for match in re.finditer(re.escape(separator), inside)), len(inside)]
    return [(offset + a, offset + b) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]
