"""Scores the pipeline of a config on one split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.components import Model
from ..core.progress import Reporter
from ..core.types import Split
from ..eval.questions import load_questions
from .config import load_experiment
from .published import PublishedCell, compare_published
from .records import EstimateRecord
from .scoring import clusters, estimates, evaluate_fully
from .workbench import Workbench

__all__ = ["EvalResult", "evaluate_config"]


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
        published=compare_published(bench, config.published, split) if config.published else (),
    )
