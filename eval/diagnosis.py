"""Says where each lost question was lost, and how much each rung could win at most.

Every question is followed through the pipeline: was its evidence parsed, retrieved at all, kept within the context, and
then answered? Two counterfactual runs give the ceilings: gold evidence in the context (the most that better retrieval
could give) and, where a stronger LLM is configured, that LLM (the most that a better LLM could give). A closed-book run
shows what is answered without documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.types import Chunk, Question
from .gold import Gold, spans_of
from .retrieval import evidence_ranks

__all__ = ["CAUSES", "Cause", "Outcome", "attribute", "count_causes"]

Cause = Literal[
    "answered",
    "lost_in_parsing",
    "not_retrieved",
    "ranked_out",
    "wrong_answer",
    "unanswerable_answered",
    "metric_missing",
]
CAUSES: tuple[Cause, ...] = (
    "answered",
    "lost_in_parsing",
    "not_retrieved",
    "ranked_out",
    "wrong_answer",
    "unanswerable_answered",
    "metric_missing",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where one question ended.

    Attributes:
        question_id: Which question.
        cause: `answered` (well enough), or the first place at which it was lost.
        evidence_rank: Worst rank of its evidence among the candidates, None where some was not found.
    """

    question_id: str
    cause: Cause
    evidence_rank: int | None = None


def attribute(
    questions: Sequence[Question],
    candidates: Sequence[Sequence[Chunk]],
    contexts: Sequence[Sequence[Chunk]],
    gold: Gold,
    answer_values: Mapping[str, float | None],
    good_enough: float,
) -> list[Outcome]:
    """Finds the first place at which each question was lost.

    Args:
        questions: N questions.
        candidates: For each the chunks fetched before the cut to the context, best first.
        contexts: For each the chunks that stood in the prompt.
        gold: Evidence spans in the parsed text.
        answer_values: The answer metric by question id; None where it is missing.
        good_enough: Value from which a question counts as answered.

    Raises:
        ValueError: Rows of unequal length, or a question with evidence that `gold` does not have.
    """
    outcomes = []
    for question, fetched, shown in zip(questions, candidates, contexts, strict=True):
        value = answer_values.get(question.id)
        spans = spans_of(gold, question)
        ranks = evidence_ranks(spans, fetched)
        rank = max((r for r in ranks if r is not None), default=None) if None not in ranks else None
        cause: Cause
        if value is None:
            cause = "metric_missing"
        elif value >= good_enough:
            cause = "answered"
        elif not question.answerable:
            cause = "unanswerable_answered"
        elif any(not span.found for span in spans):
            cause = "lost_in_parsing"
        elif None not in evidence_ranks(spans, shown):
            cause = "wrong_answer"
        else:
            cause = "not_retrieved" if None in ranks else "ranked_out"
        outcomes.append(Outcome(question.id, cause, rank))
    return outcomes


def count_causes(outcomes: Sequence[Outcome]) -> dict[Cause, int]:
    """Questions by cause, every cause named."""
    counts = Counter(outcome.cause for outcome in outcomes)
    return {cause: counts.get(cause, 0) for cause in CAUSES}
