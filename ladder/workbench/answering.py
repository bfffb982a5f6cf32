"""Answers of a pipeline: its reader with the worked examples of its prompt, and the stage that keeps what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.cache import digest
from ...core.chat import LocalChatSettings
from ...core.store import Stage
from ...core.types import Answer, Chunk, Generator, Question
from ...rag.demonstrations import train_demonstrations
from ...rag.generate import LLMGeneratorSettings
from ...rag.prompt import Demonstration
from ..config import PipelineConfig

if TYPE_CHECKING:
    from .bench import Workbench

__all__ = ["answer", "demonstrations", "reader"]


def demonstrations(bench: Workbench, pipeline: PipelineConfig) -> tuple[Demonstration, ...]:
    """The worked examples that a pipeline's prompt may show: the train questions; none where it shows none."""
    generator = pipeline.generate
    if not isinstance(generator, LLMGeneratorSettings) or not generator.prompt.demonstrations:
        return ()
    documents = {document.id: document for document in bench.get(bench.documents_stage(pipeline)).documents}
    return train_demonstrations(bench.questions, documents, generator.prompt)


def reader(bench: Workbench, pipeline: PipelineConfig) -> Any:
    """The pipeline's generator, ready to answer.

    Raises:
        ConfigError: Its prompt shows more worked examples than there are train questions.
    """
    generator = bench.component(pipeline.generate)
    settings = pipeline.generate
    if isinstance(settings, LLMGeneratorSettings) and settings.prompt.demonstrations:
        return generator.with_demonstrations(demonstrations(bench, pipeline))
    return generator


def answer(
    bench: Workbench, pipeline: PipelineConfig, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]
) -> list[Answer]:
    """Answers from the given contexts.

    They are kept once none failed on an endpoint's side: a rerun asks again for what a server did not answer.

    Args:
        bench: Stages, and the train questions.
        pipeline: Whose generator answers.
        questions: The questions.
        contexts: Passages of each, best first.
    """
    made: list[Answer] = []
    stage = _stage(bench, pipeline, questions, contexts, made)
    if not bench.store.has(stage):
        generator: Generator = reader(bench, pipeline)
        made += generator.generate(questions, contexts)
    # A reply that cannot be parsed would be the same again.
    failed = any(one.status not in ("ok", "parse_error") for one in made)
    answers = list(made) if failed and _answers_remotely(pipeline) else bench.get(stage)
    bench.note_answers(stage, answers)
    return answers


def _stage(
    bench: Workbench,
    pipeline: PipelineConfig,
    questions: Sequence[Question],
    contexts: Sequence[Sequence[Chunk]],
    made: list[Answer],
) -> Stage[list[Answer]]:
    """Keeps what is in `made` by the time that it is built."""

    def build(out: Path) -> None:
        rows = [
            {**asdict(a), "contexts": [list(chunks).index(c) for c in a.contexts]}
            for a, chunks in zip(made, contexts, strict=True)
        ]
        (out / "answers.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def load(out: Path) -> list[Answer]:
        with open(out / "answers.jsonl", encoding="utf-8") as handle:
            rows = [json.loads(line) for line in handle]
        return [
            Answer(**{**row, "contexts": tuple(chunks[p] for p in row["contexts"])})
            for row, chunks in zip(rows, contexts, strict=True)
        ]

    content = [[q.id, q.text, [asdict(c) for c in chunks]] for q, chunks in zip(questions, contexts, strict=True)]
    params = {"generator": pipeline.generate.identity(bench.resources), "prompts": digest(content)}
    shown = demonstrations(bench, pipeline)
    if shown:
        params["demonstrations"] = digest([asdict(one) for one in shown])
    return Stage("generate", params, build, load)


def _answers_remotely(pipeline: PipelineConfig) -> bool:
    generator = pipeline.generate
    return isinstance(generator, LLMGeneratorSettings) and not isinstance(generator.llm, LocalChatSettings)
