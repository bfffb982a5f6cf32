"""Rung 3: LoRA finetuning of the LLM on the train questions, seen through the tuned retriever and the best prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ...core.memory import release_memory
from ...llm_ft.forgetting import ForgettingSettings
from ...llm_ft.preference_data import PreferenceSettings
from ...llm_ft.search import SearchTrial
from ...llm_ft.settings import LoraSettings
from ..config import PipelineConfig, with_changes
from ..llm_settings import LLMRungSettings
from ..records import EstimateRecord
from ..scoring import evaluate_fully
from ..workbench import Evaluation, Workbench
from .base import Proposal, RungContext
from .llm_after import on_test, side_by_side, told
from .llm_data import LoraData, base_folder, edge_cases, lora_data, preferences, trained_prompt
from .llm_prompts import dev_estimate, reference_estimate, scored_enough
from .llm_train import (
    forgetting_stage,
    learning_curve,
    lora_stage,
    preference_stage,
    searched,
    weights_bytes,
)

__all__ = ["LoraData", "lora_data", "lora_stage", "propose_llm", "trained_prompt"]


@dataclass(frozen=True)
class _Attempt:
    """An adapter of one base model.

    Attributes:
        model: The base's name in the config.
        size: Bytes of its weights.
        before: The base with the incumbent's prompt, on dev.
        after: With the adapter, on dev.
        plain: The pipeline with the prompt that was trained, without the adapter.
        candidate: With the adapter.
        adapter: Its folder.
        data: What it was trained on.
        settings: What it was trained with, after the search.
        trials: Of the search.
        result: The `LoraResult` as JSON values.
        preference: The `PreferenceResult`; None without preference tuning.
    """

    model: str
    size: int
    before: EstimateRecord
    after: EstimateRecord
    plain: PipelineConfig
    candidate: PipelineConfig
    adapter: Path
    data: LoraData
    settings: LLMRungSettings
    trials: tuple[SearchTrial, ...]
    result: dict[str, Any]
    preference: dict[str, Any] | None


def propose_llm(context: RungContext, settings: LLMRungSettings) -> Proposal:
    """Trains an adapter on the incumbent's prompt, and proposes it where it is better on dev.

    Args:
        context: The incumbent, whose generator must be an LLM on this machine; with the best prompt, where one was
            adopted.
        settings: Data and training.

    Raises:
        ConfigError: The LLM is behind an endpoint, or has an adapter already.
        DataError: The training data fails its checks.
        BudgetError: The time is used up.
    """
    bench = context.bench
    metric = settings.metric or bench.config.score.answer_metric
    base_folder(bench, context.incumbent)
    if not settings.prompts:
        context.note("  rungs.llm.prompts is empty: the prompt stays as it is, and is what an adapter has to beat")
    reference = reference_estimate(context, context.incumbent, settings, metric)
    prompted = bench.evaluate(context.incumbent, "dev")
    edge = edge_cases(bench, prompted)
    context.note(f"  edge cases left by the prompt: {len(edge)} of {len(prompted.questions)} dev questions")
    attempts = _attempts(context, settings, metric)
    best = _smallest_enough(attempts, _target(bench, settings))
    # Judged too, where a judge is set: its verdicts stand beside the answers.
    prompted, finetuned = (evaluate_fully(bench, one, "dev") for one in (context.incumbent, best.candidate))
    mended = side_by_side(bench, metric, prompted, finetuned, edge)
    context.note(f"  {told(mended, 'dev', 'the best prompt')}")
    details = {
        "adapter": str(best.adapter),
        "extractive_reader_on_dev": _extractive(context, best, metric),
        **_data_details(best.data),
        **{name: value for name, value in best.result.items() if name != "adapter"},
        **({} if reference is None else {"reference": reference.model_dump(mode="json")}),
        "edge_cases": mended,
        **_further(context, best, attempts, prompted, finetuned, metric),
    }
    before, after = dev_estimate(bench, context.incumbent, metric).mean or 0.0, best.after.mean or 0.0
    if not scored_enough(bench, best.after):
        lost = f"{best.after.n - best.after.n_ok} of {best.after.n} dev answers of the adapter have no score"
        return Proposal(None, metric, lost, details=details, tried=best.candidate)
    if after > before:
        how = "the adapter of the best epoch on dev"
        return Proposal(best.candidate, metric, how, (), details, after=on_test(bench, metric, context.note))
    seen = f"on dev {metric} of the adapter is {after:.3f}, of the base with the best prompt {before:.3f}"
    return Proposal(None, metric, seen, details=details, tried=best.candidate)


# --- trainings --------------------------------------------------------------------------------------------------------


def _attempts(context: RungContext, settings: LLMRungSettings, metric: str) -> list[_Attempt]:
    """An adapter of the pipeline's model, or of each of `sizes` from the smallest up until one meets the target."""
    bench, incumbent = context.bench, context.incumbent
    if not settings.sizes:
        return [_attempt(context, settings, incumbent, metric, dev_estimate(bench, incumbent, metric))]
    target = _target(bench, settings)
    sized = [
        with_changes(incumbent, {"generate.llm.model": name, "generate.llm.revision": None}) for name in settings.sizes
    ]
    sized.sort(key=lambda pipeline: weights_bytes(base_folder(bench, pipeline)))
    attempts: list[_Attempt] = []
    for pipeline in sized:
        before = dev_estimate(bench, pipeline, metric)
        one = _attempt(context, settings, pipeline, metric, before)
        attempts.append(one)
        context.note(
            f"  size {one.model} ({one.size / 2**20:.0f} MiB): {metric} {before.mean or 0.0:.3f} with the prompt, "
            f"{one.after.mean or 0.0:.3f} with an adapter"
        )
        bench.release(pipeline.generate)
        if target is not None and (one.after.mean or 0.0) >= target:
            break
        bench.release(one.candidate.generate)
    return attempts


