"""The section `sweep:` of an experiment."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ...core.components import Model
from ..measures import lower_is_better
from .expressions import Constraint

__all__ = [
    "CORRECTED",
    "BudgetSettings",
    "CoordinateSearch",
    "GridSearch",
    "HalvingSearch",
    "Nsga2Search",
    "RacingSearch",
    "RandomSearch",
    "SearchSettings",
    "SweepSettings",
    "TpeSearch",
]

CORRECTED = ("grid", "random")
"""Searches whose points do not depend on scores, so that a test can be corrected for their number."""


class GridSearch(Model):
    """Every valid point."""

    kind: Literal["grid"] = "grid"


class RandomSearch(Model):
    """Points drawn without replacement: as good as a grid for a few per cent of its price where few knobs matter."""

    kind: Literal["random"]
    trials: int = Field(default=50, ge=1)
    """Points drawn; each costs a trial."""


class CoordinateSearch(Model):
    """An axis at a time, the best value kept: the sum of the axes' lengths in place of their product."""

    kind: Literal["coordinate"]
    passes: int = Field(default=2, ge=1)
    """Rounds over the axes, so that knobs that only pay together are found; one that finds nothing is the last."""


class TpeSearch(Model):
    """Tree-structured Parzen estimators (Bergstra et al. 2011), by Optuna: points near the good ones come next."""

    kind: Literal["tpe"]
    trials: int = Field(default=50, ge=1)
    """Points proposed; each costs a trial, a repeated one nothing."""
    startup_trials: int = Field(default=10, ge=1)
    """Random points before the model guides."""
    batch: int = Field(default=1, ge=1)
    """Points proposed at a time: what `runtime.workers` can do at once. More is less guided; changes the result."""


class Nsga2Search(Model):
    """NSGA-II (Deb et al. 2002), by Optuna: evolves a Pareto front of several objectives."""

    kind: Literal["nsga2"]
    trials: int = Field(default=100, ge=1)
    """Points proposed; each costs a trial, a repeated one nothing."""
    population: int = Field(default=20, ge=2)
    """Points a generation, evaluated together. Several generations must fit into `trials`."""


class RacingSearch(Model):
    """Blocks of questions: a configuration is dropped once it is worse than the best so far with confidence.

    Saves where questions are what costs: LLM answers, rerankers. (Plain retrieval scores all questions at once.)
    """

    kind: Literal["racing"]
    trials: int | None = Field(default=None, ge=1)
    """Configurations that start, drawn from the space; null takes all."""
    blocks: int = Field(default=5, ge=2)
    """Parts of the dev questions, so at most as many looks. More drops earlier, each look being stricter."""
    alpha: float = Field(default=0.1, gt=0, lt=1)
    """Chance of dropping a configuration that is not worse than the best, over all its looks (alpha / looks each,
    and shared over the configurations in the race)."""


class HalvingSearch(Model):
    """Successive halving (Jamieson and Talwalkar 2016): the better part goes on to more questions. No test, so the
    best may be dropped by bad luck; it costs a known number of questions."""

    kind: Literal["halving"]
    trials: int | None = Field(default=None, ge=1)
    """Configurations that start, drawn from the space; null takes all."""
    eta: int = Field(default=3, ge=2)
    """One in so many goes on, with so many times the questions. More is cheaper and riskier."""


SearchSettings = Annotated[
    GridSearch | RandomSearch | CoordinateSearch | TpeSearch | Nsga2Search | RacingSearch | HalvingSearch,
    Field(discriminator="kind"),
]


class BudgetSettings(Model):
    """Limits of a sweep, over all its commands; no new trial starts past one. What is finished is kept."""

    trials: int | None = Field(default=None, ge=1)
    """Most trials."""
    minutes: float | None = Field(default=None, gt=0)
    """Most wall-clock time."""
    tokens: int | None = Field(default=None, ge=1)
    """Most tokens that LLMs read and write: contexts, query transforms, reranking, answers, judges. What the cache
    answers costs nothing."""
    money: float | None = Field(default=None, gt=0)
    """Most money for the same, each LLM by its own `price_prompt` and `price_completion`."""


class SweepSettings(Model):
    """`ragladder sweep`: which configurations are tried, by what they are judged, how long."""

    space: dict[str, list[Any]] = {}
    """Axes: a key path below `pipeline` and its values. `<section>.kind` takes another component with its defaults."""
    when: dict[str, dict[str, Any]] = {}
    """Conditional axes: axis: {key path: value or list of values}. Elsewhere the axis is left out."""
    objectives: tuple[str, ...] = Field(default=("evidence_recall@2000c",), min_length=1)
    """Metrics, or measures such as `context_tokens` and `latency_p95`. The first ranks; several give a Pareto front."""
    constraints: tuple[str, ...] = ()
    """Comparisons that a configuration must meet: of settings (`chunk.overlap < chunk.size / 2`: checked before it
    costs anything) or of measures and metrics (`context_tokens <= 2000`: checked after its trial)."""
    search: SearchSettings = GridSearch()
    """Which points are tried."""
    budget: BudgetSettings = BudgetSettings()
    """When no new trial starts."""
    trial_timeout_s: float | None = Field(default=None, gt=0)
    """Most seconds of a trial, what it computes for others included; then it is recorded as `timeout`."""
    questions: Literal["dev", "dev+test"] = "dev"
    """Which questions score the configurations. `dev+test` is for teams with too few for a split, with a grid or a
    random search, whose comparison with the pipeline as configured is corrected for their number. It costs the scoring
    of the test questions, and uses them up: a climb from the winner has no fresh test questions left."""
    seed: int | None = None
    """Of the search; the experiment's where not set."""
    latency_questions: int = Field(default=40, ge=5)
    """Dev questions timed one by one where a latency is asked for. More is steadier and takes longer."""

    def constrained(self) -> tuple[str, ...]:
        """What the constraints name: settings, metrics, measures."""
        return tuple(dict.fromkeys(name for text in self.constraints for name in Constraint.parse(text).names))

    @field_validator("space")
    @classmethod
    def _has_values(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        empty = [axis for axis, values in value.items() if not values]
        if empty:
            raise ValueError(f"no values for {', '.join(empty)}")
        return value

    @field_validator("constraints")
    @classmethod
    def _parsed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Constraint.parse(text)
        return value

    @model_validator(mode="after")
    def _fits(self) -> SweepSettings:
        strange = [axis for axis in self.when if axis not in self.space]
        if strange:
            raise ValueError(f"when: {', '.join(strange)}: no such axis in space")
        twice = sorted({name for name in self.objectives if self.objectives.count(name) > 1})
        if twice:
            raise ValueError(f"objectives: {', '.join(twice)} stands twice")
        if self.questions != "dev" and self.search.kind not in CORRECTED:
            raise ValueError(
                f"questions '{self.questions}' needs search grid or random: of a search that follows the scores, as "
                f"{self.search.kind} does, no test would be left; leave it at dev, and climb from the winner"
            )
        if self.search.kind == "nsga2" and len(self.objectives) < 2:
            raise ValueError("search nsga2 needs two objectives or more")
        if self.search.kind in ("racing", "halving"):
            costs = [name for name in self.objectives[:1] if lower_is_better(name)]
            if costs:
                raise ValueError(f"search {self.search.kind} compares questions: '{costs[0]}' cannot come first")
        return self
