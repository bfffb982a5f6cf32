"""What follows the final ranking: diversity (MMR), and the larger stretches that are read in place of the hits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.errors import ConfigError, StageError
from ...core.types import Chunk, Document, Hit
from ..chunk.merge import Family, merge_hits
from .corpus import Corpus
from .settings import RetrieveSettings

__all__ = ["finish", "mmr", "needs_documents"]

_CELLS = 1 << 22  # similarities held at once


def needs_documents(settings: RetrieveSettings, chunker: Any) -> bool:
    """Whether stretches of the documents are read that are no chunks."""
    return settings.neighbours > 0 or hasattr(chunker, "family")


def finish(
    hits: Sequence[Sequence[Hit]],
    settings: RetrieveSettings,
    corpus: Corpus,
    chunker: Any = None,
    vectors: np.ndarray | None = None,
) -> list[list[Hit]]:
    """The hits as they are scored and read, from the ranking that is final (fused and reranked).

    Args:
        hits: Of each question, best first, more than `top_k` where there are.
        settings: `mmr`, `neighbours` and `top_k` are looked at.
        corpus: The chunks, and their documents where they are needed.
        chunker: That made the chunks.
        vectors: Of the chunks, shape (chunks, dimension); needed for `mmr`.

    Returns:
        The hits of each question, best first, not cut to `top_k`.

    Raises:
        ConfigError: `mmr` without vectors, or `neighbours` with a chunker whose chunks are read larger anyway.
        StageError: A reranker gave a chunk that is not of this corpus.
    """
    done = [list(row) for row in hits]
    if settings.mmr is not None:
        if vectors is None:
            raise ConfigError("retrieve.mmr needs the chunks' vectors")
        done = _diverse(done, settings.mmr, corpus, vectors)
    if settings.neighbours:
        if hasattr(chunker, "family"):
            raise ConfigError(
                "retrieve.neighbours: this chunker's chunks are read larger than they are found already; "
                "set neighbours to 0, or use another chunker"
            )
        chunker = _Neighbours(corpus, settings.neighbours, settings.neighbours_within == "section")
    return merge_hits(done, chunker, corpus.documents, settings.top_k)


def mmr(relevance: np.ndarray, vectors: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Maximal marginal relevance (Carbonell & Goldstein 1998).

    The next chunk is the one with the greatest share * relevance - (1 - share) * (its greatest inner product with a
    chunk chosen before; at least 0, which is that of the first).

    Args:
        relevance: Float, shape (questions, n); -inf for an empty place.
        vectors: Unit vectors, shape (questions, n, dimension).
        share: Of relevance, 0 to 1.

    Returns:
        (values, order), both of shape (questions, n): the chosen ones' values, which never rise, and their columns;
        -inf and -1 for empty places.
    """
    rows, size = relevance.shape
    alike = np.einsum("qid,qjd->qij", vectors, vectors)
    nearest = np.zeros((rows, size))
    open_ = np.isfinite(relevance)
    base = share * np.where(open_, relevance, 0.0)
    values = np.full((rows, size), -np.inf)
    order = np.full((rows, size), -1, dtype=np.int64)
    every = np.arange(rows)
    for step in range(size):
        marginal = np.where(open_, base - (1.0 - share) * nearest, -np.inf)
        best = marginal.argmax(axis=1)  # the first of equals: the better ranked one
        some = open_[every, best]
        values[:, step] = np.where(some, marginal[every, best], -np.inf)
        order[:, step] = np.where(some, best, -1)
        open_[every, best] = False
        nearest = np.maximum(nearest, alike[every, :, best])
    return values, order


def _diverse(hits: list[list[Hit]], share: float, corpus: Corpus, vectors: np.ndarray) -> list[list[Hit]]:
    size = max((len(row) for row in hits), default=0)
    if not size:
        return hits
    step = max(1, _CELLS // (size * max(size, vectors.shape[1])))
    parts = [hits[start : start + step] for start in range(0, len(hits), step)]
    return [row for part in parts for row in _diverse_some(part, share, corpus, vectors)]


def _diverse_some(hits: list[list[Hit]], share: float, corpus: Corpus, vectors: np.ndarray) -> list[list[Hit]]:
    size = max(1, max(len(row) for row in hits))
    relevance = np.full((len(hits), size), -np.inf)
    places = np.zeros((len(hits), size), dtype=np.int64)
    for row, found in enumerate(hits):
        for column, hit in enumerate(found):
            relevance[row, column] = hit.score
            places[row, column] = _place(corpus, hit.chunk)
    values, order = mmr(_scaled(relevance), np.asarray(vectors[places], dtype=np.float32), share)
    return [
        [Hit(found[at].chunk, float(value)) for value, at in zip(*line, strict=True) if at >= 0]
        for found, *line in zip(hits, values, order, strict=True)
    ]


def _place(corpus: Corpus, chunk: Chunk) -> int:
    try:
        return corpus.place(chunk)
    except KeyError:
        raise StageError(f"the reranker gave the chunk {chunk.id}, which is not one that it was shown") from None


def _scaled(relevance: np.ndarray) -> np.ndarray:
    """Each question's scores in the range 0 to 1, so that the share means the same in every mode; equal ones are 1."""
    there = np.isfinite(relevance)
    low = np.min(relevance, axis=1, keepdims=True, initial=np.inf, where=there)
    high = np.max(relevance, axis=1, keepdims=True, initial=-np.inf, where=there)
    span = np.where(high > low, high - low, 1.0)
    inside = np.where(there, relevance, 0.0) - np.where(np.isfinite(low), low, 0.0)
    return np.where(there, np.where(high > low, inside / span, 1.0), -np.inf)


class _Neighbours:
    """Chunks and those beside them, in the form that `merge_hits` takes."""

    def __init__(self, corpus: Corpus, reach: int, within_section: bool) -> None:
        self._corpus = corpus
        self._reach = reach
        self._within_section = within_section

    def family(self, document: Document) -> Family:
        """The window of each chunk of a document."""
        chunks = self._corpus.of_document.get(document.id, [])
        parents: dict[tuple[int, int], tuple[int, int]] = {}
        for at, chunk in enumerate(chunks):
            after = chunks[at + 1 : at + 1 + self._reach]
            before = chunks[max(0, at - self._reach) : at][::-1]
            joined = [chunk, *self._side(after, chunk), *self._side(before, chunk)]
            window = min(one.start for one in joined), max(one.end for one in joined)
            if window != (chunk.start, chunk.end):
                parents[chunk.start, chunk.end] = window
        return Family(parents)

    def _side(self, beside: Sequence[Chunk], chunk: Chunk) -> list[Chunk]:
        """Neighbours on one side, nearest first, up to the reach or the end of the section."""
        taken: list[Chunk] = []
        for one in beside:
            if self._within_section and one.heading != chunk.heading:
                break
            taken.append(one)
        return taken
