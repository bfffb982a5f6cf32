"""Retrieval in batch: the same as online, computed once, failures counted."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import ragladder
from ragladder.core.chat import ChatRequest, Completion, OpenAIChatSettings, Probe
from ragladder.core.errors import ConfigError, StageError
from ragladder.core.progress import Reporter
from ragladder.core.types import Hit
from ragladder.eval.questions import load_questions
from ragladder.ladder.config import load_experiment, with_changes
from ragladder.ladder.exported import _assemble
from ragladder.ladder.workbench import Workbench
from ragladder.ladder.workbench.searching import calls_a_question

LLM = {"kind": "openai", "base_url": "http://localhost:9/v1", "model": "tiny"}
PARTS = '''
"""Components from outside, for tests."""

import numpy as np
from ragladder.core.types import Hit


class Letters:
    """Counts of letters as unit vectors."""

    dimension = 26
    source = "letters"

    def encode(self, texts, role):
        rows = [[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts]
        counts = np.array(rows, dtype=np.float32).reshape(-1, 26)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


class Longest:
    """Puts long chunks first; sees six."""

    depth = 6

    def rerank(self, questions, hits):
        rows = [sorted(row, key=lambda hit: -len(hit.chunk.text)) for row in hits]
        return [[Hit(hit.chunk, float(len(hit.chunk.text))) for hit in row] for row in rows]


class Raises:
    """Fails."""

    def rerank(self, questions, hits):
        raise KeyError("no luck")


class Stranger:
    """Gives what it was not shown."""

    def rerank(self, questions, hits):
        from ragladder.core.types import Chunk

        return [[Hit(Chunk("x", 0, 1, "x"), 1.0)] for _ in questions]
'''


class Scripted:
    """Test double: a chat model that answers by script and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.reply: Callable[[str], str | Completion] = lambda text: '["battery drone"]'

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        self.calls += len(requests)
        made = [self.reply(request.messages[0].content) for request in requests]
        return [one if isinstance(one, Completion) else Completion(one, "ok", "", 20, 5, 0.25) for one in made]

    def count_tokens(self, text: str) -> int:
        return len(text)

    def probe(self) -> Probe:
        return Probe(True, "")


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    made = Scripted()
    monkeypatch.setattr(OpenAIChatSettings, "build", lambda self, resources: made)
    return made


