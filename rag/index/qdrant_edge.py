"""Qdrant Edge: Qdrant's own engine (graph, filters) in this process, without a server."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.components import Resources, Settings
from ...core.errors import DataError, StageError, require
from .points import Listed, PointIndex
from .topk import as_vectors, read_meta, write_meta

__all__ = ["QdrantEdgeIndex", "QdrantEdgeIndexSettings"]

_ADDED = 1000  # points handed over at a time
_SHARD = "shard"


class QdrantEdgeIndexSettings(Settings):
    """Search with Qdrant's engine in this process (package qdrant-edge-py), past the local mode's 5,000 chunks."""

    cost: ClassVar[str] = "approximate; no server, and no limit of 5,000 chunks; kept on disk"
    build_knobs: ClassVar[tuple[str, ...]] = ("m", "ef_construction")

    kind: Literal["qdrant_edge"] = "qdrant_edge"
    m: int = Field(default=16, ge=4, le=128)
    """Neighbours of a vector in the graph. More finds more and needs more memory."""
    ef_construction: int = Field(default=100, ge=8)
    """Candidates looked at when a vector is added. More finds more and makes building slower."""
    ef_search: int = Field(default=128, ge=1)
    """Candidates looked at in a search. More finds more and is slower."""
    exact: bool = False
    """Compares with all points instead of using the graph: slower, and nothing is missed."""

    def build(self, resources: Resources) -> QdrantEdgeIndex:
        """Makes an empty index.

        Raises:
            MissingExtra: qdrant-edge-py is not installed.
        """
        require("qdrant_edge", "qdrant-edge", "the index 'qdrant_edge'")
        return QdrantEdgeIndex(self, resources)


class QdrantEdgeIndex(PointIndex):
    """One shard; points are numbered by position. It lies in a temporary folder until it is saved."""

    def __init__(self, settings: QdrantEdgeIndexSettings, resources: Resources) -> None:
        """Makes an empty index; see the settings."""
        super().__init__()
        self._settings = settings
        self._resources = resources
        self._folder = Path()
        self._shard: Any = None

    def build(self, vectors: Any) -> QdrantEdgeIndex:
        """Takes unit vectors, shape (n, dimension). One thread builds the graph, so that it is the same each time."""
        import qdrant_edge as engine

        edge: Any = engine
        array = as_vectors(vectors)
        self.close()
        self._size, self._dimension = array.shape
        home = self._resources.cache_dir / "qdrant-edge"
        home.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=home))
        weakref.finalize(self, shutil.rmtree, str(self._folder), True)
        graph = edge.HnswIndexConfig(
            m=self._settings.m,
            ef_construct=self._settings.ef_construction,
            full_scan_threshold=1000,
            max_indexing_threads=1,
        )
        config = edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(size=self._dimension, distance=edge.Distance.Dot, hnsw_config=graph),
            optimizers=edge.EdgeOptimizersConfig(default_segment_number=1),
            wal_enabled=False,
        )
        self._shard = edge.EdgeShard.create(str(self._folder), config)
        for start in range(0, self._size, _ADDED):
            rows = array[start : start + _ADDED]
            points = [edge.Point(id=start + place, vector=row.tolist()) for place, row in enumerate(rows)]
            self._shard.update(edge.UpdateOperation.upsert_points(points))
        self._shard.optimize()
        self._shard.flush()
        return self

    def _is_empty(self) -> bool:
        return self._shard is None

    def _query(self, queries: np.ndarray, limit: int, listed: Listed | None) -> list[list[tuple[int, float]]]:
        import qdrant_edge as engine

        edge: Any = engine
        chosen = None
        if listed is not None:
            ids = edge.HasIdCondition(set(listed.points))
            chosen = edge.Filter(must=[ids]) if listed.found else edge.Filter(must_not=[ids])
        params = edge.SearchParams(hnsw_ef=max(self._settings.ef_search, limit), exact=self._settings.exact)
        requests = [
            edge.QueryRequest(limit=limit, query=edge.Query.Nearest(query.tolist()), filter=chosen, params=params)
            for query in queries
        ]
        try:
            answers = self._shard.query_batch(edge.QueryBatchRequest(requests))
        except Exception as error:  # the engine raises bare exceptions
            raise StageError(f"index 'qdrant_edge': the search failed: {error}") from error
        return [[(point.id, point.score) for point in answer] for answer in answers]

    def save(self, folder: Path) -> None:
        """Copies the shard to a folder."""
        if self._shard is None:
            raise DataError("the index is empty: build it before saving it")
        target = Path(folder) / _SHARD
        if target.resolve() != self._folder.resolve():
            self._shard.flush()
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(self._folder, target)
        write_meta(folder, {"kind": "qdrant_edge", "size": self._size, "dimension": self._dimension})

    def load(self, folder: Path) -> QdrantEdgeIndex:
        """Opens what `save` wrote, where it lies.

        Raises:
            DataError: No such index is there, or its files are damaged.
        """
        import qdrant_edge as engine

        edge: Any = engine
        meta = read_meta(folder, "qdrant_edge")
        self.close()
        self._folder = Path(folder) / _SHARD
        try:
            self._shard = edge.EdgeShard.load(str(self._folder))
            there = self._shard.count(edge.CountRequest(exact=True))
        except Exception as error:  # the engine raises bare exceptions
            raise DataError(f"the index in {folder} cannot be read ({error}); build it again") from None
        if there != meta["size"]:
            raise DataError(f"the index in {folder} holds {there:,} of {meta['size']:,} points; build it again")
        self._size, self._dimension = meta["size"], meta["dimension"]
        return self

    def close(self) -> None:
        """Lets go of the shard's files."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None
