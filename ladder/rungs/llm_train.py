"""The LLM rung's trainings as stages: one adapter, the search around it, the learning curve, preference tuning."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.cache import digest
from ...core.devices import fingerprint
from ...core.memory import release_memory
from ...core.store import Stage
from ...eval.statistics import mean_interval
from ...llm_ft.curve import CurveSettings, advise, doubling_gains, share_of
from ...llm_ft.examples import Example
from ...llm_ft.forgetting import Forgetting, ForgettingSettings, general_prompts, measure_forgetting
from ...llm_ft.model_card import write_model_card
from ...llm_ft.preference import train_preferences
from ...llm_ft.preference_data import Preference, PreferenceSettings
from ...llm_ft.search import SearchTrial, advise_next, best_trial
from ...llm_ft.settings import LoraSettings
from ...llm_ft.train import train_lora
from ..config import PipelineConfig, with_changes
from ..llm_settings import LLMRungSettings
from ..scoring import clusters
from ..workbench import Workbench
from .base import RungContext
from .llm_data import LoraData

__all__ = ["forgetting_stage", "learning_curve", "lora_stage", "preference_stage", "searched", "weights_bytes"]


def lora_stage(bench: Workbench, data: LoraData, settings: LLMRungSettings) -> Stage[dict[str, Any]]:
    """The training as a stage: its folder gets `adapter/`, its result is the `LoraResult` as JSON values.

    Args:
        bench: Device and stages.
        data: From `lora_data`; its report is not looked at.
        settings: Training.
    """
    base, train, dev = data.base, data.train, data.dev
    params = {
        "base": fingerprint(base),
        "settings": settings.train.model_dump(mode="json"),
        "train": digest([_content(example) for example in train.examples]),
        "dev": digest([_content(example) for example in dev.examples]),
        # bf16 on a GPU and fp32 on a CPU are not the same training.
        "device": bench.resources.device.split(":")[0],
    }

    def build(out: Path) -> None:
        # Outside the stage's temporary folder, so that checkpoints survive a kill.
        work = bench.resources.cache_dir / "training" / f"llm-{digest(params)[:20]}"
        bench.release_models()
        result = train_lora(base, train.examples, dev.examples, settings.train, work, bench.resources, bench.reporter)
        write_model_card(_model_name(base), result, settings.train, data.report)
        shutil.copytree(work / "adapter", out / "adapter")
        _order_names(out / "adapter" / "adapter_config.json")
        (out / "result.json").write_text(result.model_dump_json(indent=1, exclude={"adapter"}))
        shutil.rmtree(work, ignore_errors=True)
        release_memory()

    return Stage("llm-train", params, build, lambda out: json.loads((out / "result.json").read_text()))


def searched(context: RungContext, data: LoraData, settings: LLMRungSettings) -> tuple[LoraSettings, list[SearchTrial]]:
    """The best settings by dev loss, from those of `train` on; one trial alone where no search is configured.

    Raises:
        BudgetError: The time is used up.
    """
    chosen, why = settings.train, "the settings of rungs.llm.train"
    trials: list[SearchTrial] = []
    while True:
        context.check_budget()
        stage = lora_stage(context.bench, data, settings.model_copy(update={"train": chosen}))
        trials.append(SearchTrial(chosen, why, context.bench.get(stage)))
        if settings.search is None:
            return chosen, trials
        shown = f"learning_rate {chosen.learning_rate:g}, epochs {chosen.epochs}: dev loss {trials[-1].dev_loss:.4f}"
        context.note(f"  search {len(trials)}: {shown} ({why})")
        following = advise_next(trials, settings.search)
        if following is None:
            return best_trial(trials).settings, trials
        chosen, why = following


def learning_curve(
    context: RungContext, pipeline: PipelineConfig, data: LoraData, settings: LLMRungSettings, metric: str
) -> dict[str, Any]:
    """Trains on shares of the questions, and predicts what doubling them would bring.

    Args:
        context: For stages and notes.
        pipeline: With the prompt that is trained, without an adapter.
        data: All of it.
        settings: Shares, and the training that was chosen for all.
        metric: What is predicted.

    Returns:
        `points`, `gain` of doubling with `low` and `high`, `advice` and `reason`, as JSON values.

    Raises:
        BudgetError: The time is used up.
    """
    bench, curve = context.bench, settings.curve or CurveSettings()
    usable = {example.question_id for example in data.train.examples}
    questions = [question for question in bench.split("train") if question.id in usable]
    points, scores = [], []
    for share in (*curve.shares, 1.0):
        context.check_budget()
        chosen = share_of(questions, share, bench.config.seed)
        part = data if share == 1.0 else data.share({question.id for question in chosen})
        stage = lora_stage(bench, part, settings)
        result = bench.get(stage)
        candidate = with_changes(pipeline, {"generate.llm.adapter": str(bench.store.folder(stage) / "adapter")})
        values = bench.evaluate(candidate, "dev").values(metric)
        bench.release(candidate.generate)
        there = [value for value in values.values() if value is not None]
        mean = sum(there) / len(there) if there else None
        point = {"share": share, "questions": len(chosen), "examples": result["examples"], metric: mean}
        points.append({**point, "dev_loss": result["best_dev_loss"]})
        scores.append((len(chosen), values))
        context.note(f"  learning curve: {len(chosen)} questions: {metric} {mean or 0.0:.4f} on dev")
    return {"points": points, **_predicted(bench, scores, curve, points[-1][metric])}


def _predicted(
    bench: Workbench, scores: Sequence[tuple[int, Any]], curve: CurveSettings, reached: float | None
) -> dict[str, Any]:
    if len({count for count, _ in scores}) < 2:
        reason = "the shares hold equally many train questions: there are too few for a curve"
        return {"gain": None, "low": None, "high": None, "advice": "unclear", "reason": reason}
    gains = doubling_gains(scores)
    groups = clusters(bench.questions)
    estimate = mean_interval(list(gains.values()), [groups.get(q, q) for q in gains], seed=bench.config.seed)
    low, high = (None if math.isnan(bound) else bound for bound in (estimate.low, estimate.high))
    target = bench.config.gate.target
    met = target is not None and reached is not None and reached >= target
    advice, reason = advise(estimate.mean, low, high, curve.worthwhile, met)
    return {"gain": estimate.mean, "low": low, "high": high, "advice": advice, "reason": reason}


def preference_stage(
    bench: Workbench,
    base: Path,
    adapter: Path,
    rows: Sequence[Preference],
    settings: PreferenceSettings,
    lora: LoraSettings,
) -> Stage[dict[str, Any]]:
    """Preference tuning as a stage: its folder gets `adapter/`, its result is the `PreferenceResult` as JSON values."""
    content = [[[[m.role, m.content] for m in row.messages], row.chosen, row.rejected] for row in rows]
    params = {
        "base": fingerprint(base),
        "adapter": fingerprint(adapter),
        "settings": settings.model_dump(mode="json", exclude={"data"}),
        "lora": lora.model_dump(mode="json"),
        "rows": digest(content),
        "device": bench.resources.device.split(":")[0],
    }

    def build(out: Path) -> None:
        # Outside the stage's temporary folder, so that checkpoints survive a kill.
        work = bench.resources.cache_dir / "training" / f"llm-preference-{digest(params)[:20]}"
        bench.release_models()
        train_preferences(base, adapter, rows, settings, lora, work, bench.resources, bench.reporter)
        for name in ("adapter", "preference.json"):
            shutil.move(work / name, out / name)
        shutil.rmtree(work, ignore_errors=True)
        _order_names(out / "adapter" / "adapter_config.json")
        release_memory()

    return Stage("llm-preference", params, build, lambda out: json.loads((out / "preference.json").read_text()))


def forgetting_stage(bench: Workbench, base: Path, adapter: Path, settings: ForgettingSettings) -> Stage[Forgetting]:
    """What an adapter makes its base forget, as a stage."""
    prompts = general_prompts(settings, bench.resources)

    def build(out: Path) -> None:
        found = measure_forgetting(base, adapter, prompts, settings, bench.resources)
        (out / "forgetting.json").write_text(found.model_dump_json(indent=1))
        release_memory()

    params = {
        "base": fingerprint(base),
        "adapter": fingerprint(adapter),
        "prompts": digest(list(prompts)),
        "max_tokens": settings.max_tokens,
    }
    return Stage(
        "llm-forgetting",
        params,
        build,
        lambda out: Forgetting.model_validate_json((out / "forgetting.json").read_text()),
    )


def weights_bytes(folder: Path) -> int:
    """Size of a model's weights on disk, which orders sizes without loading any."""
    found = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return sum(path.stat().st_size for path in found)


def _model_name(folder: Path) -> str:
    """The base as readers know it: the hub's name of a cached snapshot, else the folder's name."""
    if folder.parent.name == "snapshots":
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/")
    return folder.name


def _order_names(path: Path) -> None:
    """Sorts the layers' names, which peft writes in the order of a set: equal trainings give equal fingerprints."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _content(example: Example) -> list[Any]:
    return [[[m.role, m.content] for m in example.messages], example.completion]
