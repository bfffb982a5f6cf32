"""Diagnosis of a pipeline: where questions are lost, what each rung could win at most, which rung can pay."""

from __future__ import annotations

from typing import Literal

from ..core.types import Score
from ..eval.diagnosis import Outcome, attribute, count_causes
from ..eval.statistics import paired_comparison
from .gate import Decision, skip
from .records import Ceiling, Diagnosis, EstimateRecord
from .scoring import clusters, estimates
from .workbench import Evaluation, Workbench

__all__ = ["diagnose", "headroom", "outcomes"]


def diagnose(bench: Workbench, evaluation: Evaluation) -> Diagnosis:
    """Diagnoses a pipeline on its evaluation's questions (dev).

    Args:
        bench: Runs the counterfactuals: closed-book, and gold evidence in the context.
        evaluation: Of the pipeline as it is.
    """
    metric = bench.config.score.answer_metric
    closed = _counterfactual(bench, evaluation, "closed_book")
    gold = _counterfactual(bench, evaluation, "gold_context")
    causes = dict(count_causes(outcomes(bench, evaluation)))
    ceilings = (
        Ceiling(
            name="closed_book",
            meaning="no documents in the prompt",
            metric=metric,
            estimate=_estimate(bench, evaluation, closed),
        ),
        Ceiling(
            name="gold_context",
            meaning="the evidence put first in the context: the most that better retrieval could give",
            metric=metric,
            estimate=_estimate(bench, evaluation, gold),
        ),
    )
    n = len(evaluation.questions)
    lost = causes["lost_in_parsing"] + causes["not_retrieved"] + causes["ranked_out"]
    wrong = causes["wrong_answer"] + causes["unanswerable_answered"]
    can_pay = {
        "retrieval": f"{lost} of {n} dev questions are lost before the LLM sees their evidence",
        "embedding": f"{causes['not_retrieved'] + causes['ranked_out']} of {n} dev questions have evidence that is parsed but not in "
        "the context",
        "llm": f"{wrong} of {n} dev questions are answered wrongly with the evidence present, or answered though the documents "
        "do not",
    }
    return Diagnosis(causes=causes, ceilings=ceilings, can_pay=can_pay)


def headroom(bench: Workbench, rung: str, dev: Evaluation) -> Decision | None:
    """Decides on dev whether a rung can pay at all.

    Returns:
        A `skip` with its reason, or None where the rung is worth trying.
    """
    worthwhile, metric = bench.config.gate.worthwhile, bench.config.score.answer_metric
    causes = count_causes(outcomes(bench, dev))
    n = len(dev.questions)
    if rung == "llm":
        if dev.pipeline.generate.kind != "llm":
            return skip(f"the pipeline answers with '{dev.pipeline.generate.kind}', which has no weights to finetune")
        wrong = causes["wrong_answer"] + causes["unanswerable_answered"]
        if wrong / n < worthwhile:
            return skip(
                f"only {wrong} of {n} dev questions are answered wrongly with the evidence present: the LLM is not what "
                "loses them"
            )
        return None
    lost = causes["not_retrieved"] + causes["ranked_out"] + (causes["lost_in_parsing"] if rung == "retrieval" else 0)
    if lost / n >= worthwhile:
        return None
    gold = _counterfactual(bench, dev, "gold_context")
    ceiling = {s.question_id: s.value for s in gold if s.metric == metric}
    now = dev.values(metric)
    pairs = [(ceiling[q], v) for q, v in now.items() if v is not None and ceiling.get(q) is not None]
    groups = clusters(dev.questions)
    keys = [groups[q] for q, v in now.items() if v is not None and ceiling.get(q) is not None]
    if len(set(keys)) < 2:
        return None
    result = paired_comparison([c or 0.0 for c, _ in pairs], [v for _, v in pairs], keys, seed=bench.config.seed)
    if result.high >= worthwhile:
        return None
    return skip(
        f"only {lost} of {n} dev questions lose their evidence on the way, and perfect retrieval would add "
        f"{result.difference:+.3f} {metric} (95% interval {result.low:+.3f} to {result.high:+.3f}): it cannot pay"
    )


def _counterfactual(
    bench: Workbench, evaluation: Evaluation, which: Literal["closed_book", "gold_context"]
) -> list[Score]:
    if which == "closed_book":
        contexts = [[] for _ in evaluation.questions]
    else:
        contexts = bench.gold_contexts(evaluation.pipeline, evaluation.questions, evaluation.retrieved)
    return bench.answer_scores(evaluation.questions, bench.answer(evaluation.pipeline, evaluation.questions, contexts))


def _estimate(bench: Workbench, evaluation: Evaluation, scores: list[Score]) -> EstimateRecord:
    metric = bench.config.score.answer_metric
    chosen = [score for score in scores if score.metric == metric]
    return estimates(chosen, clusters(evaluation.questions), bench.config.seed)[metric]


def outcomes(bench: Workbench, evaluation: Evaluation) -> list[Outcome]:
    """Where each question of an evaluation ended."""
    return attribute(
        evaluation.questions,
        [[hit.chunk for hit in hits] for hits in evaluation.retrieved.candidates],
        [[hit.chunk for hit in hits] for hits in evaluation.retrieved.contexts],
        evaluation.gold,
        evaluation.values(bench.config.score.answer_metric),
        bench.config.score.good_enough,
    )
