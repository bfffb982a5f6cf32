"""FAISS: exact search (`flat`), a graph of neighbours (`hnsw`), and inverted lists (`ivf_flat`, `ivf_pq`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DataError
from .faiss_settings import (
    FaissSettings,
    FlatIndexSettings,
    HnswIndexSettings,
    IvfFlatIndexSettings,
    IvfPqIndexSettings,
)
from .topk import as_vectors, order, oversampled, read_meta, write_meta

__all__ = [
    "FaissIndex",
    "FlatIndexSettings",
    "HnswIndexSettings",
    "IvfFlatIndexSettings",
    "IvfPqIndexSettings",
    "gpu_count",
]

GPU_MOST = 2048
"""Most results a question that FAISS gives on a GPU."""


def gpu_count() -> int:
    """GPUs that the installed FAISS can use; 0 for its CPU build, which has `get_num_gpus` too."""
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


class FaissIndex:
    """A FAISS index; with the device `cuda` a copy on the GPU searches, where FAISS has such a kind there.

    Attributes:
        filters: `search` takes `allowed`.
        on_gpu: Whether a copy is on a GPU. Filtered searches, and those for more than 2048 results, run on the CPU.
    """

    filters = True

    def __init__(self, settings: FaissSettings, device: str = "cpu") -> None:
        """Makes an empty index; see the settings.

        Args:
            settings: Which kind, and its knobs.
            device: `cpu`, `cuda` or `cuda:N`; never changes what is found, save for rounding.
        """
        self._settings = settings
        self._device = device
        self._index: Any = None
        self._gpu: Any = None

    @property
    def on_gpu(self) -> bool:
        """Whether a copy on a GPU searches."""
        return self._gpu is not None

    def build(self, vectors: Any) -> FaissIndex:
        """Takes unit vectors, shape (n, dimension).

        Raises:
            ConfigError: The settings do not fit so many vectors, or their dimension.
        """
        self._take(self._settings.filled(as_vectors(vectors)))
        return self

    def search(self, vectors: Any, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Nearest vectors: (scores, positions), shape (queries, k); see `core.types.Index`.

        Args:
            vectors: Queries, shape (queries, dimension).
            k: How many.
            allowed: Mask of the positions that may be found, shape (n,); None for all.
        """
        index = self._stored()
        queries = as_vectors(vectors, index.d)
        share = 1.0 if allowed is None else float(np.mean(allowed)) if len(allowed) else 0.0
        wanted = min(k, int(round(share * index.ntotal)))
        if wanted == 0 or not len(queries):
            return np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
        if allowed is not None:
            scores, positions = self._filtered(queries, wanted, allowed, share)
        elif self._gpu is not None and wanted <= GPU_MOST:
            scores, positions = self._settings.search_gpu(self._gpu, index, queries, wanted)
        else:
            scores, positions = index.search(queries, wanted, params=self._settings.parameters(index, wanted))
        return order(scores, positions, k)

    def _filtered(self, queries: np.ndarray, k: int, allowed: np.ndarray, share: float) -> tuple[Any, Any]:
        import faiss as engine

        faiss: Any = engine  # its stubs lack half of it
        index = self._stored()
        if self._settings.scans_few(int(allowed.sum())):
            places = np.flatnonzero(allowed)
            flat: Any = faiss.IndexFlatIP(index.d)
            flat.add(index.reconstruct_batch(places))
            scores, found = flat.search(queries, k)
            return scores, np.where(found < 0, -1, places[found])
        bits = np.packbits(np.asarray(allowed, dtype=bool), bitorder="little")
        selector: Any = faiss.IDSelectorBitmap(bits)
        params = self._settings.parameters(index, k, selector, share)
        if params is None:  # this kind cannot filter by itself
            return oversampled(lambda q, depth: index.search(q, depth), queries, k, allowed)
        return index.search(queries, k, params=params)

    def save(self, folder: Path) -> None:
        """Writes the index to a folder."""
        import faiss

        index = self._stored()
        path = Path(folder) / "index.faiss"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(".index.faiss.tmp")
        try:
            faiss.write_index(index, str(temporary))  # to the file itself: a copy in memory would double the need
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        write_meta(folder, {"kind": self._settings.kind, "size": index.ntotal, "dimension": index.d})

    def load(self, folder: Path) -> FaissIndex:
        """Reads what `save` wrote.

        Raises:
            DataError: No such index is there, or its file is damaged.
        """
        import faiss

        read_meta(folder, self._settings.kind)
        path = Path(folder) / "index.faiss"
        try:
            self._take(faiss.read_index(str(path)))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(f"the index file {path} cannot be read ({reason}); build it again") from None
        return self

    def _take(self, index: Any) -> None:
        self._index, self._gpu = index, None
        kind, _, number = self._device.partition(":")
        if kind == "cuda" and gpu_count():
            self._gpu = self._settings.on_gpu(index, int(number or 0))

    def _stored(self) -> Any:
        if self._index is None:
            raise DataError("the index is empty: build or load it before a search")
        return self._index
