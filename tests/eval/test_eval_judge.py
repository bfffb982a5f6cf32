"""Judged metrics through a scripted judge: ragas' formulas, failures as statuses, verdicts, batching."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from ragladder.core.chat import ChatRequest, Completion, Probe
from ragladder.core.components import Resources
from ragladder.core.errors import BudgetError, ConfigError
from ragladder.core.types import Answer, Chunk, Evidence, Question, Score
from ragladder.eval.judge import JUDGE_METRICS, JudgeSettings, Verdict, judge_calls, judge_scores

LLM = {"kind": "openai", "base_url": "http://localhost:1/v1", "model": "judge"}
QUESTION = Question("q1", "How long do I hold the button?", "12 seconds [HW-207]", (Evidence("d", "12 seconds"),))
ANSWER = Answer("q1", "Hold it for 12 seconds. It is red. [HW-207]")
CONTEXTS = (Chunk("d", 0, 10, "Hold the restart pin for 12 seconds."), Chunk("d", 10, 20, "The door is green."))
Reply = str | Completion | dict[str, Any]


class ScriptedJudge:
    """A ChatModel test double: replies by the title of the schema that is asked for; a callable sees the request."""

    def __init__(self, **script: Reply | Callable[[ChatRequest], Reply] | list[Reply]) -> None:
        self.script: dict[str, Any] = script
        self.batches: list[list[ChatRequest]] = []

    @property
    def requests(self) -> list[ChatRequest]:
        return [request for batch in self.batches for request in batch]

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        self.batches.append(list(requests))
        return [self._reply(request) for request in requests]

    def _reply(self, request: ChatRequest) -> Completion:
        assert request.json_schema is not None
        reply = self.script[request.json_schema["title"]]
        if isinstance(reply, list):
            reply = reply.pop(0)
        if callable(reply):
            reply = reply(request)
        if isinstance(reply, dict):
            reply = json.dumps(reply)
        return reply if isinstance(reply, Completion) else Completion(reply)

    def count_tokens(self, text: str) -> int:
        return len(text)

    def probe(self) -> Probe:
        return Probe(True, "")


class Letters:
    """An embedder test double: counts of letters, as unit vectors."""

    dimension = 26

    def encode(self, texts: Sequence[str], role: str) -> np.ndarray:
        counts = np.array([[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True).clip(1e-9)


def claims(*texts: str) -> dict[str, Any]:
    return {"statements": list(texts)}


def verdicts(*values: int) -> dict[str, Any]:
    return {
        "statements": [{"statement": f"claim {n}", "reason": f"why {n}", "verdict": v} for n, v in enumerate(values)]
    }


def last_input(request: ChatRequest) -> dict[str, Any]:
    return json.loads(request.messages[0].content.rpartition("\ninput: ")[2].rpartition("\nOutput:")[0])


def judge(
    model: ScriptedJudge, *metrics: str, cases: int = 1, answer: Answer = ANSWER, question: Question = QUESTION,
    contexts: Sequence[Chunk] = CONTEXTS, embedder: Any = None, **settings: Any,
) -> tuple[list[Score], list[Verdict]]:  # fmt: skip
    chosen = JudgeSettings.model_validate({"llm": LLM, "metrics": metrics, **settings})
    rows = [question] * cases, [answer] * cases, [contexts] * cases
    return judge_scores(*rows, chosen, Resources(), embedder=embedder, model=model)


def test_faithfulness_is_the_share_of_supported_claims() -> None:
    model = ScriptedJudge(StatementGeneratorOutput=claims("a", "b"), NLIStatementOutput=verdicts(1, 0))
    scores, found = judge(model, "faithfulness")
    assert scores == [Score("q1", "ragas/faithfulness", 0.5)]
    assert [(v.claim, v.against, v.supported, v.reason) for v in found] == [
        ("claim 0", "contexts", True, "why 0"),
        ("claim 1", "contexts", False, "why 1"),
    ]
    assert [last_input(request) for request in model.requests] == [
        {"question": QUESTION.text, "answer": "Hold it for 12 seconds. It is red."},
        {"context": "\n".join(chunk.text for chunk in CONTEXTS), "statements": ["a", "b"]},
    ]


def test_citations_stay_where_the_setting_says_so() -> None:
    model = ScriptedJudge(StatementGeneratorOutput=claims("a"), NLIStatementOutput=verdicts(1))
    judge(model, "faithfulness", strip_citations=False)
    assert last_input(model.requests[0])["answer"] == ANSWER.text


def test_answer_relevancy_draws_its_questions_independently() -> None:
    script = [{"question": "abc", "noncommittal": 0}, {"question": "xyz", "noncommittal": 0}]
    model = ScriptedJudge(AnswerRelevanceOutput=script)
    asked = Question("q1", "abc", "r", (Evidence("d", "t"),))
    scores, found = judge(model, "answer_relevancy", question=asked, embedder=Letters(), strictness=2)
    assert scores[0].value == pytest.approx(0.5)
    assert [request.repeat for request in model.requests] == [0, 1]
    assert [(v.claim, v.against, v.supported) for v in found] == [("abc", "question", True), ("xyz", "question", True)]


def test_context_precision_is_average_precision_and_names_chunks() -> None:
    model = ScriptedJudge(ContextPrecisionOutput=[{"reason": "no", "verdict": 0}, {"reason": "yes", "verdict": 1}])
    scores, found = judge(model, "context_precision")
    assert scores[0].value == pytest.approx(0.5)
    assert [(v.claim, v.against, v.supported, v.reason) for v in found] == [
        ("12 seconds", "d:0-10", False, "no"),
        ("12 seconds", "d:10-20", True, "yes"),
    ]


def test_context_recall_is_the_share_of_attributed_sentences() -> None:
    parts = [{"statement": f"s{n}", "reason": "r", "attributed": int(n < 3)} for n in range(4)]
    scores, found = judge(ScriptedJudge(ContextRecallOutput={"classifications": parts}), "context_recall")
    assert scores[0].value == pytest.approx(0.75)
    assert [(v.claim, v.against, v.supported) for v in found][2:] == [
        ("s2", "contexts", True),
        ("s3", "contexts", False),
    ]


def test_factual_correctness_is_f1_and_tells_both_directions_apart() -> None:
    decompositions: list[Reply] = [{"claims": ["a", "b"]}, {"claims": ["c"]}]
    model = ScriptedJudge(ClaimDecompositionOutput=decompositions, NLIStatementOutput=[verdicts(1, 0), verdicts(1)])
    scores, found = judge(model, "factual_correctness")
    assert scores[0].value == pytest.approx(0.67)  # tp 1, fp 1, fn 0; ragas rounds to two places
    assert [v.against for v in found] == ["reference", "reference", "answer"]


def test_answer_correctness_weighs_facts_and_similarity() -> None:
    entry = {"statement": "s", "reason": "r"}
    model = ScriptedJudge(
        StatementGeneratorOutput=[claims("a", "b"), claims("c")],
        ClassificationWithReason={"TP": [entry], "FP": [entry], "FN": []},
    )
    same = Answer("q1", "12 seconds")
    scores, found = judge(model, "answer_correctness", answer=same, embedder=Letters())
    assert scores[0].value == pytest.approx(0.75 * 2 / 3 + 0.25)
    assert [(v.against, v.supported) for v in found] == [("reference", True), ("reference", False)]


def test_noise_sensitivity_counts_wrong_claims_that_a_relevant_chunk_supports() -> None:
    model = ScriptedJudge(
        StatementGeneratorOutput=[claims("r"), claims("a", "b")],
        # chunk 1: reference's claim, answer's claims; chunk 2 likewise; then the answer's claims against the reference
        StatementFaithfulnessOutput=[verdicts(1), verdicts(1, 1), verdicts(0), verdicts(0, 0), verdicts(1, 0)],
        NLIStatementOutput=[verdicts(1), verdicts(1, 1), verdicts(0), verdicts(0, 0), verdicts(1, 0)],
    )
    scores, found = judge(model, "noise_sensitivity")
    assert scores[0].value == pytest.approx(0.5)
    against = ["d:0-10"] * 3 + ["d:10-20"] * 3 + ["reference"] * 2
    assert [v.against for v in found] == against


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("I think it is fine.", "no JSON object"),
        ('{"statements": [', "JSON"),
        ('{"statements": [{"statement": "a", "reason": "b"}]}', "verdict"),
        (json.dumps(verdicts(1)), "2 entries of statements, got 1"),
        (json.dumps(verdicts(1, 1, 1)), "2 entries of statements, got 3"),
        (json.dumps(verdicts(1, 2)), "must be 0 or 1, got 2"),
    ],
)
def test_a_broken_reply_is_asked_again_with_the_problem_and_then_used(broken: str, words: str) -> None:
    model = ScriptedJudge(StatementGeneratorOutput=claims("a", "b"), NLIStatementOutput=[broken, verdicts(1, 1)])
    scores, found = judge(model, "faithfulness")
    assert scores == [Score("q1", "ragas/faithfulness", 1.0)]
    assert len(found) == 2
    first, second = model.requests[1:]
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    assert second.messages[:2] == (first.messages[0], type(first.messages[0])("assistant", broken))
    assert words in second.messages[2].content


def test_two_broken_replies_are_a_parse_error_with_the_reason() -> None:
    cut = Completion('{"statements": [', detail="cut at max_tokens")
    model = ScriptedJudge(StatementGeneratorOutput=[cut, cut])
    scores, found = judge(model, "faithfulness")
    assert (scores[0].value, scores[0].status) == (None, "parse_error")
    assert "cut at max_tokens" in scores[0].detail and "StatementGeneratorOutput" in scores[0].detail
    assert found == [] and len(model.requests) == 2


def test_fewer_verdicts_than_claims_twice_is_a_parse_error_not_a_better_share() -> None:
    model = ScriptedJudge(StatementGeneratorOutput=claims("a", "b"), NLIStatementOutput=[verdicts(1), verdicts(1)])
    scores, _ = judge(model, "faithfulness")
    assert (scores[0].value, scores[0].status) == (None, "parse_error")


def test_no_claims_is_a_parse_error_where_ragas_would_score_it_as_perfect() -> None:
    model = ScriptedJudge(StatementGeneratorOutput=lambda request: claims())
    scores, _ = judge(model, "answer_correctness", embedder=Letters())
    assert (scores[0].value, scores[0].status) == (None, "parse_error")


def test_classification_must_place_every_claim_of_the_answer() -> None:
    entry = {"statement": "s", "reason": "r"}
    short = {"TP": [entry], "FP": [], "FN": []}
    model = ScriptedJudge(
        StatementGeneratorOutput=[claims("a", "b"), claims("c")], ClassificationWithReason=[short, short]
    )
    scores, _ = judge(model, "answer_correctness", embedder=Letters())
    assert scores[0].status == "parse_error"
    assert "2 entries of answer, got 1" in scores[0].detail


def test_a_fenced_reply_is_read() -> None:
    fenced = "Here it is:\n```json\n" + json.dumps(claims("a")) + "\n```\n"
    scores, _ = judge(ScriptedJudge(StatementGeneratorOutput=fenced, NLIStatementOutput=verdicts(1)), "faithfulness")
    assert scores[0].value == 1.0


@pytest.mark.parametrize(("status", "expected"), [("timeout", "timeout"), ("generation_error", "judge_error")])
def test_a_judge_that_does_not_answer_is_a_status(status: Any, expected: str) -> None:
    model = ScriptedJudge(StatementGeneratorOutput=Completion("", status, "no reply in 60 s"))
    scores, _ = judge(model, "faithfulness")
    assert (scores[0].value, scores[0].status) == (None, expected)
    assert "no reply in 60 s" in scores[0].detail


def test_what_the_embedder_raises_is_a_status() -> None:
    class Broken(Letters):
        def encode(self, texts: Sequence[str], role: str) -> np.ndarray:
            raise RuntimeError("device lost")

    model = ScriptedJudge(AnswerRelevanceOutput={"question": "x", "noncommittal": 0})
    scores, _ = judge(model, "answer_relevancy", embedder=Broken())
    assert (scores[0].value, scores[0].status) == (None, "judge_error")
    assert "device lost" in scores[0].detail


def test_one_failure_leaves_the_other_questions_alone() -> None:
    def script(request: ChatRequest) -> Reply:
        return Completion("", "timeout", "slow") if "number 2" in request.messages[0].content else claims("a")

    model = ScriptedJudge(StatementGeneratorOutput=script, NLIStatementOutput=verdicts(1))
    questions = [Question(f"q{n}", f"number {n}", "r", (Evidence("d", "t"),)) for n in range(4)]
    answers = [Answer(f"q{n}", "text") for n in range(4)]
    settings = JudgeSettings.model_validate({"llm": LLM, "metrics": ["faithfulness"]})
    scores, _ = judge_scores(questions, answers, [CONTEXTS] * 4, settings, Resources(), model=model)
    assert [score.status for score in scores] == ["ok", "ok", "timeout", "ok"]
    assert [score.question_id for score in scores] == ["q0", "q1", "q2", "q3"]


def test_all_samples_share_batches() -> None:
    model = ScriptedJudge(StatementGeneratorOutput=claims("a"), NLIStatementOutput=verdicts(1))
    scores, _ = judge(model, "faithfulness", cases=50)
    assert [len(batch) for batch in model.batches] == [50, 50]
    assert [score.value for score in scores] == [1.0] * 50


def test_an_error_of_the_endpoint_stops_the_run() -> None:
    def spent(request: ChatRequest) -> Reply:
        raise BudgetError("llm.budget.tokens is used up")

    model = ScriptedJudge(StatementGeneratorOutput=spent, ContextRecallOutput=spent)
    with pytest.raises(BudgetError, match="used up"):
        judge(model, "faithfulness", "context_recall", cases=3)
    assert len(model.batches) == 1


def test_ctrl_c_in_the_chat_model_stops_the_run() -> None:
    def interrupt(request: ChatRequest) -> Reply:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(ScriptedJudge(StatementGeneratorOutput=interrupt), "faithfulness", cases=3)


def test_repeats_are_asked_apart_and_averaged() -> None:
    model = ScriptedJudge(
        StatementGeneratorOutput=claims("a"), NLIStatementOutput=[verdicts(1), verdicts(0), verdicts(1), verdicts(1)]
    )
    scores, found = judge(model, "faithfulness", repeats=4)
    assert scores == [Score("q1", "ragas/faithfulness", 0.75)]
    assert len({request.repeat for request in model.batches[0]}) == 4
    assert [v.repeat for v in found] == [0, 1, 2, 3]


@pytest.mark.parametrize(("failures", "status", "value"), [(1, "ok", 1.0), (2, "timeout", None)])
def test_a_score_needs_most_of_its_repeats(failures: int, status: str, value: float | None) -> None:
    slow = Completion("", "timeout", "slow")
    script: list[Reply] = [slow] * failures + [claims("a")] * (3 - failures)
    model = ScriptedJudge(StatementGeneratorOutput=script, NLIStatementOutput=verdicts(1))
    scores, _ = judge(model, "faithfulness", repeats=3)
    assert (scores[0].value, scores[0].status) == (value, status)
    assert f"{failures} of 3 repeats failed" in scores[0].detail


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"question": Question("q1", "x", "Not documented")}, dict.fromkeys(JUDGE_METRICS, (None, "not_applicable"))),
        ({"answer": Answer("q1", "", status="generation_error")}, {"faithfulness": (None, "generation_error")}),
        (
            {"answer": Answer("q1", "[HW-1]")},
            {"faithfulness": (None, "not_applicable"), "factual_correctness": (0.0, "ok")},
        ),
        (
            {"contexts": ()},
            {"faithfulness": (None, "not_applicable"), "context_recall": (0.0, "ok"), "context_precision": (0.0, "ok")},
        ),
        (
            {"question": Question("q1", "x", "", (Evidence("d", "t"),))},
            {"context_recall": (None, "not_applicable"), "factual_correctness": (None, "not_applicable")},
        ),
    ],
)
def test_what_is_known_without_the_judge_is_not_asked(change: dict[str, Any], expected: dict[str, Any]) -> None:
    model = ScriptedJudge()
    scores, _ = judge(model, *expected, embedder=Letters(), **change)
    assert {score.metric.removeprefix("ragas/"): (score.value, score.status) for score in scores} == expected
    assert not model.requests


def test_context_metrics_do_not_need_the_answer() -> None:
    part = {"statement": "s", "reason": "r", "attributed": 1}
    model = ScriptedJudge(ContextRecallOutput={"classifications": [part]})
    scores, _ = judge(model, "context_recall", answer=Answer("q1", "", status="timeout"))
    assert scores[0].value == 1.0


def test_works_inside_a_running_loop() -> None:
    model = ScriptedJudge(StatementGeneratorOutput=claims("a"), NLIStatementOutput=verdicts(1))

    async def inside() -> tuple[list[Score], list[Verdict]]:
        return judge(model, "faithfulness")

    assert asyncio.run(inside())[0][0].value == 1.0


def test_metrics_with_embeddings_need_an_embedder() -> None:
    with pytest.raises(ConfigError, match="answer_relevancy, answer_correctness need an embedding model"):
        judge(ScriptedJudge(), "answer_relevancy", "answer_correctness", "faithfulness")


def agreeing_judge() -> ScriptedJudge:
    """Replies to whatever any metric asks."""
    return ScriptedJudge(
        StatementGeneratorOutput=claims("a"),
        NLIStatementOutput=verdicts(1),
        StatementFaithfulnessOutput=verdicts(1),
        AnswerRelevanceOutput={"question": "x", "noncommittal": 0},
        ContextPrecisionOutput={"reason": "x", "verdict": 1},
        ContextRecallOutput={"classifications": [{"statement": "s", "reason": "r", "attributed": 1}]},
        ClaimDecompositionOutput={"claims": ["a"]},
        ClassificationWithReason={"TP": [{"statement": "s", "reason": "r"}], "FP": [], "FN": []},
    )


def test_schemas_are_strict_for_every_metric() -> None:
    model = agreeing_judge()
    scores, _ = judge(model, *JUDGE_METRICS, embedder=Letters())
    assert [score.status for score in scores] == ["ok"] * len(JUDGE_METRICS)
    for request in model.requests:
        assert request.json_schema is not None
        for part in (request.json_schema, *request.json_schema.get("$defs", {}).values()):
            assert part["additionalProperties"] is False
            assert part["required"] == list(part["properties"])


def test_the_plan_counts_the_calls_that_are_made() -> None:
    model = agreeing_judge()
    judge(model, *JUDGE_METRICS, cases=2, embedder=Letters(), repeats=2)
    settings = JudgeSettings.model_validate({"llm": LLM, "metrics": JUDGE_METRICS, "repeats": 2})
    assert len(model.requests) == judge_calls(settings, [2, 2]) == 2 * 2 * (2 + 3 + 2 + 1 + 4 + 3 + 7)


def test_identity_changes_with_judge_and_settings_only(tmp_path: Path) -> None:
    def identity(**change: Any) -> dict[str, Any]:
        return JudgeSettings.model_validate({"llm": LLM, **change}).identity(Resources(cache_dir=tmp_path))

    assert identity() == identity(llm={**LLM, "concurrency": 9})
    assert identity()["ragas"]
    for change in ({"llm": {**LLM, "model": "other"}}, {"temperature": 0.5}, {"repeats": 2}, {"max_tokens": 100}):
        assert identity(**change) != identity()
    assert json.loads(json.dumps(identity())) == identity()


@pytest.mark.parametrize("change", [{"metrics": []}, {"metrics": ["faithfullness"]}, {"repeats": 0}, {"judge": 1}])
def test_settings_refuse_what_makes_no_sense(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JudgeSettings.model_validate({"llm": LLM, **change})
