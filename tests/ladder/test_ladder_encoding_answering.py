"""Late chunking, contexts by an LLM, worked examples: in the workbench, the run's pipeline and an export alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ragladder
from ragladder.core.chat import ChatRequest, Completion, LocalChatSettings, Probe
from ragladder.core.errors import ConfigError, DataError
from ragladder.core.progress import Reporter
from ragladder.eval.questions import load_questions
from ragladder.ladder.config import load_experiment, with_changes
from ragladder.ladder.exported import export_run, pipeline_of_run
from ragladder.ladder.workbench import Workbench


def bench_of(workspace: Any, **pipeline: Any) -> Workbench:
    settings = workspace.settings()
    settings["pipeline"] |= pipeline
    workspace.write(settings)
    config = load_experiment(workspace.config)
    return Workbench(config, workspace.root, load_questions(workspace.questions), Reporter(quiet=True))


class Echo:
    """Test double: a chat model whose answer tells how long the prompt was, and that keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[ChatRequest] = []

    def complete(self, requests: Any) -> list[Completion]:
        self.asked += requests
        lengths = [len(request.messages[0].content) for request in requests]
        return [Completion(f"{n} days", prompt_tokens=n, completion_tokens=2) for n in lengths]

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def probe(self) -> Probe:
        return Probe(True, "a test double")


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Echo:
    """Every LLM that a config names is this one."""
    echo = Echo()
    monkeypatch.setattr(LocalChatSettings, "build", lambda settings, resources: echo)
    monkeypatch.setattr(LocalChatSettings, "identity", lambda settings, resources: {"echo": 1})
    return echo


LLM = {"kind": "local", "model": "nobody/nothing"}


def test_one_late_pass_serves_every_chunking_and_the_run_ends_with_its_vectors(workspace: Any, cli: Any) -> None:
    settings = workspace.settings()
    settings["pipeline"]["context"] = {"kind": "late", "overlap": 8}
    small, large = {"kind": "section", "size": 24}, {"kind": "section", "size": 96}
    settings["rungs"]["retrieval"]["space"] = {"chunk": [small, large]}
    workspace.write(settings)
    ran = cli("climb", workspace.config)
    assert ran.code == 0, ran.err
    names = [name.rpartition("-")[0] for name in workspace.stages()]
    assert names.count("tokens") == 1 and names.count("encode-late") == names.count("chunk") == 3
    assert "encode" not in names
    run, question = workspace.runs()[-1], workspace.rows()[0]["question"]
    pipeline = pipeline_of_run(run)
    export_run(run, workspace.root / "out")
    assert ragladder.load(workspace.root / "out").retrieve([question]) == pipeline.retrieve([question])


def test_late_vectors_know_what_stands_round_a_chunk(workspace: Any) -> None:
    bench = bench_of(workspace, chunk={"kind": "document"}, context={"kind": "late", "overlap": 8})
    whole = bench.get(bench.vectors_stage(bench.config.pipeline))
    section = with_changes(bench.config.pipeline, {"chunk": {"kind": "section", "size": 24}})
    late = bench.get(bench.vectors_stage(section))
    alone = bench.get(bench.vectors_stage(with_changes(section, {"context": "none"})))
    chunks = bench.get(bench.chunks_stage(section))
    assert late.shape == alone.shape == (len(chunks), 32) and whole.shape == (12, 32)
    np.testing.assert_allclose(np.linalg.norm(late, axis=1), 1, atol=1e-5)
    assert np.abs(late - alone).max() > 0.01
    assert bench.embedding_texts(section) == [chunk.text for chunk in chunks]


def test_late_is_refused_where_an_embedder_has_no_tokens(workspace: Any) -> None:
    bench = bench_of(workspace, context="late")
    static = {"kind": "static", "model": bench.config.pipeline.embed.model, "dimension": 8}
    with pytest.raises(DataError, match="gives no token vectors"):
        bench.get(bench.vectors_stage(with_changes(bench.config.pipeline, {"embed": static})))
    endpoint = {"kind": "openai", "base_url": "http://localhost:1/v1", "model": "m"}
    with pytest.raises(ConfigError, match="'openai' does not"):
        bench.get(bench.vectors_stage(with_changes(bench.config.pipeline, {"embed": endpoint})))


