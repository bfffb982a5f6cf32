"""Scores an embedding model on dev as the pipeline would use it, without encoding the whole corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core.types import Chunk, Question
from ...embeddings.train import Encode
from ...eval.retrieval import retrieval_scores
from ...rag.index import top_k
from ...rag.retrieve import align, document_codes, fuse, to_hits
from ..config import EmbeddingRungSettings, PipelineConfig
from ..workbench import Workbench

__all__ = ["DevScorer"]


class DevScorer:
    """Mean dev score of an encoder, by the rung's metric, over a pool of chunks (the same for every model).

    The pool holds what the incumbent fetches for the dev questions and the chunks with their evidence.
    """

    def __init__(
        self,
        bench: Workbench,
        pipeline: PipelineConfig,
        settings: EmbeddingRungSettings,
        chunks: list[Chunk],
        texts: list[str],
    ) -> None:
        """Makes the pool.

        Args:
            bench: Questions and stages.
            pipeline: How is searched.
            settings: The metric and the size of the pool.
            chunks: All chunks.
            texts: What is embedded of each.
        """
        self.questions = bench.split("dev")
        self._metric = settings.metric
        self._ks, self._budgets = _cut_offs(settings.metric, bench.config.score.ks)
        self._gold = bench.get(bench.gold_stage(pipeline))
        pool = _pool(bench, pipeline, self.questions, chunks, settings.dev_candidates)
        self._members = [chunks[position] for position in pool]
        self._texts = [texts[position] for position in pool]
        self._retrieve = pipeline.retrieve.model_copy(
            update={"fetch_k": min(pipeline.retrieve.fetch_k, len(self._members))}
        )
        self._words = None
        if self._retrieve.mode == "hybrid":
            index = pipeline.bm25.build(self._texts)
            self._words = index.search([q.text for q in self.questions], self._retrieve.fetch_k)
        self._seen: list[tuple[float, dict[str, float]]] = []

    def __call__(self, encode: Encode) -> float:
        """The mean."""
        values = self.values(encode)
        mean = float(np.mean(list(values.values())))
        self._seen.append((mean, values))
        return mean

    def values(self, encode: Encode) -> dict[str, float]:
        """One value a dev question that the metric applies to."""
        vectors = encode(self._texts, "document")
        limit = self._retrieve.fetch_k
        dense = top_k(encode([q.text for q in self.questions], "query") @ np.asarray(vectors).T, limit)
        fused = fuse(align(dense, self._words), self._retrieve, document_codes(self._members), limit=limit)
        hits = [[hit.chunk for hit in row] for row in to_hits(*fused, self._members)]
        scores = retrieval_scores(self.questions, hits, self._gold, self._ks, budgets=self._budgets)
        return {s.question_id: s.value for s in scores if s.metric == self._metric and s.value is not None}

    @property
    def first(self) -> dict[str, float]:
        """The values of the first model that was scored here: in a training the untrained base."""
        return self._seen[0][1]

    def seen(self, mean: float) -> dict[str, float] | None:
        """The values of the model with this mean; None where an earlier process scored it, or models tie in it."""
        found = [values for value, values in self._seen if value == mean]
        return found[0] if found and all(values == found[0] for values in found) else None


def _cut_offs(metric: str, ks: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Only the cut-off and the budget that the metric needs: dev is scored many times."""
    number = metric.partition("@")[2]
    if number.endswith("c"):
        return (max(ks),), (int(number[:-1]),)
    return ((int(number),) if number else (max(ks),)), ()


def _pool(
    bench: Workbench, pipeline: PipelineConfig, questions: Sequence[Question], chunks: list[Chunk], each: int
) -> list[int]:
    place = {chunk.id: position for position, chunk in enumerate(chunks)}
    hits = bench.retrieve(pipeline, questions)
    # A stretch that is read in place of its chunks is no chunk itself; its evidence comes in below.
    pool = {place[hit.chunk.id] for row in hits.candidates for hit in row[:each] if hit.chunk.id in place}
    gold = bench.get(bench.gold_stage(pipeline))
    spans: dict[str, list[tuple[int, int]]] = {}
    for span in (span for question in questions for span in gold[question.id] if span.found):
        spans.setdefault(span.doc_id, []).append((span.start, span.end))
    pool |= {
        position
        for position, chunk in enumerate(chunks)
        if any(start < chunk.end and chunk.start < end for start, end in spans.get(chunk.doc_id, ()))
    }
    return sorted(pool)
