"""Exact search by a matrix product; needs nothing but numpy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ...core.components import Resources, Settings
from ...core.errors import DataError
from ...core.files import write_atomic
from .topk import DECIMALS, as_vectors, read_meta, top_k, write_meta

__all__ = ["NumpyIndex", "NumpyIndexSettings"]

_CELLS = 1 << 24  # scores held at once: 64 MiB


class NumpyIndexSettings(Settings):
    """Exact search with numpy: no further package, right for up to some 100,000 chunks."""

    cost: ClassVar[str] = "exact; about 1 ms a question at 10,000 chunks"

    kind: Literal["numpy"] = "numpy"

    def build(self, resources: Resources) -> NumpyIndex:
        """Makes an empty index."""
        return NumpyIndex()


class NumpyIndex:
    """All vectors in one array.

    Attributes:
        filters: `search` takes `allowed`.
    """

    filters = True

    def __init__(self) -> None:
        """Makes an empty index."""
        self._vectors: np.ndarray | None = None

    def build(self, vectors: Any) -> NumpyIndex:
        """Takes unit vectors, shape (n, dimension)."""
        self._vectors = as_vectors(vectors)
        return self

    def search(self, vectors: Any, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Nearest vectors: (scores, positions), shape (queries, k); see `core.types.Index`.

        Args:
            vectors: Queries, shape (queries, dimension).
            k: How many.
            allowed: Mask of the positions that may be found, shape (n,); None for all.
        """
        stored = self._stored()
        queries = as_vectors(vectors, stored.shape[1])
        places = None if allowed is None else np.flatnonzero(allowed)
        if places is not None:
            stored = stored[places]
        step = max(1, _CELLS // max(1, len(stored)))
        parts = [top_k(np.round(queries[i : i + step] @ stored.T, DECIMALS), k) for i in range(0, len(queries), step)]
        if not parts:
            return np.zeros((0, k), dtype=np.float32), np.zeros((0, k), dtype=np.int64)
        scores = np.concatenate([part[0] for part in parts])
        found = np.concatenate([part[1] for part in parts])
        if places is not None and len(places):
            found = np.where(found < 0, -1, places[np.maximum(found, 0)])
        return scores, found

    def save(self, folder: Path) -> None:
        """Writes the vectors to a folder."""
        stored = self._stored()
        data = io.BytesIO()
        np.save(data, stored, allow_pickle=False)
        write_atomic(Path(folder) / "vectors.npy", data.getvalue())
        write_meta(folder, {"kind": "numpy", "size": len(stored), "dimension": stored.shape[1]})

    def load(self, folder: Path) -> NumpyIndex:
        """Reads what `save` wrote; the file is mapped, not copied into memory."""
        read_meta(folder, "numpy")
        self._vectors = np.load(Path(folder) / "vectors.npy", mmap_mode="r", allow_pickle=False)
        return self

    def _stored(self) -> np.ndarray:
        if self._vectors is None:
            raise DataError("the index is empty: build or load it before a search")
        return self._vectors
