"""Rung 1: a sweep over retrieval knobs.

Axes that change what is retrieved are chosen by the rung's retrieval metric; axes that only change the answer (prompt,
generator, how many chunks it reads) by the answer metric, after the others. All on dev. How trials are scored, and what
they share, is the sweep's (see ladder/sweep).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any

from ...core.errors import RagladderError, StageError
from ...core.types import Score
from ..config import PipelineConfig, RetrievalRungSettings, with_changes
from ..scoring import clusters, estimates
from ..sweep.evaluate import Evaluator, Outcome, Task, needs_of
from ..sweep.search import coordinate_points
from ..sweep.space import key_of, merged, needed
from ..words import compact
from .base import Proposal, RungContext, Trial

__all__ = ["changes_answers_only", "propose_retrieval"]

Point = dict[str, Any]
Asked = tuple[str, Any, Point]
"""Axis that is varied, its value, all changes."""


def changes_answers_only(axis: str) -> bool:
    """True for axes that leave the ranking of chunks as it is."""
    return axis == "retrieve.top_k" or axis.split(".")[0] == "generate"


def propose_retrieval(context: RungContext, settings: RetrievalRungSettings) -> Proposal:
    """Sweeps the space of the config.

    Args:
        context: The incumbent and the workbench.
        settings: Space and search.

    Returns:
        The best pipeline on dev, or no candidate where none beats the incumbent.

    Raises:
        BudgetError: The time is used up.
        StageError: The incumbent itself cannot be scored.
    """
    first = {axis: values for axis, values in settings.space.items() if not changes_answers_only(axis)}
    then = {axis: values for axis, values in settings.space.items() if changes_answers_only(axis)}
    answer_metric = context.bench.config.score.answer_metric
    trials: list[Trial] = []
    chosen: Point = {}
    for axes, objective in ((first, settings.metric), (then, answer_metric)):
        if axes:
            chosen = _Phase(context, settings, objective, trials).best(axes, chosen)
    failed = sum(trial.status == "failed" for trial in trials)
    details = {"trials": len(trials), "failed": failed, "search": settings.search, "chosen": chosen}
    metric = settings.metric if any(axis in first for axis in chosen) else answer_metric
    if not chosen:
        reason = f"none of {len(trials)} trials beat the incumbent on dev"
        return Proposal(None, metric, reason, tuple(trials), details)
    reason = f"the best of {len(trials)} trials on dev"
    return Proposal(with_changes(context.incumbent, chosen), metric, reason, tuple(trials), details)


class _Phase:
    """Axes that one objective chooses."""

    def __init__(
        self, context: RungContext, settings: RetrievalRungSettings, objective: str, trials: list[Trial]
    ) -> None:
        self._context = context
        self._settings = settings
        self._objective = objective
        self._trials = trials
        self._evaluator = Evaluator(context.bench, needs_of([objective]))
        self._known: dict[str, tuple[float, Point]] = {}

    def best(self, axes: Mapping[str, list[Any]], chosen: Point) -> Point:
        """The best changes found, starting from those chosen before; ties go to the earlier ones."""
        if self._settings.search == "coordinate":
            passes = self._settings.passes
            walk = coordinate_points(axes, chosen, passes, lambda point, axis, value: merged(point, {axis: value}))
            batch = next(walk)
            while True:
                try:
                    batch = walk.send([self._try(*asked) for asked in batch])
                except StopIteration as done:
                    return done.value
        points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        if self._settings.search == "random":
            random.Random(self._context.bench.config.seed).shuffle(points)
        asked: list[Asked] = [("start", None, chosen)]
        asked += [("grid", None, merged(chosen, point)) for point in points[: self._settings.trials]]
        return max([self._try(*one) for one in asked], key=lambda result: result[0])[1]

    def _try(self, axis: str, value: Any, changes: Point) -> tuple[float, Point]:
        """The objective, minus infinity where there is none, and the changes that are needed for it."""
        self._context.check_budget()
        incumbent = self._context.incumbent
        try:
            pipeline = with_changes(incumbent, changes)
        except RagladderError as error:
            self._record(Trial(axis, value, changes, self._objective, None, "failed", str(error)))
            return float("-inf"), changes
        key = pipeline.model_dump_json()
        if key not in self._known:
            changes = needed(incumbent, changes, pipeline)
            outcome = self._evaluator.score(Task(key_of(pipeline), pipeline))
            self._record(self._trial(axis, value, changes, outcome))
            if axis == "start" and outcome.status != "ok":
                raise StageError(f"the incumbent cannot be scored: {outcome.error}")
            if outcome.status == "ok":
                self._warn_of_lost_documents(pipeline)
            self._known[key] = (self._reached(outcome), changes)
        return self._known[key]

    def _reached(self, outcome: Outcome) -> float:
        """The objective; minus infinity where so many scores are missing that the rest flatters."""
        score = outcome.value(self._objective)
        missing, asked = outcome.missing(self._objective)
        if score is not None and not self._context.bench.config.gate.too_many_missing(missing, asked):
            return score
        if missing:
            self._context.note(f"  not a choice: {missing} of {asked} scores are missing")
        return float("-inf")

    def _trial(self, axis: str, value: Any, changes: Point, outcome: Outcome) -> Trial:
        seconds = round(sum(outcome.stage_seconds.values()), 3)
        if outcome.status != "ok":
            return Trial(axis, value, changes, self._objective, None, "failed", outcome.error, seconds)
        questions, metric = self._evaluator.questions, self._objective
        scores = [
            Score(questions[place].id, metric, one, "ok" if one is not None else "judge_error")
            for place, one in zip(outcome.applies[metric], outcome.values[metric], strict=True)
        ]
        found = estimates(scores, clusters(questions), self._context.bench.config.seed)
        return Trial(axis, value, changes, metric, found.get(metric), seconds=seconds)

    def _warn_of_lost_documents(self, pipeline: PipelineConfig) -> None:
        bench = self._context.bench
        failures = bench.get(bench.documents_stage(pipeline)).failures
        known = bench.get(bench.documents_stage(self._context.incumbent)).failures
        if len(failures) > len(known):
            first = failures[0]
            self._context.note(
                f"  warning: {len(failures)} documents cannot be parsed here, {len(known)} with the incumbent; "
                f"for instance {first.doc_id}: {first.reason}"
            )

    def _record(self, trial: Trial) -> None:
        self._trials.append(trial)
        mean = trial.estimate.mean if trial.estimate else None
        shown = f"{mean:.4f}" if mean is not None else trial.error or "no score"
        what = trial.axis if trial.value is None else f"{trial.axis} = {compact(trial.value)}"
        self._context.note(f"  trial {len(self._trials)}: {what}: {trial.objective} {shown}")
