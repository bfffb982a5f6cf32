"""Arithmetic of intervals and tests on cluster totals, for many rows of values on the same questions at once.

A row is one set of differences (or values), one a question; rows share questions, clusters and resamples. Everything is
matrix products, so a simulation of thousands of rows runs the very code that the gate runs on one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "TIE",
    "Grouping",
    "Rows",
    "bootstrap_blocks",
    "bootstrap_ratios",
    "flip_ratios",
    "lower_from_ratios",
    "sign_flips",
    "subset_means",
]

TIE = 1e-9
"""Ratios that differ by less are equal but for rounding, and count as reached."""

_BLOCK = 1024
_CELLS = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Which question belongs to which cluster.

    Attributes:
        index: Cluster of each question, shape (questions,).
        sizes: Questions of each cluster, shape (clusters,).
    """

    index: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, groups: Sequence[Hashable]) -> Grouping:
        """Numbers the groups in order of first appearance."""
        numbers = {group: position for position, group in enumerate(dict.fromkeys(groups))}
        index = np.array([numbers[group] for group in groups], dtype=np.int64)
        return cls(index, np.bincount(index).astype(float))

    @property
    def clusters(self) -> int:
        """How many."""
        return len(self.sizes)

    def totals(self, values: np.ndarray) -> np.ndarray:
        """Sums by cluster, shape (rows, clusters), of values of shape (rows, questions)."""
        if self.clusters == len(self.index):
            return np.ascontiguousarray(values, dtype=float)
        order = np.argsort(self.index, kind="stable")
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)
        return np.add.reduceat(np.asarray(values, dtype=float)[:, order], starts, axis=1)

    def degrees(self) -> float:
        """Degrees of freedom of the standard error: clusters - 1 where all are of one size, fewer where not.

        Satterthwaite's approximation for the CR2 estimator of a mean, working model of independent questions (Bell and
        McCaffrey, "Bias reduction in standard errors for linear regression with multi-stage samples", 2002).
        """
        if self.clusters < 2:
            return math.nan
        total = self.sizes.sum()
        shares = self.sizes**2 / (total - self.sizes)
        return float(total**2 / ((self.sizes**2).sum() + shares.sum() ** 2 - (shares**2).sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows with their means and standard errors.

    Attributes:
        totals: Cluster totals, shape (rows, clusters).
        means: Mean a question, shape (rows,).
        errors: CR2 standard errors; NaN below two clusters, 0 where the clusters' means do not vary.
        grouping: The clusters.
    """

    totals: np.ndarray
    means: np.ndarray
    errors: np.ndarray
    grouping: Grouping

    @classmethod
    def of(cls, values: np.ndarray, grouping: Grouping) -> Rows:
        """From values of shape (rows, questions)."""
        totals, sizes = grouping.totals(values), grouping.sizes
        means = totals.sum(1) / sizes.sum()
        if grouping.clusters < 2:
            return cls(totals, means, np.full(len(means), math.nan), grouping)
        residuals = totals - means[:, None] * sizes
        leverage = sizes / sizes.sum()
        errors = np.sqrt((residuals**2 / (1 - leverage)).sum(1)) / sizes.sum()
        # what is left of equal values after rounding is no spread
        errors[errors <= 1e-13 * np.abs(totals).max(1, initial=0.0)] = 0.0
        return cls(totals, means, errors, grouping)

    def ratios(self) -> np.ndarray:
        """Student's t of each row against 0; infinite where nothing varies but the mean is not 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.abs(self.means) <= 1e-15, 0.0, self.means / self.errors)


def bootstrap_ratios(rows: Rows, seed: int, resamples: int) -> np.ndarray:
    """(mean* - mean) / error* of resamples of whole clusters, shape (rows, resamples).

    A resample without spread says nothing of the tails: its ratio is 0, the middle.
    """
    ratios = np.empty((len(rows.means), resamples))
    for start, block in bootstrap_blocks(rows, seed, resamples):
        ratios[:, start : start + block.shape[1]] = block
    return ratios


def bootstrap_blocks(rows: Rows, seed: int, resamples: int) -> Iterator[tuple[int, np.ndarray]]:
    """The same in blocks of resamples: (number of the first, ratios)."""
    sizes, clusters = rows.grouping.sizes, rows.grouping.clusters
    residuals = rows.totals - rows.means[:, None] * sizes
    squares = residuals**2
    alike = bool((sizes == sizes[0]).all())
    # the standard error within a resample is of the plain form, so its like divides in the sample: rescaled to CR2's
    plain = np.sqrt(clusters / (clusters - 1) * squares.sum(1)) / sizes.sum()
    scale = np.divide(plain, rows.errors, out=np.ones_like(plain), where=rows.errors > 0)[:, None]
    for start, counts in _drawn(clusters, seed, resamples, len(rows.means)):
        total = (counts @ sizes)[None, :]
        sums, second = residuals @ counts.T, squares @ counts.T
        cross = sums * sizes[0] if alike else (residuals * sizes) @ counts.T
        # mean / error, where error is sqrt(spread * clusters / (clusters - 1)) / total and mean is sums / total
        means = sums / total
        cross *= 2
        cross -= means * (counts @ sizes**2)[None, :]
        cross *= means
        spread = second - cross
        varies = spread > 1e-10 * second
        spread *= clusters / (clusters - 1)
        np.sqrt(np.maximum(spread, 0, out=spread), out=spread)
        ratios = np.divide(sums, spread, out=np.zeros_like(sums), where=varies)
        ratios *= scale
        yield start, ratios


def _drawn(clusters: int, seed: int, resamples: int, rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """How often each cluster was drawn, (number of the first resample, shape (block, clusters)); all from the seed."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        drawn = generator.integers(0, clusters, size=(size, clusters)) + np.arange(size)[:, None] * clusters
        counts = np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(float)
        step = max(1, min(size, _CELLS // max(rows, 1)))
        for first in range(0, size, step):
            yield start + first, counts[first : first + step]


def lower_from_ratios(ratios: np.ndarray, alpha: float) -> np.ndarray:
    """The ratio that the sample's must exceed for (1 + how many are as large) / (B + 1) to be at most alpha.

    Infinite where alpha is below 1 / (B + 1): so few resamples show nothing at that level.
    """
    resamples = ratios.shape[-1]
    beyond = math.floor(alpha * (resamples + 1) + TIE) - 1
    if beyond < 0:
        return np.full(ratios.shape[:-1], math.inf)
    place = max(resamples - 1 - beyond, 0)
    return np.partition(ratios, place, axis=-1)[..., place] + TIE


def sign_flips(clusters: int, seed: int, resamples: int) -> np.ndarray:
    """Which clusters change their sign, shape (flips, clusters), 0 or 1; the first row flips none.

    All 2 ** clusters flips where they are no more than the resamples: the test is then exact.
    """
    if clusters <= math.log2(resamples + 1):
        return (np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1).astype(float)
    flips = np.random.default_rng(seed).integers(0, 2, size=(resamples + 1, clusters), dtype=np.int8).astype(float)
    flips[0] = 0
    return flips


def subset_means(rows: Rows, flips: np.ndarray) -> np.ndarray:
    """Means of the flipped clusters, shape (rows, flips), minus infinity where none is.

    A flip reaches the observed sum just where the mean of what it flips is 0 or less, and for values less d where it is
    d or less. So the share of these means up to d is the p-value against a mean of d, and their alpha quantile is the
    test's lower bound (Hartigan, "Using subsample values as typical values", 1969).
    """
    sizes = flips @ rows.grouping.sizes
    sums = rows.totals @ flips.T
    means = np.divide(sums, sizes, out=np.full_like(sums, -math.inf), where=sizes > 0)
    # sums that are 0 but for rounding count as 0
    return np.where(np.abs(sums) <= 1e-12, np.where(sizes > 0, 0.0, -math.inf), means)


def flip_ratios(rows: Rows, flips: np.ndarray) -> np.ndarray:
    """Student's t of the rows with flipped clusters, shape (rows, flips); infinite where nothing varies."""
    sizes = rows.grouping.sizes
    weights = 1 / (1 - sizes / sizes.sum())
    signs = (1 - 2 * flips).T
    means = rows.totals @ signs / sizes.sum()
    squares = (rows.totals**2 * weights).sum(1)[:, None]
    alike = bool((sizes == sizes[0]).all())
    cross = means * (sizes.sum() * sizes[0] * weights[0]) if alike else (rows.totals * sizes * weights) @ signs
    spread = squares - 2 * means * cross + means**2 * (sizes**2 * weights).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = means * sizes.sum() / np.sqrt(np.where(spread > 1e-10 * squares, spread, 0.0))
    return np.where(np.abs(means) <= 1e-15, 0.0, ratios)