@pytest.fixture
def bench(words: Any, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    (words.root / "search_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(words.root))
    sys.modules.pop("search_parts", None)
    settings = words.settings()
    settings["pipeline"]["embed"] = "search_parts:Letters"
    settings["pipeline"]["retrieve"] = {"mode": "hybrid", "top_k": 3, "fetch_k": 10}
    words.write(settings)
    return fresh(words.root)


def fresh(root: Path) -> Workbench:
    config = load_experiment(root / "experiment.yaml")
    return Workbench(config, root, load_questions(root / "questions.jsonl"), Reporter(quiet=True))


CHANGES: list[dict[str, Any]] = [
    {},
    {"retrieve.mode": "dense", "index": "hnsw"},
    {"retrieve.mode": "bm25"},
    {"index": {"kind": "ivf_flat", "nlist": 4, "nprobe": 2}},
    {"retrieve.fusion": "weighted", "retrieve.normalise": "zscore", "retrieve.weight": 0.3, "retrieve.per_document": 1},
    {"retrieve.filter": {"format": ["md", "txt"], "path": "DV-*"}},
    {"retrieve.filter": {"encoding": "utf-8"}, "retrieve.mode": "dense", "index": "qdrant"},
    {"retrieve.mmr": 0.4, "retrieve.threshold": 0.02},
    {"retrieve.neighbours": 2, "retrieve.neighbours_within": "document"},
    {"rerank": "search_parts:Longest"},
    {"rerank": "search_parts:Longest", "retrieve.mmr": 0.5, "retrieve.neighbours": 1},
    {"retrieve.fetch_k": 3},
    {"chunk": {"kind": "sentence_window", "window": 1}},
    {"transform": {"kind": "multi_query", "llm": LLM}},
    {"transform": {"kind": "multi_query", "llm": LLM, "combine": "max"}, "retrieve.mode": "dense"},
    {"transform": {"kind": "hyde", "llm": LLM}},
]


def same(one: list[list[Hit]], other: list[list[Hit]]) -> bool:
    """The same passages in the same order; scores save for rounding, for a cache makes vectors unit once more."""
    passages = [[[hit.chunk for hit in row] for row in hits] for hits in (one, other)]
    scores = [[hit.score for row in hits for hit in row] for hits in (one, other)]
    return passages[0] == passages[1] and scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: ",".join(changes) or "plain")
def test_the_pipeline_finds_online_what_was_scored_in_batch(
    changes: dict[str, Any], bench: Workbench, chat: Scripted
) -> None:
    pipeline = with_changes(bench.config.pipeline, changes)
    questions = bench.split("test")
    batch = bench.retrieve(pipeline, questions)
    assert not batch.failures and all(len(row) <= pipeline.retrieve.top_k for row in batch.contexts)
    online = _assemble(bench, pipeline)
    assert same(online.retrieve([question.text for question in questions]), batch.contexts)
    single = [online.retrieve([question.text])[0] for question in questions[:3]]
    assert same(single, batch.contexts[:3]), "and one at a time"


@pytest.mark.parametrize("changes", CHANGES[5:9], ids=lambda changes: ",".join(changes))
def test_an_exported_pipeline_finds_the_same(changes: dict[str, Any], bench: Workbench, words: Any, cli: Any) -> None:
    settings = words.settings()
    settings["rungs"] = {}
    pipeline = with_changes(bench.config.pipeline, changes)
    settings["pipeline"] = pipeline.model_dump(mode="json")
    words.write(settings)
    assert cli("climb", words.config).code == 0
    assert cli("export", words.runs()[-1].name, "out", "--cache-dir", words.cache).code == 0
    questions = bench.split("test")
    loaded = ragladder.load(words.root / "out", device="cpu")
    found = loaded.retrieve([question.text for question in questions])
    assert same(found, bench.retrieve(pipeline, questions).contexts)
    only = loaded.retrieve([question.text for question in questions], filter={"path": "DV-6*"})
    assert {hit.chunk.doc_id for row in only for hit in row} == {"DV-6_gate.md"}
    assert loaded.retrieve(["gate"], filter={"path": "nothing"}) == [[]]
    with pytest.raises(ConfigError, match="did you mean 'encoding'"):
        loaded.retrieve(["gate"], filter={"encodin": "utf-8"})


def test_what_comes_after_the_search_costs_no_search(bench: Workbench, words: Any) -> None:
    questions = bench.split("dev")
    bench.retrieve(bench.config.pipeline, questions)
    before = words.stages()
    started = time.perf_counter()
    trials = [
        {
            "retrieve.fusion": "weighted",
            "retrieve.weight": n / 25,
            "retrieve.normalise": how,
            "retrieve.fetch_k": 10 + n,
        }
        for n in range(25)
        for how in ("minmax", "zscore")
    ]
    trials += [{"retrieve.mmr": n / 25} for n in range(25)] + [{"retrieve.neighbours": n % 5} for n in range(25)]
    found = {json.dumps([[h.chunk.id for h in row] for row in _contexts(bench, changes)]) for changes in trials}
    assert time.perf_counter() - started < 5, "100 trials"
    assert words.stages() == before
    assert len(found) > 5, "they do differ"


def _contexts(bench: Workbench, changes: dict[str, Any]) -> Any:
    return bench.retrieve(with_changes(bench.config.pipeline, changes), bench.split("dev")).contexts


def names(space: Any, name: str) -> list[str]:
    return [stage for stage in space.stages() if stage.startswith(f"{name}-")]


def test_search_knobs_of_an_index_do_not_build_it_again(bench: Workbench, words: Any) -> None:
    for kind in ({"kind": "hnsw", "ef_search": 8}, {"kind": "hnsw", "ef_search": 64}):
        _contexts(bench, {"index": kind})
    assert len(names(words, "index")) == 1 and len(names(words, "search-dense")) == 2
    _contexts(bench, {"index": {"kind": "hnsw", "m": 8}})
    assert len(names(words, "index")) == 2
    _contexts(bench, {"index": "flat"})
    assert len(names(words, "index")) == 2, "what is built in no time is not kept"


def test_a_transform_is_asked_once_and_its_tokens_count(bench: Workbench, chat: Scripted, words: Any) -> None:
    questions = bench.split("dev")
    pipeline = with_changes(bench.config.pipeline, {"transform": {"kind": "multi_query", "llm": LLM}})
    with bench.meter() as meter:
        bench.retrieve(pipeline, questions)
    assert sum(meter.prompt_tokens.values()) == 20 * len(questions)
    assert sum(meter.completion_tokens.values()) == 5 * len(questions)
    fresh(words.root).retrieve(with_changes(pipeline, {"retrieve.weight": 0.9, "transform.combine": "max"}), questions)
    assert chat.calls == len(questions)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("transform", {"transform": {"kind": "multi_query", "llm": LLM}}),
        ("rerank", {"rerank": {"kind": "listwise", "llm": LLM, "depth": 4}}),
    ],
)
def test_a_question_that_fails_is_a_status_and_is_asked_again(
    kind: str, changes: dict[str, Any], bench: Workbench, chat: Scripted, words: Any
) -> None:
    questions = bench.split("dev")
    bad = questions[0]
    good = '{"queries": ["battery"], "ranking": [1]}'
    chat.reply = lambda text: Completion("", "timeout", "too slow") if bad.text in text else good
    evaluation = bench.evaluate(with_changes(bench.config.pipeline, changes), "dev")
    assert set(evaluation.retrieved.failures) == {bad.id} and evaluation.retrieved.contexts[0] == []
    [answer] = [answer for answer in evaluation.answers if answer.question_id == bad.id]
    assert (answer.status, answer.text) == ("timeout", "") and "too slow" in answer.detail
    values = evaluation.values("ndcg@5")
    assert values[bad.id] is None and all(value is not None for q, value in values.items() if q != bad.id)
    statuses = {score.status for score in evaluation.scores if score.question_id == bad.id}
    assert statuses <= {"timeout", "not_applicable"} and "timeout" in statuses
    assert not names(words, kind), "the server may answer the next run"
    chat.reply = lambda text: good
    healed = fresh(words.root).retrieve(with_changes(bench.config.pipeline, changes), questions)
    assert not healed.failures and len(names(words, kind)) == 1


