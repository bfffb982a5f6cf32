"""Rung 3: LoRA finetuning of the LLM on the train questions, seen through the tuned retriever."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.cache import digest
from ...core.chat import LocalChatSettings, Message
from ...core.chat.weights import resolve_model
from ...core.devices import fingerprint
from ...core.errors import ConfigError
from ...core.memory import release_memory
from ...core.store import Stage
from ...core.types import Chunk, Question, Split
from ...llm_ft.checks import DataReport, check_examples
from ...llm_ft.examples import Example, ExampleSet, ExampleSettings, build_examples
from ...llm_ft.tokens import Encoder, fits_window
from ...llm_ft.train import train_lora
from ...rag.generate import LLMGeneratorSettings
from ...rag.prompt import build_messages
from ..config import LLMRungSettings, PipelineConfig, with_changes
from ..records import EstimateRecord
from ..scoring import clusters, estimates
from ..workbench import Workbench
from .base import Proposal, RungContext

__all__ = ["LoraData", "lora_data", "lora_stage", "propose_llm"]


@dataclass(frozen=True)
class LoraData:
    """What an adapter is trained on.

    Attributes:
        base: Folder of the base model.
        train: Examples of the train questions.
        dev: Examples of the dev questions, as the pipeline will see them.
        report: What the checks say of the train examples; the caller decides what its errors stop.
    """

    base: Path
    train: ExampleSet
    dev: ExampleSet
    report: DataReport


def propose_llm(context: RungContext, settings: LLMRungSettings) -> Proposal:
    """Trains an adapter and proposes it where it beats the incumbent on dev.

    Args:
        context: The incumbent, whose generator must be an LLM on this machine.
        settings: Data and training.

    Raises:
        ConfigError: The LLM is behind an endpoint, or has an adapter already.
        DataError: The training data fails its checks.
    """
    bench, incumbent = context.bench, context.incumbent
    metric = settings.metric or bench.config.score.answer_metric
    data = lora_data(bench, incumbent, settings)
    train = data.train
    for warning in data.report.warnings:
        context.note(f"  data: warning: {warning.message}")
    data.report.raise_errors()
    context.check_budget()
    context.note(f"  LoRA on {len(train.examples)} examples of {len(bench.split('train'))} train questions")
    stage = lora_stage(bench, data, settings)
    result = bench.get(stage)
    adapter = str(bench.store.folder(stage) / "adapter")
    candidate = with_changes(incumbent, {"generate.llm.adapter": adapter})
    before, after, read = (_dev(bench, one, metric) for one in (incumbent, candidate, _without_llm(incumbent)))
    if (read.mean or 0.0) >= (after.mean or 0.0):
        context.note(
            f"  note: the extractive reader, which costs nothing, scores {read.mean:.3f} {metric} on dev on the same "
            f"contexts, the adapter {after.mean:.3f}"
        )
    details = {
        "adapter": adapter,
        "extractive_reader_on_dev": read.mean,
        "data": data.report.model_dump(mode="json"),
        "inserted": len(train.inserted),
        "without_oracle": len(train.without_oracle),
        "trimmed": train.trimmed,
        **{name: value for name, value in result.items() if name != "adapter"},
    }
    if (after.mean or 0.0) <= (before.mean or 0.0):
        reason = (
            f"on dev {metric} of the adapter is {after.mean:.3f}, of the base with the best prompt {before.mean:.3f}"
        )
        return Proposal(None, metric, reason, details=details, tried=candidate)
    return Proposal(candidate, metric, "the adapter of the best epoch on dev", details=details)


def lora_data(bench: Workbench, pipeline: PipelineConfig, settings: LLMRungSettings) -> LoraData:
    """Makes the examples of a pipeline through its retriever and its prompt, and checks them.

    Args:
        bench: Questions and stages.
        pipeline: Whose generator, an LLM on this machine, is to be trained.
        settings: Data, checks and training.

    Raises:
        ConfigError: The LLM is behind an endpoint, or has an adapter already.
        DataError: No example could be made.
    """
    base = _base_folder(bench, pipeline)
    train = _examples(bench, pipeline, settings, "train", base)
    dev = _examples(bench, pipeline, settings, "dev", base)
    held_out = [q.text for split in ("dev", "test") for q in bench.split(split)]
    encoder = Encoder.from_folder(base)
    report = check_examples(train.examples, settings.checks, held_out, encoder, settings.train.max_length)
    return LoraData(base, train, dev, report)


def _base_folder(bench: Workbench, pipeline: PipelineConfig) -> Path:
    generator = pipeline.generate
    if not isinstance(generator, LLMGeneratorSettings) or not isinstance(generator.llm, LocalChatSettings):
        raise ConfigError(
            "rungs.llm finetunes a model on this machine, but pipeline.generate is "
            f"'{generator.kind}' with an endpoint; set pipeline.generate.llm.kind to 'local', or leave rungs.llm out"
        )
    if generator.llm.adapter is not None:
        raise ConfigError(
            "rungs.llm: pipeline.generate.llm.adapter is set already; start from the base model, or merge it first"
        )
    return Path(
        resolve_model(generator.llm.model, bench.resources, "pipeline.generate.llm.model", generator.llm.revision)
    )


def _dev(bench: Workbench, pipeline: PipelineConfig, metric: str) -> EstimateRecord:
    return estimates(bench.evaluate(pipeline, "dev").scores, clusters(bench.questions), bench.config.seed)[metric]


def _without_llm(pipeline: PipelineConfig) -> PipelineConfig:
    """The same retrieval, answered by the extractive reader: what an LLM has to be worth its cost against."""
    return with_changes(pipeline, {"generate": {"kind": "extractive"}})


def _data_settings(pipeline: PipelineConfig, settings: LLMRungSettings) -> ExampleSettings:
    """The prompts hold as many passages as the pipeline's, where the config does not say otherwise."""
    if "top_k" in settings.data.model_fields_set:
        return settings.data
    return settings.data.model_copy(update={"top_k": pipeline.retrieve.top_k})


