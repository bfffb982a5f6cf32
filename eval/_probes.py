"""Sanity probes of a judge: cases whose verdict is known, made from questions with reference answers and gold evidence.

A judge that accepts an answer to another question, or finds support in an empty context, measures nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal

from ..core.components import Model
from ..core.errors import DataError
from ..core.types import Answer, Chunk, Question, Score
from .answers import normalise_answer

__all__ = ["PROBES", "ProbeResult", "Scorer", "run_probes"]

Scorer = Callable[[Sequence[Question], Sequence[Answer], Sequence[Sequence[Chunk]]], list[Score]]
"""Scores answers by one metric; one score a question, in order."""
ProbeName = Literal["gold", "empty", "shuffled"]
PROBES: tuple[ProbeName, ...] = ("gold", "empty", "shuffled")
SHARE = 0.8
"""Share of its cases that a probe must get right."""


class ProbeResult(Model):
    """One probe."""

    name: ProbeName
    """gold: reference answer and gold evidence; empty: nothing in their place; shuffled: another question's."""
    wanted: Literal["high", "low"]
    """At least the threshold, or below it."""
    right: int
    """Cases scored so; a case that the metric does not apply to is not high."""
    failed: int
    """Cases without a score: the judge failed. They count as wrong."""
    cases: int
    """All."""
    mean: float | None
    """Of the scores; None where there is none."""
    passed: bool
    """At least 80% of the cases are right."""


def run_probes(
    scorer: Scorer,
    questions: Sequence[Question],
    varies: Literal["answer", "context"],
    threshold: float,
    cases: int,
    seed: int,
) -> tuple[ProbeResult, ...]:
    """Puts the probes to a judge.

    Args:
        scorer: The judge.
        questions: To draw from; those with evidence and a reference answer serve.
        varies: What is emptied and shuffled: the answer, or the context (metrics that hold answers against contexts).
        threshold: From which a score is high.
        cases: Questions a probe, at most.
        seed: Of the draw.

    Raises:
        DataError: Fewer than two questions with different answers and evidence.
    """
    usable = [q for q in questions if q.answerable and q.answer.strip()]
    drawn = random.Random(seed).sample(usable, min(cases, len(usable)))
    pairs = [(q, other) for q in drawn if (other := _unlike(q, usable)) is not None]
    if not pairs:
        raise DataError(
            "sanity probes need two questions with different reference answers and evidence; "
            "add questions, or leave the probes out with --probes 0"
        )
    return tuple(_probe(name, scorer, pairs, varies, threshold) for name in PROBES)


def _unlike(question: Question, questions: Sequence[Question]) -> Question | None:
    """The next question with another answer, on another document where there is one, else with other evidence."""
    start = questions.index(question)
    others = [
        other
        for other in (*questions[start + 1 :], *questions[:start])
        if normalise_answer(other.answer) != normalise_answer(question.answer)
        and not {e.text for e in question.evidence} & {e.text for e in other.evidence}
    ]
    documents = {e.doc_id for e in question.evidence}
    elsewhere = (other for other in others if not documents & {e.doc_id for e in other.evidence})
    return next(elsewhere, others[0] if others else None)


def _probe(
    name: ProbeName,
    scorer: Scorer,
    pairs: Sequence[tuple[Question, Question]],
    varies: Literal["answer", "context"],
    threshold: float,
) -> ProbeResult:
    answers, contexts = [], []
    for question, other in pairs:
        source = other if name == "shuffled" else question
        text = source.answer if varies == "answer" else question.answer
        passages = [e.text for e in (source if varies == "context" else question).evidence]
        if name == "empty":
            text, passages = ("", passages) if varies == "answer" else (text, [""])
        answers.append(Answer(question.id, text))
        contexts.append([Chunk("probe", 0, len(passage), passage) for passage in passages])
    scores = scorer([question for question, _ in pairs], answers, contexts)
    values = [score.value for score in scores if score.value is not None]
    absent = sum(score.status == "not_applicable" for score in scores)
    high = sum(value >= threshold for value in values)
    right = high if name == "gold" else len(values) - high + absent
    return ProbeResult(
        name=name,
        wanted="high" if name == "gold" else "low",
        right=right,
        failed=len(scores) - len(values) - absent,
        cases=len(scores),
        mean=sum(values) / len(values) if values else None,
        passed=right >= SHARE * len(scores),
    )
