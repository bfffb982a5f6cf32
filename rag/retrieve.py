"""Retrieval: one search a channel, then fusion as array arithmetic.

A search fetches `fetch_k` chunks a channel (vectors, words). All that comes after (which channels count, their fusion,
caps, thresholds, how many) is computed from those arrays by `fuse`, so that hundreds of settings cost one search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ..core.components import Model
from ..core.errors import ConfigError
from ..core.types import Chunk, Embedder, Hit, Index
from .index import BM25Index

__all__ = ["Candidates", "RetrieveSettings", "align", "document_codes", "fuse", "search", "to_hits"]


class RetrieveSettings(Model):
    """What is fetched, how channels are fused, and how much is kept."""

    mode: Literal["dense", "bm25", "hybrid"] = "dense"
    """`dense` searches vectors, `bm25` words, `hybrid` both. BM25 costs next to nothing and finds names and codes."""
    fusion: Literal["rrf", "weighted"] = "rrf"
    """Hybrid only. `rrf` adds reciprocal ranks and ignores scores; `weighted` adds normalised scores."""
    rrf_k: int = Field(default=60, ge=1)
    """RRF's constant: the smaller, the more the first ranks count."""
    weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of dense in `weighted` fusion, BM25 having the rest. At 0 or 1 the other channel does not count at all."""
    normalise: Literal["minmax", "zscore"] = "minmax"
    """How `weighted` makes a question's scores comparable: to the range 0 to 1, or to mean 0 and deviation 1."""
    top_k: int = Field(default=5, ge=1)
    """Chunks kept. More holds the evidence more often, and makes prompts longer and noisier."""
    fetch_k: int = Field(default=50, ge=1)
    """Chunks fetched a channel before fusion and reranking; not below `top_k`."""
    per_document: int | None = Field(default=None, ge=1)
    """Most chunks of one document; None for no cap. A cap spreads the context over documents."""
    threshold: float | None = None
    """Least final score, in the unit of the mode (cosine, BM25, fused); lower ones are dropped. None drops nothing."""

    @model_validator(mode="after")
    def _fetches_enough(self) -> RetrieveSettings:
        if self.fetch_k < self.top_k:
            raise ValueError(f"fetch_k ({self.fetch_k}) must not be below top_k ({self.top_k})")
        return self

    @property
    def channels(self) -> tuple[bool, bool]:
        """Whether dense and BM25 are searched."""
        return self.mode != "bm25", self.mode != "dense"


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the channels found, by chunk; arrays of shape (queries, width), columns in order of position.

    Attributes:
        positions: Chunk positions, -1 for an empty place.
        dense_rank: Rank in the dense result from 1, inf where not found there.
        dense_score: Inner product, -inf where not found.
        bm25_rank: As `dense_rank`, for BM25.
        bm25_score: As `dense_score`, for BM25.
    """

    positions: np.ndarray
    dense_rank: np.ndarray
    dense_score: np.ndarray
    bm25_rank: np.ndarray
    bm25_score: np.ndarray


Channel = tuple[np.ndarray, np.ndarray]


def search(
    queries: Sequence[str],
    fetch_k: int,
    embedder: Embedder | None = None,
    index: Index | None = None,
    bm25: BM25Index | None = None,
) -> Candidates:
    """Searches the channels that are given: vectors (embedder and index), words (bm25), or both.

    Args:
        queries: The questions.
        fetch_k: Chunks a channel.
        embedder: Encodes the questions, with whatever prefix they need.
        index: Of the chunks' vectors.
        bm25: Of the chunks' texts.

    Raises:
        ConfigError: No channel is given, or only one of embedder and index.
    """
    if (embedder is None) != (index is None):
        raise ConfigError("a dense search needs both an embedder and an index")
    dense = words = None
    if embedder is not None and index is not None:
        dense = index.search(embedder.encode(list(queries), "query"), fetch_k)
    if bm25 is not None:
        words = bm25.search(list(queries), fetch_k)
    return align(dense, words)


def align(dense: Channel | None, bm25: Channel | None) -> Candidates:
    """Puts the channels' results side by side, chunk by chunk.

    Args:
        dense: (scores, positions) of shape (queries, k), best first, -1 where fewer; None for no such channel.
        bm25: The same of BM25; its k may differ.

    Raises:
        ConfigError: Both are None.
    """
    given = dense or bm25
    if given is None:
        raise ConfigError("a search needs a channel: an embedder with its index, BM25, or both")
    none = (np.zeros((len(given[0]), 0)), np.zeros((len(given[0]), 0), dtype=np.int64))
    (dense_score, dense_at), (bm25_score, bm25_at) = dense or none, bm25 or none
    positions = np.concatenate([dense_at, bm25_at], axis=1)
    split = dense_at.shape[1]
    columns = {
        "dense_rank": _spread(_ranks(dense_at), positions.shape, 0, np.inf),
        "dense_score": _spread(_scores(dense_score, dense_at), positions.shape, 0, -np.inf),
        "bm25_rank": _spread(_ranks(bm25_at), positions.shape, split, np.inf),
        "bm25_score": _spread(_scores(bm25_score, bm25_at), positions.shape, split, -np.inf),
    }
    by_position = np.argsort(positions, axis=1, kind="stable")
    positions = np.take_along_axis(positions, by_position, axis=1)
    columns = {name: np.take_along_axis(values, by_position, axis=1) for name, values in columns.items()}
    # a chunk that both found stands twice, dense first: the second's values go to the first
    twice = (positions[:, 1:] == positions[:, :-1]) & (positions[:, 1:] >= 0)
    for name in ("bm25_rank", "bm25_score"):
        values = columns[name]
        values[:, :-1] = np.where(twice, values[:, 1:], values[:, :-1])
    second = np.zeros(positions.shape, dtype=bool)
    second[:, 1:] = twice
    for name, values in columns.items():
        values[second] = np.inf if name.endswith("rank") else -np.inf
    return Candidates(np.where(second, -1, positions), **columns)


def _ranks(positions: np.ndarray) -> np.ndarray:
    return np.where(positions < 0, np.inf, np.arange(1, positions.shape[1] + 1, dtype=np.float64))


def _scores(scores: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return np.where(positions < 0, -np.inf, scores).astype(np.float64)


def _spread(values: np.ndarray, shape: tuple[int, ...], start: int, fill: float) -> np.ndarray:
    out = np.full(shape, fill)
    out[:, start : start + values.shape[1]] = values
    return out


def fuse(
    candidates: Candidates, settings: RetrieveSettings, documents: np.ndarray | None = None, limit: int | None = None
) -> Channel:
    """The final ranking of each question, from candidates that were fetched before.

    Reciprocal rank fusion is sum over channels of 1 / (rrf_k + rank), ranks from 1 (Cormack, Clarke & Büttcher 2009).
    Weighted fusion is weight * dense + (1 - weight) * bm25 of scores normalised over a question's fetched ones; a chunk
    that a channel did not fetch has that channel's lowest normalised score there.

    Args:
        candidates: From a search with at least `settings.fetch_k`; deeper results are left out.
        settings: How to fuse.
        documents: Document number of each chunk, shape (chunks,), from `document_codes`; needed for `per_document`.
        limit: Chunks to keep instead of `settings.top_k`, for a reranker; caps nothing but the number.

    Returns:
        (scores, positions), float64 and int64 of shape (queries, limit), best first, equal scores by position; -inf
        and -1 where fewer.

    Raises:
        ConfigError: `per_document` without `documents`.
    """
    scores = _final_scores(candidates, settings)
    if settings.threshold is not None:
        scores = np.where(scores >= settings.threshold, scores, -np.inf)
    ranking = np.argsort(-scores, axis=1, kind="stable")  # columns are in order of position, so ties are too
    scores = np.take_along_axis(scores, ranking, axis=1)
    positions = np.take_along_axis(candidates.positions, ranking, axis=1)
    positions = np.where(np.isfinite(scores), positions, -1)
    if settings.per_document is not None:
        scores, positions = _cap(scores, positions, settings.per_document, documents)
    return _width(scores, positions, limit or settings.top_k)


def _final_scores(candidates: Candidates, settings: RetrieveSettings) -> np.ndarray:
    use_dense, use_bm25 = settings.channels
    if settings.mode == "hybrid" and settings.fusion == "weighted":
        use_dense, use_bm25 = settings.weight > 0, settings.weight < 1
    in_dense = (candidates.dense_rank <= settings.fetch_k) & use_dense
    in_bm25 = (candidates.bm25_rank <= settings.fetch_k) & use_bm25
    if settings.mode == "dense":
        scores = candidates.dense_score
    elif settings.mode == "bm25":
        scores = candidates.bm25_score
    elif settings.fusion == "rrf":
        dense = np.where(in_dense, 1.0 / (settings.rrf_k + candidates.dense_rank), 0.0)
        scores = dense + np.where(in_bm25, 1.0 / (settings.rrf_k + candidates.bm25_rank), 0.0)
    else:
        dense = _normalise(candidates.dense_score, in_dense, settings.normalise)
        bm25 = _normalise(candidates.bm25_score, in_bm25, settings.normalise)
        scores = settings.weight * dense + (1.0 - settings.weight) * bm25
    return np.where(in_dense | in_bm25, scores, -np.inf)


def _normalise(scores: np.ndarray, found: np.ndarray, how: str) -> np.ndarray:
    """Scores of one channel, comparable with another's; equal ones become 1 (minmax) or 0 (zscore)."""
    some = found.any(axis=1, keepdims=True)
    low = np.where(some, np.min(scores, axis=1, keepdims=True, initial=np.inf, where=found), 0.0)
    if how == "minmax":
        high = np.where(some, np.max(scores, axis=1, keepdims=True, initial=-np.inf, where=found), 0.0)
        span = high - low
        inside = np.where(found, scores, low) - low
        return np.where(found, np.divide(inside, span, out=np.ones_like(inside), where=span > 0), 0.0)
    count = np.maximum(found.sum(axis=1, keepdims=True), 1)
    mean = np.where(found, scores, 0.0).sum(axis=1, keepdims=True) / count
    centred = np.where(found, scores, low) - mean
    deviation = np.sqrt(np.where(found, centred**2, 0.0).sum(axis=1, keepdims=True) / count)
    flat = deviation <= 1e-12 * np.maximum(1.0, np.abs(mean))  # rounding alone: all scores are equal
    return np.where(some & ~flat, np.divide(centred, deviation, out=np.zeros_like(centred), where=~flat), 0.0)