def _attempt(
    context: RungContext, settings: LLMRungSettings, pipeline: PipelineConfig, metric: str, before: EstimateRecord
) -> _Attempt:
    """Data, search, training, preference tuning and the dev score of one base."""
    bench, plain = context.bench, trained_prompt(pipeline, settings)
    if pipeline.generate.prompt.chain != "none" or pipeline.generate.prompt.output != "text":
        context.note("  the adapter is trained to write the answer itself: without prompt.chain, as plain text")
    data = lora_data(bench, plain, settings)
    if data.curated is not None:
        context.note(f"  {data.curated.summary()}")
    for warning in data.report.warnings:
        context.note(f"  data: warning: {warning.message}")
    data.report.raise_errors()
    asked = len(bench.split("train"))
    context.note(f"  LoRA on {len(data.train.examples)} examples of {asked} train questions")
    for idle in (context.incumbent, pipeline, plain):
        bench.release(idle.generate)  # training needs the memory
    release_memory()
    chosen, trials = searched(context, data, settings)
    settings = settings.model_copy(update={"train": chosen})
    stage = lora_stage(bench, data, settings)
    adapter, preference = bench.store.folder(stage) / "adapter", None
    candidate = with_changes(plain, {"generate.llm.adapter": str(adapter)})
    after = dev_estimate(bench, candidate, metric)
    if settings.preference is not None:
        tuned, preference = _preferred(context, plain, data, settings.preference, chosen, adapter)
        liked = with_changes(plain, {"generate.llm.adapter": str(tuned)})
        score = dev_estimate(bench, liked, metric)
        preference = {**preference, "before": after.mean, "after": score.mean}
        # Ties go to what users liked: that is what it was tuned for.
        if (score.mean or 0.0) >= (after.mean or 0.0):
            adapter, candidate, after = tuned, liked, score
        else:
            context.note(f"  preference tuning lowers {metric} on dev to {score.mean or 0.0:.3f}: it is left out")
    size = weights_bytes(data.base)
    model = pipeline.generate.llm.model
    return _Attempt(
        model,
        size,
        before,
        after,
        plain,
        candidate,
        adapter,
        data,
        settings,
        tuple(trials),
        bench.get(stage),
        preference,
    )


def _preferred(
    context: RungContext,
    plain: PipelineConfig,
    data: LoraData,
    settings: PreferenceSettings,
    lora: LoraSettings,
    adapter: Path,
) -> tuple[Path, dict[str, Any]]:
    """The adapter tuned to the preferences, and the `PreferenceResult` as JSON values."""
    context.check_budget()
    rows = preferences(context.bench, plain, settings)
    stage = preference_stage(context.bench, data.base, adapter, rows, settings, lora)
    result = context.bench.get(stage)
    context.note(f"  {result['method'].upper()} on {result['rows']} preferences")
    return context.bench.store.folder(stage) / "adapter", result


