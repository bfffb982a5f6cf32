"""The pipeline from ready parts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, StageError
from ragladder.core.types import Answer, Chunk, Hit, Question
from ragladder.rag.generate import ExtractiveSettings
from ragladder.rag.index import BM25Settings, NumpyIndexSettings
from ragladder.rag.pipeline import Pipeline
from ragladder.rag.retrieve import RetrieveSettings

TEXTS = [
    "Hold the pin for 12 seconds.",
    "The plume is due after 14 days.",
    "The mews is in Utrecht.",
    "A creance takes 30 days.",
]
CHUNKS = [Chunk(f"D-{n // 2}.md", n, n + 1, text, f"D-{n // 2}", "T") for n, text in enumerate(TEXTS)]


class LetterEmbedder:
    """Test double: counts of letters as unit vectors."""

    dimension = 26

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, texts: Sequence[str], role: Literal["query", "document"]) -> np.ndarray:
        self.calls += 1
        counts = np.array([[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts], dtype=np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


class Backwards:
    """Test double: a reranker that turns the order round."""

    depth = 3

    def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
        return [[Hit(hit.chunk, float(n)) for n, hit in reversed(list(enumerate(row)))] for row in hits]


class Failing:
    """Test double: a reader that fails."""

    def generate(self, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]) -> list[Answer]:
        return [Answer(question.id, "", status="timeout", detail="too slow") for question in questions]


def make(mode: str = "hybrid", **parts: Any) -> Pipeline:
    embedder = LetterEmbedder()
    index = NumpyIndexSettings().build(Resources()).build(embedder.encode(TEXTS, "document"))
    ready: dict[str, Any] = {
        "settings": RetrieveSettings.model_validate({"mode": mode, "top_k": 2, **parts.pop("retrieve", {})}),
        "embedder": embedder,
        "index": index,
        "bm25": BM25Settings().build(TEXTS),
        "generator": ExtractiveSettings().build(Resources()),
    }
    return Pipeline(CHUNKS, **{**ready, **parts})


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_retrieves_in_each_mode(mode: str) -> None:
    hits = make(mode).retrieve(["plume due", "Utrecht mews"])
    assert [row[0].chunk for row in hits] == [CHUNKS[1], CHUNKS[2]]
    assert all(len(row) <= 2 for row in hits)
    assert all([hit.score for hit in row] == sorted((hit.score for hit in row), reverse=True) for row in hits)
    assert make(mode).retrieve([]) == []


def test_words_alone_need_no_embedder_and_do_not_use_one() -> None:
    pipeline = make("bm25")
    before = pipeline.embedder.calls  # type: ignore[union-attr]
    pipeline.retrieve(["plume"])
    assert pipeline.embedder.calls == before  # type: ignore[union-attr]
    assert make("bm25", embedder=None, index=None).retrieve(["plume"])[0][0].chunk == CHUNKS[1]


def test_missing_parts_are_said_at_once() -> None:
    for parts in ({"embedder": None}, {"index": None}):
        with pytest.raises(ConfigError, match="'hybrid', which needs an embedder and an index"):
            make("hybrid", **parts)
    with pytest.raises(ConfigError, match="needs a BM25 index"):
        make("bm25", bm25=None)
    with pytest.raises(ConfigError, match="no generator"):
        make(generator=None).ask("x")


def test_a_reranker_sees_its_depth_and_top_k_are_kept() -> None:
    plain = make("dense", retrieve={"top_k": 3}).retrieve(["plume due"])[0]
    turned = make("dense", reranker=Backwards()).retrieve(["plume due"])[0]
    assert [hit.chunk for hit in turned] == [hit.chunk for hit in plain[::-1]][:2]


def test_a_cap_spreads_over_documents() -> None:
    row = make("dense", retrieve={"per_document": 1, "top_k": 4}).retrieve(["plume due"])[0]
    assert [hit.chunk.doc_id for hit in row] == ["D-0.md", "D-1.md"]


def test_answers_in_order_with_contexts() -> None:
    pipeline = make()
    questions = [Question("b", "Where is the mews?", ""), Question("a", "When is the plume due?", "")]
    answers = pipeline.answer(questions)
    assert [answer.question_id for answer in answers] == ["b", "a"]
    assert answers[0].text == "The mews is in Utrecht. [D-1]"
    assert answers[1].contexts[0] == CHUNKS[1]
    assert pipeline.ask("Where is the mews?").text == answers[0].text
    assert pipeline.answer([]) == []


def test_it_is_a_llama_index_retriever_and_query_engine() -> None:
    from llama_index.core.base.base_query_engine import BaseQueryEngine
    from llama_index.core.base.base_retriever import BaseRetriever

    pipeline = make()
    engine, retriever = pipeline.as_query_engine(), pipeline.as_retriever()
    assert isinstance(engine, BaseQueryEngine) and isinstance(retriever, BaseRetriever)
    response = engine.query("Where is the mews?")
    assert str(response) == "The mews is in Utrecht. [D-1]"
    assert response.source_nodes[0].node.text == TEXTS[2]
    assert response.source_nodes[0].node.metadata["ref"] == "D-1"
    assert str(asyncio.run(engine.aquery("Where is the mews?"))) == str(response)
    nodes = retriever.retrieve("plume due")
    assert [node.node.id_ for node in nodes] == [hit.chunk.id for hit in pipeline.retrieve(["plume due"])[0]]
    with pytest.raises(StageError, match="too slow"):
        make(generator=Failing()).as_query_engine().query("x")
