"""Diagnosis of a pipeline: where questions are lost, what each rung could win at most, which rung can pay."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from ..core.types import Answer, Chunk, Question, Score
from ..eval.diagnosis import (
    Counterfactuals,
    Fault,
    Outcome,
    attribute,
    count_causes,
    count_faults,
    fault_of,
)
from ..eval.retrieval import evidence_ranks
from ..eval.statistics import paired_comparison
from .config import PipelineConfig, with_changes
from .gate import Decision, skip
from .records import Ceiling, Diagnosis, EstimateRecord, FaultRecord
from .scoring import clusters, estimates
from .workbench import Evaluation, Retrieved, Workbench

__all__ = ["diagnose", "gold_contexts", "headroom", "outcomes", "within_reach"]

Values = Mapping[str, float | None]

# The parts that each rung can mend.
MENDED_BY: Mapping[str, tuple[Fault, ...]] = {
    "retrieval": ("parse", "retrieve", "rank", "context_budget"),
    "embedding": ("retrieve", "rank"),
    "llm": ("generate",),
}
_SCORED_OTHERWISE = ("answered", "metric_missing")
_PARTS: Mapping[Fault, str] = {
    "parse": "lost in parsing",
    "retrieve": "not retrieved",
    "rank": "ranked too low",
    "context_budget": "cut from the prompt",
    "generate": "answered wrongly with the evidence present, or without any",
    "judge": "not scored, or by a metric that rejects the reference answer",
}


def diagnose(bench: Workbench, evaluation: Evaluation) -> Diagnosis:
    """Diagnoses a pipeline on its evaluation's questions (dev).

    Args:
        bench: Runs the counterfactuals: an extractive reader, closed-book, gold evidence first, gold evidence alone.
        evaluation: Of the pipeline as it is.
    """
    questions = evaluation.questions
    shown = [[hit.chunk for hit in hits] for hits in evaluation.retrieved.contexts]
    extractive = with_changes(evaluation.pipeline, {"generate": {"kind": "extractive"}})
    firsts = gold_contexts(bench, evaluation.pipeline, questions, evaluation.retrieved)
    gold = _asked(bench, evaluation.pipeline, questions, firsts)
    # Where the pipeline itself is that reader, its score is the baseline's and says nothing new.
    reads = evaluation.pipeline.generate.kind == "extractive"
    runs = {
        **({} if reads else {"extractive_reader": _asked(bench, extractive, questions, shown)}),
        "closed_book": _asked(bench, evaluation.pipeline, questions, [[] for _ in questions]),
        "gold_context": gold,
    }
    meanings = {
        "extractive_reader": "no LLM: the best sentences of the same context, at no cost",
        "closed_book": "no documents in the prompt",
        "gold_context": "the evidence put first in the context: the most that better retrieval could give",
    }
    metric = bench.config.score.answer_metric
    found = outcomes(bench, evaluation, gold)
    ceilings = tuple(
        Ceiling(name=name, meaning=meanings[name], metric=metric, estimate=_estimate(bench, questions, values))
        for name, values in runs.items()
    )
    reach = {rung: _reach(bench, evaluation, found, gold, rung) for rung in MENDED_BY}
    return Diagnosis(
        causes={str(cause): count for cause, count in count_causes(found).items()},
        faults=_fault_records(bench, questions, found),
        ceilings=ceilings,
        reach=reach,
        can_pay={rung: _in_words(found, rung, estimate, metric) for rung, estimate in reach.items()},
    )


def _fault_records(bench: Workbench, questions: Sequence[Question], found: Sequence[Outcome]) -> dict[str, FaultRecord]:
    records = {}
    for fault, count in count_faults(found).items():
        lost = [outcome for outcome in found if fault_of(outcome.cause) == fault]
        tried = [outcome for outcome in lost if outcome.repaired is not None]
        here = {outcome.question_id for outcome in lost}
        records[str(fault)] = FaultRecord(
            questions=count,
            share=_estimate(bench, questions, {q.id: float(q.id in here) for q in questions}),
            asked_again=len(tried),
            repaired=sum(outcome.repaired is True for outcome in tried),
        )
    return records


def _reach(
    bench: Workbench, evaluation: Evaluation, found: Sequence[Outcome], gold: Values, rung: str
) -> EstimateRecord:
    """The answer metric if the rung's parts lost nothing: the evidence first in the context, or right answers."""
    now = _values(evaluation.scores, bench.config.score.answer_metric)
    reached = dict(now)
    for outcome in found:
        value = now.get(outcome.question_id)
        if value is not None and fault_of(outcome.cause) in MENDED_BY[rung]:
            best = 1.0 if rung == "llm" else gold.get(outcome.question_id)
            reached[outcome.question_id] = max(value, best if best is not None else value)
    return _estimate(bench, evaluation.questions, reached)


