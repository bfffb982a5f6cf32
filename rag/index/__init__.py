"""Indexes of unit vectors, searched by inner product, and BM25 over words."""

from __future__ import annotations

from ...core.components import component_section
from .bm25 import BM25Index, BM25Settings
from .exact import NumpyIndexSettings
from .faiss import FlatIndexSettings, HnswIndexSettings
from .qdrant import QdrantIndexSettings
from .topk import VectorIndex, top_k

__all__ = [
    "BM25Index",
    "BM25Settings",
    "FlatIndexSettings",
    "HnswIndexSettings",
    "IndexSection",
    "NumpyIndexSettings",
    "QdrantIndexSettings",
    "VectorIndex",
    "top_k",
]

IndexSection = component_section("index", NumpyIndexSettings, FlatIndexSettings, HnswIndexSettings, QdrantIndexSettings)
