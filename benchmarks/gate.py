"""Simulates the gate: how often it adopts without a true gain, whether its intervals cover, and what power it has.

    python benchmarks/gate.py                                              # all cells
    python benchmarks/gate.py --per-document 4                             # four questions share a document
    python benchmarks/gate.py --replications 200 -n 60 -N 1 10 --metrics binary

Each replication draws an incumbent and N configurations on dev and test questions (2 dev for 3 test, as
`ragladder data split` does). First without any true gain; then one configuration has the gain which a t-test on the n
test questions finds in 8 of 10 cases. Metrics, the last two a stress:

    binary       right or wrong, 60% right
    continuous   uniform from 0 to 1
    skewed       most scores near 0, some near 1
    lopsided     the candidate gains a little on most questions and loses much on a few (skewness -2)
    rare         right or wrong, 5% right: most differences are ties

Rules, all at level alpha. The gate as it stands:

    gate         `gate.selection: auto`: gate max-t up to ten configurations, else gate split

Those that see the n test questions alone:

    gate split   `gate.selection: split`: the configuration that is best on dev, adopted where the lower bound of
                 ragladder.eval.statistics.paired_rows (paired_comparison of many rows) exceeds 0
    split        the same choice, Student's paired t-test
    max-T        no choice on dev: N configurations at once, sign flips (Westfall and Young, 1993)
    Holm         likewise, t-tests

and those that see dev and test questions together, 5 for each 3 of the others:

    gate max-t   `gate.selection: max-t`: ragladder.eval.multiple.max_t_rows (max_t of many repetitions)
    max-T all    as max-T
    Holm all     as Holm

A rule is honest in a cell where its false adoptions are at most alpha plus three standard errors there. Coverage is
of the two-sided 95% intervals that the gate shows: of one comparison with split, of all N at once with max-t.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ragladder.eval.multiple import max_t_rows
from ragladder.eval.statistics import detectable_effect, paired_rows
from ragladder.ladder.max_t import FEW
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

METRICS = ("binary", "continuous", "skewed", "lopsided", "rare")
GATES = ("gate", "gate split", "gate max-t")
ON_TEST = ("split", "max-T", "Holm")
ON_ALL = ("max-T all", "Holm all")
RULES = (*GATES, *ON_TEST, *ON_ALL)
ALPHA, LEVEL = 0.05, 0.95
ALIKE = 0.7  # share of a score's variance, on the latent scale, that is the question's
OF_DOCUMENT = 0.3  # share of the question's part that is its document's
DEV_SHARE = 2 / 3  # dev questions for each test question
RIGHT = {"binary": 0.6, "rare": 0.05}
_GRID = ndtri((np.arange(20_000) + 0.5) / 20_000)
_CELLS = 3_000_000  # values drawn at once

Found = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Which configuration, whether it is adopted, whether the intervals hold the truth."""


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

    @property
    def dev(self) -> int:
        """Dev questions, whole documents."""
        return round(self.questions * DEV_SHARE / self.per_document) * self.per_document

    def generator(self, purpose: str, seed: int) -> np.random.Generator:
        """A stream of its own."""
        return np.random.default_rng([seed, zlib.crc32(f"{self}{purpose}".encode())])


@dataclass(slots=True)
class Counts:
    """What was counted in a cell.

    Attributes:
        replications: How many.
        adopted: Rule: replications in which it adopted, the better configuration where there is one.
        asked: Rule: replications in which it was asked.
        covered: Gate: replications in which its intervals held the truth.
        gain: The true one.
    """

    replications: int
    adopted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))
    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))
    covered: dict[str, int] = field(default_factory=lambda: dict.fromkeys(GATES, 0))
    gain: float = 0.0

    def share(self, rule: str) -> float:
        """Of the replications in which the rule was asked."""
        return self.adopted[rule] / max(1, self.asked[rule])

    def coverage(self, rule: str) -> float:
        """Of a gate's intervals."""
        return self.covered[rule] / max(1, self.asked[rule])

    def take_gate(self, configurations: int) -> None:
        """What `gate.selection: auto` comes to with so many configurations."""
        taken = "gate max-t" if configurations <= FEW else "gate split"
        for counts in (self.adopted, self.asked, self.covered):
            counts["gate"] = counts[taken]