def _cap(scores: np.ndarray, positions: np.ndarray, most: int, documents: np.ndarray | None) -> Channel:
    """Drops the chunks of a document after its `most` best, and closes the gaps."""
    if documents is None:
        raise ConfigError("retrieve.per_document needs the document of each chunk")
    empty = positions < 0
    width = positions.shape[1]
    codes = np.where(empty, -1, documents[np.where(empty, 0, positions)])
    grouped = np.argsort(codes, axis=1, kind="stable")
    sorted_codes = np.take_along_axis(codes, grouped, axis=1)
    first = np.ones(codes.shape, dtype=bool)
    first[:, 1:] = sorted_codes[:, 1:] != sorted_codes[:, :-1]
    places = np.broadcast_to(np.arange(width), codes.shape)
    run_start = np.maximum.accumulate(np.where(first, places, 0), axis=1)
    nth = np.empty(codes.shape, dtype=np.int64)
    np.put_along_axis(nth, grouped, places - run_start, axis=1)
    dropped = empty | (nth >= most)
    closing = np.argsort(dropped, axis=1, kind="stable")
    scores = np.take_along_axis(np.where(dropped, -np.inf, scores), closing, axis=1)
    return scores, np.take_along_axis(np.where(dropped, -1, positions), closing, axis=1)


def _width(scores: np.ndarray, positions: np.ndarray, k: int) -> Channel:
    missing = max(0, k - scores.shape[1])
    scores = np.pad(scores[:, :k], ((0, 0), (0, missing)), constant_values=-np.inf)
    return scores, np.pad(positions[:, :k], ((0, 0), (0, missing)), constant_values=-1)


def document_codes(chunks: Sequence[Chunk]) -> np.ndarray:
    """A number for each chunk's document, int64 of shape (chunks,)."""
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(chunk.doc_id, len(numbers)) for chunk in chunks]
    return np.asarray(codes, dtype=np.int64)


def to_hits(scores: Any, positions: Any, chunks: Sequence[Chunk]) -> list[list[Hit]]:
    """Arrays of results as hits, empty places left out."""
    return [
        [Hit(chunks[at], float(score)) for score, at in zip(row, places, strict=True) if at >= 0]
        for row, places in zip(scores, positions, strict=True)
    ]
