"""Time of single queries, and size of the index: measured on a sample, where an objective or a constraint asks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.types import Question
from ...embeddings.adapter import AdaptedEmbedder, load_query_adapter
from ...rag.pipeline import Pipeline
from ..config import PipelineConfig
from ..workbench import Workbench, searching

__all__ = ["latencies", "megabytes", "online"]


def online(bench: Workbench, pipeline: PipelineConfig) -> Pipeline:
    """The retrieval of a pipeline as it would serve: nothing from a cache, no generator."""
    dense, words = pipeline.retrieve.channels
    embedder: Any = None
    vectors = bench.get(bench.vectors_stage(pipeline)) if dense else None
    if dense:
        embedder = bench.component(pipeline.embed)
        if pipeline.query_adapter is not None:
            adapter = load_query_adapter(bench.resources.path(pipeline.query_adapter))
            embedder = AdaptedEmbedder(embedder, adapter)
    documents = bench.get(bench.documents_stage(pipeline)).documents
    return Pipeline(
        chunks=bench.get(bench.chunks_stage(pipeline)),
        settings=pipeline.retrieve,
        embedder=embedder,
        index=searching.ready_index(bench, pipeline, vectors) if vectors is not None else None,
        bm25=pipeline.bm25.build(bench.embedding_texts(pipeline)) if words else None,
        reranker=None if pipeline.rerank.kind == "none" else bench.component(pipeline.rerank),
        chunker=bench.component(pipeline.chunk),
        documents={document.id: document for document in documents},
        transform=None if pipeline.transform.kind == "none" else bench.component(pipeline.transform),
        vectors=vectors,
    )


def latencies(pipeline: Pipeline, questions: Sequence[Question]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds over single queries, after two that warm up."""
    for question in questions[:2]:
        pipeline.attempt([question.text])
    seconds = []
    for question in questions:
        started = time.perf_counter()
        pipeline.attempt([question.text])
        seconds.append(time.perf_counter() - started)
    shares = {"latency_p50": 0.5, "latency_p95": 0.95}
    return {name: round(1000 * float(np.quantile(seconds, share)), 3) for name, share in shares.items()}


def megabytes(pipeline: Pipeline) -> float | None:
    """Size of the indexes on disk; None where one cannot be saved."""
    total = 0
    for engine in (pipeline.index, pipeline.bm25):
        if engine is None:
            continue
        if not hasattr(engine, "save"):
            return None
        with tempfile.TemporaryDirectory() as folder:
            engine.save(Path(folder))  # type: ignore[attr-defined]
            total += sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return round(total / 1e6, 4)
