"""RAGAS metrics without an LLM: values, statuses, and where they may be called from."""

import asyncio
import logging
import warnings

import numpy as np
import pytest
from ragladder.core.errors import ConfigError
from ragladder.core.types import Answer, Chunk, Evidence, Question, Score
from ragladder.eval.ragas_metrics import RAGAS_ANSWER_METRICS, RAGAS_CONTEXT_METRICS, RAGAS_METRICS, ragas_scores

EVIDENCE = "Hold the restart pin for 12 seconds until the lamp turns amber."
OTHER = "Invoices are sent on the first working day of each month to the billing address."


def question(id_: str = "q1", answer: str = "12 seconds", evidence: tuple[str, ...] = (EVIDENCE,)) -> Question:
    return Question(id_, "How long?", answer, tuple(Evidence(f"doc{n}", text) for n, text in enumerate(evidence)))


def chunk(text: str, doc_id: str = "doc0") -> Chunk:
    return Chunk(doc_id, 0, len(text), text)


def by_metric(scores: list[Score]) -> dict[str, Score]:
    return {score.metric.removeprefix("ragas/"): score for score in scores}


def test_every_metric_of_a_perfect_answer_is_one() -> None:
    scores = by_metric(
        ragas_scores([question()], [[chunk(EVIDENCE)]], [Answer("q1", "12 seconds")], embedder=Letters())
    )
    assert set(scores) == set(RAGAS_METRICS)
    # BLEU counts n-grams up to four words, so two words cannot reach 1 in it
    low = {name: score.value for name, score in scores.items() if name != "bleu_score"}
    assert low.pop("quoted_spans_alignment") is None, "nothing is quoted"
    assert low == {name: pytest.approx(1.0) for name in low}
    asked = [score for name, score in scores.items() if name != "quoted_spans_alignment"]
    assert all(score.status == "ok" and score.value is not None and score.value <= 1.0 for score in asked)


def test_bleu_of_equal_long_texts_is_one_and_never_above() -> None:
    long = "hold the restart pin for twelve seconds until the lamp turns amber"
    scores = by_metric(ragas_scores([question(answer=long)], [[]], [Answer("q1", long)], metrics=["bleu_score"]))
    assert scores["bleu_score"].value == pytest.approx(1.0)
    assert scores["bleu_score"].value <= 1.0


def test_context_metrics_by_hand() -> None:
    two = question(evidence=(EVIDENCE, "A second fact that stands elsewhere, in another document."))
    scores = by_metric(ragas_scores([two], [[chunk(OTHER, "doc9"), chunk(EVIDENCE, "doc0")]]))
    assert set(scores) == set(RAGAS_CONTEXT_METRICS)
    assert scores["non_llm_context_recall"].value == pytest.approx(0.5)
    # one relevant chunk at rank 2: average precision 1/2
    assert scores["non_llm_context_precision_with_reference"].value == pytest.approx(0.5)
    assert scores["id_based_context_recall"].value == pytest.approx(0.5)
    assert scores["id_based_context_precision"].value == pytest.approx(0.5)


def test_answer_metrics_by_hand() -> None:
    scores = by_metric(ragas_scores([question(answer="abcd")], [[]], [Answer("q1", "xx abcd")]))
    assert scores["exact_match"].value == 0.0
    assert scores["string_present"].value == 1.0
    assert scores["non_llm_string_similarity"].value == pytest.approx(4 / 7)  # 3 insertions, 7 characters
    assert scores["rouge_score"].value == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert "semantic_similarity" not in scores


def test_reference_contexts_replace_the_evidence_texts() -> None:
    given = ragas_scores(
        [question()], [[chunk(OTHER)]], reference_contexts=[[OTHER]], metrics=["non_llm_context_recall"]
    )
    own = ragas_scores([question()], [[chunk(OTHER)]], metrics=["non_llm_context_recall"])
    assert (given[0].value, own[0].value) == (1.0, 0.0)


def test_unanswerable_question_has_no_context_metrics_but_answer_metrics() -> None:
    unanswerable = question(answer="Not documented [none]", evidence=())
    scores = by_metric(ragas_scores([unanswerable], [[chunk(OTHER)]], [Answer("q1", "Not documented [none]")]))
    for name in RAGAS_CONTEXT_METRICS:
        assert (scores[name].value, scores[name].status) == (None, "not_applicable")
        assert scores[name].detail
    assert scores["exact_match"].value == 1.0


def test_nothing_retrieved_scores_zero_and_says_so() -> None:
    scores = ragas_scores([question()], [[]])
    assert [(score.value, score.detail) for score in scores] == [(0.0, "nothing was retrieved")] * 4


def test_failed_answer_keeps_its_status_on_answer_metrics_only() -> None:
    failed = Answer("q1", "", status="timeout", detail="no reply in 60 s")
    scores = by_metric(ragas_scores([question()], [[chunk(EVIDENCE)]], [failed], embedder=Letters()))
    for name in RAGAS_ANSWER_METRICS:
        assert (scores[name].value, scores[name].status, scores[name].detail) == (None, "timeout", "no reply in 60 s")
    assert scores["non_llm_context_recall"].value == 1.0


