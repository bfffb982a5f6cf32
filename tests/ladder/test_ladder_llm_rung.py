"""The LLM rung: prompts first, then training with all that surrounds it, then an honest proposal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from judge_server_double import JudgeServer, agrees
from ragladder.core.chat.types import ChatRequest, Completion, Probe
from ragladder.core.errors import DataError
from ragladder.core.progress import Reporter
from ragladder.ladder import climb as climbing
from ragladder.ladder.climb import prepare
from ragladder.ladder.config import with_changes
from ragladder.ladder.gate import Decision, beats_both
from ragladder.ladder.llm_settings import BARE_TEMPLATE
from ragladder.ladder.records import EstimateRecord, LadderRecord
from ragladder.ladder.report import build_report
from ragladder.ladder.report.findings import compared
from ragladder.ladder.rungs import Proposal, RungContext, llm_prompts, propose_llm, propose_prompt
from ragladder.ladder.rungs.llm_after import on_test as on_test_of
from ragladder.ladder.rungs.llm_after import side_by_side
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
    settings["rungs"] = {"llm": {"prompts": {}, "data": {"copies": 1}, "train": TRAIN}}
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
    larger = shutil.copytree(tiny_llm, space.root / "larger")
    (larger / "more.safetensors").write_bytes(bytes(8))  # sizes go by the bytes of the weights
    changes = {
        "reference": {"kind": "local", "model": str(tiny_llm)},
        "bake_prompt": True,
        "edge_copies": 1,
        "teacher": {"llm": {"kind": "local", "model": str(tiny_llm)}, "min_grade": 3},
        "search": {"trials": 2},
        "sizes": [str(larger), str(tiny_llm)],
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
    assert details["reference"]["n"] == 13
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
    # the smallest comes first, meets the target, and ends it
    assert [(row["model"], row["chosen"]) for row in details["sizes"]] == [(str(tiny_llm), True)]
    assert [point["share"] for point in details["curve"]["points"]] == [0.5, 1.0]
    assert details["curve"]["advice"] in ("more_data", "bigger_model", "stop", "unclear")
    assert "rise" in details["forgetting"] or "answers none" in details["forgetting"]["error"]
    made = proposal.candidate or proposal.tried
    assert made is not None
    if made.generate.llm.adapter is not None:
        assert made.generate.prompt.template == BARE_TEMPLATE
    assert any("edge cases left by the prompt" in note for note in notes)
    assert any("edge cases on dev: " in note for note in notes)
    arms = [context.bench.evaluate(one, "test") for one in (context.incumbent, made)]
    on_test = on_test_of(context.bench, "token_f1", notes.append)(arms[0], arms[1])["edge_cases_on_test"]
    assert len(on_test["questions"]) >= 5
    assert set(on_test["questions"]) <= {q.id for q in context.bench.split("test")}
    json.dumps(details)


def test_an_adapter_that_is_no_better_on_dev_is_shown_as_tried(space: Any) -> None:
    context = context_of(space, {"train": {**TRAIN, "learning_rate": 1e-9}}, [])
    settings = context.bench.config.rungs.llm
    assert settings is not None
    proposal = propose_llm(context, settings)
    assert proposal.candidate is None and "of the base with the best prompt" in proposal.reason
    assert proposal.tried is not None and proposal.tried.generate.llm.adapter is not None


# --- the best prompt, and what the adapter has to beat ----------------------------------------------------------------


def test_the_prompts_are_a_candidate_of_their_own(space: Any) -> None:
    notes: list[str] = []
    prompts = {
        "retrieve.top_k": [2],
        "generate.prompt.demonstrations": [999],  # more than there are train questions
        "generate.prompt.template": ["plain"],
    }
    context = context_of(space, {"prompts": prompts}, notes)
    settings = context.bench.config.rungs.llm
    assert settings is not None
    proposal = propose_prompt(context, settings)
    assert {trial.axis for trial in proposal.trials} == set(prompts)
    assert proposal.details["tried"] == len(proposal.trials) >= 3
    failed = [trial for trial in proposal.trials if trial.status == "failed"]
    assert failed and len(proposal.details["warnings"]) == len(failed)
    start = context.bench.evaluate(context.incumbent, "dev").values("token_f1")
    best = max(trial.estimate.mean or 0.0 for trial in proposal.trials if trial.estimate is not None)
    if best > sum(value or 0.0 for value in start.values()) / len(start):
        assert proposal.candidate is not None and proposal.candidate != context.incumbent
    else:
        assert proposal.candidate is None and "beats the incumbent's" in proposal.reason


def test_a_prompt_whose_answers_mostly_failed_is_not_the_best(space: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of the scores: one template is right on the one question that it answers, the other a little better."""
    notes: list[str] = []
    context = context_of(space, {"prompts": {"generate.prompt.template": ["plain", "reasoned"]}}, notes)
    settings = context.bench.config.rungs.llm
    assert settings is not None
    reached = {"cited": (0.5, 13), "plain": (1.0, 1), "reasoned": (0.6, 13)}

    def estimate(bench: Any, pipeline: Any, metric: str) -> EstimateRecord:
        mean, scored = reached[pipeline.generate.prompt.template]
        return EstimateRecord(mean=mean, low=None, high=None, n_ok=scored, n=13)

    monkeypatch.setattr(llm_prompts, "dev_estimate", estimate)
    proposal = propose_prompt(context, settings)
    assert proposal.candidate is not None and proposal.candidate.generate.prompt.template == "reasoned"
    assert any("plain: token_f1 1.0000 (12 of 13 scores missing)" in note for note in notes)


