"""Calibrates a judge, or any metric computed offline, against human labels.

First sanity probes with a known verdict; then agreement, Cohen's kappa, bias and confusion on the labelled answers, and
the mean that people would give to all answers, labelled or not (see eval/_agreement.py for formulas and sources).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from ..core.cache import digest
from ..core.chat import ChatModel
from ..core.components import Model, Resources
from ..core.errors import ConfigError, DataError
from ..core.types import Answer, Chunk, Embedder, Evidence, Question, Score
from ._agreement import Figure, agreement, auc, corrected_mean, kappa, mean_of
from ._labels import LabelledAnswer, load_labels
from ._probes import ProbeResult, Scorer, run_probes
from .answers import answer_scores
from .custom_metrics import CustomMetric, custom_scores
from .judge import JudgeSettings, judge_scores
from .ragas_metrics import RAGAS_ANSWER_METRICS, ragas_scores

__all__ = [
    "CALIBRATED",
    "CalibrateSettings",
    "Calibration",
    "Confusion",
    "Figure",
    "LabelledAnswer",
    "ProbeResult",
    "calibrate",
    "judge_identity",
    "load_labels",
    "metric_needs_embedder",
    "require_same_judge",
]

_BY_CONTEXT = ("ragas/faithfulness", "ragas/context_precision", "ragas/context_recall")
_JUDGED = (*_BY_CONTEXT, "ragas/answer_relevancy", "ragas/factual_correctness", "ragas/answer_correctness")
_OFFLINE = (
    *("exact_match", "token_f1", "answer_recall", "answer_contained"),
    *(f"ragas/{name}" for name in RAGAS_ANSWER_METRICS),
)
_EMBEDDING = ("ragas/answer_relevancy", "ragas/answer_correctness", "ragas/semantic_similarity")
CALIBRATED = (*_JUDGED, *_OFFLINE)
"""Metrics that can be calibrated. ragas/noise_sensitivity is none: it counts errors, lower is better."""


class CalibrateSettings(Model):
    """How a judge is calibrated."""

    metric: str
    """Which score is held against the labels. The labels must answer the same question as the metric."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """A score from here on means "accepted". Choosing it on the labels flatters the agreement."""
    probes: int = Field(default=10, ge=0)
    """Questions a probe; 0 leaves the probes out. Three probes, each as many judgements."""
    seed: int = 0
    """Of the draw of the probes' questions."""


class Confusion(Model):
    """Verdicts of judge and people on the labelled answers."""

    both_accept: int
    """Accepted by both."""
    judge_only: int
    """Accepted by the judge, rejected by people."""
    human_only: int
    """Rejected by the judge, accepted by people."""
    both_reject: int
    """Rejected by both."""


class Calibration(Model):
    """What a judge's scores are worth, held against people's labels."""

    metric: str
    """Which score."""
    judge: str
    """Identity of the judge: scores of unlike identities are never compared."""
    threshold: float
    """From which a score counts as accepted; a label counts as accepted from 0.5 on."""
    probes: tuple[ProbeResult, ...] = ()
    """Sanity probes; none where they were left out."""
    sound: bool = True
    """Every probe passed. Where not, the labels were not looked at."""
    rows: int = 0
    """Answers in the file."""
    labelled: int = 0
    """Those with a label."""
    compared: int = 0
    """Those with a label and a score."""
    questions: int = 0
    """Different questions among these; intervals treat answers to one question as one group."""
    failed: dict[str, int] = {}
    """Answers without a score, by status."""
    agreement: Figure | None = None
    """Share of equal verdicts."""
    kappa: Figure | None = None
    """Cohen's kappa: agreement beyond chance."""
    auc: Figure | None = None
    """How often an accepted answer outscores a rejected one; does not depend on the threshold."""
    bias: Figure | None = None
    """Mean of judge minus label: positive where the judge is too kind."""
    confusion: Confusion | None = None
    """Counts."""
    judge_mean: float | None = None
    """Mean of the judge's scores of all answers, as it stands."""
    corrected_mean: Figure | None = None
    """Mean that people would give to all answers; the labelled ones must be a random sample of them. None where all
    answers are labelled, or fewer than ten."""
    judge_weight: float | None = None
    """How much the correction leans on the judge: 0 not at all, near 1 fully."""