def _smallest_enough(attempts: Sequence[_Attempt], target: float | None) -> _Attempt:
    """The first that meets the target; without one the best, of equal ones the smaller."""
    enough = [one for one in attempts if target is not None and (one.after.mean or 0.0) >= target]
    return enough[0] if enough else max(attempts, key=lambda one: one.after.mean or 0.0)


def _target(bench: Workbench, settings: LLMRungSettings) -> float | None:
    return bench.config.gate.target if settings.size_target is None else settings.size_target


def _extractive(context: RungContext, best: _Attempt, metric: str) -> float | None:
    """The extractive reader's dev mean on the same retrieval: what an LLM has to be worth its cost against."""
    reads = dev_estimate(context.bench, with_changes(best.candidate, {"generate": {"kind": "extractive"}}), metric).mean
    if reads is not None and reads >= (best.after.mean or 0.0):
        context.note(
            f"  note: the extractive reader, which costs nothing, scores {reads:.3f} {metric} on dev on the same "
            f"contexts, the adapter {best.after.mean or 0.0:.3f}"
        )
    return reads


# --- what is recorded -------------------------------------------------------------------------------------------------


def _data_details(data: LoraData) -> dict[str, Any]:
    details: dict[str, Any] = {
        "data": data.report.model_dump(mode="json"),
        "inserted": len(data.train.inserted),
        "without_oracle": len(data.train.without_oracle),
        "trimmed": data.train.trimmed,
    }
    if data.edge:
        details["train_edge_cases"] = list(data.edge)
    if data.curated is not None:
        done = data.curated
        details["teacher"] = {
            "rejected": [list(row) for row in done.rejected],
            **{name: list(getattr(done, name)) for name in ("rewritten", "refused", "failed")},
        }
    return details


def _further(
    context: RungContext,
    best: _Attempt,
    attempts: Sequence[_Attempt],
    prompted: Evaluation,
    finetuned: Evaluation,
    metric: str,
) -> dict[str, Any]:
    """What only some configs ask for."""
    settings: LLMRungSettings = best.settings
    details: dict[str, Any] = {}
    if settings.bake_prompt:
        saved = _prompt_tokens(prompted) - _prompt_tokens(finetuned)
        details["baked"] = {"prompt_tokens_saved": round(saved, 1)}
        context.note(f"  baked prompt: {saved:.0f} tokens fewer a call ({_prompt_tokens(prompted):.0f} before)")
    if settings.search is not None:
        rows = [(t.settings.learning_rate, t.settings.epochs, t.result["best_dev_loss"], t.why) for t in best.trials]
        details["search"] = [
            {"learning_rate": rate, "epochs": epochs, "dev_loss": loss, "why": why} for rate, epochs, loss, why in rows
        ]
    if settings.sizes:
        details["sizes"] = [_size_row(one, metric, one is best) for one in attempts]
    if best.preference is not None:
        details["preference"] = best.preference
    if settings.forgetting is not None:
        details["forgetting"] = _forgotten(context, best, settings.forgetting)
    if settings.curve is not None:
        details["curve"] = learning_curve(context, best.plain, best.data, settings, metric)
        context.note(f"  learning curve: {details['curve']['reason']}")
    return details


def _forgotten(context: RungContext, best: _Attempt, settings: ForgettingSettings) -> dict[str, Any]:
    """What was forgotten, or why it could not be measured: a training is not thrown away for that."""
    context.check_budget()
    try:
        found = context.bench.get(forgetting_stage(context.bench, best.data.base, best.adapter, settings))
    except DataError as error:
        context.note(f"  warning: not measured: {error}")
        return {"error": str(error)}
    warning = "warning: it forgets: " if found.rise > settings.warn_above else ""
    context.note(f"  {warning}{found.sentence()}")
    return {**found.model_dump(mode="json"), "rise": found.rise}


def _size_row(one: _Attempt, metric: str, chosen: bool) -> dict[str, Any]:
    return {
        "model": one.model,
        "bytes": one.size,
        f"{metric}_prompt": one.before.mean,
        f"{metric}_adapter": one.after.mean,
        "chosen": chosen,
    }


def _prompt_tokens(evaluation: Evaluation) -> float:
    """Mean prompt tokens of an answer."""
    return sum(answer.prompt_tokens for answer in evaluation.answers) / max(len(evaluation.answers), 1)
