"""Search over int8 or binary codes, the best of which are scored anew with the float vectors.

A setting of the index rather than of the embedder: the encoder and its cache give float vectors once, and a sweep over
precisions costs a search each. Scalar quantisation and Hamming search are FAISS's; the two steps are those of Yamada
et al. 2021 (binary passage retriever) and of sentence-transformers' `semantic_search_faiss`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.components import Resources, Settings
from ...core.errors import DataError, require
from ...core.files import write_atomic
from .topk import as_vectors, order, read_meta, write_meta

__all__ = ["QuantisedIndex", "QuantisedIndexSettings"]

_CELLS = 1 << 24  # numbers of gathered vectors held at once: 64 MiB


class QuantisedIndexSettings(Settings):
    """Codes of one byte (int8) or one bit (binary) a dimension in memory; float vectors, on disk, for the best only."""

    cost: ClassVar[str] = "a quarter (int8) or a 32nd (binary) of flat's memory; rescoring reads the float vectors"
    kind: Literal["quantised"] = "quantised"
    precision: Literal["int8", "binary"] = "int8"
    """`int8`: each dimension in 256 steps between its least and greatest value; hardly changes a ranking. `binary`: its
    sign; needs rescoring, and suits models of 768 dimensions or more."""
    rescore_multiplier: int = Field(default=4, ge=1, le=1000)
    """So many times the results wanted are looked up by their codes and scored anew with their float vectors. More
    finds more of what the codes rank too low, and reads more."""

    def build(self, resources: Resources) -> QuantisedIndex:
        """Makes an empty index.

        Raises:
            MissingExtra: FAISS is not installed.
        """
        require("faiss", "cpu", "the index 'quantised'")
        return QuantisedIndex(self)


class QuantisedIndex:
    """Codes for the search, float vectors for the scores."""

    def __init__(self, settings: QuantisedIndexSettings) -> None:
        """Makes an empty index; see the settings."""
        self._settings = settings
        self._codes: Any = None
        self._vectors: np.ndarray | None = None

    def build(self, vectors: Any) -> QuantisedIndex:
        """Takes vectors, shape (n, dimension); an array that is mapped from disk stays there."""
        import faiss as engine

        faiss: Any = engine  # its stubs lack half of it
        array = as_vectors(vectors)
        if self._settings.precision == "binary":
            bits = _signs(array)
            self._codes = faiss.IndexBinaryFlat(8 * bits.shape[1])
            self._codes.add(bits)
        else:
            quantizer = faiss.ScalarQuantizer.QT_8bit
            self._codes = faiss.IndexScalarQuantizer(array.shape[1], quantizer, faiss.METRIC_INNER_PRODUCT)
            if len(array):
                self._codes.train(array)
                self._codes.add(array)
        self._vectors = array
        return self

    def search(self, vectors: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Nearest vectors: (scores, positions), shape (queries, k); scores are those of the float vectors."""
        stored = self._stored()
        queries = as_vectors(vectors, stored.shape[1])
        wanted = min(k * self._settings.rescore_multiplier, len(stored))
        if not wanted or not len(queries):
            return np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
        coded = _signs(queries) if self._settings.precision == "binary" else queries
        _, positions = self._codes.search(coded, wanted)
        scores = np.empty(positions.shape, dtype=np.float32)
        step = max(1, _CELLS // (wanted * stored.shape[1]))
        for at in range(0, len(queries), step):
            rows = slice(at, at + step)
            scores[rows] = np.einsum("qd,qcd->qc", queries[rows], stored[positions[rows]])
        return order(scores, positions.astype(np.int64), k)

    def save(self, folder: Path) -> None:
        """Writes codes and vectors to a folder."""
        import faiss as engine

        faiss: Any = engine
        stored = self._stored()
        binary = self._settings.precision == "binary"
        data = faiss.serialize_index_binary(self._codes) if binary else faiss.serialize_index(self._codes)
        write_atomic(Path(folder) / "codes.faiss", data.tobytes())
        floats = io.BytesIO()
        np.save(floats, np.asarray(stored), allow_pickle=False)
        write_atomic(Path(folder) / "vectors.npy", floats.getvalue())
        meta = {"kind": "quantised", "precision": self._settings.precision}
        write_meta(folder, {**meta, "size": len(stored), "dimension": stored.shape[1]})

    def load(self, folder: Path) -> QuantisedIndex:
        """Reads what `save` wrote; the float vectors are mapped, not copied into memory."""
        import faiss as engine

        faiss: Any = engine
        meta = read_meta(folder, "quantised")
        if meta.get("precision") != self._settings.precision:
            raise DataError(
                f"the index in {folder} has {meta.get('precision')} codes, not {self._settings.precision}; "
                "build it again"
            )
        path = str(Path(folder) / "codes.faiss")
        binary = self._settings.precision == "binary"
        self._codes = faiss.read_index_binary(path) if binary else faiss.read_index(path)
        self._vectors = np.load(Path(folder) / "vectors.npy", mmap_mode="r", allow_pickle=False)
        return self

    def _stored(self) -> np.ndarray:
        if self._vectors is None:
            raise DataError("the index is empty: build or load it before a search")
        return self._vectors


def _signs(vectors: np.ndarray) -> np.ndarray:
    """A bit a dimension, 1 above zero; rows are filled up to whole bytes."""
    return np.packbits(vectors > 0, axis=1)
