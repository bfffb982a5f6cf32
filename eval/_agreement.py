"""How well scores agree with human labels: agreement, kappa, area under the ROC curve, bias, and a corrected mean.

Every statistic comes with each row's influence on it, and the standard error is that of the influences summed by
cluster: labels of one question's answers are not independent. Without clusters these are the textbook errors of Fleiss,
Cohen and Everitt (1969, kappa) and of DeLong, DeLong and Clarke-Pearson (1988, area under the curve; clustered:
Obuchowski, 1997), with G / (G - 1) for G clusters.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from ..core.components import Model

__all__ = ["Figure", "agreement", "auc", "corrected_mean", "figure", "kappa", "mean_of"]


class Figure(Model):
    """A statistic with its 95% interval."""

    value: float | None
    """None where it is not defined, for instance kappa where all labels are alike."""
    low: float | None
    """Lower end; None where the rows do not tell: fewer than two groups, or no row that departs from the rest."""
    high: float | None
    """Upper end."""


def figure(
    value: float,
    influence: np.ndarray,
    clusters: Sequence[Hashable],
    bounds: tuple[float, float] | None = None,
    degrees: int | None = None,
) -> Figure:
    """A statistic with the interval that its influences give: Student's t on G - 1 degrees of freedom.

    Args:
        value: The statistic; NaN where it is not defined.
        influence: Shape (rows,); what each row adds to the error of the statistic, summing to about 0.
        clusters: The group of each row.
        bounds: The least and the greatest possible value.
        degrees: Degrees of freedom where they are not G - 1.
    """
    if not math.isfinite(value):
        return Figure(value=None, low=None, high=None)
    from scipy.stats import t

    numbers = {group: place for place, group in enumerate(dict.fromkeys(clusters))}
    sums = np.bincount([numbers[group] for group in clusters], weights=influence)
    count = len(sums)
    degrees = count - 1 if degrees is None else degrees
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) if count > 1 else 0.0
    if degrees < 1 or error < 1e-12:
        return Figure(value=value, low=None, high=None)
    reach = float(t.ppf(0.975, degrees)) * error
    low, high = value - reach, value + reach
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Figure(value=value, low=low, high=high)


def mean_of(values: np.ndarray, clusters: Sequence[Hashable], bounds: tuple[float, float] | None = None) -> Figure:
    """A mean; shape (rows,)."""
    return figure(float(values.mean()), (values - values.mean()) / len(values), clusters, bounds)


def agreement(passed: np.ndarray, human: np.ndarray, clusters: Sequence[Hashable]) -> Figure:
    """Share of rows on which two verdicts are the same; both boolean, shape (rows,)."""
    return mean_of((passed == human).astype(float), clusters, (0.0, 1.0))


def kappa(passed: np.ndarray, human: np.ndarray, clusters: Sequence[Hashable]) -> Figure:
    """Cohen's kappa (1960) of two verdicts: agreement beyond that of chance, (po - pe) / (1 - pe).

    Args:
        passed: Boolean, shape (rows,).
        human: Boolean, shape (rows,).
        clusters: The group of each row.
    """
    a, b = passed.astype(float), human.astype(float)
    p, q = float(a.mean()), float(b.mean())
    same = (passed == human).astype(float)
    observed, chance = float(same.mean()), p * q + (1 - p) * (1 - q)
    if 1 - chance < 1e-12:
        return figure(math.nan, same, clusters)
    by_chance = (a - p) * (2 * q - 1) + (b - q) * (2 * p - 1)
    influence = (same - observed) / (1 - chance) - (1 - observed) * by_chance / (1 - chance) ** 2
    return figure(1 - (1 - observed) / (1 - chance), influence / len(a), clusters, (-1.0, 1.0))


def auc(scores: np.ndarray, human: np.ndarray, clusters: Sequence[Hashable]) -> Figure:
    """Area under the ROC curve: how often a row that people accept outscores one that they reject; ties count half.

    Args:
        scores: Shape (rows,); higher means better.
        human: Boolean, shape (rows,).
        clusters: The group of each row.
    """
    from scipy.stats import rankdata

    good, bad = scores[human], scores[~human]
    if not len(good) or not len(bad):
        return figure(math.nan, scores, clusters)
    ranks = rankdata(scores)
    above = (ranks[human] - rankdata(good)) / len(bad)  # share of the rejected below each accepted
    below = 1 - (ranks[~human] - rankdata(bad)) / len(good)  # share of the accepted above each rejected
    value = float(above.mean())
    influence = np.empty(len(scores))
    influence[human] = (above - value) / len(good)
    influence[~human] = (below - value) / len(bad)
    return figure(value, influence, clusters, (0.0, 1.0))


def corrected_mean(
    labelled: np.ndarray,
    human: np.ndarray,
    unlabelled: np.ndarray,
    labelled_clusters: Sequence[Hashable],
    unlabelled_clusters: Sequence[Hashable],
) -> tuple[Figure, float]:
    """The mean that people would give to all, from a judge's scores of all and people's labels of some.

    Prediction-powered inference (Angelopoulos et al., "Prediction-Powered Inference", Science, 2023) with the weight of
    the judge tuned (Angelopoulos, Duchi and Zrnic, "PPI++: Efficient Prediction-Powered Inference", 2023, section 6):
    w mean(f unlabelled) + mean(y - w f labelled). The labelled rows must be drawn at random from all.

    Args:
        labelled: The judge's scores f of the n labelled rows.
        human: Their labels y.
        unlabelled: The judge's scores of the N other rows.
        labelled_clusters: The group of each labelled row.
        unlabelled_clusters: The group of each other row.

    Returns:
        The mean, and w from 0 (the judge says nothing) to 1. Degrees of freedom are those of the labelled groups.
    """
    n, others = len(labelled), len(unlabelled)
    spread = float(np.concatenate([labelled, unlabelled]).var())
    weight = 0.0
    if n > 1 and spread > 1e-12:
        shared = float(np.cov(labelled, human, ddof=1)[0, 1])
        weight = min(max(shared / ((1 + n / others) * spread), 0.0), 1.0)
    rest = human - weight * labelled
    value = weight * float(unlabelled.mean()) + float(rest.mean())
    influence = np.concatenate([(rest - rest.mean()) / n, weight * (unlabelled - unlabelled.mean()) / others])
    clusters = [*labelled_clusters, *unlabelled_clusters]
    return figure(value, influence, clusters, degrees=len(set(labelled_clusters)) - 1), weight