def calibrate(
    labels: Sequence[LabelledAnswer],
    settings: CalibrateSettings,
    questions: Sequence[Question] = (),
    judge: JudgeSettings | None = None,
    resources: Resources | None = None,
    embedder: Embedder | None = None,
    embedder_identity: dict[str, Any] | None = None,
    model: ChatModel | None = None,
    custom: Sequence[CustomMetric] = (),
) -> Calibration:
    """Holds a judge against human labels.

    Args:
        labels: Answers, some with a label; with a score of their own where a judge elsewhere gave it (no probes then).
        settings: Metric, threshold, probes.
        questions: For the probes: their reference answers and evidence.
        judge: The LLM judge, for its metrics.
        resources: For the judge.
        embedder: For the metrics that need one.
        embedder_identity: What the embedder is, as its settings give it.
        model: The judge's chat model, where the caller has built it already.
        custom: The user's own metrics, one of which `settings.metric` may name.

    Raises:
        ConfigError: An unknown metric, one whose judge or embedder is missing, or scores of several judges.
        DataError: Labels that cannot be used: scores in some rows only; no context for a metric of contexts; no
            reference answer for one of references; nothing left to compare.
        EndpointError: The judge cannot be reached.
    """
    given = {row.judge for row in labels}
    if given != {""}:
        name = _only_judge(labels)
        base = Calibration(metric=settings.metric, judge=name, threshold=settings.threshold)
        scores = [Score(str(n), settings.metric, row.score) for n, row in enumerate(labels)]
        return _compared(base, labels, scores)
    where = resources or Resources()
    own = next((metric for metric in custom if metric.name == settings.metric), None)
    if own is None:
        _check_inputs(labels, settings, judge, embedder)
    identity = judge_identity(settings.metric, judge, where, embedder_identity, custom)
    scorer = _own_scorer(own) if own is not None else _scorer(settings.metric, judge, where, embedder, model)
    base = Calibration(metric=settings.metric, judge=identity, threshold=settings.threshold, rows=len(labels))
    if settings.probes:
        varies = "context" if settings.metric in _BY_CONTEXT else "answer"
        probes = run_probes(scorer, questions, varies, settings.threshold, settings.probes, settings.seed)
        base = base.model_copy(update={"probes": probes, "sound": all(probe.passed for probe in probes)})
        if not base.sound:
            return base
    asked = [_question(n, row) for n, row in enumerate(labels)]
    answers = [Answer(question.id, row.answer) for question, row in zip(asked, labels, strict=True)]
    contexts = [[_passage(n, text) for n, text in enumerate(row.contexts)] for row in labels]
    return _compared(base, labels, scorer(asked, answers, contexts))


def judge_identity(
    metric: str,
    judge: JudgeSettings | None,
    resources: Resources,
    embedder: dict[str, Any] | None = None,
    custom: Sequence[CustomMetric] = (),
) -> str:
    """Identity of what gives a score: metric, judge, prompts and settings, embedder. Unlike ones cannot be compared.

    Args:
        metric: As in `Score.metric`.
        judge: The LLM judge's settings.
        resources: For the identity of its model.
        embedder: Identity of the embedder; only that of metrics that use one counts.
        custom: The user's own metrics; only the one of that name counts.
    """
    what: dict[str, Any] = {"metric": metric}
    own = next((one for one in custom if one.name == metric), None)
    if own is not None:
        what["function"] = own.identity()
    if metric in _JUDGED and judge is not None:
        what["judge"] = {k: v for k, v in judge.identity(resources).items() if k != "metrics"}
    if metric in _EMBEDDING:
        what["embedder"] = embedder
    return f"{metric}:{digest(what)[:16]}"


def require_same_judge(first: str, second: str, purpose: str = "compared") -> None:
    """Refuses scores of different judges.

    Args:
        first: Identity of one judge, see `judge_identity`.
        second: Of the other.
        purpose: What was to be done with the scores.

    Raises:
        ConfigError: They differ.
    """
    if first != second:
        raise ConfigError(
            f"scores of different judges cannot be {purpose}: '{first}' and '{second}'; "
            "score both sides with one judge, the same settings and the same prompts"
        )


def metric_needs_embedder(metric: str) -> bool:
    """True where a metric compares meanings by an embedding model."""
    return metric in _EMBEDDING


def _only_judge(labels: Sequence[LabelledAnswer]) -> str:
    names = sorted({row.judge for row in labels})
    if "" in names:
        raise DataError("labels: some rows have a score and a judge, others none; give both to every row or to none")
    for name in names[1:]:
        require_same_judge(names[0], name, "put into one calibration")
    return names[0]


