"""Simulates the gate: how often it adopts without a true gain, whether its intervals cover, and what power it has.

    python benchmarks/gate.py --replications 2000 --power-replications 500     # all cells; about an hour on one core
    python benchmarks/gate.py --replications 20 --power-replications 10 -n 60 -N 1 10 --metrics binary

Each replication draws an incumbent and N configurations on dev and test questions (2 dev for 3 test, as
`ragladder data split` does), takes the configuration that is best on dev, and gates it on the n test questions by
`ragladder.eval.statistics.paired_comparison`: adopted where the lower bound exceeds 0 and the permutation p is at most
alpha. First without any true gain; then with one configuration that has the gain which a t-test on n questions finds in
8 of 10 cases. Metrics:

    binary       right or wrong, 60% right
    continuous   uniform from 0 to 1
    skewed       most scores near 0, some near 1
    lopsided     a stress: the candidate gains a little on most questions and loses much on a few (skewness -2)

Competitors, all at level alpha: `split`, the same split with Student's paired t-test (scipy); `max-T` (Westfall and
Young, 1993; sign flips) and `Holm` (t-tests), which need no choice on dev, so they look at the N configurations at
once: on the n test questions, and on dev and test questions together (`all`).
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ragladder.eval.statistics import detectable_effect, paired_comparison
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

METRICS = ("binary", "continuous", "skewed", "lopsided")
RULES = ("gate", "split", "max-T", "Holm", "max-T all", "Holm all")
ALPHA, LEVEL = 0.05, 0.95
ALIKE = 0.7  # share of a score's variance, on the latent scale, that is the question's
OF_DOCUMENT = 0.3  # share of the question's part that is its document's
DEV_SHARE = 2 / 3  # dev questions for each test question
_GRID = ndtri((np.arange(20_000) + 0.5) / 20_000)


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of the simulation.

    Attributes:
        metric: One of METRICS.
        questions: On test.
        configurations: Among which dev chooses.
        per_document: Questions that share a document.
    """

    metric: str
    questions: int
    configurations: int
    per_document: int

    def generator(self, purpose: str, seed: int) -> np.random.Generator:
        """A stream of its own."""
        return np.random.default_rng([seed, zlib.crc32(f"{self}{purpose}".encode())])


def measure(metric: str) -> Callable[[np.ndarray], np.ndarray]:
    """The score that a latent normal value gives."""
    if metric == "binary":
        return lambda z: (z > ndtri(0.4)).astype(float)
    return ndtr if metric == "continuous" else lambda z: ndtr(z) ** 6


