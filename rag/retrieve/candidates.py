"""One search a channel, and what the channels found side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...core.errors import ConfigError
from ...core.types import Embedder, Index
from ..index import BM25Index, search_index, top_k
from ..transform.expansion import Combine, Expansion, as_asked

__all__ = ["Candidates", "Channel", "align", "search", "search_dense", "search_depth", "search_words"]

Channel = tuple[np.ndarray, np.ndarray]
"""Scores and positions, float and int64 of shape (queries, k), best first, -inf and -1 where fewer."""

_DEPTH = 100
_RRF_K = 60


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


def search_depth(fetch_k: int) -> int:
    """How many chunks a search asks for so that `fetch_k` can be fused: 100, 200, 400 and so on.

    Settings with another `fetch_k` share a search, and approximate indexes, which find more the more they are asked
    for, give every `fetch_k` the same ranking.
    """
    return _DEPTH * 2 ** max(0, math.ceil(math.log2(fetch_k / _DEPTH)))


def search(
    queries: Sequence[str] | Sequence[Expansion],
    fetch_k: int,
    embedder: Embedder | None = None,
    index: Index | None = None,
    bm25: BM25Index | None = None,
    allowed: np.ndarray | None = None,
    combine: Combine = "rrf",
) -> Candidates:
    """Searches the channels that are given: vectors (embedder and index), words (bm25), or both.

    Args:
        queries: The questions, or what a query transform made of them.
        fetch_k: Chunks a channel.
        embedder: Encodes the questions, with whatever prefix they need.
        index: Of the chunks' vectors.
        bm25: Of the chunks' texts.
        allowed: Mask of the chunks that may be found, shape (chunks,); None for all.
        combine: How the results of a question's several queries become one; see `search_dense`.

    Raises:
        ConfigError: No channel is given, or only one of embedder and index.
    """
    if (embedder is None) != (index is None):
        raise ConfigError("a dense search needs both an embedder and an index")
    asked = as_asked(queries)
    dense = words = None
    if embedder is not None and index is not None:
        dense = search_dense(asked, embedder, index, fetch_k, allowed, combine)
    if bm25 is not None:
        words = search_words(asked, bm25, fetch_k, allowed, combine)
    return align(dense, words)


def search_dense(
    asked: Sequence[Expansion],
    embedder: Embedder,
    index: Index,
    k: int,
    allowed: np.ndarray | None = None,
    combine: Combine = "rrf",
) -> Channel:
    """Searches vectors.

    A question with passages (HyDE) is searched by the mean of its queries' and its passages' vectors. One with several
    queries is searched by each; their results become one by `combine`: `rrf` adds reciprocal ranks, 1 / (60 + rank)
    (RAG-Fusion), `max` takes a chunk's best score.

    Args:
        asked: What to search for, a question each; one that failed finds nothing.
        embedder: Encodes it.
        index: Of the chunks' vectors.
        k: Chunks a question.
        allowed: Mask of the chunks that may be found, shape (chunks,); None for all.
        combine: See above.
    """
    queries = [text for one in asked for text in one.queries]
    passages = [text for one in asked for text in one.passages]
    vectors = np.asarray(embedder.encode(queries, "query"))
    if passages:
        of_passages = np.asarray(embedder.encode(passages, "document"))
        vectors = _blended(asked, vectors, of_passages)
    counts = [min(1, len(one.queries)) if one.passages else len(one.queries) for one in asked]
    if not len(vectors):
        return _combined((np.zeros((0, k)), np.zeros((0, k), dtype=np.int64)), counts, k, combine)
    return _combined(search_index(index, vectors, k, allowed), counts, k, combine)


def search_words(
    asked: Sequence[Expansion],
    bm25: BM25Index,
    k: int,
    allowed: np.ndarray | None = None,
    combine: Combine = "rrf",
) -> Channel:
    """Searches words: a question's queries, not its passages; see `search_dense`."""
    found = bm25.search([text for one in asked for text in one.queries], k, allowed)
    return _combined(found, [len(one.queries) for one in asked], k, combine)


def _blended(asked: Sequence[Expansion], queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
    """One vector for each question with passages, of length 1; those of the other questions as they are."""
    rows: list[np.ndarray] = []
    query_at = passage_at = 0
    for one in asked:
        own = queries[query_at : query_at + len(one.queries)]
        theirs = passages[passage_at : passage_at + len(one.passages)]
        query_at, passage_at = query_at + len(one.queries), passage_at + len(one.passages)
        if len(theirs) and len(own):
            mean = np.concatenate([own, theirs]).mean(axis=0, dtype=np.float64)
            own = (mean / max(float(np.linalg.norm(mean)), 1e-12))[None].astype(np.float32)
        rows.append(own)
    return np.concatenate(rows) if rows else queries


def _combined(found: Channel, counts: Sequence[int], k: int, how: Combine) -> Channel:
    """One row a question from one row a query, in the questions' order."""
    if all(count == 1 for count in counts):
        return found
    scores = np.full((len(counts), k), -np.inf, dtype=np.float32)
    positions = np.full((len(counts), k), -1, dtype=np.int64)
    start = 0
    for row, count in enumerate(counts):
        mine = slice(start, start + count)
        start += count
        if count == 1:
            scores[row], positions[row] = found[0][start - 1], found[1][start - 1]
        elif count:
            scores[row], positions[row] = _one_of_many(found[0][mine], found[1][mine], k, how)
    return scores, positions


def _one_of_many(scores: np.ndarray, positions: np.ndarray, k: int, how: Combine) -> Channel:
    there = positions >= 0
    places, where = np.unique(positions[there], return_inverse=True)
    if how == "max":
        total = np.full(len(places), -np.inf)
        np.maximum.at(total, where, scores[there])
    else:
        ranks = np.broadcast_to(np.arange(1, positions.shape[1] + 1), positions.shape)
        total = np.zeros(len(places))
        np.add.at(total, where, 1.0 / (_RRF_K + ranks[there]))
    best, found = top_k(total[None], k)
    return best[0], np.where(found[0] < 0, -1, places[np.maximum(found[0], 0)]) if len(places) else found[0]


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
