"""The LLM rung by parts: its prompts, its data, its training, its learning curve, and an adapter's export.

All work on the pipeline of a config as it stands and use the rung's own functions: a training of the same data and
settings is one stage, whether a climb or a command asked for it first. Nothing is adopted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ...core.components import Model
from ...core.progress import Reporter
from ...llm_ft.checks import DataReport
from ...llm_ft.curve import CurveSettings
from ...llm_ft.estimate import CostEstimate, EstimateSettings, estimate_training
from ...llm_ft.examples import Example
from ...llm_ft.export import AdapterExport, ExportFormat, export_adapter
from ..config import ExperimentConfig, LLMRungSettings, PipelineConfig
from ..llm_work import count_work
from ..records import EstimateRecord
from ..rungs.base import RungContext
from ..rungs.llm_data import LoraData, base_folder, edge_cases, lora_data, trained_prompt
from ..rungs.llm_prompts import best_prompt, reference_estimate
from ..rungs.llm_train import learning_curve, lora_stage, searched
from ..workbench import Evaluation, Workbench
from .common import check_new, delivered, finetuning_bench, spread
from .compare_llm import adapter_of

__all__ = [
    "CurveReport",
    "EdgeCase",
    "LLMData",
    "LLMTraining",
    "PromptReport",
    "SampleRow",
    "llm_curve",
    "llm_data",
    "llm_export",
    "llm_prompts",
    "llm_train",
]


class SampleRow(Model):
    """One example as the LLM reads it."""

    question_id: str
    """Which question."""
    kind: Literal["oracle", "abstain"]
    """`oracle` where the prompt holds the evidence."""
    messages: tuple[tuple[str, str], ...]
    """Role and text of each turn of the prompt."""
    completion: str
    """The answer to learn."""


class LLMData(Model):
    """The LoRA examples of a config, and whether they can be trained on."""

    report: DataReport
    """What the checks found: an error stops training."""
    dev_examples: int
    """Examples of the dev questions, which choose the epoch."""
    inserted: int
    """Train questions whose evidence retrieval missed, so that it was put into a prompt."""
    without_oracle: int
    """Answerable train questions without a chunk that answers them; left out."""
    trimmed: int
    """Train examples that lost distractors to fit the window."""
    notes: tuple[str, ...]
    """What had to be decided for the model's tokenizer: no chat template, no pad token."""
    edge_cases: int
    """Train questions that got further examples (`edge_copies`)."""
    teacher: str | None
    """What the teacher did, in a line; None without one."""
    estimate: CostEstimate | None
    """Cost of the training, from a few measured steps; None where it was not asked for, or there are errors."""
    work: tuple[str, ...]
    """What the whole rung takes at most, prompts, search and learning curve included, in lines."""
    samples: tuple[SampleRow, ...]
    """As many as asked for, evenly spread over all."""


class LLMTraining(Model):
    """A training of an adapter."""

    adapter: str
    """Folder of the adapter; `peft.PeftModel.from_pretrained` loads it."""
    prompt_changes: dict[str, Any]
    """Key paths and values by which the prompt it was trained with, and has to answer with, differs from the config's
    (`bake_prompt`); empty where it is the config's."""
    before: float | None
    """Dev loss of the base a completion token."""
    after: float | None
    """Dev loss of the adapter, of its best epoch."""
    improved: bool
    """Whether the dev loss fell. Whether answers are better is for `ragladder eval` to say."""
    reused: bool
    """True where an earlier command or climb had trained it."""
    searched: int
    """Trainings of the search; 1 without one."""
    warnings: tuple[str, ...]
    """What the checks of the data warn of."""
    training: dict[str, Any]
    """The whole `LoraResult`: history, times, notes."""


class EdgeCase(Model):
    """A dev question that the best prompt answers wrongly."""

    question_id: str
    """Which."""
    question: str
    """What is asked."""
    reference: str
    """The right answer; empty where the documents do not answer."""
    answer: str
    """What the LLM wrote."""
    score: float | None
    """Of the answer metric."""


