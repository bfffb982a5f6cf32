"""What the LLM rung trains on: examples through the pipeline's retriever and prompt, curated, checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...core.cache import digest
from ...core.chat import LocalChatSettings, Message
from ...core.chat.weights import resolve_model
from ...core.errors import ConfigError, DataError
from ...core.store import Stage
from ...core.types import Chunk, Question, Split
from ...llm_ft.checks import DataReport, check_examples
from ...llm_ft.curator import Curated, TeacherSettings, curate
from ...llm_ft.examples import Example, ExampleSet, ExampleSettings, build_examples
from ...llm_ft.preference_data import Preference, PreferenceSettings, load_preferences
from ...llm_ft.tokens import Encoder, fits_window
from ...rag.generate import LLMGeneratorSettings
from ..config import PipelineConfig, with_changes
from ..llm_settings import LLMRungSettings
from ..workbench import Evaluation, Workbench
from ..workbench.answering import reader

__all__ = ["LoraData", "base_folder", "edge_cases", "lora_data", "preferences", "trained_prompt"]


@dataclass(frozen=True)
class LoraData:
    """What an adapter is trained on.

    Attributes:
        base: Folder of the base model.
        train: Examples of the train questions.
        dev: Examples of the dev questions, as the pipeline will see them.
        report: What the checks say of the train examples; the caller decides what its errors stop.
        notes: What had to be decided for the model's tokenizer, as sentences.
        edge: Train questions that get further examples, as the pipeline answers them wrongly.
        curated: What the teacher did; None without one.
    """

    base: Path
    train: ExampleSet
    dev: ExampleSet
    report: DataReport
    notes: tuple[str, ...] = ()
    edge: tuple[str, ...] = ()
    curated: Curated | None = None

    def share(self, question_ids: Collection[str]) -> LoraData:
        """The same with the train examples of some questions alone; the report is still that of all."""
        kept = tuple(example for example in self.train.examples if example.question_id in question_ids)
        if not kept:
            raise DataError("learning curve: the smallest share holds no train example: raise rungs.llm.curve.shares")
        return replace(self, train=replace(self.train, examples=kept))


def trained_prompt(pipeline: PipelineConfig, settings: LLMRungSettings) -> PipelineConfig:
    """The pipeline with the prompt that an adapter is trained with, and answers with.

    One call and plain text: an adapter learns to write the answer itself. With `bake_prompt` the short template,
    without worked examples.
    """
    wanted: dict[str, Any] = {"chain": "none", "output": "text"}
    if settings.bake_prompt:
        wanted |= {"template": settings.baked_template, "demonstrations": 0}
    prompt = getattr(pipeline.generate, "prompt", None)
    changes = {f"generate.prompt.{key}": value for key, value in wanted.items() if getattr(prompt, key, value) != value}
    return with_changes(pipeline, changes) if changes else pipeline


def lora_data(bench: Workbench, pipeline: PipelineConfig, settings: LLMRungSettings) -> LoraData:
    """Makes the examples of a pipeline through its retriever and its prompt, and checks them.

    Args:
        bench: Questions and stages.
        pipeline: Whose generator, an LLM on this machine, is to be trained.
        settings: Data, checks and training.

    Raises:
        ConfigError: The LLM is behind an endpoint, or has an adapter already.
        DataError: No example could be made.
        EndpointError: The teacher cannot be reached.
    """
    base = base_folder(bench, pipeline)
    edge = edge_cases(bench, bench.evaluate(pipeline, "train")) if settings.edge_copies else ()
    train = _examples(bench, pipeline, settings, "train", base, edge)
    curated = None
    if settings.teacher is not None:
        curated = bench.get(_teacher_stage(bench, train.examples, settings.teacher))
        train = replace(train, examples=curated.examples)
        if not train.examples:
            raise DataError("rungs.llm.teacher: every training answer was rejected: read them, or lower min_grade")
    dev = _examples(bench, pipeline, settings, "dev", base)
    held_out = [q.text for split in ("dev", "test") for q in bench.split(split)]
    encoder = Encoder.from_folder(base)
    window = encoder.limit(settings.train.max_length)
    report = check_examples(train.examples, settings.checks, held_out, encoder, window)
    return LoraData(base, train, dev, report, tuple(encoder.notes), edge, curated)


def base_folder(bench: Workbench, pipeline: PipelineConfig) -> Path:
    """Folder of the base model.

    Raises:
        ConfigError: The LLM is behind an endpoint, or has an adapter already.
        DataError: There is no such model.
    """
    generator = pipeline.generate
    if not isinstance(generator, LLMGeneratorSettings) or not isinstance(generator.llm, LocalChatSettings):
        asks = isinstance(generator, LLMGeneratorSettings)
        there = "asks an endpoint" if asks else f"is '{generator.kind}', which has no LLM"
        raise ConfigError(
            f"rungs.llm finetunes a model on this machine, but pipeline.generate {there}; set pipeline.generate to "
            "kind 'llm' with llm.kind 'local', or leave rungs.llm out"
        )
    if generator.llm.adapter is not None:
        raise ConfigError(
            "rungs.llm: pipeline.generate.llm.adapter is set already; start from the base model, or merge it first"
        )
    return Path(
        resolve_model(generator.llm.model, bench.resources, "pipeline.generate.llm.model", generator.llm.revision)
    )


def edge_cases(bench: Workbench, evaluation: Evaluation) -> tuple[str, ...]:
    """Questions that the LLM loses: answered badly with their evidence (or a part of it) in the context, or without any
    evidence to be had."""
    oracle = _oracle(bench, evaluation.pipeline, evaluation.questions)
    values = evaluation.values(bench.config.score.answer_metric)
    lost = []
    for question, hits in zip(evaluation.questions, evaluation.retrieved.contexts, strict=True):
        value = values.get(question.id)
        if value is None or value >= bench.config.score.good_enough:
            continue
        shown = {hit.chunk.id for hit in hits}
        if not question.answerable or any(chunk.id in shown for chunk in oracle[question.id]):
            lost.append(question.id)
    return tuple(lost)


def preferences(bench: Workbench, pipeline: PipelineConfig, settings: PreferenceSettings) -> list[Preference]:
    """The preferences with the prompts that the pipeline makes of their questions.

    Raises:
        DataError: The file cannot be used.
    """
    held_out = [q.text for split in ("dev", "test") for q in bench.split(split)]
    rows = load_preferences(bench.resources.path(settings.data), held_out)
    questions = [Question(f"preference-{place}", row.question, "") for place, row in enumerate(rows)]
    contexts = bench.retrieve(pipeline, questions).contexts
    render = _render(bench, pipeline)
    return [
        Preference(render(row.question, [hit.chunk for hit in hits]), row.chosen, row.rejected)
        for row, hits in zip(rows, contexts, strict=True)
    ]


def _teacher_stage(bench: Workbench, examples: Sequence[Example], settings: TeacherSettings) -> Stage[Curated]:
    """The teacher's work, done once for equal examples."""

    def build(out: Path) -> None:
        done = curate(examples, bench.component(settings.llm), settings)
        rows = {k: v for k, v in asdict(done).items() if k != "examples"}
        rows["answers"] = [example.completion for example in done.examples]
        (out / "curated.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")

    def load(out: Path) -> Curated:
        rows = json.loads((out / "curated.json").read_text(encoding="utf-8"))
        gone = {question for question, _ in rows["rejected"]}
        kept = [e for e in examples if e.kind != "oracle" or e.question_id not in gone]
        return Curated(
            tuple(replace(e, completion=answer) for e, answer in zip(kept, rows["answers"], strict=True)),
            tuple((question, grade) for question, grade in rows["rejected"]),
            *(tuple(rows[name]) for name in ("rewritten", "refused", "failed")),
        )

    params = {
        "llm": settings.llm.identity(bench.resources),
        "settings": settings.model_dump(mode="json", exclude={"llm"}),
        "examples": digest([[[m.content for m in e.messages], e.completion, e.kind] for e in examples]),
    }
    return Stage("llm-teacher", params, build, load)


