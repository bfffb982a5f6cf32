"""Indexes of unit vectors, searched by inner product, and BM25 over words.

    numpy        exact, nothing to install
    flat         exact, by FAISS
    hnsw         a graph of neighbours, by FAISS
    ivf_flat     lists of like vectors, by FAISS
    ivf_pq       such lists with short codes, by FAISS: the least memory
    quantised    int8 or binary codes, by FAISS, the best scored anew with the float vectors
    qdrant       Qdrant: a server, or its local mode up to 5,000 chunks
    qdrant_edge  Qdrant's engine in this process

All take a mask of the chunks that may be found (metadata filters).
"""

from __future__ import annotations

from ...core.components import component_section
from .bm25 import BM25Index, BM25Settings
from .exact import NumpyIndexSettings
from .faiss_settings import FlatIndexSettings, HnswIndexSettings, IvfFlatIndexSettings, IvfPqIndexSettings
from .qdrant import QdrantIndexSettings
from .qdrant_edge import QdrantEdgeIndexSettings
from .quantised import QuantisedIndexSettings
from .topk import VectorIndex, search_index, top_k

__all__ = [
    "BM25Index",
    "BM25Settings",
    "FlatIndexSettings",
    "HnswIndexSettings",
    "IndexSection",
    "IvfFlatIndexSettings",
    "IvfPqIndexSettings",
    "NumpyIndexSettings",
    "QdrantEdgeIndexSettings",
    "QdrantIndexSettings",
    "QuantisedIndexSettings",
    "VectorIndex",
    "search_index",
    "top_k",
]

IndexSection = component_section(
    "index",
    NumpyIndexSettings,
    FlatIndexSettings,
    HnswIndexSettings,
    IvfFlatIndexSettings,
    IvfPqIndexSettings,
    QuantisedIndexSettings,
    QdrantIndexSettings,
    QdrantEdgeIndexSettings,
)
