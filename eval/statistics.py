"""Intervals and paired tests over questions, honest about questions that share a document.

The unit of resampling is the cluster (questions about one document), not the question. With fewer than 100 clusters the
interval is Student's t on linearised cluster totals (a ratio estimator: Cochran, "Sampling Techniques", 1977, chapter
6); from 100 on it is the studentised bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section
12.5). The permutation test flips the signs of whole clusters, p = (b + 1) / (B + 1) (Phipson and Smyth, 2010).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "BOOTSTRAP_FROM",
    "Estimate",
    "PairedResult",
    "detectable_effect",
    "mean_interval",
    "paired_comparison",
    "questions_needed",
]

BOOTSTRAP_FROM = 100
"""Clusters from which the studentised bootstrap takes over from Student's t."""
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: NaN where no value is there.
        low: Lower end of the two-sided interval.
        high: Upper end.
        n_ok: Values that went into it.
        n: Questions asked; the difference is missing.
    """

    mean: float
    low: float
    high: float
    n_ok: int
    n: int


@dataclass(frozen=True, slots=True)
class PairedResult:
    """Candidate minus incumbent on the same questions.

    Attributes:
        difference: Mean difference.
        low: Lower end of the two-sided interval at `level`.
        high: Upper end.
        lower_bound: One-sided lower bound at `alpha`.
        p_value: Sign-flip permutation, one-sided (candidate better).
        alpha: Of the one-sided bound and test.
        level: Of the two-sided interval.
        wins: Questions on which the candidate is better by more than 1e-12.
        ties: Neither is.
        losses: The incumbent is better.
        n: Questions.
        clusters: Groups of questions that share a document.
        standard_error: Of the mean difference.
    """

    difference: float
    low: float
    high: float
    lower_bound: float
    p_value: float
    alpha: float
    level: float
    wins: int
    ties: int
    losses: int
    n: int
    clusters: int
    standard_error: float


def mean_interval(
    values: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """Mean of one metric with a two-sided interval.

    Args:
        values: One a question; None is missing, counted in `n` but not in the mean.
        clusters: The group of each question; each its own where not given.
        level: Coverage.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Returns:
        The estimate; the interval is clipped to [0, 1] where the values lie in it, and is NaN below two clusters.

    Raises:
        ValueError: A value that is not finite; a missing one is None.
    """
    groups = list(clusters) if clusters is not None else list(range(len(values)))
    there = [(value, group) for value, group in zip(values, groups, strict=True) if value is not None]
    if not there:
        return Estimate(math.nan, math.nan, math.nan, 0, len(values))
    numbers = np.array([value for value, _ in there], dtype=float)
    if not np.isfinite(numbers).all():
        raise ValueError("values must be finite; a missing value is None")
    totals, sizes = _cluster_totals(numbers, [group for _, group in there])
    mean = float(numbers.mean())
    low, high = _interval(totals, sizes, level, seed, resamples)
    if numbers.min() >= 0 and numbers.max() <= 1:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(mean, low, high, len(numbers), len(values))


def paired_comparison(
    candidate: Sequence[float],
    incumbent: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 10_000,
) -> PairedResult:
    """Compares two systems on the same questions.

    Args:
        candidate: N values.
        incumbent: N values, in the same order.
        clusters: The group of each question; each its own where not given.
        alpha: Of the one-sided lower bound.
        level: Of the two-sided interval.
        seed: Of bootstrap and permutation.
        resamples: B, of both.

    Raises:
        ValueError: Unequal lengths, nothing to compare, or a value that is not finite.
    """
    a, b = np.asarray(candidate, dtype=float), np.asarray(incumbent, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"need two rows of equal length and at least one question, got shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("values must be finite; questions with a missing score cannot be paired")
    difference = a - b
    groups = list(clusters) if clusters is not None else list(range(len(difference)))
    totals, sizes = _cluster_totals(difference, groups)
    low, high = _interval(totals, sizes, level, seed, resamples)
    lower_bound, _ = _interval(totals, sizes, 1 - 2 * alpha, seed, resamples)
    return PairedResult(
        difference=float(difference.mean()),
        low=low,
        high=high,
        lower_bound=lower_bound,
        p_value=_sign_flip(totals, seed, resamples),
        alpha=alpha,
        level=level,
        wins=int((difference > 1e-12).sum()),
        ties=int((np.abs(difference) <= 1e-12).sum()),
        losses=int((difference < -1e-12).sum()),
        n=len(difference),
        clusters=len(totals),
        standard_error=_standard_error(totals, sizes),
    )


def detectable_effect(standard_error: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true difference that a one-sided test at alpha finds with the given power (normal approximation)."""
    from scipy.stats import norm

    return float((norm.ppf(1 - alpha) + norm.ppf(power)) * standard_error)


