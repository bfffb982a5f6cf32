"""The result of a sweep: ranking, what cannot be told apart from the first, which knobs mattered, Pareto front."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...core.components import Model
from ...eval.statistics import paired_comparison
from ..measures import lower_is_better
from ..records import EstimateRecord
from .baseline import BaselineRecord, GainRecord
from .evaluate import Outcome
from .racing import paired
from .search import Judge
from .space import Configuration

__all__ = ["AxisRecord", "Result", "SweepRecord", "TrialRecord", "ValueRecord", "axes_of", "front", "ranked", "tied"]

_COMPARED = 50
"""Configurations behind the first that are compared with it, question by question."""


@dataclass
class Result:
    """One configuration and all that is known of it.

    Attributes:
        configuration: Which.
        outcome: Of all its questions so far.
        dropped: Why it is no choice: a race stopped it, or too many scores are missing; empty where it is one.
        broken: The constraint that it does not meet; empty where it meets all.
        trial: Its first line in the file of trials.
    """

    configuration: Configuration
    outcome: Outcome
    dropped: str = ""
    broken: str = ""
    trial: int = 0

    @property
    def status(self) -> str:
        """`ok`, `infeasible`, `dropped`, `timeout`, `failed`."""
        if self.outcome.status != "ok":
            return self.outcome.status
        return "dropped" if self.dropped else "infeasible" if self.broken else "ok"


class TrialRecord(Model):
    """One configuration of a sweep."""

    rank: int | None
    """From 1, by the first objective; null where it is not `ok`."""
    trial: int
    """Its number in trials.jsonl."""
    point: dict[str, Any]
    """Axis: value."""
    status: Literal["ok", "infeasible", "dropped", "timeout", "failed"]
    """`infeasible`: a constraint is not met. `dropped`: a race stopped it, or too many scores are missing."""
    error: str
    """Why it is not `ok`."""
    objectives: dict[str, float | None]
    """Means, and measures."""
    estimates: dict[str, EstimateRecord]
    """Of the objectives that are metrics: mean, 95% interval, n_ok of n. For the first ranks alone."""
    behind: float | None
    """How much the first objective is lower than the winner's, on the same questions."""
    same_as_best: bool | None
    """Whether it cannot be told apart from the winner; null where it was not compared."""
    pareto: bool
    """Whether no other configuration is at least as good in all objectives and better in one."""
    gain: GainRecord | None = None
    """Against the pipeline as configured; null where that was not compared."""
    seconds: float
    """Of its trial, what it computed for others included."""


class ValueRecord(Model):
    """One value of an axis."""

    value: Any
    """As in the space."""
    trials: int
    """Configurations with it that have a score."""
    mean: float
    """Of their first objective."""
    best: float
    """The best of them."""


class AxisRecord(Model):
    """How much an axis mattered."""

    axis: str
    """Key path below `pipeline`."""
    importance: float | None
    """Share of the variance of the first objective that it explains alone (functional ANOVA; Hutter et al. 2014). Of a
    whole grid exact; else estimated by Optuna's forest, the shares of all axes adding up to 1. Null where it cannot be
    told, or where Optuna would be needed and is not installed."""
    spread: float
    """Best minus worst mean over its values: in the objective's unit, other axes averaged as they were tried."""
    values: tuple[ValueRecord, ...]
    """In the order of the space."""


class SweepRecord(Model):
    """What `sweep.json` holds and `ragladder sweep --json` prints."""

    schema_version: Literal[1] = 1
    """Raised when a field changes its meaning or goes."""
    status: Literal["finished", "budget"]
    """`budget`: a limit ended it; the same command with a higher one goes on."""
    run_id: str
    """Name of its folder."""
    name: str
    """Of the experiment."""
    created: str
    """ISO 8601, UTC."""
    ragladder: str
    """Version."""
    config_sha256: str
    """Over the settings that change results, budgets left out."""
    seed: int
    """Of the search."""
    search: str
    """Its kind."""
    objectives: tuple[str, ...]
    """The first ranks."""
    constraints: tuple[str, ...]
    """As configured."""
    questions: int
    """That scored the configurations."""
    split: Literal["dev", "dev+test"] = "dev"
    """Which ones."""
    counts: dict[str, int]
    """Configurations by status."""
    plan: tuple[str, ...]
    """What was to be computed, in words."""
    summary: str
    """The result in a sentence or two, with what cannot be told apart."""
    winner: dict[str, Any] | None
    """Its point; null where no configuration is `ok`."""
    best_yaml: str | None
    """The winner as a config that runs."""
    trials: tuple[TrialRecord, ...]
    """Ranked; then the ones that are not `ok`."""
    baseline: BaselineRecord | None = None
    """The pipeline as configured; null where no test can be corrected: the search follows the scores, or the first
    objective is not measured by question."""
    axes: tuple[AxisRecord, ...]
    """By importance."""
    pareto: tuple[int, ...]
    """Trials on the front, in the order of the first objective; empty with one objective."""
    tokens: int
    """That LLMs read and wrote, judges included, each call once."""
    money: float
    """By the configured prices."""
    seconds: float
    """Wall-clock time of all commands of this sweep."""


def ranked(results: Sequence[Result], judge: Judge) -> list[Result]:
    """The `ok` ones, best first; of equals by the further objectives, then the earlier."""
    scored = [(judge.vector(result.outcome), result) for result in results if result.status == "ok"]
    good = [(vector, result) for vector, result in scored if vector is not None]
    return [result for _, result in sorted(good, key=lambda one: [-value for value in one[0]])]


