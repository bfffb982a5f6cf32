"""Intervals and paired tests over questions, honest about questions that share a document.

The unit of resampling is the cluster (questions about one document), not the question. Two bounds are computed and the
more careful one is taken at each end:

- Student's t on cluster totals, with CR2 standard errors and their degrees of freedom (Bell and McCaffrey, 2002), which
  is right where values are few or mostly ties;
- the studentised bootstrap of whole clusters (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section
  12.5), which is right where differences are lopsided: small gains on most questions, large losses on a few.

Each alone errs where the other is right; `benchmarks/gate.py` shows it. The sign-flip permutation test, p = (b + 1) /
(B + 1) (Phipson and Smyth, 2010), is reported beside them and joins them where fewer than EXACT_BELOW clusters show any
difference, for there it alone is exact.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ._resample import TIE, Grouping, Rows, bootstrap_ratios, lower_from_ratios, sign_flips, subset_means

__all__ = [
    "EXACT_BELOW",
    "Estimate",
    "PairedResult",
    "PairedRows",
    "detectable_effect",
    "mean_interval",
    "paired_comparison",
    "paired_rows",
    "questions_needed",
]

EXACT_BELOW = 10
"""Clusters with a difference below which the sign-flip test must agree too: five wins of five are p = 1/32."""


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
        lower_bound: One-sided lower bound at `alpha`; minus infinity where no outcome could be significant.
        p_value: One-sided (candidate better); at most alpha just where `lower_bound` is above 0.
        p_two_sided: Twice the smaller of the two one-sided p-values, at most 1.
        permutation_p: Of the sign-flip permutation alone, one-sided.
        alpha: Of the one-sided bound and test.
        level: Of the two-sided interval.
        wins: Questions on which the candidate is better by more than 1e-12.
        ties: Neither is.
        losses: The incumbent is better.
        n: Questions.
        clusters: Groups of questions that share a document.
        standard_error: Of the mean difference.
        degrees: Of freedom of the standard error.
    """

    difference: float
    low: float
    high: float
    lower_bound: float
    p_value: float
    p_two_sided: float
    permutation_p: float
    alpha: float
    level: float
    wins: int
    ties: int
    losses: int
    n: int
    clusters: int
    standard_error: float
    degrees: float


@dataclass(frozen=True, slots=True, eq=False)
class PairedRows:
    """Results of many rows of differences; the fields are those of PairedResult, one value a row."""

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    lower_bound: np.ndarray
    p_value: np.ndarray
    p_two_sided: np.ndarray
    permutation_p: np.ndarray
    standard_error: np.ndarray
    clusters: int
    degrees: float


