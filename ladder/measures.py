"""What a sweep measures beside the metrics, and of which figures less is better."""

from __future__ import annotations

__all__ = ["MEASURES", "lower_is_better"]

MEASURES = {
    "context_tokens": "tokens of the retrieved context (`top_k` chunks) by `score.tokenizer`, mean of a question",
    "context_chars": "characters of the retrieved context, mean of a question",
    "latency_p50": "milliseconds of one question's retrieval (encode, search, fuse, rerank), median",
    "latency_p95": "the same, 95th percentile",
    "index_mb": "size of the index on disk in MB: vectors, words, or both",
    "chunks": "chunks in the index",
    "cost": "money for asking 1,000 questions: query transform, reranking and answer, each by its LLM's prices",
    "llm_tokens": "tokens that these LLMs read and wrote, mean of a question",
}
"""What is measured beside the metrics; of all these less is better."""

_COSTS = ("context_chars@", "context_tokens@", "ragas/noise_sensitivity")


def lower_is_better(name: str) -> bool:
    """True for a measure, and for a metric that counts a cost or errors."""
    return name in MEASURES or name.startswith(_COSTS)
