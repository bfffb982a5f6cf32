"""Before any training: the best prompt of dev, a candidate of its own, and what a stronger LLM would reach with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core.errors import BudgetError, RagladderError, UnreachableError
from ..config import PipelineConfig, with_changes
from ..llm_settings import LLMRungSettings
from ..records import EstimateRecord
from ..scoring import clusters, estimates
from ..workbench import Workbench
from .base import Proposal, RungContext, Trial
from .llm_data import base_folder

__all__ = ["PromptSearch", "best_prompt", "dev_estimate", "propose_prompt", "reference_estimate", "scored_enough"]

PASSES = 2  # rounds over the axes, so that settings that only pay together are found


@dataclass(frozen=True)
class PromptSearch:
    """What prompting reaches.

    Attributes:
        pipeline: With the best prompt on dev; the incumbent itself where none beats it.
        changes: Settings that differ from the incumbent's.
        trials: Everything that was tried.
        estimate: The pipeline's metric on dev.
    """

    pipeline: PipelineConfig
    changes: dict[str, Any]
    trials: tuple[Trial, ...]
    estimate: EstimateRecord


def propose_prompt(context: RungContext, settings: LLMRungSettings) -> Proposal:
    """Proposes the best prompt of dev: what an adapter has to beat, at no training.

    Args:
        context: The incumbent, whose generator must be an LLM on this machine.
        settings: Axes and metric.

    Raises:
        ConfigError: The LLM is behind an endpoint, or has an adapter already.
        BudgetError: The time is used up.
    """
    metric = settings.metric or context.bench.config.score.answer_metric
    base_folder(context.bench, context.incumbent)  # what cannot be finetuned is heard of before hours of answers
    found = best_prompt(context, settings, metric)
    details: dict[str, Any] = {"tried": len(found.trials)}
    failed = [f"{trial.axis} = {trial.value}: {trial.error}" for trial in found.trials if trial.status == "failed"]
    if failed:
        details["warnings"] = failed
    if not found.changes:
        reason = f"none of {len(found.trials)} prompts beats the incumbent's {metric} of {_mean(found.estimate)} on dev"
        return Proposal(None, metric, reason, found.trials, details)
    reason = f"the best of {len(found.trials)} prompts on dev: {_mean(found.estimate)} {metric}"
    return Proposal(found.pipeline, metric, reason, found.trials, details)


def _mean(estimate: EstimateRecord) -> str:
    return f"{estimate.mean or 0.0:.3f}"


def dev_estimate(bench: Workbench, pipeline: PipelineConfig, metric: str) -> EstimateRecord:
    """A pipeline's mean on dev with its interval."""
    scores = bench.evaluate(pipeline, "dev").scores
    return estimates(
        [score for score in scores if score.metric == metric], clusters(bench.questions), bench.config.seed
    )[metric]


def scored_enough(bench: Workbench, estimate: EstimateRecord) -> bool:
    """Whether so few scores are missing that the gate would decide; the mean of what else is left flatters."""
    return not bench.config.gate.too_many_missing(estimate.n - estimate.n_ok, estimate.n)


def best_prompt(context: RungContext, settings: LLMRungSettings, metric: str) -> PromptSearch:
    """Tries the axes of `settings.prompts`, one at a time, the best value kept; ties go to what was there.

    A prompt with more missing scores than the gate allows is shown, and never the best.

    Args:
        context: The incumbent.
        settings: The axes.
        metric: What is maximised on dev.

    Raises:
        BudgetError: The time is used up.
    """
    bench = context.bench
    best = dev_estimate(bench, context.incumbent, metric)
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
                reached = trial.estimate
                if reached is None or not scored_enough(bench, reached):
                    continue
                if (reached.mean or 0.0) > (best.mean or 0.0):
                    changes, best = trial.changes, reached
        if changes == before:
            break
    pipeline = with_changes(context.incumbent, changes) if changes else context.incumbent
    if trials:
        how = ", ".join(f"{key} = {value}" for key, value in changes.items()) or "the incumbent's stays"
        context.note(f"  best prompt of {len(trials)} tried: {how}: {metric} {_mean(best)} on dev")
    return PromptSearch(pipeline, changes, tuple(trials), best)


def reference_estimate(
    context: RungContext, pipeline: PipelineConfig, settings: LLMRungSettings, metric: str
) -> EstimateRecord | None:
    """What the stronger LLM reaches on dev with a pipeline's prompt; None where none is configured."""
    if settings.reference is None:
        return None
    context.check_budget()
    stronger = with_changes(pipeline, {"generate.llm": settings.reference.model_dump(mode="json")})
    reference = dev_estimate(context.bench, stronger, metric)
    context.bench.release(stronger.generate)
    context.note(f"  the reference LLM with the same prompt: {metric} {_mean(reference)} on dev")
    return reference


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
    if estimate is not None and estimate.n_ok < estimate.n:
        shown += f" ({estimate.n - estimate.n_ok} of {estimate.n} scores missing)"
    context.note(f"  prompt {len(tried)}: {axis} = {value}: {shown}")
    return trial
