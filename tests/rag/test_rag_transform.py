"""Query transforms, by a scripted model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from ragladder.core.chat import ChatRequest, Completion, Probe
from ragladder.core.components import Resources
from ragladder.core.errors import EndpointError
from ragladder.core.types import Status
from ragladder.rag.index import BM25Settings, NumpyIndexSettings
from ragladder.rag.retrieve import search, search_dense, search_words
from ragladder.rag.transform import Expansion, LLMTransform, TransformSection, as_asked

LLM = {"kind": "openai", "base_url": "http://localhost:9/v1", "model": "tiny"}
TEXTS = ["red pump", "blue lamp", "green gate", "red lamp", "old pump"]
WORDS = ["red", "blue", "green", "pump", "lamp", "gate", "old"]


class Scripted:
    """Test double: a chat model that answers by script, and notes what it was asked."""

    def __init__(self, reply: Callable[[ChatRequest], str | Completion]) -> None:
        self.reply = reply
        self.seen: list[ChatRequest] = []

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        self.seen += requests
        made = [self.reply(request) for request in requests]
        return [
            one if isinstance(one, Completion) else Completion(one, prompt_tokens=7, completion_tokens=3, seconds=0.5)
            for one in made
        ]

    def count_tokens(self, text: str) -> int:
        return len(text)

    def probe(self) -> Probe:
        return Probe(True, "")


class WordEmbedder:
    """Test double: counts of words as unit vectors; documents stand a little apart from queries."""

    dimension = len(WORDS)

    def encode(self, texts: Sequence[str], role: Literal["query", "document"]) -> np.ndarray:
        counts = np.array([[text.split().count(word) for word in WORDS] for text in texts], dtype=np.float32)
        counts = counts.reshape(-1, len(WORDS))
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def make(
    kind: str, reply: Callable[[ChatRequest], str | Completion], monkeypatch: pytest.MonkeyPatch, **values: Any
) -> tuple[LLMTransform, Scripted]:
    settings: Any = TypeAdapter(TransformSection).validate_python({"kind": kind, "llm": LLM, **values})
    chat = Scripted(reply)
    monkeypatch.setattr(type(settings.llm), "build", lambda self, resources: chat)
    return settings.build(Resources()), chat


def test_none_is_nothing_and_questions_stay_questions() -> None:
    none: Any = TypeAdapter(TransformSection).validate_python("none")
    assert none.build(Resources()) is None
    assert as_asked(["a", "b"]) == [Expansion(("a",)), Expansion(("b",))]
    one = Expansion(("a", "b"))
    assert as_asked([one]) == [one]


@pytest.mark.parametrize("kind", ["multi_query", "decomposition"])
def test_lists_of_queries(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(request: ChatRequest) -> str:
        return json.dumps({"queries": ["first", "second ", "first", "", "third", "fourth"]})

    transform, chat = make(kind, reply, monkeypatch, queries=3)
    [one] = transform.expand(["why {this}?"])
    assert one == Expansion(("why {this}?", "first", "second", "third"), (), "ok", "", 0.5, 7, 3)
    [request] = chat.seen
    assert "why {this}?" in request.messages[0].content and "3" in request.messages[0].content
    assert request.json_schema is not None and request.json_schema["required"] == ["queries"]
    alone, _ = make(kind, reply, monkeypatch, queries=1, keep_question=False)
    assert alone.expand(["x"])[0].queries == ("first",)


def test_step_back_adds_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    transform, _ = make("step_back", lambda _: " What is a pump?\nBecause…", monkeypatch)
    assert transform.expand(["Why is the pump red?"])[0].queries == ("Why is the pump red?", "What is a pump?")
    empty, _ = make("step_back", lambda _: "  ", monkeypatch)
    assert empty.expand(["x"])[0].status == "parse_error"


def test_hyde_draws_passages(monkeypatch: pytest.MonkeyPatch) -> None:
    transform, chat = make(
        "hyde", lambda request: f"passage {request.repeat}", monkeypatch, passages=2, temperature=0.7, seed=1
    )
    rows = transform.expand(["a", "b"])
    assert [row.passages for row in rows] == [("passage 0", "passage 1")] * 2
    assert [row.queries for row in rows] == [("a",), ("b",)]
    assert rows[0].prompt_tokens == 14 and rows[0].seconds == 1.0
    assert [request.repeat for request in chat.seen] == [0, 1, 0, 1]


@pytest.mark.parametrize("reply", ["no json", '{"queries": "one"}', '{"other": []}', '{"queries": []}', "[1, 2]", ""])
def test_a_reply_that_says_nothing_is_a_status(reply: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transform, _ = make(
        "multi_query", lambda request: reply if "bad" in request.messages[0].content else '["q"]', monkeypatch
    )
    bad, good = transform.expand(["bad", "good"])
    assert (bad.status, bad.queries) == ("parse_error", ()) and bad.detail.startswith("query transform: ")
    assert good == Expansion(("good", "q"), (), "ok", "", 0.5, 7, 3)


@pytest.mark.parametrize("reply", ['```json\n{"queries": ["q"]}\n```', '["q"]'])
def test_fenced_and_bare_lists_will_do(reply: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transform, _ = make("multi_query", lambda _: reply, monkeypatch)
    assert transform.expand(["x"])[0].queries == ("x", "q")


@pytest.mark.parametrize("status", ["timeout", "generation_error"])
def test_a_call_that_fails_is_a_status_with_its_cost(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    transform, _ = make("hyde", lambda _: Completion("", status, "too slow", prompt_tokens=9), monkeypatch)
    [one] = transform.expand(["x"])
    assert (one.status, one.queries, one.passages, one.prompt_tokens) == (status, (), (), 9)
    assert one.detail == "query transform: too slow"


def test_an_endpoint_that_is_down_is_an_error(tmp_path: Path) -> None:
    llm = {**LLM, "retries": 0, "base_url": "http://127.0.0.1:9/v1"}
    settings: Any = TypeAdapter(TransformSection).validate_python({"kind": "hyde", "llm": llm})
    with pytest.raises(EndpointError, match="no connection"):
        settings.build(Resources(cache_dir=tmp_path)).expand(["x"])


def test_bad_settings_are_said() -> None:
    adapter: Any = TypeAdapter(TransformSection)
    with pytest.raises(ValidationError, match="lacks {question}"):
        adapter.validate_python({"kind": "hyde", "llm": LLM, "prompt": "write"})
    with pytest.raises(ValidationError, match="the same at temperature 0"):
        adapter.validate_python({"kind": "hyde", "llm": LLM, "passages": 3})
    with pytest.raises(ValidationError, match="did you mean 'multi_query'"):
        adapter.validate_python({"kind": "multi_qery", "llm": LLM})
    with pytest.raises(ValidationError, match="llm"):
        adapter.validate_python("hyde")


def test_identity_holds_the_prompt_and_the_model_but_not_how_results_are_joined() -> None:
    adapter: Any = TypeAdapter(TransformSection)
    base = adapter.validate_python({"kind": "hyde", "llm": LLM})
    same = adapter.validate_python({"kind": "hyde", "llm": {**LLM, "timeout": 3}, "combine": "max"})
    assert base.identity(Resources()) == same.identity(Resources())
    for change in ({"prompt": "{question}!"}, {"max_tokens": 5}, {"llm": {**LLM, "model": "other"}}):
        other = adapter.validate_python({"kind": "hyde", "llm": LLM, **change})
        assert other.identity(Resources()) != base.identity(Resources())


def index() -> Any:
    return NumpyIndexSettings().build(Resources()).build(WordEmbedder().encode(TEXTS, "document"))


def dense(asked: list[Expansion], how: Literal["rrf", "max"] = "rrf", k: int = 5) -> list[list[int]]:
    scores, positions = search_dense(asked, WordEmbedder(), index(), k, None, how)
    assert (np.diff(np.where(np.isinf(scores), -9, scores), axis=1) <= 0).all()
    return [[int(at) for at in row if at >= 0] for row in positions]


def test_several_queries_become_one_ranking() -> None:
    [max_row] = dense([Expansion(("green gate", "blue lamp"))], "max")
    assert max_row[:2] == [1, 2], "equal scores by position"
    scores, _ = search_dense([Expansion(("red pump", "red lamp"))], WordEmbedder(), index(), 5, None, "max")
    assert scores[0, 0] == pytest.approx(1.0), "the unit stays the cosine"
    [both] = dense([Expansion(("red pump", "red lamp"))], "rrf")
    single = {query: dense([Expansion((query,))])[0] for query in ("red pump", "red lamp")}
    expected = {at: sum(1 / (60 + row.index(at) + 1) for row in single.values()) for at in range(5)}
    assert both == sorted(expected, key=lambda at: (-round(expected[at], 9), at))


def test_questions_with_different_numbers_of_queries_keep_their_rows() -> None:
    asked = [Expansion(("green gate",)), Expansion((), status="timeout"), Expansion(("old pump", "old pump"))]
    rows = dense(asked, "max")
    assert rows[0][0] == 2 and rows[1] == [] and rows[2][0] == 4
    bm25 = BM25Settings().build(TEXTS)
    _, words = search_words(asked, bm25, 3)
    assert words[0].tolist() == [2, -1, -1] and (words[1] == -1).all() and words[2, 0] == 4
    found = search(asked, 3, WordEmbedder(), index(), bm25)
    assert (found.positions[1] == -1).all()
    assert (search_dense([Expansion(())], WordEmbedder(), index(), 3)[1] == -1).all()


def test_hyde_searches_by_the_mean_vector_and_words_by_the_question() -> None:
    one = Expansion(("red",), ("green gate",))
    scores, positions = search_dense([one, Expansion(("blue",))], WordEmbedder(), index(), 5)
    vectors = WordEmbedder().encode(["red", "green gate"], "query")
    mean = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
    expected = WordEmbedder().encode(TEXTS, "document") @ mean
    assert scores[0].tolist() == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-5)
    assert positions[1, 0] == 1, "a question without passages is searched by itself"
    _, words = search_words([one], BM25Settings().build(TEXTS), 5)
    assert sorted(words[0][words[0] >= 0].tolist()) == [0, 3]