def test_an_llms_contexts_are_embedded_searched_for_words_and_counted(workspace: Any, chat: Echo) -> None:
    bench = bench_of(workspace, context={"kind": "llm", "llm": LLM}, retrieve={"mode": "hybrid", "top_k": 2})
    pipeline = bench.config.pipeline
    with bench.meter() as meter:
        bench.retrieve(pipeline, bench.split("dev"))
    chunks = bench.get(bench.chunks_stage(pipeline))
    texts = bench.embedding_texts(pipeline)
    assert all(text.endswith(f" days\n{chunk.text}") for text, chunk in zip(texts, chunks, strict=True))
    assert len(chat.asked) == len(chunks), "each chunk once, whoever asks"
    assert sum(meter.completion_tokens.values()) == 2 * len(chunks)
    again = bench_of(workspace)
    with again.meter() as meter:
        again.retrieve(again.config.pipeline, again.split("test"))
    assert len(chat.asked) == len(chunks)
    assert sum(meter.completion_tokens.values()) == 2 * len(chunks), "what it cost when it was first written"


def test_worked_examples_are_train_questions_and_the_export_shows_the_same(
    workspace: Any, cli: Any, chat: Echo
) -> None:
    settings = workspace.settings()
    prompt = {"demonstrations": 2, "demonstration_choice": "similar", "demonstration_evidence": True}
    settings["pipeline"]["generate"] = {"kind": "llm", "llm": LLM, "prompt": prompt}
    settings["rungs"] = {}
    workspace.write(settings)
    ran = cli("climb", workspace.config)
    assert ran.code == 0, ran.err
    texts = {row["question"]: row["split"] for row in workspace.rows()}
    for request in chat.asked:
        shown = [line.removeprefix("Question: ") for line in request.messages[0].content.splitlines()]
        known = [text for text in shown if text in texts]
        assert [texts[text] for text in known[:2]] == ["train", "train"] and len(set(known)) == 3
    run, question = workspace.runs()[-1], workspace.rows()[17]["question"]
    scored = {request.messages[0].content for request in chat.asked}
    chat.asked.clear()
    pipeline_of_run(run).ask(question)
    export_run(run, workspace.root / "out")
    ragladder.load(workspace.root / "out").ask(question)
    online = [request.messages[0].content for request in chat.asked]
    assert online[0] == online[1] and online[0] in scored
    workspace.write_rows(workspace.rows()[1:])
    with pytest.raises(DataError, match="questions in .* have changed"):
        pipeline_of_run(run)


def test_more_examples_than_train_questions_are_an_error(workspace: Any, chat: Echo) -> None:
    prompt = {"demonstrations": 13}
    bench = bench_of(workspace, generate={"kind": "llm", "llm": LLM, "prompt": prompt})
    with pytest.raises(ConfigError, match="demonstrations is 13, but there are only 13 train questions"):
        bench.evaluate(bench.config.pipeline, "dev")


def test_a_chain_and_json_answer_the_same_online(workspace: Any, chat: Echo) -> None:
    bench = bench_of(workspace, generate={"kind": "llm", "llm": LLM, "prompt": {"chain": "extract", "output": "json"}})
    with bench.meter() as meter:
        evaluation = bench.evaluate(bench.config.pipeline, "dev")
    assert {answer.status for answer in evaluation.answers} == {"parse_error"}
    assert sum(meter.completion_tokens.values()) == 4 * len(evaluation.questions), "both calls"
    asked = len(chat.asked)
    assert bench_of(workspace).evaluate(bench.config.pipeline, "dev").answers == evaluation.answers
    assert len(chat.asked) == asked, "kept"
