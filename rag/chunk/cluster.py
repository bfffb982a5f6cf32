"""Chroma's cluster-semantic chunker: the cut of a document whose chunks hold the most similarity.

Smith & Troynikov, "Evaluating Chunking Strategies for Retrieval", Chroma technical report, 2024. Pieces of about
`piece_size` tokens are embedded; dynamic programming finds the segmentation with the greatest sum, over its chunks, of
the pieces' pairwise similarities less the document's mean similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ...core.components import Resources
from ...core.types import Chunk, Document
from ._meaning import MeaningSettings, PieceVectors
from ._spans import Span, as_chunks, token_counter
from .recursive import split_recursively

__all__ = ["ClusterSemanticChunker", "ClusterSemanticSettings", "best_segments"]

_SEPARATORS = ("\n\n", "\n", ".", "?", "!", " ", "")


class ClusterSemanticSettings(MeaningSettings):
    """Small pieces joined so that what is alike stands together, the best cut of the whole document being found."""

    cost: ClassVar[str] = "encodes the corpus once in pieces of piece_size; any number of sizes share that"
    kind: Literal["cluster_semantic"] = "cluster_semantic"
    size: int = Field(default=400, ge=2)
    """Most tokens in a chunk: a chunk has at most `size // piece_size` pieces, and mostly fewer."""
    piece_size: int = Field(default=50, ge=1)
    """Most tokens in a piece: smaller ones cut finer, and there are more to encode."""

    @model_validator(mode="after")
    def _pieces_fit(self) -> Self:
        if self.piece_size > self.size:
            raise ValueError(f"piece_size ({self.piece_size}) must not be above size ({self.size})")
        return self

    def build(self, resources: Resources) -> ClusterSemanticChunker:
        """Makes the chunker.

        Raises:
            DataError: There is no such model.
        """
        return ClusterSemanticChunker(self, PieceVectors(self, resources))


class ClusterSemanticChunker:
    """Cuts a document into the segments that hold the most similarity."""

    def __init__(self, settings: ClusterSemanticSettings, vectors: PieceVectors) -> None:
        """Loads the tokenizer.

        Args:
            settings: Sizes.
            vectors: Encodes pieces of text.
        """
        self._settings = settings
        self._vectors = vectors
        self._count = token_counter(settings.tokenizer).count

    def prepare(self, documents: Sequence[Document]) -> None:
        """Encodes the pieces of all documents at once, which is faster than a document at a time."""
        self._vectors.prepare([text for d in documents for text in self._texts(d.text, self._pieces(d.text))])

    def chunk(self, document: Document) -> list[Chunk]:
        """Chunks in order."""
        pieces = self._pieces(document.text)
        texts = self._texts(document.text, pieces)
        segments: list[Span] = [(0, len(pieces))] if pieces else []
        if texts:
            segments = best_segments(self._vectors.get(texts), self._settings.size // self._settings.piece_size)
        return as_chunks(document, [(pieces[first][0], pieces[last - 1][1]) for first, last in segments])

    def _texts(self, text: str, pieces: Sequence[Span]) -> list[str]:
        """What is embedded of the pieces; nothing where there is only one."""
        return [text[start:end].strip() for start, end in pieces] if len(pieces) > 1 else []

    def _pieces(self, text: str) -> list[Span]:
        spans = split_recursively(text, (0, len(text)), _SEPARATORS, self._settings.piece_size, 0, self._count)
        return [(start, end) for start, end in spans if text[start:end].strip()]


def best_segments(vectors: np.ndarray, longest: int) -> list[Span]:
    """The segmentation with the greatest sum of similarities inside segments, each less the mean over all pairs.

    Unlike the report's code, which starts its sums at 0, segments are never longer than `longest` where all pairs are
    less alike than the mean. It takes O(n * longest) similarities rather than n squared.

    Args:
        vectors: Unit vectors of the pieces in order, shape (n, dimension).
        longest: Most pieces in a segment.

    Returns:
        (first, last + 1) of each segment, in order; of equal ones the shorter last segment.
    """
    count = len(vectors)
    if count < 2:
        return [(0, count)] if count else []
    wide = vectors.astype(np.float64)
    total = wide.sum(axis=0)
    mean = (total @ total - np.einsum("ij,ij->", wide, wide)) / (count * (count - 1))
    reach = min(longest, count)
    # gain[n][d]: similarity of piece n and the one d before it, less the mean
    gains = np.zeros((count, reach))
    for distance in range(1, reach):
        gains[distance:, distance] = np.einsum("ij,ij->i", wide[distance:], wide[:-distance]) - mean
    best = np.full(count + 1, -np.inf)
    best[0] = 0.0
    begin = [0] * (count + 1)
    inside = np.zeros(reach)  # inside[s]: sum over pairs of the segment of s + 1 pieces that ends at the piece before
    for end in range(1, count + 1):
        sizes = min(reach, end)
        inside[1:sizes] = inside[: sizes - 1].copy()
        inside[:sizes] += np.cumsum(gains[end - 1, :sizes])
        inside[0] = 0.0
        values = best[end - sizes : end][::-1] + inside[:sizes]
        chosen = int(np.argmax(values))
        best[end], begin[end] = values[chosen], end - chosen - 1
    segments: list[Span] = []
    end = count
    while end:
        segments.append((begin[end], end))
        end = begin[end]
    return segments[::-1]
