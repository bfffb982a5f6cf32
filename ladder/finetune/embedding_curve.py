"""Would more training pairs help? Trains on a quarter, a half and all of them, and fits the gain a doubling brings."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Literal

import numpy as np

from ...core.components import Model
from ...core.errors import ConfigError, DataError
from ...core.progress import Reporter
from ...embeddings.pairs import PairSet
from ...eval.statistics import mean_interval
from ..config import EmbeddingRungSettings
from ..rungs.embedding_data import EmbeddingData
from ..rungs.embedding_stages import embedding_stage
from ..workbench import Workbench

__all__ = ["CurvePoint", "LearningCurve", "gain_per_doubling", "learning_curve"]

SHARES = (0.25, 0.5, 1.0)
LEAST = 8


class CurvePoint(Model):
    """A training on a share of the pairs."""

    share: float
    """Of all pairs."""
    pairs: int
    """As many."""
    score: float
    """Dev score of its model, or of the base where none was better."""


class LearningCurve(Model):
    """Dev score by the number of training pairs."""

    metric: str
    """Of the scores."""
    base_score: float
    """Dev score of the untrained base."""
    points: tuple[CurvePoint, ...]
    """Smallest first; each share holds the one before."""
    gain_per_doubling: float
    """Slope of the dev score over log2 of the pairs, by least squares."""
    low: float
    """Lower end of its 95% interval over the dev questions. The luck of a training is not in it."""
    high: float
    """Upper end."""
    worthwhile: float
    """The gain that counts (`gate.worthwhile`)."""
    verdict: Literal["more data", "enough", "unclear"]
    """more data: the slope is worthwhile for certain; enough: it is certainly not; unclear: the interval holds it."""


def learning_curve(
    bench: Workbench, settings: EmbeddingRungSettings, data: EmbeddingData, reporter: Reporter
) -> LearningCurve:
    """Trains on shares of the pairs; the training on all is the rung's own, and is not made twice.

    Args:
        bench: Questions and stages.
        settings: Metric and training.
        data: All pairs.
        reporter: Told of each point.

    Raises:
        DataError: There are too few pairs to divide.
        ConfigError: The rung trains no model.
    """
    if settings.train is None:
        raise ConfigError("rungs.embedding.train is null, so there is no training to draw a curve of")
    total = len(data.pairs)
    if math.floor(SHARES[0] * total) < LEAST:
        raise DataError(
            f"learning curve: {total} pairs are too few to train on a quarter of them; {4 * LEAST} are needed"
        )
    order = list(range(total))
    random.Random(settings.train.seed).shuffle(order)
    points, columns, base_score = [], [], 0.0
    for share in SHARES:
        chosen = sorted(order[: max(LEAST, round(share * total))])
        pairs = tuple(data.pairs.pairs[place] for place in chosen)
        part = replace(data, pairs=PairSet(pairs, {**data.pairs.counts, "pairs": len(pairs)}))
        stage = embedding_stage(bench, bench.config.pipeline, settings, part)
        result = bench.get(stage)
        base_score = result["base_score"]
        columns.append(json.loads((bench.store.folder(stage) / "dev_values.json").read_text())["best"])
        points.append(CurvePoint(share=share, pairs=len(pairs), score=result["best_score"]))
        reporter.line(f"learning curve: {len(pairs)} pairs: dev {settings.metric} {result['best_score']:.4f}")
    ids = sorted(columns[0])
    values = np.array([[column[name] for column in columns] for name in ids])
    slope, low, high = gain_per_doubling([point.pairs for point in points], values)
    worthwhile = bench.config.gate.worthwhile
    verdict: Literal["more data", "enough", "unclear"] = "unclear"
    if low > worthwhile:
        verdict = "more data"
    elif high < worthwhile:
        verdict = "enough"
    return LearningCurve(
        metric=settings.metric,
        base_score=base_score,
        points=tuple(points),
        gain_per_doubling=slope,
        low=low,
        high=high,
        worthwhile=worthwhile,
        verdict=verdict,
    )


def gain_per_doubling(sizes: list[int], values: np.ndarray) -> tuple[float, float, float]:
    """Slope of scores over log2 of the sizes, with a 95% interval over questions.

    The least-squares slope is linear in the scores, so each question has a slope of its own, and theirs is averaged.

    Args:
        sizes: Numbers of pairs, at least two different ones.
        values: Scores, shape (questions, sizes).

    Returns:
        Slope, and the ends of its interval.
    """
    x = np.log2(sizes)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    found = mean_interval([float(slope) for slope in values @ weights])
    return found.mean, found.low, found.high
