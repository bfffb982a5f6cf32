"""Retrieval: one search a channel, then fusion as array arithmetic.

A search fetches chunks a channel (vectors, words); `search_depth` says how many. All that comes after (which channels
count, their fusion, caps, thresholds, diversity, neighbours, how many) is computed from those arrays, so that hundreds
of settings cost one search.

    expansions = transform(questions)                 rag/transform, where an LLM is set
    candidates = search(expansions, ...)              candidates.py
    hits = to_hits(*fuse(candidates, settings), ...)  fuse.py
    hits = reranker(questions, hits)                  rag/rerank
    hits = finish(hits, settings, corpus)             finish.py: MMR, neighbours, larger stretches

`Pipeline` (online) and `ladder.search` (in batch, as stages) both go through these functions in this order.
"""

from __future__ import annotations

from .candidates import Candidates, Channel, align, search, search_dense, search_depth, search_words
from .corpus import Corpus, metadata_of
from .finish import finish, mmr, needs_documents
from .fuse import document_codes, fuse, to_hits
from .settings import RetrieveSettings

__all__ = [
    "Candidates",
    "Channel",
    "Corpus",
    "RetrieveSettings",
    "align",
    "document_codes",
    "finish",
    "fuse",
    "metadata_of",
    "mmr",
    "needs_documents",
    "search",
    "search_dense",
    "search_depth",
    "search_words",
    "to_hits",
]