def mean_interval(
    values: Sequence[float | None],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 1999,
) -> Estimate:
    """Mean of one metric with a two-sided interval: the wider of Student's t and the studentised bootstrap at each end.

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
    rows = Rows.of(numbers[None, :], Grouping.of([group for _, group in there]))
    lows, highs = _interval(
        rows, level, None if rows.grouping.clusters < 2 else bootstrap_ratios(rows, seed, resamples)
    )
    low, high = float(lows[0]), float(highs[0])
    if numbers.min() >= 0 and numbers.max() <= 1:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(float(numbers.mean()), low, high, len(numbers), len(values))


def paired_comparison(
    candidate: Sequence[float],
    incumbent: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 9_999,
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
    rows = paired_rows(difference[None, :], clusters, alpha, level, seed, resamples)
    return PairedResult(
        difference=float(rows.difference[0]),
        low=float(rows.low[0]),
        high=float(rows.high[0]),
        lower_bound=float(rows.lower_bound[0]),
        p_value=float(rows.p_value[0]),
        p_two_sided=float(rows.p_two_sided[0]),
        permutation_p=float(rows.permutation_p[0]),
        alpha=alpha,
        level=level,
        wins=int((difference > 1e-12).sum()),
        ties=int((np.abs(difference) <= 1e-12).sum()),
        losses=int((difference < -1e-12).sum()),
        n=len(difference),
        clusters=rows.clusters,
        standard_error=float(rows.standard_error[0]),
        degrees=rows.degrees,
    )


def paired_rows(
    differences: np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 9_999,
) -> PairedRows:
    """`paired_comparison` of many rows of differences at once, for simulations; rows share the resamples.

    Args:
        differences: Candidate minus incumbent, shape (rows, questions), finite.
        clusters: The group of each question; each its own where not given.
        alpha: Of the one-sided lower bound.
        level: Of the two-sided interval.
        seed: Of bootstrap and permutation.
        resamples: B, of both.
    """
    grouping = Grouping.of(list(clusters) if clusters is not None else list(range(differences.shape[1])))
    rows = Rows.of(differences, grouping)
    subsets = subset_means(rows, sign_flips(grouping.clusters, seed, resamples))
    better = (subsets <= 0).mean(1)
    worse = ((subsets >= 0) | (subsets == -math.inf)).mean(1)
    if grouping.clusters < 2:
        nothing = np.full(len(rows.means), math.nan)
        both = np.minimum(1.0, 2 * np.minimum(better, worse))
        return PairedRows(rows.means, nothing, nothing, nothing, better, both, better, nothing, 1, math.nan)
    ratios = bootstrap_ratios(rows, seed, resamples)
    low, high = _interval(rows, level, ratios)
    bound = _lower(rows, alpha, ratios)
    p_better, p_worse = _tests(rows, ratios)
    few = (np.abs(rows.totals) > 1e-12).sum(1) < EXACT_BELOW
    if few.any():
        p_better[few], p_worse[few] = np.maximum(p_better, better)[few], np.maximum(p_worse, worse)[few]
        place = math.floor(alpha * subsets.shape[1] + 1e-9)
        bound[few] = np.minimum(bound[few], np.partition(subsets[few], place, axis=1)[:, place])
    both = np.minimum(1.0, 2 * np.minimum(p_better, p_worse))
    return PairedRows(
        rows.means, low, high, bound, p_better, both, better, rows.errors, grouping.clusters, grouping.degrees()
    )


def detectable_effect(
    standard_error: float, alpha: float = 0.05, power: float = 0.8, degrees: float | None = None
) -> float:
    """Smallest true difference that a one-sided test at alpha finds with the given power.

    Args:
        standard_error: Of the mean difference.
        alpha: Of the test.
        power: Share of cases in which it is to be found.
        degrees: Of freedom of the standard error: quantiles of Student's t; the normal distribution's where not given.
    """
    from scipy.stats import norm, t

    law = norm if degrees is None or math.isnan(degrees) else t(degrees)
    return float((law.ppf(1 - alpha) + law.ppf(power)) * standard_error)


def questions_needed(result: PairedResult, effect: float, power: float = 0.8) -> int | None:
    """Questions at which a true difference of `effect` would be found with the given power, by the spread seen.

    New questions are taken to be spread over documents as the present ones are, so new documents come with them.

    Returns:
        The number, at least the present one where `effect` is not yet detectable; the present one where nothing varies;
        None where a single cluster says nothing of the spread.
    """
    if math.isnan(result.standard_error):
        return None
    if effect <= 0 or result.standard_error == 0:
        return result.n
    return math.ceil(result.n * (detectable_effect(result.standard_error, result.alpha, power) / effect) ** 2)


def _interval(rows: Rows, level: float, ratios: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if ratios is None:
        nothing = np.full(len(rows.means), math.nan)
        return nothing, nothing
    tail = (1 - level) / 2
    turned = Rows(-rows.totals, -rows.means, rows.errors, rows.grouping)
    return _lower(rows, tail, ratios), -_lower(turned, tail, -ratios)


def _lower(rows: Rows, alpha: float, ratios: np.ndarray) -> np.ndarray:
    """One-sided lower bounds: the lower of Student's t and the studentised bootstrap."""
    from scipy.stats import t

    reach = np.maximum(t.ppf(1 - alpha, rows.grouping.degrees()), lower_from_ratios(ratios, alpha))
    with np.errstate(invalid="ignore"):
        return np.where(rows.errors == 0, rows.means, rows.means - reach * rows.errors)


def _tests(rows: Rows, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p-values that belong to `_lower`: of a positive mean, and of a negative one."""
    from scipy.stats import t

    seen, degrees, count = rows.ratios(), rows.grouping.degrees(), ratios.shape[1]
    above = (1 + (ratios >= seen[:, None] - TIE).sum(1)) / (count + 1)
    below = (1 + (ratios <= seen[:, None] + TIE).sum(1)) / (count + 1)
    return np.maximum(t.sf(seen, degrees), above), np.maximum(t.cdf(seen, degrees), below)