def draw(cell: Cell, count: int, shift: float, generator: np.random.Generator) -> np.ndarray:
    """Differences to the incumbent, shape (configurations, count); `shift` moves the first configuration alone."""
    shifts = np.zeros((cell.configurations, 1))
    shifts[0] = shift
    documents = generator.standard_normal(-(-count // cell.per_document)).repeat(cell.per_document)[:count]
    own = generator.standard_normal(count)
    # with one question a document the two parts are one
    question = np.sqrt(OF_DOCUMENT) * documents + np.sqrt(1 - OF_DOCUMENT) * own
    noise = generator.standard_normal((cell.configurations + 1, count))
    if cell.metric == "lopsided":
        latent = np.sqrt(ALIKE) * question + np.sqrt(1 - ALIKE) * noise[1:]
        return shifts + 0.15 * (1 + np.log(ndtr(latent)))  # minus an exponential variable of mean 1, centred
    latent = np.sqrt(ALIKE) * question + np.sqrt(1 - ALIKE) * noise
    score = measure(cell.metric)
    return score(latent[1:] + shifts) - score(latent[0])


def shift_for(cell: Cell) -> tuple[float, float]:
    """The shift of the latent value, and the gain it makes, that a t-test on the test questions finds 8 times in 10."""
    spread = float(draw(cell, 200_000 // cell.configurations, 0.0, cell.generator("pilot", 0)).std())
    gain = detectable_effect(spread / np.sqrt(cell.questions), ALPHA)
    if cell.metric == "lopsided":
        return gain, gain
    score = measure(cell.metric)
    base = float(score(_GRID).mean())
    found: Any = brentq(lambda s: float(score(_GRID + s).mean()) - base - gain, 0.0, 4.0, xtol=1e-5)
    return float(found), gain


def documents_of(cell: Cell, count: int) -> np.ndarray:
    """The document of each question."""
    return np.arange(count) // cell.per_document


def t_values(differences: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, int]:
    """Student's t of each configuration on document totals, and its degrees of freedom."""
    totals = document_totals(differences, groups)
    count = totals.shape[1]
    error = totals.std(1, ddof=1) * np.sqrt(count)
    return np.divide(totals.sum(1), error, out=np.zeros(len(totals)), where=error > 0), count - 1


def document_totals(differences: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sums by document, shape (configurations, documents)."""
    return np.add.reduceat(differences, np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]), axis=1)


def max_t(differences: np.ndarray, groups: np.ndarray, resamples: int, generator: np.random.Generator) -> int | None:
    """The configuration that single-step max-T adopts."""
    observed, _ = t_values(differences, groups)
    totals = document_totals(differences, groups)
    count = totals.shape[1]
    flipped = (generator.integers(0, 2, (resamples, count)) * 2.0 - 1.0) @ totals.T / count
    variance = ((totals**2).mean(1) - flipped**2) / (count - 1)
    greatest = np.divide(flipped, np.sqrt(variance), out=np.zeros_like(flipped), where=variance > 0).max(1)
    best = int(observed.argmax())
    p = (1 + int((greatest >= observed[best] - 1e-12).sum())) / (resamples + 1)
    return best if p <= ALPHA else None


def holm(differences: np.ndarray, groups: np.ndarray) -> int | None:
    """The best configuration where Holm rejects its hypothesis (its first step decides)."""
    values, degrees = t_values(differences, groups)
    best = int(values.argmax())
    return best if student.sf(values[best], degrees) * len(values) <= ALPHA else None


def replicate(
    cell: Cell, shift: float, resamples: int, generator: np.random.Generator, rules: Sequence[str]
) -> tuple[dict[str, int | None], int, float, float]:
    """One replication: what each rule adopts, the choice of dev, and the interval of its difference on test."""
    test, dev = cell.questions, round(cell.questions * DEV_SHARE / cell.per_document) * cell.per_document
    seen = draw(cell, dev + test, shift, generator)
    groups = documents_of(cell, dev + test)
    chosen = int(seen[:, :dev].mean(1).argmax())
    judged, places = seen[:, dev:], groups[dev:]
    row = judged[chosen]
    seed = int(generator.integers(2**31))
    result = paired_comparison(row, np.zeros(test), places.tolist(), ALPHA, LEVEL, seed, resamples)
    adopted: dict[str, int | None] = {}
    for rule in rules:
        data, where = (seen, groups) if rule.endswith("all") else (judged, places)
        if rule == "gate":
            passes = result.lower_bound > 0 and result.p_value <= ALPHA
            adopted[rule] = chosen if passes else None
        elif rule == "split":
            values, degrees = t_values(row[None], places)
            adopted[rule] = chosen if student.sf(values[0], degrees) <= ALPHA else None
        elif rule.startswith("max-T"):
            adopted[rule] = max_t(data, where, resamples, generator)
        else:
            adopted[rule] = holm(data, where)
    return adopted, chosen, result.low, result.high


def without_gain(cell: Cell, replications: int, resamples: int, seed: int) -> tuple[float, float]:
    """Share of false adoptions by the gate, and coverage of its intervals."""
    generator = cell.generator("null", seed)
    false, covered = 0, 0
    for _ in range(replications):
        adopted, _, low, high = replicate(cell, 0.0, resamples, generator, ("gate",))
        false += adopted["gate"] is not None
        covered += low <= 0.0 <= high
    return false / replications, covered / replications


def with_gain(cell: Cell, replications: int, resamples: int, seed: int) -> tuple[float, dict[str, float], float]:
    """The true gain, the share of replications in which each rule adopts the better one, and coverage."""
    generator = cell.generator("gain", seed)
    shift, gain = shift_for(cell)
    right = dict.fromkeys(RULES, 0)
    covered = 0
    for _ in range(replications):
        adopted, chosen, low, high = replicate(cell, shift, resamples, generator, RULES)
        covered += low <= (gain if chosen == 0 else 0.0) <= high
        for rule in RULES:
            right[rule] += adopted[rule] == 0
    return gain, {rule: count / replications for rule, count in right.items()}, covered / replications


def print_null(cells: Sequence[Cell], replications: int, resamples: int, seed: int) -> None:
    """Prints false adoptions and coverage, a row a cell, and the worst."""
    error = np.sqrt(ALPHA * (1 - ALPHA) / replications)
    print(f"## Without a true gain ({replications} replications; standard error {error:.1%} at 5%)\n")
    print("| metric | test questions | configurations | false adoptions | coverage of 95% intervals |")
    print("|---|---|---|---|---|")
    worst, least, most = 0.0, 1.0, 0.0
    for cell in cells:
        false, covered = without_gain(cell, replications, resamples, seed)
        worst, least, most = max(worst, false), min(least, covered), max(most, covered)
        print(f"| {cell.metric} | {cell.questions} | {cell.configurations} | {false:.1%} | {covered:.1%} |", flush=True)
    print(f"\nmost false adoptions {worst:.1%}; coverage {least:.1%} to {most:.1%}\n")


def print_power(cells: Sequence[Cell], replications: int, resamples: int, seed: int) -> None:
    """Prints the power of the gate and its competitors, a row a cell."""
    print(f"## One configuration with a true gain ({replications} replications)\n")
    print("| metric | test questions | configurations | gain | " + " | ".join(RULES) + " | coverage |")
    print("|" + "---|" * (len(RULES) + 5))
    for cell in cells:
        gain, power, covered = with_gain(cell, replications, resamples, seed)
        shares = " | ".join(f"{power[rule]:.0%}" for rule in RULES)
        place = f"{cell.metric} | {cell.questions} | {cell.configurations}"
        print(f"| {place} | {gain:.3f} | {shares} | {covered:.1%} |", flush=True)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=2000, help="a cell without gain")
    parser.add_argument("--power-replications", type=int, default=500, help="a cell with gain; 0 leaves them out")
    parser.add_argument("--resamples", type=int, default=499, help="of bootstrap and permutations (the gate: 10,000)")
    parser.add_argument("-n", "--questions", type=int, nargs="+", default=[60, 100, 200, 400])
    parser.add_argument("-N", "--configurations", type=int, nargs="+", default=[1, 10, 30, 100])
    parser.add_argument("--metrics", choices=METRICS, nargs="+", default=list(METRICS))
    parser.add_argument("--per-document", type=int, default=1, help="questions that share a document")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cells = [
        Cell(metric, n, configurations, options.per_document)
        for metric in options.metrics
        for n in options.questions
        for configurations in options.configurations
    ]
    if options.replications:
        print_null(cells, options.replications, options.resamples, options.seed)
    if options.power_replications:
        print_power(cells, options.power_replications, options.resamples, options.seed)


if __name__ == "__main__":
    main()
