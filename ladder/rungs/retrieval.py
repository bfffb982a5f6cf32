"""Rung 1: a sweep over retrieval knobs.

Axes that change what is retrieved are chosen by the rung's retrieval metric; axes that only change the answer (prompt,
generator, how many chunks it reads) by the answer metric, after the others. All on dev.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

from ...core.errors import BudgetError, RagladderError
from ..config import PipelineConfig, RetrievalRungSettings, with_changes
from ..scoring import clusters, estimates
from .base import Proposal, RungContext, Trial

__all__ = ["changes_answers_only", "propose_retrieval"]


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
    """
    sweep = _Sweep(context, settings)
    first = {axis: values for axis, values in settings.space.items() if not changes_answers_only(axis)}
    then = {axis: values for axis, values in settings.space.items() if changes_answers_only(axis)}
    answer_metric = context.bench.config.score.answer_metric
    chosen: dict[str, Any] = {}
    for axes, objective in ((first, settings.metric), (then, answer_metric)):
        if axes:
            chosen = sweep.run(axes, objective, chosen)
    failed = sum(trial.status == "failed" for trial in sweep.trials)
    details = {"trials": len(sweep.trials), "failed": failed, "search": settings.search, "chosen": chosen}
    metric = settings.metric if any(axis in first for axis in chosen) else answer_metric
    if not chosen:
        reason = f"none of {len(sweep.trials)} trials beat the incumbent on dev"
        return Proposal(None, metric, reason, tuple(sweep.trials), details)
    reason = f"the best of {len(sweep.trials)} trials on dev"
    return Proposal(with_changes(context.incumbent, chosen), metric, reason, tuple(sweep.trials), details)


class _Sweep:
    def __init__(self, context: RungContext, settings: RetrievalRungSettings) -> None:
        self.context = context
        self.settings = settings
        self.trials: list[Trial] = []
        self._known: dict[tuple[str, str], Trial] = {}

    def run(self, axes: dict[str, list[Any]], objective: str, chosen: dict[str, Any]) -> dict[str, Any]:
        """The best changes found, starting from those chosen before."""
        best = self._try("start", None, chosen, objective)
        if self.settings.search == "coordinate":
            for _ in range(self.settings.passes):
                before = best
                for axis, values in axes.items():
                    trials = [self._try(axis, v, _merged(best.changes, {axis: v}), objective) for v in values]
                    best = max([best, *trials], key=_mean)
                if best is before:
                    break
            return best.changes
        points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        if self.settings.search == "random":
            random.Random(self.context.bench.config.seed).shuffle(points)
        points = points[: self.settings.trials]
        trials = [self._try("grid", None, _merged(chosen, point), objective) for point in points]
        return max([best, *trials], key=_mean).changes

    def _try(self, axis: str, value: Any, changes: dict[str, Any], objective: str) -> Trial:
        self.context.check_budget()
        incumbent = self.context.incumbent
        try:
            pipeline = with_changes(incumbent, changes)
        except RagladderError as error:
            return self._record(Trial(axis, value, changes, objective, None, "failed", str(error)))
        key = (pipeline.model_dump_json(), objective)
        if key in self._known:
            return self._known[key]
        changes = _needed(incumbent, changes, pipeline)
        trial = self._record(self._score(axis, value, changes, objective, pipeline))
        self._known[key] = trial
        return trial

    def _score(self, axis: str, value: Any, changes: dict[str, Any], objective: str, pipeline: PipelineConfig) -> Trial:
        bench = self.context.bench
        questions = bench.split("dev")
        with bench.meter() as meter:
            try:
                if objective == bench.config.score.answer_metric:
                    scores = bench.evaluate(pipeline, "dev").scores
                else:
                    scores = bench.retrieval_scores(pipeline, questions, bench.retrieve(pipeline, questions))
            except BudgetError:
                raise
            except RagladderError as error:
                return Trial(axis, value, changes, objective, None, "failed", str(error))
        failures = bench.get(bench.documents_stage(pipeline)).failures
        known = bench.get(bench.documents_stage(self.context.incumbent)).failures
        if len(failures) > len(known):
            first = failures[0]
            self.context.note(
                f"  warning: {len(failures)} documents cannot be parsed here, {len(known)} with the incumbent; "
                f"for instance {first.doc_id}: {first.reason}"
            )
        chosen = [score for score in scores if score.metric == objective]
        estimate = estimates(chosen, clusters(questions), bench.config.seed).get(objective)
        return Trial(axis, value, changes, objective, estimate, seconds=round(sum(meter.seconds.values()), 3))

    def _record(self, trial: Trial) -> Trial:
        self.trials.append(trial)
        shown = (
            f"{trial.estimate.mean:.4f}"
            if trial.estimate and trial.estimate.mean is not None
            else trial.error or "no score"
        )
        what = trial.axis if trial.value is None else f"{trial.axis} = {trial.value}"
        self.context.note(f"  trial {len(self.trials)}: {what}: {trial.objective} {shown}")
        return trial


def _merged(before: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Changes with new ones put over them: what stands below a replaced section goes."""
    kept = {k: v for k, v in before.items() if not any(k == axis or k.startswith(f"{axis}.") for axis in new)}
    return {**kept, **new}


def _needed(incumbent: PipelineConfig, changes: dict[str, Any], pipeline: PipelineConfig) -> dict[str, Any]:
    """The changes without those that change nothing."""
    needed = dict(changes)
    for key in changes:
        rest = {k: v for k, v in needed.items() if k != key}
        try:
            if with_changes(incumbent, rest) == pipeline:
                needed = rest
        except RagladderError:  # the others do not stand without this one: it is needed
            continue
    return needed


def _mean(trial: Trial) -> float:
    """Ties go to the earlier trial: `max` keeps the first."""
    return trial.estimate.mean if trial.estimate and trial.estimate.mean is not None else float("-inf")
