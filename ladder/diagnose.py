"""Diagnosis of a pipeline: where questions are lost, what each rung could win at most, which rung can pay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..core.types import Chunk, Question, Score
from ..eval.diagnosis import Outcome, attribute, count_causes
from ..eval.retrieval import evidence_ranks
from ..eval.statistics import paired_comparison
from .config import PipelineConfig, with_changes
from .gate import Decision, skip
from .records import Ceiling, Diagnosis, EstimateRecord
from .scoring import clusters, estimates
from .workbench import Evaluation, Retrieved, Workbench

__all__ = ["diagnose", "gold_contexts", "headroom", "outcomes"]


def diagnose(bench: Workbench, evaluation: Evaluation) -> Diagnosis:
    """Diagnoses a pipeline on its evaluation's questions (dev).

    Args:
        bench: Runs the counterfactuals: an extractive reader, closed-book, and gold evidence in the context.
        evaluation: Of the pipeline as it is.
    """
    metric = bench.config.score.answer_metric
    closed = _counterfactual(bench, evaluation, "closed_book")
    gold = _counterfactual(bench, evaluation, "gold_context")
    causes = {str(cause): count for cause, count in count_causes(outcomes(bench, evaluation)).items()}
    extractive = with_changes(evaluation.pipeline, {"generate": {"kind": "extractive"}})
    shown = [[hit.chunk for hit in hits] for hits in evaluation.retrieved.contexts]
    read = bench.answer_scores(evaluation.questions, bench.answer(extractive, evaluation.questions, shown))
    ceilings = (
        Ceiling(
            name="extractive_reader",
            meaning="no LLM: the best sentences of the same context, at no cost",
            metric=metric,
            estimate=_estimate(bench, evaluation, read),
        ),
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
    missed = causes["not_retrieved"] + causes["ranked_out"]
    can_pay = {
        "retrieval": f"{lost} of {n} dev questions are lost before the LLM sees their evidence",
        "embedding": f"{missed} of {n} dev questions have evidence that is parsed but not in the context",
        "llm": f"{wrong} of {n} dev questions are answered wrongly with the evidence present, or without any",
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
                f"only {wrong} of {n} dev questions are answered wrongly with the evidence present: the LLM loses few"
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


def gold_contexts(
    bench: Workbench, pipeline: PipelineConfig, questions: Sequence[Question], retrieved: Retrieved
) -> list[list[Chunk]]:
    """Contexts as a perfect retriever would give them: the chunks with the evidence first, then what was retrieved.

    Evidence that the parser lost stands in as a chunk of its own, so that the ceiling is that of the LLM.
    """
    chunks = bench.get(bench.chunks_stage(pipeline))
    gold = bench.get(bench.gold_stage(pipeline))
    of_document: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        of_document.setdefault(chunk.doc_id, []).append(chunk)
    contexts = []
    for question, hits in zip(questions, retrieved.contexts, strict=True):
        first: list[Chunk] = []
        for span, evidence in zip(gold[question.id], question.evidence, strict=True):
            holders = of_document.get(span.doc_id, [])
            rank = evidence_ranks([span], holders)[0]
            best = holders[rank - 1] if rank else _evidence_chunk(evidence.doc_id, evidence.text, holders)
            if best not in first:
                first.append(best)
        rest = [hit.chunk for hit in hits if hit.chunk not in first]
        contexts.append((first + rest)[: max(pipeline.retrieve.top_k, len(first))])
    return contexts


def _evidence_chunk(doc_id: str, text: str, siblings: Sequence[Chunk]) -> Chunk:
    like = siblings[0] if siblings else None
    return Chunk(doc_id, 0, len(text), text, like.ref if like else doc_id, like.title if like else "", ())


def _counterfactual(
    bench: Workbench, evaluation: Evaluation, which: Literal["closed_book", "gold_context"]
) -> list[Score]:
    if which == "closed_book":
        contexts = [[] for _ in evaluation.questions]
    else:
        contexts = gold_contexts(bench, evaluation.pipeline, evaluation.questions, evaluation.retrieved)
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