def test_a_question_without_reference_answer_is_not_applicable() -> None:
    scores = by_metric(ragas_scores([question(answer=" ")], [[]], [Answer("q1", "12 seconds")]))
    assert {scores[name].status for name in RAGAS_ANSWER_METRICS if name in scores} == {"not_applicable"}


def test_an_empty_answer_is_scored_not_dropped() -> None:
    scores = by_metric(ragas_scores([question()], [[]], [Answer("q1", "")]))
    assert scores["rouge_score"].value == scores["chrf_score"].value == scores["exact_match"].value == 0.0


def test_what_ragas_raises_becomes_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    from ragas.metrics.collections import RougeScore

    async def broken(self: object, reference: str, response: str) -> None:
        raise KeyError("rougeX")

    monkeypatch.setattr(RougeScore, "ascore", broken)
    scores = by_metric(ragas_scores([question()], [[]], [Answer("q1", "12 seconds")]))
    assert (scores["rouge_score"].value, scores["rouge_score"].status) == (None, "judge_error")
    assert "rougeX" in scores["rouge_score"].detail
    assert scores["exact_match"].value == 1.0


def test_not_a_number_becomes_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    from ragas.metrics.collections import RougeScore
    from ragas.metrics.result import MetricResult

    async def nan(self: object, reference: str, response: str) -> MetricResult:
        return MetricResult(value=float("nan"))

    monkeypatch.setattr(RougeScore, "ascore", nan)
    scores = ragas_scores([question()], [[]], [Answer("q1", "12 seconds")], metrics=["rouge_score"])
    assert (scores[0].value, scores[0].status) == (None, "judge_error")


def test_works_inside_a_running_loop_and_without_warnings() -> None:
    async def inside() -> list[Score]:
        return ragas_scores([question()], [[chunk(EVIDENCE)]], [Answer("q1", "12 seconds")])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(inside()) == ragas_scores([question()], [[chunk(EVIDENCE)]], [Answer("q1", "12 seconds")])


def test_order_is_questions_then_metrics_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    questions = [question(f"q{n}", evidence=(EVIDENCE,) if n % 2 else ()) for n in range(4)]
    with caplog.at_level(logging.WARNING):
        scores = ragas_scores(questions, [[]] * 4, [Answer(f"q{n}", "") for n in range(4)])
    assert [score.question_id for score in scores] == [f"q{n}" for n in range(4) for _ in range(len(scores) // 4)]
    assert len({(score.question_id, score.metric) for score in scores}) == len(scores)
    assert not caplog.records


def test_no_questions_no_scores() -> None:
    assert ragas_scores([], []) == []


@pytest.mark.parametrize(
    ("metrics", "answers", "words"),
    [
        (["rogue_score"], [Answer("q1", "x")], "unknown RAGAS metric 'rogue_score'"),
        (["rouge_score"], None, "needs answers"),
        (["semantic_similarity"], [Answer("q1", "x")], "needs an embedder"),
    ],
)
def test_metrics_that_cannot_be_computed_are_refused(
    metrics: list[str], answers: list[Answer] | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        ragas_scores([question()], [[]], answers, metrics=metrics)


def test_rows_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError):
        ragas_scores([question()], [[], []])


def test_semantic_similarity_encodes_each_text_once_as_document() -> None:
    embedder = Letters()
    questions = [question("q1", "ab"), question("q2", "ab")]
    answers = [Answer("q1", "ab"), Answer("q2", "cd")]
    scores = ragas_scores(questions, [[], []], answers, embedder=embedder, metrics=["semantic_similarity"])
    assert [score.value for score in scores] == [pytest.approx(1.0), pytest.approx(0.0)]
    assert sorted(embedder.seen) == [("ab", "document"), ("cd", "document")]


def test_the_users_choice_on_telemetry_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.delenv("RAGAS_DO_NOT_TRACK", raising=False)
    ragas_scores([question()], [[]])
    assert os.environ["RAGAS_DO_NOT_TRACK"] == "true"
    monkeypatch.setenv("RAGAS_DO_NOT_TRACK", "false")
    ragas_scores([question()], [[]])
    assert os.environ["RAGAS_DO_NOT_TRACK"] == "false"


class Letters:
    """An embedder test double: counts of letters, as unit vectors."""

    dimension = 26

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def encode(self, texts: list[str], role: str) -> np.ndarray:
        self.seen += [(text, role) for text in texts]
        counts = np.array([[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True).clip(1e-9)


@pytest.mark.parametrize(
    ("text", "value", "status"),
    [
        ('The page says "the filter lasts three days" there.', 1.0, "ok"),
        ('The page says "the filter lasts nine long days" there.', 0.0, "ok"),
        ('It says "the filter lasts three days" and "it was never sold anywhere".', 0.5, "ok"),
        ("The filter lasts three days.", None, "not_applicable"),
        ('It is "red".', None, "not_applicable"),
    ],
)
def test_quotes_are_held_against_the_passages(text: str, value: float | None, status: str) -> None:
    question = Question("q", "How long?", "three days", (Evidence("d", "The filter lasts three days."),))
    chunk = Chunk("d", 0, 29, "So the filter lasts three days.")
    (score,) = ragas_scores([question], [[chunk]], [Answer("q", text, (chunk,))], metrics=["quoted_spans_alignment"])
    assert (score.value, score.status) == (value, status)
