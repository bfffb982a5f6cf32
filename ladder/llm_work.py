"""What the LLM rung takes at most, counted before anything runs: trainings, answers, and calls of other LLMs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.chat import LocalChatSettings
from ..core.types import Question
from ..llm_ft.forgetting import GENERAL_PROMPTS
from .config import LLMRungSettings, PipelineConfig
from .rungs.llm_prompts import PASSES

__all__ = ["LLMWork", "count_work"]


@dataclass(frozen=True, slots=True)
class LLMWork:
    """Upper bounds; what the store holds already is not done again.

    Attributes:
        trainings: By what they are for; a learning curve's count as the shares of the data that they take.
        answers: Answers of the model on this machine, by what they are for.
        other: Calls of the other LLMs, by what they are for.
        remote: Those of `other` that go to an endpoint.
    """

    trainings: dict[str, float]
    answers: dict[str, int]
    other: dict[str, int]
    remote: dict[str, int]

    def lines(self) -> list[str]:
        """The counts in words."""
        lines = [f"trainings at most: {_sum(self.trainings)}"] if self.trainings else []
        lines.append(f"answers of the LLM on this machine at most: {_sum(self.answers)}")
        if self.other:
            lines.append(f"calls of other LLMs at most: {_sum(self.other)}")
        return lines


def count_work(pipeline: PipelineConfig, settings: LLMRungSettings, questions: Sequence[Question]) -> LLMWork:
    """Counts the work of the rung.

    Args:
        pipeline: The one that the rung starts from.
        settings: Of the rung.
        questions: Of all splits.
    """
    train, dev, test = (sum(q.split == split for q in questions) for split in ("train", "dev", "test"))
    answerable = sum(q.split == "train" and q.answerable for q in questions)
    bases = max(1, len(settings.sizes))
    calls = 1 if getattr(getattr(pipeline.generate, "prompt", None), "chain", "none") == "none" else 2
    prompts = PASSES * sum(_calls(axis, value, calls) for axis, values in settings.prompts.items() for value in values)
    most = max([calls, *(_calls(axis, v, calls) for axis, values in settings.prompts.items() for v in values)])
    shares = settings.curve.shares if settings.curve is not None else ()
    general = settings.forgetting is not None and settings.forgetting.prompts is None
    trainings: dict[str, float] = {
        "the adapter": bases,
        "search": bases * (settings.search.trials - 1) if settings.search is not None else 0,
        "preference tuning": bases if settings.preference is not None else 0,
        "learning curve": sum(shares),
    }
    answers = {
        "prompts": prompts * dev,
        "edge copies": bases * train if settings.edge_copies else 0,
        "sizes without an adapter": most * len(settings.sizes) * dev,
        "adapters on dev": bases * dev * (1 if settings.preference is None else 2),
        "learning curve": len(shares) * dev,
        "general prompts": len(GENERAL_PROMPTS) if general else 0,
        "the best prompt on test": most * test if settings.prompts else 0,
        "the adapter on test": test,
    }
    other, remote = {}, {}
    for name, llm, count in (
        ("teacher", settings.teacher and settings.teacher.llm, bases * answerable),
        ("reference", settings.reference, most * dev),
    ):
        if llm is not None:
            other[name] = count
            remote |= {} if isinstance(llm, LocalChatSettings) else {name: count}
    return LLMWork(_some(trainings), _some(answers), _some(other), _some(remote))


def _calls(axis: str, value: Any, usual: int) -> int:
    """Calls of an answer with this value."""
    return (1 if value == "none" else 2) if axis == "generate.prompt.chain" else usual


def _some(counts: dict[str, Any]) -> dict[str, Any]:
    return {name: count for name, count in counts.items() if count}


def _sum(counts: dict[str, Any]) -> str:
    parts = ", ".join(f"{count:g} {name}" for name, count in counts.items())
    return f"{sum(counts.values()):g} ({parts})" if len(counts) > 1 else parts
