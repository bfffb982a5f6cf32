"""Many comparisons at once: Holm over metrics or slices, max-T over the configurations of a sweep."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ._resample import TIE, Grouping, Rows, bootstrap_blocks, flip_ratios, sign_flips

__all__ = ["MaxT", "MaxTRows", "holm", "max_t", "max_t_rows"]


@dataclass(frozen=True, slots=True, eq=False)
class MaxT:
    """Many candidates against one incumbent on the same questions, adjusted for their number.

    Attributes:
        difference: Mean difference of each candidate.
        statistic: Student's t of each on cluster totals.
        p_value: Single-step max-T, one-sided; at most alpha just where `lower_bound` is above 0.
        stepdown_p: Step-down max-T, never above `p_value`; the largest candidate's is the same.
        lower_bound: Simultaneous one-sided lower bounds at alpha: all hold together with probability 1 - alpha.
        standard_error: Of each mean difference.
        clusters: Groups of questions.
    """

    difference: np.ndarray
    statistic: np.ndarray
    p_value: np.ndarray
    stepdown_p: np.ndarray
    lower_bound: np.ndarray
    standard_error: np.ndarray
    clusters: int


@dataclass(frozen=True, slots=True, eq=False)
class MaxTRows:
    """What `max_t` finds in each of many repetitions.

    Attributes:
        best: Position of the candidate with the largest t, shape (repetitions,).
        p_value: Its single-step max-T, one-sided, shape (repetitions,).
        low: Simultaneous lower bounds at alpha, shape (repetitions, candidates).
        high: Simultaneous upper bounds at alpha, in the same shape.
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
        alpha: Of the simultaneous bounds.
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
    grouping = Grouping.of(list(clusters) if clusters is not None else list(range(values.shape[1])))
    rows = Rows.of(values, grouping)
    if grouping.clusters < 2:
        nothing, one = np.full(len(values), math.nan), np.ones(len(values))
        return MaxT(rows.means, nothing, one, one, nothing, nothing, grouping.clusters)
    seen = rows.ratios()
    order = np.argsort(seen, kind="stable")  # worst first, so that the running maximum is the step-down's
    flips = sign_flips(grouping.clusters, seed, resamples)
    drawn = np.concatenate([block for _, block in bootstrap_blocks(rows, seed, resamples)], axis=1)
    single, step, reach = np.zeros(len(values)), np.zeros(len(values)), -math.inf
    # the flip that flips nothing is among the flips; the bootstrap's sample is counted with its resamples
    for ratios, itself in ((flip_ratios(rows, flips), 0), (drawn, 1)):
        largest = np.maximum.accumulate(ratios[order], axis=0)
        count = ratios.shape[1] + itself
        steps = (itself + (largest >= seen[order, None] - TIE).sum(1)) / count
        step[order] = np.maximum(step[order], np.maximum.accumulate(steps[::-1])[::-1])
        single = np.maximum(single, (itself + (largest[-1] >= seen[:, None] - TIE).sum(1)) / count)
        reach = max(reach, float(_reach(largest[-1], alpha, itself)))
    bounds = rows.means - reach * rows.errors if math.isfinite(reach) else np.full(len(values), -math.inf)
    return MaxT(rows.means, seen, single, step, bounds, rows.errors, grouping.clusters)


def max_t_rows(
    differences: np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    alpha: float = 0.025,
    seed: int = 0,
    resamples: int = 9_999,
) -> MaxTRows:
    """`max_t` of many repetitions at once, for simulations.

    Args:
        differences: Shape (repetitions, candidates, questions), finite.
        clusters: The group of each question; each its own where not given. Two or more.
        alpha: Of the simultaneous bounds, a side.
        seed: Of flips and bootstrap, which the repetitions share.
        resamples: B, of both.

    Returns:
        What `max_t` gives for each repetition, and for its negative, whose lower bounds are the upper ones.
    """
    repetitions, candidates, questions = differences.shape
    grouping = Grouping.of(list(clusters) if clusters is not None else list(range(questions)))
    rows = Rows.of(differences.reshape(-1, questions), grouping)
    shape = (repetitions, candidates)
    seen, means, errors = rows.ratios().reshape(shape), rows.means.reshape(shape), rows.errors.reshape(shape)
    least = seen.max(1)[:, None] - TIE
    flips = sign_flips(grouping.clusters, seed, resamples)
    step = max(1, 2_000_000 // seen.size)
    flipped = (flip_ratios(rows, flips[start : start + step]) for start in range(0, len(flips), step))
    drawn = (ratios for _, ratios in bootstrap_blocks(rows, seed, resamples))
    p, up, down = (np.full(repetitions, -math.inf) for _ in range(3))
    for blocks, itself in ((flipped, 0), (drawn, 1)):
        families = [block.reshape(*shape, -1) for block in blocks]
        largest = np.concatenate([family.max(1) for family in families], axis=1)
        # a negated row has the negated ratios
        negated = np.concatenate([-family.min(1) for family in families], axis=1)
        p = np.maximum(p, (itself + (largest >= least).sum(1)) / (itself + largest.shape[1]))
        up = np.maximum(up, _reach(largest, alpha, itself))
        down = np.maximum(down, _reach(negated, alpha, itself))
    return MaxTRows(seen.argmax(1), p, means - _times(up, errors), means + _times(down, errors))


def _times(reach: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Half the width of the intervals, infinite where the resamples are too few, whatever the error."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(reach)[:, None], reach[:, None] * errors, math.inf)


def _reach(largest: np.ndarray, alpha: float, itself: int) -> np.ndarray:
    """The ratio that `alpha` of the resamples exceed, shape (...) of (..., resamples); infinite with too few."""
    beyond = math.floor(alpha * (largest.shape[-1] + itself) + TIE) - itself
    if beyond < 0:
        return np.full(largest.shape[:-1], math.inf)
    place = largest.shape[-1] - 1 - beyond
    return np.partition(largest, place, axis=-1)[..., place] + TIE