class PromptReport(Model):
    """What prompting reaches, before any training."""

    metric: str
    """What dev was scored by."""
    tried: int
    """Prompts that were scored, besides the config's."""
    changes: dict[str, Any]
    """Key paths below `pipeline` and their best values; empty where the config's prompt is the best."""
    estimate: EstimateRecord
    """Of the best prompt on dev."""
    reference: EstimateRecord | None
    """Of the stronger LLM with the same prompt; None where none is configured."""
    edge_cases: tuple[EdgeCase, ...]
    """Dev questions that the best prompt answers wrongly with their evidence at hand, or without any: what training
    has to mend."""


class CurveReport(Model):
    """The learning curve."""

    metric: str
    """What is predicted."""
    points: tuple[dict[str, Any], ...]
    """Share, questions, examples, metric and dev loss."""
    gain: float | None
    """Predicted gain of doubling the train questions."""
    low: float | None
    """Lower end of its 95% interval."""
    high: float | None
    """Upper end."""
    advice: Literal["more_data", "bigger_model", "stop", "unclear"]
    """What to do."""
    reason: str
    """Why, in words."""


def llm_prompts(path: Path, overrides: Sequence[str], reporter: Reporter) -> PromptReport:
    """Tries the prompts of `rungs.llm.prompts` on dev, and lists what the best one still gets wrong.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, or its LLM not be finetuned.
    """
    bench, settings = _bench(path, overrides, reporter)
    context = _context(bench)
    base_folder(bench, context.incumbent)
    metric = _metric(bench, settings)
    found = best_prompt(context, settings, metric)
    return PromptReport(
        metric=metric,
        tried=len(found.trials),
        changes=found.changes,
        estimate=found.estimate,
        reference=reference_estimate(context, found.pipeline, settings, metric),
        edge_cases=_edge_cases(bench, bench.evaluate(found.pipeline, "dev")),
    )


def _edge_cases(bench: Workbench, evaluation: Evaluation) -> tuple[EdgeCase, ...]:
    lost, values = set(edge_cases(bench, evaluation)), evaluation.values(bench.config.score.answer_metric)
    return tuple(
        EdgeCase(question_id=q.id, question=q.text, reference=q.answer, answer=answer.text, score=values.get(q.id))
        for q, answer in zip(evaluation.questions, evaluation.answers, strict=True)
        if q.id in lost
    )


def llm_data(
    path: Path, overrides: Sequence[str], show: int, estimate: EstimateSettings | None, reporter: Reporter
) -> LLMData:
    """Makes the examples that the LLM rung would train on, and checks them.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        show: Most examples in the result.
        estimate: How to estimate the cost; None does not, for it loads the model and trains a few steps.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, or its LLM not be finetuned.
        DataError: No example could be made. (Errors that the checks find are in the report.)
    """
    bench, settings = _bench(path, overrides, reporter)
    data = _data(bench, settings)
    train, dev = data.train, data.dev
    cost = None
    if estimate is not None and not data.report.errors:
        cost = estimate_training(data.base, train.examples, dev.examples, settings.train, estimate, bench.resources)
    return LLMData(
        report=data.report,
        dev_examples=len(dev.examples),
        inserted=len(train.inserted),
        without_oracle=len(train.without_oracle),
        trimmed=train.trimmed,
        notes=data.notes,
        edge_cases=len(data.edge),
        teacher=data.curated.summary() if data.curated is not None else None,
        estimate=cost,
        work=tuple(count_work(bench.config.pipeline, settings, bench.questions).lines()),
        samples=tuple(_sample_row(example) for example in spread(train.examples, show)),
    )


def llm_train(path: Path, overrides: Sequence[str], out: Path | None, reporter: Reporter) -> LLMTraining:
    """Trains an adapter on the config's pipeline, as the rung would, its search included.

    Args:
        path: The experiment's YAML file.
        overrides: `key.path=value`.
        out: A new folder for a copy of the adapter; None leaves it in the store.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, or its LLM not be finetuned.
        DataError: The examples fail their checks, or `out` is not empty.
        StageError: The training failed.
    """
    check_new(out)
    bench, settings = _bench(path, overrides, reporter)
    data, warnings = _sound_data(bench, settings)
    reused = bench.store.has(lora_stage(bench, data, settings))
    chosen, trials = searched(_context(bench), data, settings)
    stage = lora_stage(bench, data, settings.model_copy(update={"train": chosen}))
    result = bench.get(stage)
    before, after = result["base_dev_loss"], result["best_dev_loss"]
    return LLMTraining(
        adapter=str(delivered(bench.store.folder(stage) / "adapter", out)),
        prompt_changes=_prompt_changes(bench.config.pipeline, trained_prompt(bench.config.pipeline, settings)),
        before=before,
        after=after,
        improved=before is not None and after is not None and after < before,
        reused=reused,
        searched=len(trials),
        warnings=warnings,
        training={name: value for name, value in result.items() if name != "adapter"},
    )


