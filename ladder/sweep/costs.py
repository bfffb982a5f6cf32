"""What trials cost in calls of LLMs: how many a plan counts, and what the models of a trial were paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.chat import LocalChatSettings, OpenAIChatSettings
from ...eval.judge import JudgeSettings, judge_calls
from ...rag.context import LLMContextSettings
from ...rag.generate import LLMGeneratorSettings
from ...rag.rerank import ListwiseSettings
from ..config import PipelineConfig
from ..workbench import Meter
from .space import key_of

__all__ = ["Calls", "Paid", "calls_of", "cost_of_asking", "paid_between", "unaccounted"]

Paid = Mapping[str, tuple[int, int, float]]
"""Prompt tokens, completion tokens and money by chat model, as `Workbench.paid` gives them."""


@dataclass(frozen=True)
class Calls:
    """Calls of one kind that a configuration needs; configurations with the same key share them.

    Attributes:
        what: `context`, `query transform`, `reranking`, `answer` or `judge`.
        key: Of what determines them.
        count: At most, broken replies asked again left out; a call a chunk where it is None.
    """

    what: str
    key: str
    count: int | None


def calls_of(pipeline: PipelineConfig, questions: int, answers: bool, judge: JudgeSettings | None) -> list[Calls]:
    """The LLM calls that scoring a configuration takes at most, kept ones included.

    Args:
        pipeline: The configuration.
        questions: That are asked.
        answers: Whether it must answer.
        judge: Who judges the answers; None where nobody does.
    """
    found = []
    if isinstance(pipeline.context, LLMContextSettings):
        texts = pipeline.model_dump_json(include={"parse", "chunk", "context"})
        found.append(Calls("context", texts, None))
    if hasattr(pipeline.transform, "llm"):
        each = getattr(pipeline.transform, "passages", 1)
        found.append(Calls("query transform", pipeline.transform.model_dump_json(), each * questions))
    rerank = pipeline.rerank
    if isinstance(rerank, ListwiseSettings):
        ranked = pipeline.retrieve.model_dump_json(exclude={"top_k", "mmr", "neighbours", "neighbours_within"})
        depth = min(rerank.depth, pipeline.retrieve.fetch_k)
        windows = 1 + max(0, -(-(depth - rerank.window) // rerank.step))
        before = pipeline.model_dump_json(exclude={"generate", "retrieve"})
        found.append(Calls("reranking", before + ranked, windows * questions))
    generate = pipeline.generate
    if answers and isinstance(generate, LLMGeneratorSettings):
        each = 1 if generate.prompt.chain == "none" else 2
        found.append(Calls("answer", key_of(pipeline), each * questions))
    if answers and judge is not None:
        top = [pipeline.retrieve.top_k] * questions
        found.append(Calls("judge", key_of(pipeline), judge_calls(judge, top)))
    return found


def paid_between(before: Paid, after: Paid) -> tuple[int, int, float]:
    """Prompt tokens, completion tokens and money that all models were paid between two looks at their accounts."""
    nothing = (0, 0, 0.0)
    rows = [
        tuple(max(0, new - old) for new, old in zip(now, before.get(key, nothing), strict=True))
        for key, now in after.items()
    ]
    read, wrote, money = (sum(column) for column in zip(nothing, *rows, strict=True))
    return int(read), int(wrote), float(money)


def cost_of_asking(pipeline: PipelineConfig, meter: Meter) -> tuple[int, float]:
    """Tokens and money of the query transforms, rerankings and answers in a block, as if nothing had been cached;
    contexts, which are written once, and judges, which nobody needs online, are left out."""
    sections = {"transform": pipeline.transform, "rerank": pipeline.rerank, "generate": pipeline.generate}
    tokens, money = 0, 0.0
    for key, name in meter.names.items():
        if name in sections:
            read, wrote, llm = (
                meter.prompt_tokens[key],
                meter.completion_tokens[key],
                getattr(sections[name], "llm", None),
            )
            tokens += read + wrote
            money += (read * getattr(llm, "price_prompt", 0.0) + wrote * getattr(llm, "price_completion", 0.0)) / 1e6
    return tokens, money


def unaccounted(pipeline: PipelineConfig, meter: Meter) -> dict[str, list[int]]:
    """Tokens by stage of the models that keep no account of their own: rerankers behind endpoints, components from
    outside. They are what the stage cost when it was first computed."""
    sections = {"context": pipeline.context, "transform": pipeline.transform, "rerank": pipeline.rerank}
    sections["generate"] = pipeline.generate
    counted = {name for name, settings in sections.items() if _keeps_account(settings)}
    return {
        key[:20]: [meter.prompt_tokens[key], meter.completion_tokens[key]]
        for key, name in meter.names.items()
        if name not in counted
    }


def _keeps_account(settings: Any) -> bool:
    return isinstance(getattr(settings, "llm", None), (OpenAIChatSettings, LocalChatSettings))