def test_a_reply_that_cannot_be_read_is_kept(bench: Workbench, chat: Scripted, words: Any) -> None:
    chat.reply = lambda text: "well…"
    pipeline = with_changes(bench.config.pipeline, {"rerank": {"kind": "listwise", "llm": LLM}})
    found = bench.retrieve(pipeline, bench.split("dev"))
    assert {why.status for why in found.failures.values()} == {"parse_error"}
    assert len(names(words, "rerank")) == 1
    online = _assemble(bench, pipeline)
    with pytest.raises(StageError, match="parse_error: listwise reranking"):
        online.retrieve(["battery"])
    assert online.ask("battery").status == "parse_error"


def test_components_that_raise_are_named_and_a_sweep_goes_on(bench: Workbench, words: Any, cli: Any) -> None:
    with pytest.raises(StageError, match=r"the reranker 'search_parts:Raises' raised KeyError: 'no luck'"):
        _contexts(bench, {"rerank": "search_parts:Raises"})
    with pytest.raises(StageError, match="not one that it was shown"):
        _contexts(bench, {"rerank": "search_parts:Stranger"})
    settings = words.settings()
    settings["rungs"]["retrieval"]["space"] = {"rerank": ["search_parts:Raises", "search_parts:Longest"]}
    words.write(settings)
    assert cli("climb", words.config).code == 0
    details = words.ladder()["rungs"][0]["details"]
    assert details["failed"] == 1 and details["trials"] >= 3


def test_the_vectors_of_another_model_are_refused(bench: Workbench) -> None:
    online = _assemble(bench, with_changes(bench.config.pipeline, {"retrieve.mode": "dense"}))
    online.embedder.encode = lambda texts, role: [[1.0, 0.0]] * len(texts)  # type: ignore[union-attr]
    with pytest.raises(ragladder.core.errors.DataError, match="26 dimensions, got 2: .*same model"):
        online.retrieve(["x"])


@pytest.mark.parametrize(
    ("changes", "calls"),
    [
        ({}, 0),
        ({"transform": {"kind": "hyde", "llm": LLM, "passages": 3, "temperature": 0.5}}, 3),
        ({"rerank": {"kind": "listwise", "llm": LLM, "depth": 20, "window": 10, "step": 5}}, 3),
        ({"rerank": {"kind": "listwise", "llm": {"kind": "local", "model": "m"}}}, 0),
        (
            {
                "transform": {"kind": "step_back", "llm": LLM},
                "rerank": {"kind": "endpoint", "style": "tei", "base_url": "http://localhost:9"},
            },
            2,
        ),
    ],
)
def test_the_plan_knows_the_calls(changes: dict[str, Any], calls: int, bench: Workbench) -> None:
    pipeline = with_changes(bench.config.pipeline, changes)
    assert calls_a_question(pipeline) == calls


@pytest.mark.parametrize(
    ("section", "value", "said"),
    [
        (
            "rerank",
            {"kind": "endpoint", "base_url": "http://localhost:9", "model": "m", "api_key_env": "NO_SUCH_KEY"},
            "environment variable NO_SUCH_KEY is not set",
        ),
        ("rerank", {"kind": "cross_encoder", "model": "./nothing"}, "rerank.model: model './nothing'"),
        ("transform", {"kind": "hyde", "llm": {**LLM, "api_key_env": "NO_SUCH_KEY"}}, "NO_SUCH_KEY is not set"),
        ("index", {"kind": "qdrant", "location": "http://localhost:9", "api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY"),
        ("index", {"kind": "ivf_flt"}, "did you mean 'ivf_flat'"),
        ("retrieve", {"mode": "bm25", "mmr": 0.5}, "mmr compares vectors"),
    ],
)
def test_check_says_what_is_missing_before_anything_runs(
    section: str, value: dict[str, Any], said: str, bench: Workbench, words: Any, cli: Any
) -> None:
    settings = words.settings()
    settings["pipeline"][section] = value
    words.write(settings)
    done = cli("check", words.config)
    assert done.code in (2, 3) and said in done.err + done.out


def test_a_misspelt_filter_is_said_and_so_is_a_list_of_weights(bench: Workbench) -> None:
    with pytest.raises(ConfigError, match="did you mean 'format'"):
        _contexts(bench, {"retrieve.filter": {"fromat": "md"}})
    with pytest.raises(ConfigError, match="got 3 weights"):
        with_changes(bench.config.pipeline, {"retrieve.weight": [0.2, 0.3, 0.5]})
