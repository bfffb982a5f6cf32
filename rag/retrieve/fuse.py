"""Fusion of the channels, caps and thresholds, as array arithmetic on one search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.errors import ConfigError
from ...core.types import Chunk, Hit
from .candidates import Candidates, Channel
from .settings import RetrieveSettings

__all__ = ["document_codes", "fuse", "to_hits"]


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
    """Arrays of results, best first, as hits; empty places left out."""
    rows = zip(np.asarray(scores, dtype=np.float64).tolist(), np.asarray(positions).tolist(), strict=True)
    # lists of numbers: to go through an array number by number takes several times as long
    return [[Hit(chunks[at], score) for score, at in zip(*row, strict=True) if at >= 0] for row in rows]