def _check_inputs(
    labels: Sequence[LabelledAnswer],
    settings: CalibrateSettings,
    judge: JudgeSettings | None,
    embedder: Embedder | None,
) -> None:
    metric = settings.metric
    if metric not in CALIBRATED:
        raise ConfigError(f"'{metric}' cannot be calibrated; known: {', '.join(CALIBRATED)}")
    if metric in _JUDGED and judge is None:
        raise ConfigError(f"{metric} needs a judge: set score.judge in the config")
    if metric in _EMBEDDING and embedder is None:
        raise ConfigError(f"{metric} needs an embedding model")
    if metric in _BY_CONTEXT and not all(row.contexts for row in labels):
        raise DataError(f"labels: {metric} needs the passages of every row, in the column 'context'")
    if metric not in ("ragas/faithfulness", "ragas/answer_relevancy") and not all(row.reference for row in labels):
        raise DataError(f"labels: {metric} needs a reference answer in every row, in the column 'reference' or by 'id'")


def _scorer(
    metric: str, judge: JudgeSettings | None, resources: Resources, embedder: Embedder | None, model: ChatModel | None
) -> Scorer:
    name = metric.removeprefix("ragas/")

    def score(
        questions: Sequence[Question], answers: Sequence[Answer], contexts: Sequence[Sequence[Chunk]]
    ) -> list[Score]:
        if metric in _JUDGED and judge is not None:
            settings = JudgeSettings.model_validate({**dict(judge), "metrics": (name,)})
            return judge_scores(questions, answers, contexts, settings, resources, embedder, model)[0]
        if metric == name:
            return [found for found in answer_scores(questions, answers, "") if found.metric == metric]
        return ragas_scores(questions, contexts, answers, embedder=embedder, metrics=[name])

    return score


def _own_scorer(metric: CustomMetric) -> Scorer:
    def score(
        questions: Sequence[Question], answers: Sequence[Answer], contexts: Sequence[Sequence[Chunk]]
    ) -> list[Score]:
        shown = [replace(answer, contexts=tuple(chunks)) for answer, chunks in zip(answers, contexts, strict=True)]
        return custom_scores(questions, shown, [metric])

    return score


def _question(number: int, row: LabelledAnswer) -> Question:
    # judged metrics pass over questions without evidence; that of a labelled answer is not asked for
    evidence = Evidence("labels", row.contexts[0] if row.contexts else row.reference or row.question)
    return Question(str(number), row.question, row.reference, (evidence,))


def _passage(number: int, text: str) -> Chunk:
    return Chunk(f"passage-{number}", 0, len(text), text)


def _compared(base: Calibration, labels: Sequence[LabelledAnswer], scores: Sequence[Score]) -> Calibration:
    pairs = [(row, score) for row, score in zip(labels, scores, strict=True) if score.value is not None]
    both = [(row, score) for row, score in pairs if row.human is not None]
    failed: dict[str, int] = {}
    for score in scores:
        if score.value is None:
            failed[score.status] = failed.get(score.status, 0) + 1
    if not both:
        detail = next((score.detail for score in scores if score.detail), "no reason was given")
        raise DataError(f"labels: no labelled answer has a score of {base.metric}; the first reason: {detail}")
    judged = np.array([score.value for _, score in both], dtype=float)
    human = np.array([row.human for row, _ in both], dtype=float)
    groups = [row.question for row, _ in both]
    passed, accepted = judged >= base.threshold, human >= 0.5
    values = [score.value for _, score in pairs if score.value is not None]
    rest = [(score.value, row.question) for row, score in pairs if row.human is None]
    update: dict[str, Any] = {
        "rows": len(labels),
        "labelled": sum(row.human is not None for row in labels),
        "compared": len(both),
        "questions": len(set(groups)),
        "failed": failed,
        "agreement": agreement(passed, accepted, groups),
        "kappa": kappa(passed, accepted, groups),
        "auc": auc(judged, accepted, groups),
        "bias": mean_of(judged - human, groups),
        "confusion": _confusion(passed, accepted),
        "judge_mean": math.fsum(values) / len(values),
    }
    if rest and len(both) >= 10:
        others = np.array([value for value, _ in rest], dtype=float)
        mean, weight = corrected_mean(judged, human, others, groups, [group for _, group in rest])
        update |= {"corrected_mean": mean, "judge_weight": weight}
    return base.model_copy(update=update)


def _confusion(passed: np.ndarray, accepted: np.ndarray) -> Confusion:
    return Confusion(
        both_accept=int((passed & accepted).sum()),
        judge_only=int((passed & ~accepted).sum()),
        human_only=int((~passed & accepted).sum()),
        both_reject=int((~passed & ~accepted).sum()),
    )
