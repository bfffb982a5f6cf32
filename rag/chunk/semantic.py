"""Cuts where the meaning jumps: between sentences whose neighbourhoods are least alike.

The breaks are those of llama-index's `SemanticSplitterNodeParser` (after Greg Kamradt's "5 levels of text splitting"),
with exact offsets and a limit on the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.components import Resources
from ...core.types import Chunk, Document
from ._meaning import MeaningSettings, PieceVectors
from ._sentences import SentenceFinder
from ._spans import Span, as_chunks, merge_spans, token_counter

__all__ = ["SemanticChunker", "SemanticSettings"]


class SemanticSettings(MeaningSettings):
    """Whole sentences, cut where neighbouring ones are least alike; sizes vary with the text."""

    cost: ClassVar[str] = "encodes every sentence with its neighbours: three times the corpus at buffer_size 1"
    kind: Literal["semantic"] = "semantic"
    buffer_size: int = Field(default=1, ge=0, le=10)
    """Sentences on each side that are compared together with a sentence: more is steadier, coarser and dearer."""
    breakpoint_percentile_threshold: float = Field(default=95, ge=0, le=100)
    """A document is cut where the distance is above this percentile of its distances: lower gives more chunks."""
    size: int = Field(default=512, ge=8)
    """Most tokens in a chunk; longer ones are split between sentences. (llama-index has no limit.)"""

    def build(self, resources: Resources) -> SemanticChunker:
        """Makes the chunker.

        Raises:
            DataError: There is no such model.
        """
        return SemanticChunker(self, PieceVectors(self, resources))


class SemanticChunker:
    """Cuts a document at jumps of meaning."""

    def __init__(self, settings: SemanticSettings, vectors: PieceVectors) -> None:
        """Loads the tokenizers.

        Args:
            settings: Where to cut.
            vectors: Encodes pieces of text.
        """
        self._settings = settings
        self._vectors = vectors
        self._count = token_counter(settings.tokenizer).count
        self._finder = SentenceFinder(self._count, settings.size)

    def prepare(self, documents: Sequence[Document]) -> None:
        """Encodes all that the documents need at once, which is faster than a document at a time."""
        self._vectors.prepare([g for d in documents for g in self._groups(d.text, self._finder.spans(d.text))])

    def chunk(self, document: Document) -> list[Chunk]:
        """Chunks in order."""
        text = document.text
        sentences = self._finder.spans(text)
        cuts = self._cuts(text, sentences)
        spans: list[Span] = []
        for first, last in zip([0, *cuts], [*cuts, len(sentences)], strict=True):
            group = sentences[first:last]
            spans += merge_spans(group, [self._count(text[a:b]) for a, b in group], self._settings.size, 0)
        return as_chunks(document, spans)

    def _groups(self, text: str, sentences: Sequence[Span]) -> list[str]:
        """The text that stands for each sentence: it and its neighbours; none where there is nothing to cut."""
        if len(sentences) < 2:
            return []
        reach = self._settings.buffer_size
        last = len(sentences) - 1
        return [text[sentences[max(0, n - reach)][0] : sentences[min(last, n + reach)][1]] for n in range(last + 1)]

    def _cuts(self, text: str, sentences: Sequence[Span]) -> list[int]:
        """Positions of the sentences that begin a chunk, the first left out."""
        groups = self._groups(text, sentences)
        if not groups:
            return []
        vectors = self._vectors.get(groups)
        distances = 1.0 - np.einsum("ij,ij->i", vectors[:-1], vectors[1:])
        limit = np.percentile(distances, self._settings.breakpoint_percentile_threshold)
        return [int(at) + 1 for at in np.flatnonzero(distances > limit)]
