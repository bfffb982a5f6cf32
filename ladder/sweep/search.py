"""Which configurations are tried next.

A strategy is a generator: it yields batches of asks and is sent their outcomes, in the same order. It knows nothing of
where they are computed, nor whether an earlier command did: so the same seed gives the same sweep, killed or not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import ConfigError, require
from ..gate import GateSettings
from ..measures import lower_is_better
from .evaluate import Outcome
from .settings import CoordinateSearch, Nsga2Search, SweepSettings, TpeSearch
from .space import Configuration, Space

__all__ = [
    "Ask",
    "Judge",
    "Strategy",
    "chosen_before",
    "configurations",
    "coordinate_points",
    "drawn",
    "once",
    "strategy_for",
]

_REPEATS = 100
"""Proposals in a row without a new configuration, after which a space counts as used up."""


@dataclass(frozen=True)
class Ask:
    """A configuration to score.

    Attributes:
        configuration: Which.
        part: Places of the dev questions; None for all.
    """

    configuration: Configuration
    part: tuple[int, ...] | None = None


Strategy = Generator[list[Ask], list[Outcome], None]


class Judge:
    """Turns outcomes into numbers of which more is better."""

    def __init__(self, settings: SweepSettings, space: Space, gate: GateSettings) -> None:
        """Takes objectives and constraints of a sweep, and how many scores may be missing."""
        self.objectives = settings.objectives
        self._gate = gate
        self._after = space.after
        self.constrained = bool(space.after)

    def vector(self, outcome: Outcome) -> list[float] | None:
        """The objectives, costs negated; None where one is missing, or many of its scores."""
        values = [outcome.value(name) for name in self.objectives]
        if outcome.status != "ok" or any(value is None for value in values):
            return None
        if outcome.part is None and self.lacks(outcome):  # a race looks at few questions, of which one may fail
            return None
        return [-v if lower_is_better(n) else v for n, v in zip(self.objectives, values, strict=True) if v is not None]

    def lacks(self, outcome: Outcome) -> str:
        """Which objective's scores are missing, where too many are; else empty."""
        for name in self.objectives:
            missing, asked = outcome.missing(name)
            if self._gate.too_many_missing(missing, asked):
                return f"{missing} of {asked} scores of {name} are missing"
        return ""

    def broken(self, outcome: Outcome, configuration: Configuration) -> str:
        """The constraint that the outcome does not meet; empty where it meets all.

        Raises:
            ConfigError: A constraint compares what cannot be compared.
        """
        data = configuration.pipeline.model_dump(mode="json")
        for constraint in self._after:
            values = {name: _setting(data, name, outcome) for name in constraint.names}
            try:
                if not constraint.holds(values):
                    return constraint.text
            except ValueError as error:
                raise ConfigError(str(error)) from None
        return ""

    def score(self, outcome: Outcome, configuration: Configuration) -> float:
        """The first objective; minus infinity where it failed or a constraint is not met."""
        vector = self.vector(outcome)
        return float("-inf") if vector is None or self.broken(outcome, configuration) else vector[0]


def _setting(data: Any, name: str, outcome: Outcome) -> Any:
    value = outcome.value(name)
    if value is not None:
        return value
    for part in name.split("."):
        data = data.get(part) if isinstance(data, Mapping) else None
    return data.get("kind") if isinstance(data, Mapping) else data


def chosen_before(settings: SweepSettings, space: Space, seed: int) -> list[Configuration] | None:
    """The configurations of a search that knows them before any score; None of one that follows the scores."""
    trials = getattr(settings.search, "trials", None)
    if settings.search.kind in ("coordinate", "tpe", "nsga2"):
        return None
    return configurations(space) if trials is None else drawn(space, trials, seed)


def strategy_for(settings: SweepSettings, space: Space, judge: Judge, seed: int) -> Strategy:
    """The strategy of a search that follows the scores; racing and halving are in racing.py."""
    search = settings.search
    if isinstance(search, CoordinateSearch):
        return _coordinate(space, judge, search.passes)
    if isinstance(search, (TpeSearch, Nsga2Search)):
        return _optuna(space, search, judge, seed)
    raise ValueError(f"search '{search.kind}' does not follow the scores")


def once(chosen: Sequence[Configuration]) -> Strategy:
    """All at once."""
    yield [Ask(configuration) for configuration in chosen]


def configurations(space: Space) -> list[Configuration]:
    """All valid configurations of a space, each once.

    Raises:
        ConfigError: There is none.
    """
    if space.found is not None:
        return space.found
    found: dict[str, Configuration] = {}
    first, bad = "", 0
    for point in space.points():
        try:
            configuration = space.configure(point)
        except ConfigError as error:
            first, bad = first or str(error), bad + 1
            continue
        found.setdefault(configuration.key, configuration)
    space.left_out, space.found = (bad, first), list(found.values())
    if not found:
        raise ConfigError(f"no point of sweep.space is valid; the first: {first}")
    return space.found


