"""Racing and successive halving: configurations are scored on blocks of dev questions, and the worse ones stop early.

Racing drops a configuration when a paired comparison with the best so far says that it is worse. The alpha of one such
comparison is `alpha / (looks * (configurations - 1))`: by the union bound the best configuration is dropped with a
probability of at most `alpha`, however the race goes. Survivors are scored on all questions, so the winner's estimate
has no trace of the race but that of having been chosen.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np

from ...eval.statistics import paired_comparison
from ..measures import MEASURES
from .evaluate import Outcome
from .search import Ask, Judge, Strategy
from .settings import HalvingSearch, RacingSearch
from .space import Configuration

__all__ = ["blocks", "combined", "halve", "paired", "race"]


def blocks(count: int, sizes: Sequence[int], seed: int) -> list[tuple[int, ...]]:
    """Places of questions in random order, in blocks of the given sizes, each block sorted."""
    order = random.Random(seed).sample(range(count), count)
    ends = np.cumsum(sizes)
    return [tuple(sorted(order[end - size : end])) for size, end in zip(sizes, ends, strict=True)]


def even(count: int, parts: int) -> list[int]:
    """Sizes of parts that differ by at most 1."""
    parts = min(parts, count)
    return [count // parts + (place < count % parts) for place in range(parts)]


def combined(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome of the blocks of a configuration; the first failure counts."""
    bad = next((outcome for outcome in outcomes if outcome.status != "ok"), None)
    whole = Outcome(outcomes[0].key, seconds=round(sum(outcome.seconds for outcome in outcomes), 3))
    whole.part = sorted(place for outcome in outcomes for place in outcome.part or ())
    for outcome in outcomes:
        whole.stage_seconds.update(outcome.stage_seconds)
        whole.tokens.update(outcome.tokens)
        whole.paid = [one + other for one, other in zip(whole.paid, outcome.paid, strict=True)]
        whole.warnings += [text for text in outcome.warnings if text not in whole.warnings]
    if bad is not None:
        whole.status, whole.error = bad.status, bad.error
        return whole
    for metric in outcomes[0].values:
        rows = [pair for o in outcomes for pair in zip(o.applies[metric], o.values[metric], strict=True)]
        whole.applies[metric] = [place for place, _ in sorted(rows, key=lambda row: row[0])]
        whole.values[metric] = [value for _, value in sorted(rows, key=lambda row: row[0])]
    for name in outcomes[0].measures:
        parts = [(o.measures[name], len(o.part or ())) for o in outcomes]
        known = [(value, weight) for value, weight in parts if value is not None]
        whole.measures[name] = sum(v * w for v, w in known) / sum(w for _, w in known) if known else None
        if name in MEASURES and name.startswith(("latency", "index", "chunks")):
            whole.measures[name] = parts[0][0]  # of the pipeline, not of the questions
    return whole


def paired(a: Outcome, b: Outcome, metric: str) -> tuple[list[float], list[float], list[int]]:
    """Values of both on the questions where both have one, and those questions' places."""
    of_b = dict(zip(b.applies.get(metric, ()), b.values.get(metric, ()), strict=True))
    rows = [
        (place, value, of_b[place])
        for place, value in zip(a.applies.get(metric, ()), a.values.get(metric, ()), strict=True)
        if value is not None and of_b.get(place) is not None
    ]
    return [x for _, x, _ in rows], [float(y) for _, _, y in rows if y is not None], [place for place, _, _ in rows]


def race(
    starters: Sequence[Configuration],
    settings: RacingSearch,
    judge: Judge,
    groups: Sequence[str],
    dropped: dict[str, str],
    seed: int,
) -> Strategy:
    """Races configurations over blocks of questions.

    Args:
        starters: At least one.
        settings: Blocks and alpha.
        judge: Says which is best.
        groups: Cluster of each dev question.
        dropped: Filled: key of a configuration and why it was stopped.
        seed: Of the order of the questions and of the tests.
    """
    parts = blocks(len(groups), even(len(groups), settings.blocks), seed)
    alpha = settings.alpha / max(1, (len(parts) - 1) * (len(starters) - 1))
    metric = judge.objectives[0]
    alive, seen = list(starters), {configuration.key: [] for configuration in starters}
    for look, part in enumerate(parts, 1):
        for configuration, outcome in zip(alive, (yield [Ask(c, part) for c in alive]), strict=True):
            seen[configuration.key].append(outcome)
        so_far = {c.key: combined(seen[c.key]) for c in alive}
        alive = [c for c in alive if so_far[c.key].status == "ok"]
        if look == len(parts) or len(alive) < 2:
            continue
        best = _best(alive, so_far, judge)
        for configuration in [c for c in alive if c is not best]:
            a, b, places = paired(so_far[best.key], so_far[configuration.key], metric)
            if not a:
                continue
            resamples = min(50_000, max(2000, math.ceil(4 / alpha)))
            result = paired_comparison(a, b, [groups[p] for p in places], alpha=alpha, seed=seed, resamples=resamples)
            if result.lower_bound > 0 and result.p_value <= alpha:
                alive.remove(configuration)
                dropped[configuration.key] = (
                    f"after {len(places)} questions worse than the best by {result.difference:.4f} "
                    f"(at least {result.lower_bound:.4f}, alpha {alpha:.2g})"
                )


def halve(
    starters: Sequence[Configuration],
    settings: HalvingSearch,
    judge: Judge,
    count: int,
    dropped: dict[str, str],
    seed: int,
) -> Strategy:
    """Successive halving over questions: one in `eta` goes on, with `eta` times the questions.

    Args:
        starters: At least one.
        settings: eta.
        judge: Ranks.
        count: Dev questions.
        dropped: Filled: key of a configuration and why it was stopped.
        seed: Of the order of the questions.
    """
    rounds = max(1, min(math.ceil(math.log(len(starters), settings.eta)), int(math.log(max(count, 2), settings.eta))))
    ends = [max(1, count // settings.eta ** (rounds - step)) for step in range(rounds + 1)]
    sizes = [size for size in np.diff([0, *ends]).tolist() if size > 0]
    alive, seen = list(starters), {configuration.key: [] for configuration in starters}
    for step, part in enumerate(blocks(count, sizes, seed), 1):
        for configuration, outcome in zip(alive, (yield [Ask(c, part) for c in alive]), strict=True):
            seen[configuration.key].append(outcome)
        if step == len(sizes):
            return
        so_far = {c.key: combined(seen[c.key]) for c in alive}
        alive = [c for c in alive if so_far[c.key].status == "ok"]
        ranked = sorted(alive, key=lambda c: judge.score(so_far[c.key], c), reverse=True)
        kept = ranked[: max(1, math.ceil(len(alive) / settings.eta))]
        asked = sum(sizes[:step])
        for place, configuration in enumerate(ranked[len(kept) :], len(kept) + 1):
            dropped[configuration.key] = f"after {asked} questions on place {place} of {len(ranked)}"
        alive = [c for c in alive if c in kept]


def _best(alive: Sequence[Configuration], so_far: Mapping[str, Outcome], judge: Judge) -> Configuration:
    """The best that meets the constraints so far; where none does, the best."""
    return max(alive, key=lambda c: (judge.score(so_far[c.key], c), (judge.vector(so_far[c.key]) or [-math.inf])[0]))
