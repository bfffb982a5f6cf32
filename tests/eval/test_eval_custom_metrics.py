"""A team's own metrics: what a function gives, raises or is, ends in a score, a status or a refusal."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ragladder.core.types import Answer, Chunk, Evidence, Question, Score
from ragladder.eval.calibrate import CalibrateSettings, LabelledAnswer, calibrate, judge_identity
from ragladder.eval.custom_metrics import CustomMetric, custom_scores

QUESTION = Question("q", "How long?", "12 seconds", (Evidence("d", "12 seconds"),))
CONTEXTS = (Chunk("d", 0, 10, "12 seconds"), Chunk("d", 10, 20, "and more"))
ANSWER = Answer("q", "It takes 12 seconds", CONTEXTS)

MODULE = """
import math

def words(question, answer, contexts):
    return len(answer.text.split())

def has_reference(question, answer, contexts):
    return question.answer in answer.text

def chunks(question, answer, contexts):
    return len(contexts)

def none(question, answer, contexts):
    return None

def fails(question, answer, contexts):
    raise KeyError("no such key")

def nan(question, answer, contexts):
    return math.nan

def text(question, answer, contexts):
    return "good"

def two(question, answer):
    return 1.0

def more(question, answer, contexts, weight=0.5, **others):
    return weight

class Brevity:
    pass

NUMBER = 3
"""


@pytest.fixture
def metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CustomMetric]:
    """A CustomMetric of a function of a module that the working directory holds."""
    (tmp_path / "team_metrics.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "team_metrics", raising=False)
    return lambda name, **more: CustomMetric(name=name, function=f"team_metrics:{name}", **more)


def scored(metric: CustomMetric, answer: Answer = ANSWER) -> Score:
    [score] = custom_scores([QUESTION], [answer], [metric])
    return score


@pytest.mark.parametrize(("name", "value"), [("words", 4.0), ("has_reference", 1.0), ("chunks", 2.0), ("more", 0.5)])
def test_a_function_sees_question_answer_and_contexts(metric: Any, name: str, value: float) -> None:
    score = scored(metric(name))
    assert score == Score("q", name, value)
    assert type(score.value) is float


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("none", "not_applicable", "returned None"),
        ("fails", "judge_error", "team_metrics:fails raised KeyError: 'no such key'"),
        ("nan", "judge_error", "returned nan"),
        ("text", "judge_error", "returned 'good'"),
    ],
)
def test_what_is_no_number_is_a_status_with_its_reason(metric: Any, name: str, status: str, words: str) -> None:
    score = scored(metric(name))
    assert (score.value, score.status) == (None, status)
    assert words in score.detail


def test_an_answer_that_failed_keeps_its_status_and_is_not_put_to_the_function(metric: Any) -> None:
    score = scored(metric("fails"), Answer("q", "", status="timeout", detail="60 s"))
    assert (score.value, score.status, score.detail) == (None, "timeout", "60 s")


def test_one_failure_leaves_the_other_questions_alone(metric: Any) -> None:
    scores = custom_scores([QUESTION] * 2, [ANSWER, ANSWER], [metric("words"), metric("fails")])
    assert [score.metric for score in scores] == ["words", "fails"] * 2
    assert [score.status for score in scores] == ["ok", "judge_error"] * 2


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("team_metrics", "not module:attribute"),
        ("team_metrics:word", "did you mean 'words'"),
        ("no_such_module:f", "importing 'no_such_module' failed"),
        ("team_metrics:two", "must take a question, an answer and its contexts"),
        ("team_metrics:Brevity", "is no function"),
        ("team_metrics:NUMBER", "is no function"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_at_once(metric: Any, function: str, words: str) -> None:
    with pytest.raises(ValidationError) as error:
        CustomMetric(name="mine", function=function)
    assert words in str(error.value)


@pytest.mark.parametrize("name", ["", "ndcg@5", "ragas/mine", "two words", "4u"])
def test_names_that_could_be_taken_for_others_are_refused(metric: Any, name: str) -> None:
    with pytest.raises(ValidationError):
        CustomMetric(name=name, function="team_metrics:words")


def test_edited_code_is_another_metric(metric: Any, tmp_path: Path) -> None:
    mine = metric("words")
    before = mine.identity()
    assert mine.identity() == before
    (tmp_path / "team_metrics.py").write_text(MODULE + "\n# changed")
    assert mine.identity() != before


def test_a_metric_of_ones_own_can_be_held_against_labels(metric: Any, tmp_path: Path) -> None:
    mine = metric("has_reference")
    labels = [
        LabelledAnswer("How long?", text, "12 seconds", human=human)
        for text, human in (("12 seconds", 1.0), ("it is 12 seconds", 1.0), ("9 seconds", 0.0), ("twelve seconds", 1.0))
    ]
    settings = CalibrateSettings(metric="has_reference", probes=0)
    found = calibrate(labels, settings, custom=[metric("words"), mine])
    assert found.agreement is not None and found.agreement.value == 0.75
    assert found.judge == judge_identity("has_reference", None, Any, custom=[mine])  # type: ignore[arg-type]
    assert found.judge != judge_identity("words", None, Any, custom=[metric("words")])  # type: ignore[arg-type]