def drawn(space: Space, count: int, seed: int) -> list[Configuration]:
    """Different valid configurations at random; fewer where the space has no more.

    Raises:
        ConfigError: None was found.
    """
    if space.size <= 20 * count:
        every = configurations(space)
        return random.Random(seed).sample(every, min(count, len(every)))
    generator = random.Random(seed)
    found: dict[str, Configuration] = {}
    first, repeats = "", 0
    while len(found) < count and repeats < 20 * _REPEATS:
        repeats += 1
        try:
            configuration = space.configure(space.draw(generator))
        except ConfigError as error:
            first = first or str(error)
            continue
        if configuration.key not in found:
            found[configuration.key], repeats = configuration, 0
    if not found:
        raise ConfigError(f"no point of sweep.space is valid; the first: {first}")
    return list(found.values())


# --- coordinate ---


def coordinate_points(
    axes: Mapping[str, Sequence[Any]],
    start: dict[str, Any],
    passes: int,
    put: Callable[[dict[str, Any], str, Any], dict[str, Any]],
) -> Generator[list[tuple[str, Any, dict[str, Any]]], list[tuple[float, dict[str, Any]]], dict[str, Any]]:
    """An axis at a time, the best value kept; ties go to the earlier point.

    Args:
        axes: Values of each axis.
        start: The first point.
        passes: Rounds; one that finds nothing is the last.
        put: A point with one axis set.

    Yields:
        Batches of (axis, value, point), to be sent (score, the point as it is to be kept).

    Returns:
        The best point.
    """
    [(best_score, best)] = yield [("start", None, start)]
    for _ in range(passes):
        improved = False
        for axis, values in axes.items():
            results = yield [(axis, value, put(best, axis, value)) for value in values]
            for score, point in results:
                if score > best_score:
                    best_score, best, improved = score, point, True
        if not improved:
            break
    return best


def _coordinate(space: Space, judge: Judge, passes: int) -> Strategy:
    def put(point: dict[str, Any], axis: str, value: Any) -> dict[str, Any]:
        kept = {**point, axis: value}
        # a change of what a condition looks at may switch axes off
        return {name: kept[name] for name in space.order if name in kept and space.active(name, kept)}

    walk = coordinate_points({axis: space.axes[axis] for axis in space.order}, {}, passes, put)
    batch = next(walk)
    while True:
        asked: list[Ask | None] = []
        for axis, _, point in batch:
            try:
                inactive = axis != "start" and axis not in point
                asked.append(None if inactive else Ask(space.configure(point)))
            except ConfigError:
                asked.append(None)
        outcomes = yield [ask for ask in asked if ask is not None]
        answers = iter(outcomes)
        results = [
            (float("-inf") if ask is None else judge.score(next(answers), ask.configuration), point)
            for ask, (_, _, point) in zip(asked, batch, strict=True)
        ]
        try:
            batch = walk.send(results)
        except StopIteration:
            return


# --- Optuna ---


def _optuna(space: Space, search: TpeSearch | Nsga2Search, judge: Judge, seed: int) -> Strategy:
    """An in-memory study. A resumed sweep feeds it the recorded outcomes in the same order: it goes on as it would."""
    require("optuna", "sweep", f"the search '{search.kind}'")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if isinstance(search, TpeSearch):
        size = search.batch
        sampler: Any = optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup_trials)
    else:
        size = search.population
        sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=size)
    upwards = [optuna.study.StudyDirection.MAXIMIZE] * len(judge.objectives)
    study = optuna.create_study(directions=upwards, sampler=sampler)
    known: dict[str, Outcome] = {}
    repeats = 0
    while len(known) < search.trials and repeats < _REPEATS:
        batch: list[tuple[Any, Configuration]] = []
        fresh: set[str] = set()
        while len(batch) < size and len(known) + len(fresh) < search.trials and repeats < _REPEATS:
            trial = study.ask()
            try:
                configuration = space.configure(_suggested(trial, space))
            except ConfigError:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                repeats += 1
                continue
            if configuration.key in known:
                _tell(study, trial, configuration, known[configuration.key], judge)
                repeats += 1
                continue
            repeats = 0
            batch.append((trial, configuration))
            fresh.add(configuration.key)
        outcomes = yield [Ask(configuration) for _, configuration in batch]
        for (trial, configuration), outcome in zip(batch, outcomes, strict=True):
            known[configuration.key] = outcome
            _tell(study, trial, configuration, outcome, judge)


def _suggested(trial: Any, space: Space) -> dict[str, Any]:
    """A point; numbers are proposed by their rank, so that near ones count as near."""
    point: dict[str, Any] = {}
    for axis in space.order:
        if not space.active(axis, point):
            continue
        values = space.axes[axis]
        if len(values) > 1 and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            point[axis] = sorted(values)[trial.suggest_int(axis, 0, len(values) - 1)]
        else:
            point[axis] = values[trial.suggest_categorical(axis, list(range(len(values))))]
    return {axis: point[axis] for axis in space.axes if axis in point}


def _tell(study: Any, trial: Any, configuration: Configuration, outcome: Outcome, judge: Judge) -> None:
    import optuna

    vector = judge.vector(outcome)
    if vector is None:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    if judge.constrained:
        trial.set_constraint("constraints", 1.0 if judge.broken(outcome, configuration) else 0.0)
    study.tell(trial, vector)
