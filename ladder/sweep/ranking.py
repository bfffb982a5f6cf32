"""Rankings of many settings from one search: fusion and cut-offs as array arithmetic.

What is searched (chunks, vectors, words, depth) is looked up once for all settings that share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...core.cache import LastFew
from ...core.types import Chunk, Question
from ...rag.retrieve import Candidates, fuse, search_depth
from ...rag.transform import as_asked
from ..config import PipelineConfig
from ..workbench import Workbench, searching
from .vectors import SpanScorer

__all__ = ["Chunking", "Rankings", "search_key"]

_KEPT = 4
"""Chunkings and searches held at a time: trials come in the order of what they share."""
_SEARCHED = ("mode", "filter")
"""The settings of `retrieve` that a search depends on, `fetch_k` up to its depth aside."""


def search_key(pipeline: PipelineConfig) -> str:
    """Equal for pipelines that differ in no more than what is computed from one search."""
    retrieve = pipeline.retrieve.model_dump_json(include=set(_SEARCHED))
    rest = pipeline.model_dump_json(exclude={"retrieve", "generate"})
    return f"{rest}{retrieve}{search_depth(pipeline.retrieve.fetch_k)}"


@dataclass(frozen=True)
class Chunking:
    """The chunks of one chunking, and what scoring needs of them."""

    chunks: Sequence[Chunk]
    scorer: SpanScorer
    tokens: Callable[[], np.ndarray]
    """Tokens of each chunk, counted at the first call."""


class Rankings:
    """Rankings of one set of questions over one workbench."""

    def __init__(self, bench: Workbench, questions: Sequence[Question]) -> None:
        """Takes the questions; nothing is computed yet."""
        self._bench = bench
        self._questions = tuple(questions)
        self._chunkings: LastFew[Chunking] = LastFew(_KEPT)
        self._searches: LastFew[Candidates] = LastFew(_KEPT)
        self._scored: LastFew[tuple[np.ndarray, dict[str, np.ndarray]]] = LastFew(_KEPT)

    def possible(self, pipeline: PipelineConfig) -> bool:
        """Whether a ranking is arithmetic on a search: the question itself is asked, nothing is reranked, and nothing
        read in place of what was found."""
        retrieve = pipeline.retrieve
        plain = pipeline.rerank.kind == "none" and pipeline.transform.kind == "none"
        plain = plain and retrieve.mmr is None and not retrieve.neighbours
        return plain and not hasattr(self._bench.component(pipeline.chunk), "family")

    def chunking(self, pipeline: PipelineConfig) -> Chunking:
        """The pipeline's chunks."""
        bench = self._bench
        chunk_stage, gold_stage = bench.chunks_stage(pipeline), bench.gold_stage(pipeline)
        bench.get(gold_stage)

        def make() -> Chunking:
            chunks = bench.get(chunk_stage)
            scorer = SpanScorer(self._questions, bench.get(gold_stage), chunks, max(bench.config.score.ks))
            return Chunking(chunks, scorer, _counter(chunks, bench.config.score.tokenizer))

        return self._chunkings.get(f"{chunk_stage.key}{gold_stage.key}", make)

    def scored(self, pipeline: PipelineConfig, metrics: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The ranking and its scores, which `top_k` does not change.

        Args:
            pipeline: What ranks.
            metrics: Names for which `is_vectorised` is true.

        Returns:
            Chunk places, best first, -1 where fewer, shape (questions, fetch_k); and by metric what
            `SpanScorer.scores` gives.
        """

        def make() -> tuple[np.ndarray, dict[str, np.ndarray]]:
            positions = self._positions(pipeline)
            return positions, self.chunking(pipeline).scorer.scores(positions, metrics)

        fused = pipeline.retrieve.model_dump_json(exclude={"top_k"})
        return self._scored.get(f"{search_key(pipeline)}{fused}{metrics}", make)

    def _positions(self, pipeline: PipelineConfig) -> np.ndarray:
        corpus = searching.corpus_of(self._bench, pipeline)
        texts = as_asked([question.text for question in self._questions])

        def make() -> Candidates:
            return searching.found_candidates(self._bench, pipeline, texts, corpus)[0]

        found = self._searches.get(search_key(pipeline), make)
        _, positions = fuse(found, pipeline.retrieve, corpus.codes, limit=pipeline.retrieve.fetch_k)
        return positions


def _counter(chunks: Sequence[Chunk], tokenizer: Literal["words", "cl100k"]) -> Callable[[], np.ndarray]:
    counted: list[np.ndarray] = []

    def count() -> np.ndarray:
        if not counted:
            from ...rag.chunk import token_counter

            tokens = token_counter(tokenizer)
            counted.append(np.asarray([tokens.count(chunk.text) for chunk in chunks], dtype=np.int64))
        return counted[0]

    return count
