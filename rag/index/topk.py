"""What all indexes share: their interface, the check of vectors, and the order of results."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ...core.errors import DataError
from ...core.files import write_atomic

__all__ = [
    "DECIMALS",
    "VectorIndex",
    "as_vectors",
    "order",
    "oversampled",
    "read_meta",
    "search_index",
    "top_k",
    "write_meta",
]

DECIMALS = 6
"""Scores are rounded to so many decimals: a matrix product gives equal vectors scores that differ in the last bit."""


Search = Callable[[Any, int], tuple[np.ndarray, np.ndarray]]

_ROWS = 1 << 16  # vectors checked at once


@runtime_checkable
class VectorIndex(Protocol):
    """An index of unit vectors; `build` or `load` comes first, and both return the index itself.

    One with an attribute `filters` that is true takes a third argument in `search`: a mask of the positions that may be
    found. Any other is searched deeper instead (`search_index`).
    """

    def build(self, vectors: Any) -> VectorIndex: ...

    def search(self, vectors: Any, k: int) -> tuple[np.ndarray, np.ndarray]: ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> VectorIndex: ...


def as_vectors(vectors: Any, dimension: int | None = None) -> np.ndarray:
    """Vectors as a float32 array of shape (n, dimension).

    Raises:
        DataError: Another shape or dimension, or values that are not finite.
    """
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.ndim != 2:
        raise DataError(f"an index takes vectors of shape (n, dimension), got {array.shape}")
    if dimension is not None and array.shape[1] != dimension:
        raise DataError(
            f"the index holds vectors of {dimension} dimensions, got {array.shape[1]}: questions and documents must be "
            "encoded by the same model"
        )
    if not all(np.isfinite(array[start : start + _ROWS]).all() for start in range(0, len(array), _ROWS)):
        raise DataError("an index takes finite vectors; some values are NaN or infinite")
    return array


def top_k(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best k of each row; equal scores stand in order of position, also where they are cut.

    Args:
        scores: Shape (queries, n); -inf counts as no result.
        k: How many.

    Returns:
        (scores, positions), float32 and int64 of shape (queries, k), best first; -inf and -1 where fewer than k.
    """
    rows, size = scores.shape
    best = np.full((rows, k), -np.inf, dtype=np.float32)
    where = np.full((rows, k), -1, dtype=np.int64)
    kept = min(k, size)
    if kept == 0:
        return best, where
    bounds = np.partition(scores, size - kept, axis=1)[:, size - kept]
    for row in range(rows):
        found = np.flatnonzero(scores[row] >= bounds[row])
        found = found[np.argsort(-scores[row, found], kind="stable")][:kept]
        found = found[np.isfinite(scores[row, found])]
        best[row, : len(found)] = scores[row, found]
        where[row, : len(found)] = found
    return best, where


def search_index(index: Any, vectors: Any, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Searches any index, with a filter where there is one.

    Args:
        index: A `core.types.Index`; one without `filters` is searched deeper until enough may be found.
        vectors: Queries, shape (queries, dimension).
        k: Results a query.
        allowed: Mask of the positions that may be found, shape (n,); None for all.
    """
    if allowed is None:
        return index.search(vectors, k)
    if getattr(index, "filters", False):
        return index.search(vectors, k, allowed)
    return oversampled(index.search, vectors, k, allowed)


def oversampled(search: Search, vectors: Any, k: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A filtered search by one that cannot filter: ever deeper, until enough of what it finds may be found.

    Args:
        search: Searches without a filter.
        vectors: Queries, shape (queries, dimension).
        k: Results a query.
        allowed: Mask of the positions that may be found, shape (n,).
    """
    size, there = len(allowed), int(np.sum(allowed))
    wanted = min(k, there)
    depth = min(size, math.ceil(1.5 * k * size / max(1, there)) + 16)
    while True:
        scores, positions = search(vectors, max(depth, 1))
        kept = (positions >= 0) & allowed[np.maximum(positions, 0)] if size else positions >= 0
        if depth >= size or (kept.sum(axis=1) >= wanted).all():
            return order(scores, np.where(kept, positions, -1), k)
        depth = min(size, 2 * depth)


def order(scores: np.ndarray, positions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """An engine's results in our order: best first, equal scores by position, k columns, empty places last.

    Args:
        scores: Shape (queries, m).
        positions: Shape (queries, m), -1 for no result.
        k: Columns of the result.
    """
    # masked before it is rounded: engines fill empty places with the lowest number there is
    scores = np.round(np.where(positions < 0, -np.inf, scores), DECIMALS).astype(np.float32)
    ranking = np.lexsort((positions, -scores), axis=1)[:, :k]
    best = np.full((len(scores), k), -np.inf, dtype=np.float32)
    where = np.full((len(scores), k), -1, dtype=np.int64)
    best[:, : ranking.shape[1]] = np.take_along_axis(scores, ranking, axis=1)
    where[:, : ranking.shape[1]] = np.take_along_axis(positions, ranking, axis=1)
    return best, where


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Writes what an index is, beside its data."""
    write_atomic(Path(folder) / "index.json", json.dumps(meta, indent=2).encode())


def read_meta(folder: Path, kind: str) -> dict[str, Any]:
    """Reads what `write_meta` wrote.

    Raises:
        DataError: No index of that kind is there.
    """
    path = Path(folder) / "index.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"no index in {folder}: {path.name} is missing or cannot be read; build it again") from None
    if meta.get("kind") != kind:
        raise DataError(f"the index in {folder} is of kind '{meta.get('kind')}', not '{kind}'; build it again")
    return meta
