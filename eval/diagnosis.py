"""Says which part of the pipeline lost each question that was not answered well enough.

Every lost question is followed through the pipeline: was its evidence parsed, fetched, kept, and did it stand in the
prompt? Where it did stand there, the order and the company are blamed only on proof: the question is asked again with
the evidence put first, and with the evidence alone. A question whose own reference answer the metric rejects is the
metric's (or the judge's) fault, whatever the pipeline did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..core.types import Chunk, Question
from .gold import Gold, GoldSpan, spans_of
from .retrieval import evidence_ranks

__all__ = [
    "CAUSES",
    "FAULTS",
    "Cause",
    "Counterfactuals",
    "Fault",
    "Outcome",
    "attribute",
    "count_causes",
    "count_faults",
    "fault_of",
]

Cause = Literal[
    "answered",
    "lost_in_parsing",
    "not_retrieved",
    "ranked_out",
    "ranked_low",
    "cut_from_prompt",
    "distracted",
    "wrong_answer",
    "unanswerable_answered",
    "reference_rejected",
    "metric_missing",
]
"""What became of a question, see `attribute`."""
CAUSES: tuple[Cause, ...] = get_args(Cause)
"""All of them, in the order in which a question meets them."""

Fault = Literal["parse", "retrieve", "rank", "context_budget", "generate", "judge"]
"""The part of a pipeline that a cause is a fault of."""
FAULTS: tuple[Fault, ...] = get_args(Fault)
"""All of them, in the order in which a question passes them."""

_FAULT_OF: Mapping[Cause, Fault] = {
    "lost_in_parsing": "parse",
    "not_retrieved": "retrieve",
    "ranked_out": "rank",
    "ranked_low": "rank",
    "cut_from_prompt": "context_budget",
    "distracted": "generate",
    "wrong_answer": "generate",
    "unanswerable_answered": "generate",
    "reference_rejected": "judge",
    "metric_missing": "judge",
}


@dataclass(frozen=True, slots=True)
class Counterfactuals:
    """The answer metric by question id, had one thing been otherwise; questions that were not asked again are absent.

    Attributes:
        gold_first: The evidence inserted, or moved, to the front of the context; the other passages follow. Evidence
            that the parser lost or damaged stands there as it was written.
        gold_alone: The same without the other passages.
        reference: The reference answer, scored as if the pipeline had given it.
    """

    gold_first: Mapping[str, float | None]
    gold_alone: Mapping[str, float | None]
    reference: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where one question ended.

    Attributes:
        question_id: Which question.
        cause: `answered` (well enough), or why it was lost.
        evidence_rank: Worst rank of its evidence among the candidates, None where some was not found.
        repaired: Whether the answer is good enough once the evidence stands first in the context; None where that
            was not tried.
    """

    question_id: str
    cause: Cause
    evidence_rank: int | None = None
    repaired: bool | None = None


def attribute(
    questions: Sequence[Question],
    candidates: Sequence[Sequence[Chunk]],
    contexts: Sequence[Sequence[Chunk]],
    gold: Gold,
    answer_values: Mapping[str, float | None],
    good_enough: float,
    prompts: Sequence[Sequence[Chunk]] | None = None,
    counterfactuals: Counterfactuals | None = None,
) -> list[Outcome]:
    """Finds why each question was lost.

    Args:
        questions: N questions.
        candidates: For each the chunks fetched before the cut to the context, best first.
        contexts: For each the chunks kept for the prompt.
        gold: Evidence spans in the parsed text.
        answer_values: The answer metric by question id; None where it is missing.
        good_enough: Value from which a question counts as answered.
        prompts: For each the chunks that stood in the prompt after the cut to its token budget; `contexts` where
            not given.
        counterfactuals: What happened when questions were asked again. Without them evidence in the prompt and a
            wrong answer make `wrong_answer`; order, distraction and the metric are not told apart.

    Raises:
        ValueError: Rows of unequal length, or a question with evidence that `gold` does not have.
    """
    outcomes = []
    for question, fetched, kept, shown in zip(
        questions, candidates, contexts, contexts if prompts is None else prompts, strict=True
    ):
        ranks = evidence_ranks(spans_of(gold, question), fetched)
        rank = max((r for r in ranks if r is not None), default=None) if None not in ranks else None
        value = answer_values.get(question.id)
        cause: Cause
        if value is None:
            cause = "metric_missing"
        elif value >= good_enough:
            cause = "answered"
        elif counterfactuals and _fails(counterfactuals.reference, question, good_enough):
            cause = "reference_rejected"
        elif not question.answerable:
            cause = "unanswerable_answered"
        else:
            cause = _place(question, fetched, kept, shown, gold)
            if cause == "wrong_answer" and counterfactuals:
                cause = _with_evidence(question, spans_of(gold, question), counterfactuals, good_enough)
        repaired = None
        asked_again = counterfactuals is not None and question.answerable and question.id in counterfactuals.gold_first
        if counterfactuals and asked_again and cause != "answered":
            repaired = not _fails(counterfactuals.gold_first, question, good_enough)
        outcomes.append(Outcome(question.id, cause, rank, repaired))
    return outcomes


def _place(
    question: Question, fetched: Sequence[Chunk], kept: Sequence[Chunk], shown: Sequence[Chunk], gold: Gold
) -> Cause:
    """The first place at which some of the evidence was lost; `wrong_answer` where all stood in the prompt."""
    spans = spans_of(gold, question)
    if any(not span.found for span in spans):
        return "lost_in_parsing"
    if None not in evidence_ranks(spans, shown):
        return "wrong_answer"
    if None not in evidence_ranks(spans, kept):
        return "cut_from_prompt"
    return "not_retrieved" if None in evidence_ranks(spans, fetched) else "ranked_out"


def _with_evidence(
    question: Question, spans: Sequence[GoldSpan], counterfactuals: Counterfactuals, good_enough: float
) -> Cause:
    """Why a question was lost although its evidence stood in the prompt."""
    first = _repairs(counterfactuals.gold_first, question, good_enough)
    if not first and not _repairs(counterfactuals.gold_alone, question, good_enough):
        return "wrong_answer"
    # Found fuzzily means that the parser changed the words; asked again, the question had them as they were written.
    if any(span.method == "fuzzy" for span in spans):
        return "lost_in_parsing"
    return "ranked_low" if first else "distracted"


def _repairs(values: Mapping[str, float | None], question: Question, good_enough: float) -> bool:
    value = values.get(question.id)
    return value is not None and value >= good_enough


def _fails(values: Mapping[str, float | None], question: Question, good_enough: float) -> bool:
    return question.id in values and not _repairs(values, question, good_enough)


def fault_of(cause: Cause) -> Fault | None:
    """The part of the pipeline that a cause of loss belongs to; None for `answered`."""
    return _FAULT_OF.get(cause)


def count_causes(outcomes: Sequence[Outcome]) -> dict[Cause, int]:
    """Questions by cause, every cause named."""
    counts = Counter(outcome.cause for outcome in outcomes)
    return {cause: counts.get(cause, 0) for cause in CAUSES}


def count_faults(outcomes: Sequence[Outcome]) -> dict[Fault, int]:
    """Lost questions by the part that lost them, every part named."""
    counts = Counter(fault_of(outcome.cause) for outcome in outcomes)
    return {fault: counts.get(fault, 0) for fault in FAULTS}
