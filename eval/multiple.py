"""Many comparisons at once: Holm over metrics or slices, max-T over the configurations of a sweep."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ._resample import TIE, Grouping, Rows, bootstrap_blocks, flip_ratios, sign_flips

__all__ = ["MaxT", "MaxTRows", "holm", "max_t", "max_t_rows"]


@dataclass(frozen=True, slots=True, eq=False)
class MaxT:
    """Many candidates against one incumbent on the same questions, adjusted for their number (single-step max-T).

    Attributes:
        difference: Mean difference of each candidate.
        statistic: Student's t of each on cluster totals.
        p_value: One-sided, that the candidate is better; at most alpha just where `lower_bound` is above 0.
        p_two_sided: That it is better or worse; at most 1 - level just where the interval leaves out 0.
        lower_bound: Simultaneous one-sided lower bounds: all hold together with probability 1 - alpha.
        low: Lower ends of intervals that all hold together with probability level.
        high: Their upper ends.
        standard_error: Of each mean difference.
        clusters: Groups of questions.
    """

    difference: np.ndarray
    statistic: np.ndarray
    p_value: np.ndarray
    p_two_sided: np.ndarray
    lower_bound: np.ndarray
    low: np.ndarray
    high: np.ndarray
    standard_error: np.ndarray
    clusters: int


@dataclass(frozen=True, slots=True, eq=False)
class MaxTRows:
    """What `max_t` finds in each of many repetitions.

    Attributes:
        best: Position of the candidate with the largest t, shape (repetitions,).
        p_value: Its single-step max-T, one-sided, shape (repetitions,).
        low: Lower ends of the simultaneous intervals, shape (repetitions, candidates).
        high: Their upper ends, in the same shape.
    """

    best: np.ndarray
    p_value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of one or more false finds (Holm, 1979), in the order given.

    Args:
        p_values: One a hypothesis, in [0, 1].

    Raises:
        ValueError: One is not in [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError("p-values must lie in [0, 1]")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def max_t(
    differences: np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 9_999,
) -> MaxT:
    """Which of many candidates beat the incumbent, when all were tried on the same questions.

    Each candidate's t is held against the largest t among all candidates (Westfall and Young, "Resampling-based
    multiple testing", 1993), under flipped signs and under a studentised bootstrap, whole clusters each; the larger p
    counts, for flips are too bold where differences are lopsided, and the bootstrap where most are ties. What
    candidates share (the incumbent, most of their settings) is used: alike candidates cost little.

    Args:
        differences: Candidate minus incumbent, shape (candidates, questions). Every candidate that was looked at must
            be in it: one left out because it did badly makes the rest look better than they are.
        clusters: The group of each question; each its own where not given.
        alpha: Of the simultaneous lower bounds.
        level: Of the simultaneous intervals.
        seed: Of flips and bootstrap.
        resamples: B, of both.

    Raises:
        ValueError: No candidate, no question, or a value that is not finite.
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"need a matrix of candidates and questions, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite; questions with a missing score cannot be paired")
    rows = Rows.of(values, _grouping(clusters, values.shape[1]))
    count = rows.grouping.clusters
    if count < 2:
        nothing, one = np.full(len(values), math.nan), np.ones(len(values))
        return MaxT(rows.means, nothing, one, one, nothing, nothing, nothing, nothing, count)
    seen, tail = rows.ratios(), (1 - level) / 2
    better, worse = np.zeros(len(values)), np.zeros(len(values))
    bound = up = down = -math.inf
    for largest, negated, itself in _extremes(rows, (1, len(values)), seed, resamples):
        better = np.maximum(better, _shares(largest[0], seen, itself))
        worse = np.maximum(worse, _shares(negated[0], -seen, itself))
        bound = max(bound, float(_reach(largest[0], alpha, itself)))
        up = max(up, float(_reach(largest[0], tail, itself)))
        down = max(down, float(_reach(negated[0], tail, itself)))
    lower, low, high = (_times(reach, rows.errors) for reach in (bound, up, down))
    both = np.minimum(1.0, 2 * np.minimum(better, worse))
    means = rows.means
    return MaxT(means, seen, better, both, means - lower, means - low, means + high, rows.errors, count)


def max_t_rows(
    differences: np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 9_999,
) -> MaxTRows:
    """`max_t` of many repetitions at once, for simulations.

    Args:
        differences: Shape (repetitions, candidates, questions), finite.
        clusters: The group of each question; each its own where not given. Two or more.
        level: Of the simultaneous intervals.
        seed: Of flips and bootstrap, which the repetitions share.
        resamples: B, of both.

    Returns:
        What `max_t` gives for each repetition.
    """
    repetitions, candidates, questions = differences.shape
    shape, tail = (repetitions, candidates), (1 - level) / 2
    rows = Rows.of(differences.reshape(-1, questions), _grouping(clusters, questions))
    seen, means, errors = (part.reshape(shape) for part in (rows.ratios(), rows.means, rows.errors))
    p, up, down = (np.full(repetitions, -math.inf) for _ in range(3))
    for largest, negated, itself in _extremes(rows, shape, seed, resamples):
        reached = (largest >= seen.max(1)[:, None] - TIE).sum(1)
        p = np.maximum(p, (itself + reached) / (itself + largest.shape[1]))
        up = np.maximum(up, _reach(largest, tail, itself))
        down = np.maximum(down, _reach(negated, tail, itself))
    return MaxTRows(seen.argmax(1), p, means - _times(up[:, None], errors), means + _times(down[:, None], errors))


def _grouping(clusters: Sequence[Hashable] | None, questions: int) -> Grouping:
    return Grouping.of(list(clusters) if clusters is not None else list(range(questions)))


def _extremes(
    rows: Rows, shape: tuple[int, int], seed: int, resamples: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """The largest ratio among a repetition's candidates, and the largest negated one, shape (repetitions, draws).

    First of flips, then of the bootstrap; with each, whether the sample itself is to be counted beside the draws: the
    flip that flips nothing is among the flips.
    """
    flips = sign_flips(rows.grouping.clusters, seed, resamples)
    step = max(1, 2_000_000 // len(rows.means))
    flipped = (flip_ratios(rows, flips[start : start + step]) for start in range(0, len(flips), step))
    drawn = (ratios for _, ratios in bootstrap_blocks(rows, seed, resamples))
    for blocks, itself in ((flipped, 0), (drawn, 1)):
        families = (block.reshape(*shape, -1) for block in blocks)
        ends = [(family.max(1), -family.min(1)) for family in families]
        largest, negated = (np.concatenate(side, axis=1) for side in zip(*ends, strict=True))
        yield largest, negated, itself


def _shares(largest: np.ndarray, seen: np.ndarray, itself: int) -> np.ndarray:
    """The share of the draws, shape (draws,), that reach each ratio seen, shape (candidates,)."""
    reached = len(largest) - np.searchsorted(np.sort(largest), seen - TIE, side="left")
    return (itself + reached) / (itself + len(largest))


def _reach(largest: np.ndarray, alpha: float, itself: int) -> np.ndarray:
    """The ratio that `alpha` of the resamples exceed, shape (...) of (..., resamples); infinite with too few."""
    beyond = math.floor(alpha * (largest.shape[-1] + itself) + TIE) - itself
    if beyond < 0:
        return np.full(largest.shape[:-1], math.inf)
    place = largest.shape[-1] - 1 - beyond
    return np.partition(largest, place, axis=-1)[..., place] + TIE


def _times(reach: np.ndarray | float, errors: np.ndarray) -> np.ndarray:
    """How far intervals reach, infinite where the resamples are too few, whatever the error."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(reach), reach * errors, math.inf)