def within_reach(bench: Workbench, evaluation: Evaluation, rung: str) -> tuple[int, EstimateRecord]:
    """What a rung could win at most from a pipeline: its lost questions, and what they are worth.

    Retrieval and embeddings: the questions that their parts lose are asked again with the evidence first. LLM: the
    questions that it loses count as answered in full.

    Args:
        bench: Asks; what was asked before is not asked again.
        evaluation: Of the pipeline, on dev.
        rung: `retrieval`, `embedding` or `llm`.

    Returns:
        How many questions the parts lose that the rung mends, and the gain of the answer metric with its 95% interval.
    """
    found, metric = outcomes(bench, evaluation), bench.config.score.answer_metric
    lost = {outcome.question_id for outcome in found if fault_of(outcome.cause) in MENDED_BY[rung]}
    best = dict.fromkeys(lost, 1.0) if rung == "llm" else _with_gold(bench, evaluation, lost, only_gold=False)
    now = _values(evaluation.scores, metric)
    gains = {}
    for question, value in now.items():
        reached = best.get(question) if question in lost else value
        gains[question] = None if value is None else max(0.0, (value if reached is None else reached) - value)
    return len(lost), _estimate(bench, evaluation.questions, gains)


def _in_words(found: Sequence[Outcome], rung: str, reach: EstimateRecord, metric: str) -> str:
    counts = count_faults(found)
    parts = ", ".join(f"{counts[fault]} {_PARTS[fault]}" for fault in MENDED_BY[rung])
    parts = parts if len(MENDED_BY[rung]) > 1 else _PARTS[MENDED_BY[rung][0]]
    lost = sum(counts[fault] for fault in MENDED_BY[rung])
    whole = f"{lost} of {len(found)} dev questions" + (f": {parts}" if len(MENDED_BY[rung]) > 1 else f" {parts}")
    if reach.mean is None:
        return whole
    how = "answers to all of them were right" if rung == "llm" else "their evidence stood first in the context"
    return f"{whole}; {metric} {reach.mean:.3f} on dev if {how}"


def headroom(bench: Workbench, rung: str, dev: Evaluation) -> Decision | None:
    """Decides on dev whether a rung can pay at all.

    Returns:
        A `skip` with its reason, or None where the rung is worth trying.
    """
    worthwhile, metric = bench.config.gate.worthwhile, bench.config.score.answer_metric
    faults = count_faults(outcomes(bench, dev))
    n = len(dev.questions)
    lost = sum(faults[fault] for fault in MENDED_BY[rung])
    if rung == "llm":
        if dev.pipeline.generate.kind != "llm":
            return skip(f"the pipeline answers with '{dev.pipeline.generate.kind}', which has no weights to finetune")
        if lost / n < worthwhile:
            return skip(
                f"only {lost} of {n} dev questions are answered wrongly with the evidence present: the LLM loses few"
            )
        return None
    if lost / n >= worthwhile:
        return None
    contexts = gold_contexts(bench, dev.pipeline, dev.questions, dev.retrieved)
    ceiling = _asked(bench, dev.pipeline, dev.questions, contexts)
    both = [(q, c, v) for q, v in dev.values(metric).items() if v is not None and (c := ceiling.get(q)) is not None]
    groups = clusters(dev.questions)
    keys = [groups[question] for question, _, _ in both]
    if len(set(keys)) < 2:
        return None
    result = paired_comparison([c for _, c, _ in both], [v for _, _, v in both], keys, seed=bench.config.seed)
    if result.high >= worthwhile:
        return None
    if not lost:
        return skip(f"none of the {n} dev questions loses its evidence on the way, so this rung has nothing to win")
    return skip(
        f"only {lost} of {n} dev questions lose their evidence on the way, and perfect retrieval would add "
        f"{result.difference:+.3f} {metric} (95% interval {result.low:+.3f} to {result.high:+.3f}): it cannot pay"
    )