def llm_curve(path: Path, overrides: Sequence[str], reporter: Reporter) -> CurveReport:
    """Trains on shares of the train questions and predicts what doubling them would bring.

    Args:
        path: The experiment's YAML file; `rungs.llm.curve` may be left out.
        overrides: `key.path=value`.
        reporter: For progress.

    Raises:
        ConfigError: The config cannot be used, or its LLM not be finetuned.
        DataError: The examples fail their checks.
        StageError: A training failed.
    """
    bench, settings = _bench(path, overrides, reporter)
    settings = settings.model_copy(update={"curve": settings.curve or CurveSettings()})
    data, _ = _sound_data(bench, settings)
    metric = _metric(bench, settings)
    plain = trained_prompt(bench.config.pipeline, settings)
    return CurveReport(metric=metric, **learning_curve(_context(bench), plain, data, settings, metric))


def llm_export(
    path: Path,
    overrides: Sequence[str],
    out: Path,
    adapter: Path | None,
    formats: Sequence[ExportFormat],
    name: str,
    base_name: str,
) -> AdapterExport:
    """Writes an adapter of the config's LLM for the servers that are to run it.

    Args:
        path: An experiment's YAML file, or the `best.yaml` of a run.
        overrides: `key.path=value`.
        out: A new folder.
        adapter: The adapter; None takes the config's own.
        formats: Which servers.
        name: Of the served model.
        base_name: How commands name the base; its folder where empty.

    Raises:
        ConfigError: The config has no LLM on this machine, or no adapter.
        DataError: The adapter is of another base, or `out` is not empty.
        StageError: llama.cpp's converter failed.
    """
    bench = finetuning_bench(path, overrides, "llm", Reporter(quiet=True))
    own, pipeline = adapter_of(bench.config.pipeline, adapter, "llm export")
    folder = bench.resources.path(own)
    return export_adapter(base_folder(bench, pipeline), folder, out, formats, base_name, name)


def _bench(path: Path, overrides: Sequence[str], reporter: Reporter) -> tuple[Workbench, LLMRungSettings]:
    bench = finetuning_bench(path, overrides, "llm", reporter)
    return bench, bench.config.rungs.llm or LLMRungSettings()


def _context(bench: Workbench) -> RungContext:
    config: ExperimentConfig = bench.config
    return RungContext(bench, config.pipeline, note=bench.reporter.line)


def _metric(bench: Workbench, settings: LLMRungSettings) -> str:
    return settings.metric or bench.config.score.answer_metric


def _data(bench: Workbench, settings: LLMRungSettings) -> LoraData:
    base_folder(bench, bench.config.pipeline)
    return lora_data(bench, trained_prompt(bench.config.pipeline, settings), settings)


def _sound_data(bench: Workbench, settings: LLMRungSettings) -> tuple[LoraData, tuple[str, ...]]:
    """The data and its warnings, which are said.

    Raises:
        DataError: There are errors.
    """
    data = _data(bench, settings)
    warnings = tuple(warning.message for warning in data.report.warnings)
    for warning in warnings:
        bench.reporter.line(f"data: warning: {warning}")
    data.report.raise_errors()
    return data, warnings


def _prompt_changes(before: PipelineConfig, after: PipelineConfig) -> dict[str, Any]:
    old, new = (one.generate.prompt.model_dump(mode="json") for one in (before, after))
    return {f"pipeline.generate.prompt.{key}": value for key, value in new.items() if value != old[key]}


def _sample_row(example: Example) -> SampleRow:
    return SampleRow(
        question_id=example.question_id,
        kind=example.kind,
        messages=tuple((message.role, message.content) for message in example.messages),
        completion=example.completion,
    )
