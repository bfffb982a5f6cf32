"""What a metric's figures depend on: the version of its code and some settings. Unlike ones are refused."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from ..eval.answers import ANSWER_METRICS
from .config import ScoreSettings

__all__ = ["metric_versions"]

_ANSWERS = 1
"""Raised when eval/answers.py gives other scores for the same answers."""
_RETRIEVAL = 1
"""Raised when eval/retrieval.py or eval/ir.py gives other scores for the same hits."""


def metric_versions(names: Iterable[str], score: ScoreSettings) -> dict[str, str]:
    """The version of each metric, with the settings that change its scores; judges have identities of their own.

    Args:
        names: Metrics, as in `Score.metric`.
        score: What was asked for.
    """
    custom = {metric.name for metric in score.custom}
    return {name: _version(name, score) for name in names if name not in custom}


def _version(name: str, score: ScoreSettings) -> str:
    if name.startswith("ragas/"):
        return f"ragas {version('ragas')}"
    if name in ANSWER_METRICS:
        return f"answers {_ANSWERS}, score.abstention '{score.abstention}'"
    if name.startswith("context_tokens@"):
        return f"retrieval {_RETRIEVAL}, score.tokenizer '{score.tokenizer}'"
    return f"retrieval {_RETRIEVAL}"