def gold_contexts(
    bench: Workbench,
    pipeline: PipelineConfig,
    questions: Sequence[Question],
    retrieved: Retrieved,
    only_gold: bool = False,
) -> list[list[Chunk]]:
    """Contexts as a perfect retriever would give them: the chunks with the evidence first, then what was retrieved.

    Evidence that the parser lost or damaged stands in as it was written, a chunk of its own: the ceiling is that
    of the LLM. With `only_gold` nothing follows the evidence.
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
            whole = rank is not None and span.method != "fuzzy"
            best = holders[rank - 1] if rank and whole else _evidence_chunk(evidence.doc_id, evidence.text, holders)
            if best not in first:
                first.append(best)
        rest = [hit.chunk for hit in hits if hit.chunk not in first]
        contexts.append(first if only_gold else (first + rest)[: max(pipeline.retrieve.top_k, len(first))])
    return contexts


def _evidence_chunk(doc_id: str, text: str, siblings: Sequence[Chunk]) -> Chunk:
    like = siblings[0] if siblings else None
    return Chunk(doc_id, 0, len(text), text, like.ref if like else doc_id, like.title if like else "", ())


def outcomes(bench: Workbench, evaluation: Evaluation, gold_first: Values | None = None) -> list[Outcome]:
    """Why each question of an evaluation was lost.

    Dev questions that were answered wrongly with their evidence in the prompt are asked again: with the evidence first,
    and, where that does not help, with the evidence alone. Test questions are not: there `wrong_answer` covers order
    and distraction too.

    Args:
        bench: Asks.
        evaluation: Whose questions.
        gold_first: The answer metric with the evidence first, where it is known already.
    """
    by_place = _attributed(bench, evaluation, None)
    if evaluation.split != "dev":
        return by_place
    return _attributed(bench, evaluation, _asked_again(bench, evaluation, by_place, gold_first))


def _attributed(bench: Workbench, evaluation: Evaluation, again: Counterfactuals | None) -> list[Outcome]:
    return attribute(
        evaluation.questions,
        [[hit.chunk for hit in hits] for hits in evaluation.retrieved.candidates],
        [[hit.chunk for hit in hits] for hits in evaluation.retrieved.contexts],
        evaluation.gold,
        evaluation.values(bench.config.score.answer_metric),
        bench.config.score.good_enough,
        [answer.contexts for answer in evaluation.answers],
        again,
    )


def _asked_again(
    bench: Workbench, evaluation: Evaluation, by_place: Sequence[Outcome], gold_first: Values | None
) -> Counterfactuals:
    enough, abstention = bench.config.score.good_enough, bench.config.score.abstention
    lost = [q for q, o in zip(evaluation.questions, by_place, strict=True) if o.cause not in _SCORED_OTHERWISE]
    reference = _scored(bench, lost, [Answer(q.id, q.answer or abstention) for q in lost])
    wrong = {outcome.question_id for outcome in by_place if outcome.cause == "wrong_answer"}
    if gold_first is None:
        gold_first = _with_gold(bench, evaluation, wrong, only_gold=False)
    stubborn = {q for q in wrong if (value := gold_first.get(q)) is None or value < enough}
    return Counterfactuals(gold_first, _with_gold(bench, evaluation, stubborn, only_gold=True), reference)


def _with_gold(bench: Workbench, evaluation: Evaluation, wanted: Container[str], only_gold: bool) -> Values:
    """The answer metric of some questions, asked again with their evidence first, or alone."""
    rows = [
        (question, hits)
        for question, hits in zip(evaluation.questions, evaluation.retrieved.contexts, strict=True)
        if question.id in wanted
    ]
    questions, hits = [question for question, _ in rows], [found for _, found in rows]
    contexts = gold_contexts(bench, evaluation.pipeline, questions, Retrieved(hits, hits, 0.0), only_gold)
    return _asked(bench, evaluation.pipeline, questions, contexts)


def _asked(
    bench: Workbench, pipeline: PipelineConfig, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]
) -> Values:
    """The answer metric of a pipeline that reads the given contexts."""
    return _scored(bench, questions, bench.answer(pipeline, questions, contexts)) if questions else {}


def _scored(bench: Workbench, questions: Sequence[Question], answers: Sequence[Answer]) -> Values:
    return _values(bench.answer_scores(questions, answers), bench.config.score.answer_metric)


def _values(scores: Sequence[Score], metric: str) -> Values:
    return {s.question_id: s.value for s in scores if s.metric == metric and s.status != "not_applicable"}


def _estimate(bench: Workbench, questions: Sequence[Question], values: Values) -> EstimateRecord:
    rows = [Score(q, "value", v, "ok" if v is not None else "generation_error") for q, v in values.items()]
    found = estimates(rows, clusters(questions), bench.config.seed)
    return found.get("value", EstimateRecord(mean=None, low=None, high=None, n_ok=0, n=0))