def measure(metric: str) -> Callable[[np.ndarray], np.ndarray]:
    """The score that a latent normal value gives."""
    if metric in RIGHT:
        return lambda z: (z > ndtri(1 - RIGHT[metric])).astype(float)
    return ndtr if metric == "continuous" else lambda z: ndtr(z) ** 6


def draw(cell: Cell, count: int, rows: int, shift: float, generator: np.random.Generator) -> np.ndarray:
    """Differences to the incumbent, shape (rows, configurations, count); `shift` moves the first configuration."""
    shifts = np.zeros((cell.configurations, 1))
    shifts[0] = shift
    documents = generator.standard_normal((rows, -(-count // cell.per_document)))
    documents = documents.repeat(cell.per_document, axis=1)[:, :count]
    own = generator.standard_normal((rows, count))
    # with one question a document the two parts are one
    question = (np.sqrt(OF_DOCUMENT) * documents + np.sqrt(1 - OF_DOCUMENT) * own)[:, None]
    noise = generator.standard_normal((rows, cell.configurations + 1, count))
    latent = np.sqrt(ALIKE) * question + np.sqrt(1 - ALIKE) * noise
    if cell.metric == "lopsided":
        return shifts + 0.15 * (1 + np.log(ndtr(latent[:, 1:])))  # minus an exponential variable of mean 1, centred
    score = measure(cell.metric)
    return score(latent[:, 1:] + shifts) - score(latent[:, :1])


def shift_for(cell: Cell) -> tuple[float, float]:
    """The shift of the latent value, and the gain it makes, that a t-test on the test questions finds 8 times in 10."""
    pilot = draw(cell, 2000, max(1, 100 // cell.configurations), 0.0, cell.generator("pilot", 0))
    gain = detectable_effect(float(pilot.std()) / np.sqrt(cell.questions), ALPHA)
    if cell.metric == "lopsided":
        return gain, gain
    score = measure(cell.metric)
    base = float(score(_GRID).mean())
    found: Any = brentq(lambda s: float(score(_GRID + s).mean()) - base - gain, 0.0, 6.0, xtol=1e-5)
    return float(found), gain


def t_values(differences: np.ndarray, per_document: int) -> tuple[np.ndarray, np.ndarray]:
    """Student's t of each configuration on document totals, and the totals; documents are of one size."""
    totals = differences.reshape(*differences.shape[:-1], -1, per_document).sum(-1)
    error = totals.std(-1, ddof=1) * np.sqrt(totals.shape[-1])
    return np.divide(totals.sum(-1), error, out=np.zeros(error.shape), where=error > 0), totals


def plain_max_t(values: np.ndarray, totals: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Whether single-step max-T by sign flips adopts the best configuration, shape (rows,)."""
    rows, configurations, count = totals.shape
    signs = generator.integers(0, 2, (resamples, count)) * 2.0 - 1.0
    squares = (totals**2).sum(-1).reshape(-1, 1) * (count / (count - 1))
    least = values.max(1)[:, None] - 1e-9
    reached = np.zeros(rows)
    step = max(1, _CELLS // (rows * configurations))
    for start in range(0, resamples, step):
        sums = totals.reshape(-1, count) @ signs[start : start + step].T
        # sums / sqrt(squares - sums ** 2 / (count - 1)), in place
        variance = sums**2
        variance /= 1 - count
        variance += squares
        np.sqrt(np.maximum(variance, 1e-12, out=variance), out=variance)
        sums /= variance
        reached += (sums.reshape(rows, configurations, -1).max(1) >= least).sum(1)
    return (1 + reached) / (resamples + 1) <= ALPHA


def simulate(cell: Cell, gain: bool, options: argparse.Namespace) -> Counts:
    """Draws a cell's replications and counts what each rule adopts."""
    generator = cell.generator("gain" if gain else "null", options.seed)
    shift, size = shift_for(cell) if gain else (0.0, 0.0)
    counts = Counts(options.power_replications if gain else options.replications, gain=size)
    families = counts.replications if gain else options.family_replications
    truth = np.zeros(cell.configurations)
    truth[0] = size
    for start, rows in _portions(counts.replications, cell.configurations * (cell.dev + cell.questions)):
        seen = draw(cell, cell.dev + cell.questions, rows, shift, generator)
        chosen = seen[:, :, : cell.dev].mean(2).argmax(1)
        judged = seen[np.arange(rows), chosen, cell.dev :]
        found = _by_choice(cell, judged, chosen, truth, options.resamples, generator)
        if start < families:
            found |= _gate_max_t(cell, seen, truth, options.resamples, generator)
            for suffix, data in (("", seen[:, :, cell.dev :]), (" all", seen)):
                found |= _by_all(cell, data, suffix, options.family_resamples, generator)
        for rule, (which, passes, held) in found.items():
            counts.adopted[rule] += int((passes & (which == 0) if gain else passes).sum())
            counts.asked[rule] += rows
            if held is not None:
                counts.covered[rule] += int(held.sum())
    counts.take_gate(cell.configurations)
    return counts


def _portions(replications: int, values: int) -> Iterator[tuple[int, int]]:
    """First replication and number of each portion that is drawn at once."""
    step = max(1, min(replications // 4, _CELLS // values))
    for start in range(0, replications, step):
        yield start, min(step, replications - start)


def _by_choice(
    cell: Cell,
    judged: np.ndarray,
    chosen: np.ndarray,
    truth: np.ndarray,
    resamples: int,
    generator: np.random.Generator,
) -> dict[str, Found]:
    """The rules that test the choice of dev."""
    result = paired_rows(judged, _groups(cell, judged), ALPHA, LEVEL, int(generator.integers(2**31)), resamples)
    held = (result.low <= truth[chosen] + 1e-12) & (truth[chosen] - 1e-12 <= result.high)
    values, totals = t_values(judged, cell.per_document)
    passes = student.sf(values, totals.shape[-1] - 1) <= ALPHA
    return {"gate split": (chosen, result.lower_bound > 0, held), "split": (chosen, passes, None)}


def _gate_max_t(
    cell: Cell, seen: np.ndarray, truth: np.ndarray, resamples: int, generator: np.random.Generator
) -> dict[str, Found]:
    result = max_t_rows(seen, _groups(cell, seen), LEVEL, int(generator.integers(2**31)), resamples)
    held = ((result.low <= truth + 1e-12) & (truth - 1e-12 <= result.high)).all(1)
    return {"gate max-t": (result.best, result.p_value <= ALPHA, held)}


def _by_all(
    cell: Cell, data: np.ndarray, suffix: str, resamples: int, generator: np.random.Generator
) -> dict[str, Found]:
    """The competitors that look at all configurations at once."""
    values, totals = t_values(data, cell.per_document)
    best = values.argmax(1)
    p = student.sf(values.max(1), totals.shape[-1] - 1) * cell.configurations  # Holm's first step decides
    return {
        f"Holm{suffix}": (best, p <= ALPHA, None),
        f"max-T{suffix}": (best, plain_max_t(values, totals, resamples, generator), None),
    }


def _groups(cell: Cell, data: np.ndarray) -> list[int]:
    return (np.arange(data.shape[-1]) // cell.per_document).tolist()


def print_null(found: dict[Cell, Counts], configurations: Sequence[int]) -> None:
    """Prints false adoptions and coverage, a row a metric and number of questions, and the worst."""
    counts = next(iter(found.values()))
    error = np.sqrt(ALPHA * (1 - ALPHA) / max(1, counts.asked["gate split"]))
    print(
        f"## False adoptions without a true gain\n\n{counts.asked['gate split']} replications a cell "
        f"({counts.asked['Holm']} of all rules but gate split and split); one standard error at 5%: {error:.1%}.\n"
    )
    shown = ["gate max-t", *ON_TEST, *ON_ALL]
    heads = [f"gate: N = {number}" for number in configurations] + [f"gate split: N = {n}" for n in configurations]
    print("| metric | test questions | " + " | ".join([*heads, "gate's coverage", *shown]) + " |")
    print("|" + "---|" * (len(heads) + 3 + len(shown)))
    for row in _rows(found):
        cells = [f"{c.share(gate):.1%}" for gate in ("gate", "gate split") for _, c in row]
        covered = [c.coverage("gate") for _, c in row]
        most = [f"{max(c.share(rule) for _, c in row):.1%}" for rule in shown]
        cells += [f"{min(covered):.1%} to {max(covered):.1%}", *most]
        print(f"| {row[0][0].metric} | {row[0][0].questions} | " + " | ".join(cells) + " |")
    print("\nColumns after the coverage: the largest of the row's cells.\n")
    for rule in GATES:
        worst = max(found, key=lambda cell: found[cell].share(rule))
        above = sum(not _honest(cell, rule, found) for cell in found)
        covered = [c.coverage(rule) for c in found.values()]
        print(
            f"- {rule}: most {found[worst].share(rule):.1%} ({worst.metric}, {worst.questions} questions, "
            f"{worst.configurations} configurations); {above} of {len(found)} cells above 5% plus three standard "
            f"errors; coverage {min(covered):.1%} to {max(covered):.1%}"
        )
    print()


def print_power(found: dict[Cell, Counts], null: dict[Cell, Counts]) -> None:
    """Prints the power of every rule, in brackets where it is not honest, and how far the gates are behind."""
    print(f"## Power: one configuration with a true gain\n\n{next(iter(found.values())).replications} replications.\n")
    print("| metric | test questions | N | gain | " + " | ".join(RULES) + " | gate's coverage |")
    print("|" + "---|" * (len(RULES) + 5))
    behind: dict[str, list[tuple[float, Cell]]] = {rule: [] for rule in GATES}
    for cell, counts in found.items():
        honest = {rule for rule in RULES if _honest(cell, rule, null)}
        shares = [f"{counts.share(r):.0%}" if r in honest else f"({counts.share(r):.0%})" for r in RULES]
        place = f"{cell.metric} | {cell.questions} | {cell.configurations} | {counts.gain:.3f}"
        print(f"| {place} | " + " | ".join([*shares, f"{counts.coverage('gate'):.1%}"]) + " |")
        best = max((counts.share(r) for r in honest if r not in GATES), default=0.0)
        for rule, gaps in behind.items():
            gaps.append((best - counts.share(rule), cell))
    print("\nBehind the best honest competitor, points of power:\n")
    for rule, gaps in behind.items():
        worst, cell = max(gaps, key=lambda gap: gap[0])
        over = sum(gap > 0.1 for gap, _ in gaps)
        print(
            f"- {rule}: at most {100 * worst:.0f} ({cell.metric}, {cell.questions} questions, {cell.configurations} "
            f"configurations); more than 10 in {over} of {len(gaps)} cells"
        )


def _honest(cell: Cell, rule: str, null: dict[Cell, Counts]) -> bool:
    if cell not in null:
        return True
    counts = null[cell]
    return counts.share(rule) <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / max(1, counts.asked[rule]))


def _rows(found: dict[Cell, Counts]) -> list[list[tuple[Cell, Counts]]]:
    rows: dict[tuple[str, int], list[tuple[Cell, Counts]]] = {}
    for cell, counts in found.items():
        rows.setdefault((cell.metric, cell.questions), []).append((cell, counts))
    return list(rows.values())


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=2000, help="a cell without gain; 0 leaves them out")
    parser.add_argument(
        "--family-replications", type=int, default=2000, help="of them, with the rules that look at all configurations"
    )
    parser.add_argument("--power-replications", type=int, default=1000, help="a cell with gain; 0 leaves them out")
    parser.add_argument("--resamples", type=int, default=999, help="of one comparison (the gate: 9,999)")
    parser.add_argument("--family-resamples", type=int, default=199, help="of max-T (the gate: 9,999)")
    parser.add_argument("-n", "--questions", type=int, nargs="+", default=[60, 100, 200, 400])
    parser.add_argument("-N", "--configurations", type=int, nargs="+", default=[1, 10, 30, 100])
    parser.add_argument("--metrics", choices=METRICS, nargs="+", default=list(METRICS))
    parser.add_argument("--per-document", type=int, default=1, help="questions that share a document")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.process_time()
    cells = [
        Cell(metric, n, configurations, options.per_document)
        for metric in options.metrics
        for n in options.questions
        for configurations in options.configurations
    ]
    if bad := [cell for cell in cells if cell.questions % cell.per_document]:
        parser.error(f"--questions {bad[0].questions} is no multiple of --per-document {bad[0].per_document}")
    null = {}
    if options.replications:
        for cell in cells:
            null[cell] = simulate(cell, False, options)
        print_null(null, options.configurations)
    if options.power_replications:
        power = {cell: simulate(cell, True, options) for cell in cells}
        print_power(power, null)
    print(f"\n{time.process_time() - start:.0f} s of CPU time")


if __name__ == "__main__":
    main()
