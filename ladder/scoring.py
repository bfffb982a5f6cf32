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
from ..eval.calibrate import judge_identity
from ..eval.judge import JudgeSettings, Verdict, judge_scores
from ..eval.ragas_metrics import ragas_scores
from ..eval.statistics import mean_interval
from .config import PipelineConfig
from .records import EstimateRecord
from .workbench import Evaluation, Workbench

__all__ = ["clusters", "estimates", "evaluate_fully", "further_scores", "judges", "kept_verdicts"]


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


def judges(bench: Workbench) -> dict[str, str]:
    """Metrics that an LLM or a function of the user scores, and the identity of each: unlike ones are not compared."""
    score = bench.config.score
    names = [metric.name for metric in score.custom]
    names += [f"ragas/{name}" for name in score.judge.metrics] if score.judge is not None else []
    embedder = bench.config.pipeline.embed.identity(bench.resources) if score.judge is not None else None
    return {name: judge_identity(name, score.judge, bench.resources, embedder, score.custom) for name in names}


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

    return Stage("ragas", {"content": _content(evaluation), "ragas": "0.4.3", "metrics": 2}, build, _load)


def kept_verdicts(bench: Workbench, evaluation: Evaluation) -> list[Verdict]:
    """What the judge held of each claim, from the judge's stage.

    Empty without a judge, and where its endpoint left something unanswered: nothing is kept then.
    """
    settings = bench.config.score.judge
    if settings is None:
        return []
    stage = Stage("judge", _judge_params(bench, evaluation, settings), _save_nothing, _load)
    path = bench.store.folder(stage) / "verdicts.json"
    if not bench.store.has(stage) or not path.is_file():
        return []
    return [Verdict(**row) for row in json.loads(path.read_text())]


def _save_nothing(_: Path) -> None:
    """The stage is only looked up."""


def _judge_params(bench: Workbench, evaluation: Evaluation, settings: JudgeSettings) -> dict[str, object]:
    embed = bench.config.pipeline.embed
    return {
        "content": _content(evaluation),
        "judge": settings.identity(bench.resources),
        "embedder": embed.identity(bench.resources),
    }


def _judged(bench: Workbench, evaluation: Evaluation, settings: JudgeSettings) -> list[Score]:
    """Judged scores and the verdict on each claim.

    They are kept once the endpoint has answered everything, well or not: a rerun asks again only for what it did not.
    """
    scores: list[Score] = []
    verdicts: list[Verdict] = []

    def build(out: Path) -> None:
        _save(out, scores)
        (out / "verdicts.json").write_text(json.dumps([asdict(verdict) for verdict in verdicts], ensure_ascii=False))

    stage = Stage("judge", _judge_params(bench, evaluation, settings), build, _load)
    if not bench.store.has(stage):
        contexts = [list(a.contexts) for a in evaluation.answers]
        embedder = bench.embedder(bench.config.pipeline)
        found = judge_scores(
            evaluation.questions,
            evaluation.answers,
            contexts,
            settings,
            bench.resources,
            embedder,
            bench.component(settings.llm),  # one for the whole run, as are its budget and its account
            bench.judge_answered,
        )
        bench.judge_answered = True
        scores, verdicts = list(found[0]), list(found[1])
        _warn_of_gaps(bench, scores)
        given = {answer.question_id for answer in evaluation.answers if answer.status == "ok"}
        if any(score.status in ("timeout", "judge_error") and score.question_id in given for score in scores):
            return scores
    return bench.get(stage)


def _warn_of_gaps(bench: Workbench, scores: Sequence[Score]) -> None:
    missing = [score for score in scores if score.status in ("timeout", "judge_error")]
    if missing:
        bench.reporter.line(
            f"warning: {len(missing)} of {len(scores)} judgements are missing, for instance {missing[0].detail}; the "
            "same command asks for them again"
        )


def _save(out: Path, scores: Sequence[Score]) -> None:
    (out / "scores.json").write_text(json.dumps([asdict(score) for score in scores], ensure_ascii=False))


def _load(out: Path) -> list[Score]:
    return [Score(**row) for row in json.loads((out / "scores.json").read_text())]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
