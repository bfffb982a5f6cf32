"""What Qdrant's client and its engine in process share: numbered points, filters as lists of numbers, batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.errors import DataError
from .topk import as_vectors, order, oversampled

__all__ = ["FILTER_LIMIT", "Listed", "PointIndex", "listed_points"]

FILTER_LIMIT = 5_000
"""Most numbers of points that a filter sends along with each query; a longer one is answered by searching deeper."""

_BATCH = 64  # queries at a time


@dataclass(frozen=True, slots=True)
class Listed:
    """A filter as numbers of points.

    Attributes:
        points: Their positions.
        found: True where these alone may be found, False where they alone may not.
    """

    points: tuple[int, ...]
    found: bool


def listed_points(allowed: np.ndarray) -> Listed | None:
    """A mask as a list of the points that may be found, or that may not, the shorter one.

    Args:
        allowed: Mask of the positions that may be found, shape (n,).

    Returns:
        None where both are too long to be sent.
    """
    inside = int(np.sum(allowed)) * 2 <= len(allowed)
    points = np.flatnonzero(allowed if inside else ~allowed)
    return Listed(tuple(points.tolist()), inside) if len(points) <= FILTER_LIMIT else None


class PointIndex(ABC):
    """An index whose engine knows points by number, which are the positions of the vectors.

    Attributes:
        filters: `search` takes `allowed`.
    """

    filters = True

    def __init__(self) -> None:
        """Makes an empty index; `build` and `load` of a subclass fill it and set the shape."""
        self._size = 0
        self._dimension = 0

    @abstractmethod
    def _is_empty(self) -> bool:
        """Whether neither `build` nor `load` was called."""

    @abstractmethod
    def _query(self, queries: np.ndarray, limit: int, listed: Listed | None) -> Sequence[Iterable[tuple[int, float]]]:
        """For each query up to `limit` points and their scores."""

    def search(self, vectors: object, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Nearest vectors: (scores, positions), shape (queries, k); see `core.types.Index`.

        Args:
            vectors: Queries, shape (queries, dimension).
            k: How many.
            allowed: Mask of the positions that may be found, shape (n,); None for all.

        Raises:
            DataError: The index is empty, or the queries have another dimension.
            StageError: The engine failed, or its server refuses.
            UnreachableError: Its server does not answer.
        """
        if self._is_empty():
            raise DataError("the index is empty: build or load it before a search")
        queries = as_vectors(vectors, self._dimension)
        if allowed is None:
            return self._search(queries, k, None)
        listed = listed_points(allowed)
        if listed is None:
            return oversampled(lambda asked, depth: self._search(asked, depth, None), queries, k, allowed)
        return self._search(queries, k, listed)

    def _search(self, queries: np.ndarray, k: int, listed: Listed | None) -> tuple[np.ndarray, np.ndarray]:
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        for start in range(0, len(queries), _BATCH):
            answers = self._query(queries[start : start + _BATCH], min(k, max(1, self._size)), listed)
            for row, answer in enumerate(answers, start):
                for column, (point, score) in enumerate(answer):
                    scores[row, column], positions[row, column] = score, point
        return order(scores, positions, k)
