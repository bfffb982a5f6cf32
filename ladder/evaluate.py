"""Scores the pipeline of a config on one split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..core.components import Model
from ..core.progress import Reporter
from ..core.types import Score, Split
from ..eval.questions import load_questions
from .config import load_experiment
from .published import PublishedCell, compare_published
from .records import EstimateRecord
from .scoring import clusters, estimates, evaluate_fully
from .workbench import Workbench

__all__ = ["EvalResult", "MissingScores", "evaluate_config"]


class MissingScores(Model):
    """Questions without a score of a metric; those that it does not apply to are not among them."""

    statuses: dict[str, int]
    """How many, by status."""
    reason: str
    """Of the first, in words."""


class EvalResult(Model):
    """What `ragladder eval --json` prints."""

    name: str
    """Of the experiment."""
    split: str
    """Which questions."""
    questions: int
    """How many."""
    documents: int
    """Parsed ones."""
    failures: dict[str, str]
    """Documents that could not be parsed: why."""
    scores: dict[str, EstimateRecord]
    """Metric: mean, 95% interval, n_ok of n."""
    missing: dict[str, MissingScores]
    """Metric: what failed, for the metrics of which any score did."""
    published: tuple[PublishedCell, ...] = ()
    """Published figures and ours, where the config names some."""


def evaluate_config(path: Path, split: Split, overrides: Sequence[str], reporter: Reporter) -> EvalResult:
    """Scores a pipeline.

    Args:
        path: The experiment's YAML file; its rungs are not looked at.
        split: Which questions.
        overrides: `key.path=value`.
        reporter: For progress.

    Raises:
        RagladderError: Something cannot be used.
    """
    config = load_experiment(path, overrides)
    base_dir = Path(path).absolute().parent
    questions = load_questions(config.resources(base_dir).path(config.data.questions))
    bench = Workbench(config, base_dir, questions, reporter)
    evaluation = evaluate_fully(bench, config.pipeline, split)
    corpus = bench.get(bench.documents_stage(config.pipeline))
    return EvalResult(
        name=config.name,
        split=split,
        questions=len(evaluation.questions),
        documents=len(corpus.documents),
        failures={failure.doc_id: failure.reason for failure in corpus.failures},
        scores=estimates(evaluation.scores, clusters(evaluation.questions), config.seed),
        missing=_missing(evaluation.scores),
        published=compare_published(bench, config.published, split) if config.published else (),
    )


def _missing(scores: Sequence[Score]) -> dict[str, MissingScores]:
    failed: dict[str, list[Score]] = {}
    for score in scores:
        if score.status not in ("ok", "not_applicable"):
            failed.setdefault(score.metric, []).append(score)
    return {
        metric: MissingScores(statuses=Counter(score.status for score in rows), reason=rows[0].detail)
        for metric, rows in failed.items()
    }
