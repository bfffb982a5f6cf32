"""FAISS: exact search (`flat`) and a graph of neighbours (`hnsw`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.cache import write_atomic
from ...core.components import Resources, Settings
from ...core.errors import DataError, require
from .topk import as_vectors, order, read_meta, write_meta

__all__ = ["FaissIndex", "FlatIndexSettings", "HnswIndexSettings"]


class FlatIndexSettings(Settings):
    """Exact search with FAISS (IndexFlatIP)."""

    cost: ClassVar[str] = "exact; time grows with the number of chunks"

    kind: Literal["flat"] = "flat"

    def build(self, resources: Resources) -> FaissIndex:
        """Makes an empty index.

        Raises:
            MissingExtra: FAISS is not installed.
        """
        require("faiss", "cpu", "the index 'flat'")
        return FaissIndex(self)


class HnswIndexSettings(Settings):
    """Approximate search over a graph of neighbours (Malkov & Yashunin 2018), with FAISS (IndexHNSWFlat)."""

    cost: ClassVar[str] = "approximate; worth it past some 100,000 chunks"

    kind: Literal["hnsw"] = "hnsw"
    m: int = Field(default=32, ge=4, le=128)
    """Neighbours of a vector. More finds more and needs more memory: about 8 * m bytes a vector."""
    ef_construction: int = Field(default=200, ge=8)
    """Candidates looked at when a vector is added. More finds more and makes building slower."""
    ef_search: int = Field(default=128, ge=1)
    """Candidates looked at in a search; at least k are. More finds more and is slower."""

    def build(self, resources: Resources) -> FaissIndex:
        """Makes an empty index.

        Raises:
            MissingExtra: FAISS is not installed.
        """
        require("faiss", "cpu", "the index 'hnsw'")
        return FaissIndex(self)


class FaissIndex:
    """A FAISS index on the CPU."""

    def __init__(self, settings: FlatIndexSettings | HnswIndexSettings) -> None:
        """Makes an empty index; see the settings."""
        self._settings = settings
        self._index: Any = None

    def build(self, vectors: Any) -> FaissIndex:
        """Takes unit vectors, shape (n, dimension). One thread builds a graph, so that it is the same each time."""
        import faiss

        array = as_vectors(vectors)
        if isinstance(self._settings, FlatIndexSettings):
            index: Any = faiss.IndexFlatIP(array.shape[1])
            index.add(array)
        else:
            index = faiss.IndexHNSWFlat(array.shape[1], self._settings.m, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = self._settings.ef_construction
            threads = faiss.omp_get_max_threads()
            faiss.omp_set_num_threads(1)
            try:
                index.add(array)
            finally:
                faiss.omp_set_num_threads(threads)
        self._index = index
        return self

    def search(self, vectors: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Nearest vectors: (scores, positions), shape (queries, k); see `core.types.Index`."""
        import faiss as engine

        faiss: Any = engine  # its stubs lack half of it
        index = self._stored()
        queries = as_vectors(vectors, index.d)
        wanted = min(k, index.ntotal)
        if wanted == 0 or not len(queries):
            return np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
        if isinstance(self._settings, FlatIndexSettings):
            scores, positions = index.search(queries, wanted)
        else:
            params = faiss.SearchParametersHNSW(efSearch=max(self._settings.ef_search, wanted))
            scores, positions = index.search(queries, wanted, params=params)
        return order(scores, positions, k)

    def save(self, folder: Path) -> None:
        """Writes the index to a folder."""
        import faiss

        index = self._stored()
        write_atomic(Path(folder) / "index.faiss", faiss.serialize_index(index).tobytes())
        write_meta(folder, {"kind": self._settings.kind, "size": index.ntotal, "dimension": index.d})

    def load(self, folder: Path) -> FaissIndex:
        """Reads what `save` wrote."""
        import faiss

        read_meta(folder, self._settings.kind)
        self._index = faiss.read_index(str(Path(folder) / "index.faiss"))
        return self

    def _stored(self) -> Any:
        if self._index is None:
            raise DataError("the index is empty: build or load it before a search")
        return self._index