def test_without_axes_templates_demonstrations_and_a_chain_are_tried(
    space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A double of the scores: worked examples help, templates and the chain do not."""
    settings = space.settings()
    del settings["rungs"]["llm"]["prompts"]
    space.write(settings)
    bench = prepare(space.config, (), Reporter(quiet=True)).bench
    assert bench.config.rungs.llm is not None and bench.config.rungs.of("prompt") is bench.config.rungs.llm

    def estimate(bench: Any, pipeline: Any, metric: str) -> EstimateRecord:
        mean = 0.5 + 0.1 * (pipeline.generate.prompt.demonstrations > 0)
        return EstimateRecord(mean=mean, low=None, high=None, n_ok=13, n=13)

    monkeypatch.setattr(llm_prompts, "dev_estimate", estimate)
    proposal = propose_prompt(RungContext(bench, bench.config.pipeline, note=[].append), bench.config.rungs.llm)
    tried = {(trial.axis.split(".")[-1], str(trial.value)) for trial in proposal.trials}
    templates = {("template", name) for name in ("plain", "reasoned")}  # the third is the pipeline's own
    assert tried == {*templates, ("demonstrations", "3"), ("chain", "extract")}
    assert proposal.candidate is not None and proposal.candidate.generate.prompt.demonstrations == 3


def test_no_axes_at_all_leave_the_prompt_as_it_is(space: Any) -> None:
    context = context_of(space, {"prompts": {}}, [])
    assert context.bench.config.rungs.of("prompt") is None


def climbed(
    space: Any, monkeypatch: pytest.MonkeyPatch, prompt: dict[str, Any], adapter: dict[str, Any]
) -> LadderRecord:
    """A climb whose two last rungs are doubles that propose given changes of the starting pipeline."""

    def proposes(changes: dict[str, Any]) -> Any:
        return lambda context, _: Proposal(with_changes(context.bench.config.pipeline, changes), "token_f1", "a double")

    settings = space.settings()
    settings["rungs"]["llm"]["prompts"] = {"generate.prompt.template": ["plain"]}
    space.write(settings)
    rungs = (*climbing.RUNGS[:2], ("prompt", proposes(prompt)), ("llm", proposes(adapter)))
    monkeypatch.setattr(climbing, "RUNGS", rungs)
    monkeypatch.setattr(climbing, "headroom", lambda *_: None)  # readers have no weights to finetune
    return prepare(space.config, (), Reporter(quiet=True)).run()


# A random LLM answers nothing; extractive readers of one or two passages stand for a good prompt and an adapter.
GOOD = {"generate": {"kind": "extractive"}, "retrieve.top_k": 1}
OTHER = {"generate": {"kind": "extractive"}, "retrieve.top_k": 2}


def test_an_adapter_is_compared_with_the_best_prompt_once_that_is_adopted(
    space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = climbed(space, monkeypatch, GOOD, OTHER)
    assert [rung.name for rung in record.rungs] == ["retrieval", "embedding", "prompt", "llm"]
    prompt, llm = record.rungs[2:]
    assert prompt.decision.verdict == "adopt" and prompt.candidate is not None and llm.decision.primary is not None
    # base prompt, best prompt and adapter, all on test
    reached = [arm.scores["test"]["token_f1"].mean for arm in (record.baseline, prompt.candidate) if arm is not None]
    assert prompt.decision.primary is not None
    assert [prompt.decision.primary.incumbent, prompt.decision.primary.candidate] == pytest.approx(reached)
    assert llm.decision.primary.incumbent == pytest.approx(reached[1])
    assert llm.decision.prompt is None
    page = build_report(space.runs()[-1]).read_text(encoding="utf-8")
    assert 'id="rung-prompt"' in page and 'id="rung-llm"' in page
    table = (space.runs()[-1] / "scores.csv").read_text(encoding="utf-8")
    assert all(f"test,{arm},token_f1," in table for arm in ("baseline", "prompt", "llm"))
    # two looks are planned: the prompt's half, then, as it was adopted, the whole
    alpha = space.settings()["gate"]["alpha"]
    assert [r.decision.primary.alpha for r in (prompt, llm) if r.decision.primary] == pytest.approx([alpha / 2, alpha])


def test_an_adapter_has_to_beat_the_best_prompt_of_dev_too_where_test_did_not_adopt_that(
    space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = {"retrieve.fetch_k": 11}  # answers as the incumbent does: no gain
    record = climbed(space, monkeypatch, same, GOOD)
    prompt, llm = record.rungs[2:]
    assert prompt.decision.verdict == "reject"
    assert llm.decision.verdict == "adopt" and llm.decision.prompt is not None and llm.decision.primary is not None
    assert llm.decision.prompt.lower_bound is not None and llm.decision.prompt.lower_bound > 0
    assert any(reason.startswith("against the best prompt: ") for reason in llm.decision.reasons)
    report = [purpose for purpose, _ in compared(llm)]
    assert report == ["Dev: chose it", "Test: the gate", "Test: against the best prompt"]


@pytest.mark.parametrize(
    ("incumbent", "prompt", "verdict", "first"),
    [
        ("adopt", "adopt", "adopt", "one"),
        ("adopt", "inconclusive", "inconclusive", "against the best prompt: two"),
        ("adopt", "reject", "reject", "against the best prompt: two"),
        ("inconclusive", "adopt", "inconclusive", "one"),
        ("reject", "inconclusive", "reject", "one"),
    ],
)
def test_the_less_favourable_verdict_counts(incumbent: Any, prompt: Any, verdict: str, first: str) -> None:
    found = beats_both(Decision(verdict=incumbent, reasons=("one",)), Decision(verdict=prompt, reasons=("two",)))
    assert (found.verdict, found.reasons[0], len(found.reasons)) == (verdict, first, 2)


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