def questions_needed(result: PairedResult, effect: float, power: float = 0.8) -> int | None:
    """Questions at which a true difference of `effect` would be found with the given power, by the spread seen.

    Returns:
        The number, at least the present one where `effect` is not yet detectable; the present one where nothing varies;
        None where a single cluster says nothing of the spread.
    """
    if math.isnan(result.standard_error):
        return None
    if effect <= 0 or result.standard_error == 0:
        return result.n
    return math.ceil(result.n * (detectable_effect(result.standard_error, result.alpha, power) / effect) ** 2)


def _cluster_totals(values: np.ndarray, groups: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    numbers = {group: position for position, group in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[group] for group in groups])
    return np.bincount(index, weights=values), np.bincount(index).astype(float)


def _standard_error(totals: np.ndarray, sizes: np.ndarray) -> float:
    count = len(totals)
    if count < 2:
        return math.nan
    residuals = totals - totals.sum() / sizes.sum() * sizes
    return float(math.sqrt(count / (count - 1) * (residuals**2).sum()) / sizes.sum())


def _interval(totals: np.ndarray, sizes: np.ndarray, level: float, seed: int, resamples: int) -> tuple[float, float]:
    count = len(totals)
    mean, error = totals.sum() / sizes.sum(), _standard_error(totals, sizes)
    if count < 2:
        return math.nan, math.nan
    if error == 0:
        return float(mean), float(mean)
    tail = (1 - level) / 2
    if count < BOOTSTRAP_FROM:
        from scipy.stats import t

        reach = float(t.ppf(1 - tail, count - 1)) * error
        return float(mean - reach), float(mean + reach)
    ratios = _studentised(totals, sizes, mean, seed, resamples)
    upper, lower = np.quantile(ratios, [1 - tail, tail])
    return float(mean - upper * error), float(mean - lower * error)


def _studentised(totals: np.ndarray, sizes: np.ndarray, mean: float, seed: int, resamples: int) -> np.ndarray:
    """(mean* - mean) / error* for each resample of whole clusters."""
    generator = np.random.default_rng(seed)
    count = len(totals)
    ratios = np.empty(resamples)
    for start in range(0, resamples, _BLOCK):
        rows = min(_BLOCK, resamples - start)
        drawn = generator.integers(0, count, size=(rows, count))
        t, s = totals[drawn], sizes[drawn]
        means = t.sum(1) / s.sum(1)
        residuals = t - means[:, None] * s
        errors = np.sqrt(count / (count - 1) * (residuals**2).sum(1)) / s.sum(1)
        # A resample without spread says nothing of the ratio's tail: it counts as the middle.
        ratios[start : start + rows] = np.divide(means - mean, errors, out=np.zeros(rows), where=errors > 0)
    return ratios


def _sign_flip(totals: np.ndarray, seed: int, resamples: int) -> float:
    generator = np.random.default_rng(seed)
    observed = totals.sum()
    as_good = 0
    for start in range(0, resamples, _BLOCK):
        signs = generator.integers(0, 2, size=(min(_BLOCK, resamples - start), len(totals))) * 2.0 - 1.0
        as_good += int((signs @ totals >= observed - 1e-12).sum())
    return (as_good + 1) / (resamples + 1)
