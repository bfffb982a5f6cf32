"""Before any training: what the best prompt reaches on dev, and what a stronger LLM would reach with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core.errors import BudgetError, RagladderError, UnreachableError
from ..config import PipelineConfig, with_changes
from ..llm_settings import LLMRungSettings
from ..records import EstimateRecord
from ..scoring import clusters, estimates
from ..workbench import Workbench
from .base import RungContext, Trial

__all__ = ["PromptSearch", "best_prompt", "dev_estimate"]

PASSES = 2  # rounds over the axes, so that settings that only pay together are found


@dataclass(frozen=True)
class PromptSearch:
    """What prompting reaches.

    Attributes:
        pipeline: With the best prompt on dev; the incumbent itself where none beats it.
        changes: Settings that differ from the incumbent's.
        trials: Everything that was tried.
        estimate: The pipeline's metric on dev.
        reference: That of the stronger LLM with the same prompt; None where none is configured.
    """

    pipeline: PipelineConfig
    changes: dict[str, Any]
    trials: tuple[Trial, ...]
    estimate: EstimateRecord
    reference: EstimateRecord | None


def dev_estimate(bench: Workbench, pipeline: PipelineConfig, metric: str) -> EstimateRecord:
    """A pipeline's mean on dev with its interval."""
    scores = bench.evaluate(pipeline, "dev").scores
    return estimates(
        [score for score in scores if score.metric == metric], clusters(bench.questions), bench.config.seed
    )[metric]


def best_prompt(context: RungContext, settings: LLMRungSettings, metric: str) -> PromptSearch:
    """Tries the axes of `settings.prompts`, one at a time, the best value kept; ties go to what was there.

    Args:
        context: The incumbent.
        settings: Axes, and the stronger LLM.
        metric: What is maximised on dev.

    Raises:
        BudgetError: The time is used up.
    """
    bench, best = context.bench, dev_estimate(context.bench, context.incumbent, metric)
    changes: dict[str, Any] = {}
    trials: list[Trial] = []
    tried: dict[str, Trial] = {}
    for _ in range(PASSES if settings.prompts else 0):
        before = dict(changes)
        for axis, values in settings.prompts.items():
            for value in values:
                trial = _try(context, {**changes, axis: value}, axis, value, metric, tried)
                if trial is None:
                    continue
                trials.append(trial)
                if trial.estimate is not None and (trial.estimate.mean or 0.0) > (best.mean or 0.0):
                    changes, best = trial.changes, trial.estimate
        if changes == before:
            break
    pipeline = with_changes(context.incumbent, changes) if changes else context.incumbent
    if trials:
        how = ", ".join(f"{key} = {value}" for key, value in changes.items()) or "the incumbent's stays"
        context.note(f"  best prompt of {len(trials)} tried: {how}: {metric} {best.mean or 0.0:.3f} on dev")
    reference = None
    if settings.reference is not None:
        context.check_budget()
        stronger = with_changes(pipeline, {"generate.llm": settings.reference.model_dump(mode="json")})
        reference = dev_estimate(bench, stronger, metric)
        bench.release(stronger.generate)
        context.note(f"  the reference LLM with the same prompt: {metric} {reference.mean or 0.0:.3f} on dev")
    return PromptSearch(pipeline, changes, tuple(trials), best, reference)


def _try(
    context: RungContext, changes: dict[str, Any], axis: str, value: Any, metric: str, tried: dict[str, Trial]
) -> Trial | None:
    """The trial; None where the same pipeline was tried, or is the incumbent."""
    context.check_budget()
    bench = context.bench
    try:
        pipeline = with_changes(context.incumbent, changes)
    except RagladderError as error:
        return Trial(axis, value, changes, metric, None, "failed", str(error))
    key = pipeline.model_dump_json()
    if key in tried or pipeline == context.incumbent:
        return None
    with bench.meter() as meter:
        try:
            estimate, status, error_text = dev_estimate(bench, pipeline, metric), "ok", ""
        except (BudgetError, UnreachableError):
            raise
        except RagladderError as error:
            estimate, status, error_text = None, "failed", str(error)
    bench.release(pipeline.generate)  # each prompt's reader holds a model of its own
    seconds = round(sum(meter.seconds.values()), 3)
    trial = Trial(axis, value, changes, metric, estimate, status, error_text, seconds)
    tried[key] = trial
    shown = error_text if estimate is None else f"{metric} {estimate.mean or 0.0:.4f}"
    context.note(f"  prompt {len(tried)}: {axis} = {value}: {shown}")
    return trial
