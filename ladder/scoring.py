"""Scores that take more than arithmetic: RAGAS, LLM judges; and the means of an evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ..core.cache import digest
from ..core.store import Stage
from ..core.types import Question, Score, Split
from ..eval.judge import JudgeSettings, Verdict, judge_scores
from ..eval.ragas_metrics import ragas_scores
from ..eval.statistics import mean_interval
from .config import PipelineConfig
from .records import EstimateRecord
from .workbench import Evaluation, Workbench

__all__ = ["clusters", "estimates", "evaluate_fully", "further_scores"]


def clusters(questions: Sequence[Question]) -> dict[str, str]:
    """The group of each question: the document of its first evidence; a question without evidence is its own."""
    return {q.id: q.evidence[0].doc_id if q.evidence else f"question:{q.id}" for q in questions}


def estimates(scores: Sequence[Score], groups: Mapping[str, str], seed: int) -> dict[str, EstimateRecord]:
    """Mean and 95% interval of every metric; questions that one does not apply to are left out, failures counted."""
    by_metric: dict[str, list[Score]] = {}
    for score in scores:
        rows = by_metric.setdefault(score.metric, [])
        if score.status != "not_applicable":
            rows.append(score)
    records = {}
    for metric, rows in by_metric.items():
        estimate = mean_interval(
            [s.value for s in rows], [groups.get(s.question_id, s.question_id) for s in rows], seed=seed
        )
        numbers = {name: _finite(getattr(estimate, name)) for name in ("mean", "low", "high")}
        records[metric] = EstimateRecord(**numbers, n_ok=estimate.n_ok, n=estimate.n)
    return records


def evaluate_fully(bench: Workbench, pipeline: PipelineConfig, split: Split) -> Evaluation:
    """Scores a pipeline end to end, with RAGAS and judged metrics where the config asks for them."""
    evaluation = bench.evaluate(pipeline, split)
    return replace(evaluation, scores=[*evaluation.scores, *further_scores(bench, evaluation)])


def further_scores(bench: Workbench, evaluation: Evaluation) -> list[Score]:
    """RAGAS metrics without an LLM, and judged ones, as the config asks for."""
    scores: list[Score] = []
    if bench.config.score.ragas:
        scores += bench.get(_ragas_stage(evaluation))
    if bench.config.score.judge is not None:
        scores += _judged(bench, evaluation, bench.config.score.judge)
    return scores


def _content(evaluation: Evaluation) -> str:
    rows = [
        [
            q.id,
            q.text,
            q.answer,
            [e.text for e in q.evidence],
            a.status,
            a.text,
            [[c.doc_id, c.text] for c in a.contexts],
        ]
        for q, a in zip(evaluation.questions, evaluation.answers, strict=True)
    ]
    return digest(rows)


def _ragas_stage(evaluation: Evaluation) -> Stage[list[Score]]:
    def build(out: Path) -> None:
        contexts = [[hit.chunk for hit in hits] for hits in evaluation.retrieved.contexts]
        _save(out, ragas_scores(evaluation.questions, contexts, evaluation.answers))

    return Stage("ragas", {"content": _content(evaluation), "ragas": "0.4.3"}, build, _load)


def _judged(bench: Workbench, evaluation: Evaluation, settings: JudgeSettings) -> list[Score]:
    """Judged scores. They are kept once none failed: a rerun asks again only for what the endpoint did not answer."""
    embed = bench.config.pipeline.embed
    params = {
        "content": _content(evaluation),
        "judge": settings.identity(bench.resources),
        "embedder": embed.identity(bench.resources),
    }
    scores: list[Score] = []
    verdicts: list[Verdict] = []

    def build(out: Path) -> None:
        _save(out, scores)
        (out / "verdicts.json").write_text(json.dumps([asdict(verdict) for verdict in verdicts], ensure_ascii=False))

    stage = Stage("judge", params, build, _load)
    if not bench.store.has(stage):
        contexts = [list(a.contexts) for a in evaluation.answers]
        embedder = bench.embedder(bench.config.pipeline)
        found = judge_scores(evaluation.questions, evaluation.answers, contexts, settings, bench.resources, embedder)
        scores, verdicts = list(found[0]), list(found[1])
        if any(score.status not in ("ok", "not_applicable") for score in scores):
            return scores
    return bench.get(stage)


def _save(out: Path, scores: Sequence[Score]) -> None:
    (out / "scores.json").write_text(json.dumps([asdict(score) for score in scores], ensure_ascii=False))


def _load(out: Path) -> list[Score]:
    return [Score(**row) for row in json.loads((out / "scores.json").read_text())]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
