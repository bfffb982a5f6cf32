"""What all indexes share: their interface, the check of vectors, and the order of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ...core.cache import write_atomic
from ...core.errors import DataError

__all__ = ["DECIMALS", "VectorIndex", "as_vectors", "order", "read_meta", "top_k", "write_meta"]

DECIMALS = 6
"""Scores are rounded to so many decimals: a matrix product gives equal vectors scores that differ in the last bit."""


@runtime_checkable
class VectorIndex(Protocol):
    """An index of unit vectors; `build` or `load` comes first, and both return the index itself."""

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
    if not np.isfinite(array).all():
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


def order(scores: np.ndarray, positions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """An engine's results in our order: best first, equal scores by position, k columns, empty places last.

    Args:
        scores: Shape (queries, m).
        positions: Shape (queries, m), -1 for no result.
        k: Columns of the result.
    """
    scores = np.where(positions < 0, -np.inf, np.round(scores, DECIMALS)).astype(np.float32)
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
