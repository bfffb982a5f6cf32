"""The LLM rung: prompts first, then training with all that surrounds it, then an honest proposal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from judge_server_double import JudgeServer, agrees
from ragladder.core.chat.types import ChatRequest, Completion, Probe
from ragladder.core.errors import DataError
from ragladder.core.progress import Reporter
from ragladder.ladder.climb import prepare
from ragladder.ladder.config import with_changes
from ragladder.ladder.llm_settings import BARE_TEMPLATE
from ragladder.ladder.records import EstimateRecord
from ragladder.ladder.rungs import RungContext, propose_llm
from ragladder.ladder.rungs import llm as rung
from ragladder.ladder.rungs.llm_after import side_by_side
from ragladder.ladder.rungs.llm_prompts import PromptSearch
from ragladder.ladder.scoring import evaluate_fully

TRAIN = {"epochs": 1, "max_length": 480, "learning_rate": 2e-2, "rank": 4, "dtype": "float32"}


@pytest.fixture
def space(words: Any, tiny_llm: Path) -> Any:
    """A workspace that searches words and answers by the tiny LLM."""
    settings = words.settings()
    settings["pipeline"]["chunk"]["size"] = 96
    settings["pipeline"]["generate"] = {
        "kind": "llm",
        "max_tokens": 4,
        "llm": {"kind": "local", "model": str(tiny_llm), "dtype": "float32"},
        "prompt": {"template": "cited", "max_context_tokens": 300},
    }
    settings["score"]["answer_metric"] = "token_f1"
    settings["rungs"] = {"llm": {"data": {"copies": 1}, "train": TRAIN}}
    words.write(settings)
    return words


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    """A double of an endpoint that judges."""
    double = JudgeServer()
    yield double
    double.close()


def context_of(space: Any, changes: dict[str, Any], notes: list[str]) -> RungContext:
    settings = space.settings()
    settings["rungs"]["llm"] |= changes
    space.write(settings)
    bench = prepare(space.config, (), Reporter(quiet=True)).bench
    return RungContext(bench, bench.config.pipeline, note=notes.append)


class Teacher:
    """Rejects what is asked about a filter."""

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        low = ["does the filter of" in request.messages[0].content for request in requests]
        return [Completion(json.dumps({"grade": 1 if bad else 5, "answer": "x"})) for bad in low]

    def count_tokens(self, text: str) -> int:
        return len(text)

    def probe(self) -> Probe:
        return Probe(True, "")


def test_everything_around_a_training_is_done_and_recorded(
    space: Any, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    changes = {
        "prompts": {"generate.prompt.template": ["plain"]},
        "bake_prompt": True,
        "edge_copies": 1,
        "teacher": {"llm": {"kind": "local", "model": str(tiny_llm)}, "min_grade": 3},
        "search": {"trials": 2},
        "sizes": [str(tiny_llm)],
        "size_target": 0.0,
        "curve": {"shares": [0.5]},
        "forgetting": {"max_tokens": 4},
    }
    context = context_of(space, changes, notes)
    settings = context.bench.config.rungs.llm
    assert settings is not None and settings.teacher is not None
    real = context.bench.component
    fake = lambda one: Teacher() if one == settings.teacher.llm else real(one)  # noqa: E731
    monkeypatch.setattr(context.bench, "component", fake)
    proposal = propose_llm(context, settings)
    details = proposal.details
    assert [trial.axis for trial in proposal.trials] == ["generate.prompt.template"]
    assert details["prompts"]["tried"] == 1
    edge = details["edge_cases"]
    assert {row["question_id"] for row in edge["answers"]} == set(edge["questions"])
    assert len(edge["questions"]) >= 5
    assert set(edge["mended"]) <= set(edge["questions"])
    assert details["baked"]["prompt_tokens_saved"] > 20
    train = {q.id for q in context.bench.split("train")}
    assert {question for question, _ in details["teacher"]["rejected"]} == {q for q in train if q.endswith("-0")}
    assert details["train_edge_cases"]
    # nine answerable questions are left and one is not; at most a further example for each edge case
    assert 10 < details["data"]["examples"] <= 10 + len(details["train_edge_cases"])
    assert 1 <= len(details["search"]) <= 2
    assert [row["chosen"] for row in details["sizes"]] == [True]
    assert [point["share"] for point in details["curve"]["points"]] == [0.5, 1.0]
    assert details["curve"]["advice"] in ("more_data", "bigger_model", "stop", "unclear")
    assert "rise" in details["forgetting"] or "answers none" in details["forgetting"]["error"]
    assert details["against_prompt"]["wins"] + details["against_prompt"]["ties"] <= 13
    made = proposal.candidate or proposal.tried
    assert made is not None
    if made.generate.llm.adapter is not None:
        assert made.generate.prompt.template == BARE_TEMPLATE
    assert any("edge cases left by the prompt" in note for note in notes)
    assert any("edge cases on dev: " in note for note in notes)
    assert proposal.after is not None
    arms = [context.bench.evaluate(one, "test") for one in (context.incumbent, made)]
    on_test = proposal.after(arms[0], arms[1])["edge_cases_on_test"]
    assert len(on_test["questions"]) >= 5
    assert set(on_test["questions"]) <= {q.id for q in context.bench.split("test")}
    json.dumps(details)


def test_a_better_prompt_alone_is_proposed_where_the_adapter_is_no_clear_gain(
    space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(space, {}, [])
    settings = context.bench.config.rungs.llm
    assert settings is not None
    better = with_changes(context.incumbent, {"generate.prompt.template": "plain"})
    estimate = EstimateRecord(mean=0.99, low=0.9, high=1.0, n_ok=13, n=13)
    found = PromptSearch(better, {"generate.prompt.template": "plain"}, (), estimate, None)
    monkeypatch.setattr(rung, "best_prompt", lambda *_: found)
    proposal = propose_llm(context, settings)
    assert proposal.candidate == better
    assert "without an adapter" in proposal.reason
    # The incumbent's own prompt is the best: then nothing is proposed, and the adapter is shown as tried.
    same = PromptSearch(context.incumbent, {}, (), estimate, None)
    monkeypatch.setattr(rung, "best_prompt", lambda *_: same)
    proposal = propose_llm(context, settings)
    assert proposal.candidate is None
    assert proposal.tried is not None and proposal.tried.generate.llm.adapter is not None


def test_preferences_about_dev_questions_stop_the_rung(space: Any) -> None:
    asked = next(row["question"] for row in space.rows() if row["split"] == "dev")
    (space.root / "thumbs.jsonl").write_text(json.dumps({"question": asked, "chosen": "a", "rejected": "b"}) + "\n")
    context = context_of(space, {"preference": {"data": "thumbs.jsonl"}}, [])
    settings = context.bench.config.rungs.llm
    assert settings is not None
    with pytest.raises(DataError, match="dev or test split"):
        propose_llm(context, settings)


def test_preferences_are_tuned_to_through_the_retriever(space: Any) -> None:
    rows = [
        {"question": f"How long does the {part} last?", "chosen": "ask the desk", "rejected": "5 days"}
        for part in ("filter", "switch")
    ]
    (space.root / "thumbs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    context = context_of(space, {"preference": {"data": "thumbs.jsonl", "batch_size": 2}}, [])
    settings = context.bench.config.rungs.llm
    assert settings is not None
    found = propose_llm(context, settings).details["preference"]
    assert (found["method"], found["rows"]) == ("dpo", 2)
    assert {"before", "after"} <= set(found)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_answers_stand_side_by_side_with_the_judges_verdicts(split: Any, space: Any, server: JudgeServer) -> None:
    server.reply = agrees
    llm = {"kind": "openai", "base_url": server.url, "model": "judge", "backoff": 0.001, "retries": 1, "concurrency": 2}
    settings = space.settings()
    settings["score"]["judge"] = {"llm": llm, "metrics": ["faithfulness", "context_recall"]}
    # Two extractive readers stand for the base and the finetuned LLM, since a random LLM writes nothing to judge.
    settings["pipeline"] |= {"generate": {"kind": "extractive"}}
    space.write(settings)
    bench = prepare(space.config, (), Reporter(quiet=True)).bench
    narrow = with_changes(bench.config.pipeline, {"retrieve.top_k": 1})
    before, after = (evaluate_fully(bench, one, split) for one in (narrow, bench.config.pipeline))
    metric = "token_f1"
    found = side_by_side(bench, metric, before, after)
    good = bench.config.score.good_enough
    scores = before.values(metric), after.values(metric)
    assert found["questions"] and all((scores[0][q] or 0.0) < good for q in found["questions"])
    assert set(found["mended"]) == {q for q in found["questions"] if (scores[1][q] or 0.0) >= good}
    assert all((scores[0][q] or 0.0) >= good > (scores[1][q] or 0.0) for q in found["newly_lost"])
    assert found["wins"] + found["ties"] + found["losses"] == len(found["questions"])
    rows = {row["question_id"]: row for row in found["answers"]}
    shown = found["questions"][:20]
    assert set(rows) == {*shown, *found["newly_lost"]}
    assert {q for q, row in rows.items() if row["became"] == "mended"} == set(found["mended"]) & set(shown)
    assert {q for q, row in rows.items() if row["became"] == "newly lost"} == set(found["newly_lost"])
    for side, evaluation in (("before", before), ("after", after)):
        given = {answer.question_id: answer.text for answer in evaluation.answers}
        assert all(row[side] == given[q] and row[f"{side}_score"] is not None for q, row in rows.items())
        claims = [claim for row in rows.values() for claim in row[f"{side}_claims"]]
        assert {claim.partition(": ")[0] for claim in claims} == {
            "supported by the contexts",
            "not supported by the contexts",
        }
        assert all(claim.endswith(" [faithfulness]") for claim in claims), "context_recall is not about the answer"
    json.dumps(found)