def _examples(
    bench: Workbench, pipeline: PipelineConfig, settings: LLMRungSettings, split: Split, base: Path
) -> ExampleSet:
    questions = bench.split(split)
    retrieved = bench.retrieve(pipeline, questions)
    data = _data_settings(pipeline, settings)
    more = 3 * data.top_k
    found = {q.id: [h.chunk for h in hits[:more]] for q, hits in zip(questions, retrieved.candidates, strict=True)}
    gold = _oracle(bench, pipeline, questions)
    fits = fits_window(Encoder.from_folder(base), settings.train.max_length)
    if split == "dev":
        # As the pipeline will see them: ranked, one a question.
        data = data.model_copy(update={"copies": 1, "shuffle": False, "p_oracle": 1.0})
    return build_examples(questions, found, gold, _render(bench, pipeline), data, fits)


def _render(bench: Workbench, pipeline: PipelineConfig) -> Callable[[str, Sequence[Chunk]], tuple[Message, ...]]:
    """The pipeline's own prompt, cut to its own budget by its own tokenizer."""
    prompt, count = pipeline.generate.prompt, bench.component(pipeline.generate).chat.count_tokens

    def render(question: str, chunks: Sequence[Chunk]) -> tuple[Message, ...]:
        return build_messages(question, chunks, prompt, count_tokens=count)

    return render


def _oracle(bench: Workbench, pipeline: PipelineConfig, questions: Sequence[Question]) -> dict[str, list[Chunk]]:
    gold = bench.get(bench.gold_stage(pipeline))
    of_document: dict[str, list[Chunk]] = {}
    for chunk in bench.get(bench.chunks_stage(pipeline)):
        of_document.setdefault(chunk.doc_id, []).append(chunk)
    return {
        q.id: [
            chunk
            for span in gold[q.id]
            if span.found
            for chunk in of_document.get(span.doc_id, [])
            if min(chunk.end, span.end) > max(chunk.start, span.start)
        ]
        for q in questions
    }


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
        result = train_lora(base, train.examples, dev.examples, settings.train, work, bench.resources, bench.reporter)
        shutil.copytree(work / "adapter", out / "adapter")
        _order_names(out / "adapter" / "adapter_config.json")
        (out / "result.json").write_text(result.model_dump_json(indent=1, exclude={"adapter"}))
        shutil.rmtree(work, ignore_errors=True)
        release_memory()

    return Stage("llm-train", params, build, lambda out: json.loads((out / "result.json").read_text()))


def _order_names(path: Path) -> None:
    """Sorts the layers' names, which peft writes in the order of a set: equal trainings give equal fingerprints."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _content(example: Example) -> list[Any]:
    return [[[m.role, m.content] for m in example.messages], example.completion]