def _data_settings(pipeline: PipelineConfig, settings: LLMRungSettings) -> ExampleSettings:
    """The prompts hold as many passages as the pipeline's, where the config does not say otherwise."""
    if "top_k" in settings.data.model_fields_set:
        return settings.data
    return settings.data.model_copy(update={"top_k": pipeline.retrieve.top_k})


def _examples(
    bench: Workbench,
    pipeline: PipelineConfig,
    settings: LLMRungSettings,
    split: Split,
    base: Path,
    edge: Collection[str] = (),
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
    render = _render(bench, pipeline)
    made = build_examples(questions, found, gold, render, data, fits)
    if not edge:
        return made
    # Equal seeds draw equal copies, so that only those beyond the usual number are new.
    aimed = [question for question in questions if question.id in edge]
    more_copies = data.model_copy(update={"copies": data.copies + settings.edge_copies})
    further = build_examples(aimed, found, gold, render, more_copies, fits)
    # With few distractors a draw can repeat: what is there already is not trained on twice.
    seen = {(e.messages, e.completion): e for e in made.examples}
    extra = {(e.messages, e.completion): e for e in further.examples if (e.messages, e.completion) not in seen}
    return replace(made, examples=made.examples + tuple(extra.values()))


def _render(bench: Workbench, pipeline: PipelineConfig) -> Callable[[str, Sequence[Chunk]], tuple[Message, ...]]:
    """The pipeline's own prompt, cut to its own budget by its own tokenizer, with its worked examples."""
    prompt = pipeline.generate.prompt
    if prompt.chain != "none" or prompt.output != "text":
        raise ConfigError(
            "rungs.llm trains a model to write the answer itself, in one call; set pipeline.generate.prompt.chain to "
            "'none' and its output to 'text', or leave rungs.llm out"
        )
    prompts = reader(bench, pipeline).prompts

    def render(question: str, chunks: Sequence[Chunk]) -> tuple[Message, ...]:
        return prompts([question], [chunks])[0].messages

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