def tied(
    order: Sequence[Result], judge: Judge, groups: Sequence[str], seed: int, alpha: float = 0.05
) -> dict[str, tuple[float, bool]]:
    """How far the next ones are behind the first, and whether they can be told apart from it.

    A configuration counts as worse where the one-sided bound of the paired difference is above 0 at alpha divided by
    the number of configurations behind the first (Bonferroni): the first was chosen as the best of all on these very
    questions, so the bar is high.

    Args:
        order: Best first.
        judge: Names the first objective.
        groups: Cluster of each dev question.
        seed: Of the resampling.
        alpha: Over all comparisons.

    Returns:
        Key: (difference, whether it is the same as far as can be told). Empty for an objective without questions.
    """
    metric = judge.objectives[0]
    if len(order) < 2 or metric not in order[0].outcome.values:
        return {}
    sign = -1.0 if lower_is_better(metric) else 1.0
    each, found = alpha / (len(order) - 1), {}
    resamples = min(50_000, max(5000, math.ceil(4 / each)))
    for result in order[1 : 1 + _COMPARED]:
        a, b, places = paired(order[0].outcome, result.outcome, metric)
        if not a:
            continue
        left, right = [sign * x for x in a], [sign * x for x in b]
        if left == right:
            found[result.configuration.key] = (0.0, True)
            continue
        compared = paired_comparison(
            left, right, [groups[p] for p in places], alpha=each, seed=seed, resamples=resamples
        )
        worse = compared.lower_bound > 0 and compared.p_value <= each
        found[result.configuration.key] = (compared.difference, not worse)
    return found


def front(order: Sequence[Result], judge: Judge) -> set[str]:
    """Keys of the configurations that no other one beats in one objective without losing in another."""
    if not order:
        return set()
    vectors = np.asarray([judge.vector(result.outcome) for result in order], dtype=float)
    inside = set()
    for place, result in enumerate(order):
        at_least = (vectors >= vectors[place]).all(axis=1)
        better = (vectors > vectors[place]).any(axis=1)
        if not (at_least & better).any():
            inside.add(result.configuration.key)
    return inside


def axes_of(results: Sequence[Result], judge: Judge, axes: Mapping[str, Sequence[Any]], seed: int) -> list[AxisRecord]:
    """Marginals and importance of each axis, over all configurations with a score on all questions."""
    scored = [r for r in results if r.status in ("ok", "infeasible") and judge.vector(r.outcome) is not None]
    values = {r.configuration.key: r.outcome.value(judge.objectives[0]) or 0.0 for r in scored}
    least = lower_is_better(judge.objectives[0])
    importance = _importance(scored, values, axes, seed)
    records = []
    for axis, choices in axes.items():
        rows = []
        for choice in choices:
            wanted = json.dumps(choice)
            inside = [
                values[r.configuration.key]
                for r in scored
                if axis in r.configuration.point and json.dumps(r.configuration.point[axis]) == wanted
            ]
            if inside:
                best = min(inside) if least else max(inside)
                rows.append(ValueRecord(value=choice, trials=len(inside), mean=float(np.mean(inside)), best=best))
        spread = max((r.mean for r in rows), default=0.0) - min((r.mean for r in rows), default=0.0)
        records.append(AxisRecord(axis=axis, importance=importance.get(axis), spread=spread, values=tuple(rows)))
    return sorted(records, key=lambda r: (-(r.importance if r.importance is not None else -1.0), -r.spread))


def _importance(
    scored: Sequence[Result], values: Mapping[str, float], axes: Mapping[str, Sequence[Any]], seed: int
) -> dict[str, float]:
    """Of each axis with more than one value; a conditional axis that is off counts as a value of its own."""
    if len(scored) < 4 or len(set(values.values())) < 2:
        return {}
    places = {
        axis: [json.dumps(r.configuration.point[axis]) if axis in r.configuration.point else "" for r in scored]
        for axis in axes
    }
    varied = {axis: row for axis, row in places.items() if len(set(row)) > 1}
    reached = [values[result.configuration.key] for result in scored]
    points = set(zip(*varied.values(), strict=True))
    whole = math.prod(len(set(row)) for row in varied.values()) == len(points) == len(scored)
    return _exact(varied, reached) if whole else _estimated(varied, reached, seed)


def _exact(places: Mapping[str, Sequence[str]], reached: Sequence[float]) -> dict[str, float]:
    """Variance of an axis' means over the variance of all: on a whole grid that is the functional ANOVA itself."""
    found, total = {}, float(np.var(reached))
    for axis, row in places.items():
        groups: dict[str, list[float]] = {}
        for value, score in zip(row, reached, strict=True):
            groups.setdefault(value, []).append(score)
        found[axis] = round(float(np.var([np.mean(group) for group in groups.values()])) / total, 4)
    return found


def _estimated(places: Mapping[str, Sequence[str]], reached: Sequence[float], seed: int) -> dict[str, float]:
    """By Optuna's forest, with fewer trees the more there is to fit: its time grows with the square of the trials."""
    from importlib.util import find_spec

    if find_spec("optuna") is None or not places:
        return {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    kind = optuna.distributions.CategoricalDistribution
    kinds: dict[str, Any] = {axis: kind(tuple(sorted(set(row)))) for axis, row in places.items()}
    for place, value in enumerate(reached):
        params = {axis: row[place] for axis, row in places.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, value=value))
    trees = max(8, min(64, 6400 // len(reached)))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {axis: round(float(share), 4) for axis, share in found.items()}
