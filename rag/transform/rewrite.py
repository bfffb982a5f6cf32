"""Transforms that search for further questions: other wordings, parts, or a more general one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.components import Resources
from ._base import LLMTransform, LLMTransformSettings, listed

__all__ = ["DecompositionSettings", "MultiQuerySettings", "StepBackSettings"]


class _ListSettings(LLMTransformSettings):
    """What the transforms that ask for a list share."""

    kind: Any
    queries: int = Field(default=3, ge=1, le=16)
    """Most further queries a question. Each is one more search, in every channel."""
    keep_question: bool = True
    """Searches for the question as it was asked, too."""

    def build(self, resources: Resources) -> LLMTransform:
        """Makes the transform with its model.

        Raises:
            ConfigError: A key is missing.
            DataError: There is no such model.
        """

        def read(question: str, replies: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
            found = listed(replies[0], "queries")[: self.queries]
            return tuple(dict.fromkeys((question, *found) if self.keep_question else found)), ()

        chat = self.llm.build(resources)
        return LLMTransform(chat, self, read, _schema(self.queries), values={"queries": self.queries})


class MultiQuerySettings(_ListSettings):
    """Other wordings of the question, each searched for; their rankings become one (RAG-Fusion, Rackauckas 2024)."""

    cost: ClassVar[str] = "one completion a question, and `queries` more searches"

    kind: Literal["multi_query"] = "multi_query"
    prompt: str = (
        "Write {queries} other search queries that would find the answer to the question: other words for the same "
        'thing, or the terms that a manual would use. Reply with JSON: {"queries": ["…"]}\n\nQuestion: {question}'
    )
    """What the model is asked; {question} and {queries} (how many) are filled in."""


class DecompositionSettings(_ListSettings):
    """The parts of a question that must be answered one by one, each searched for (least-to-most, Zhou et al. 2023)."""

    cost: ClassVar[str] = "one completion a question, and up to `queries` more searches"

    kind: Literal["decomposition"] = "decomposition"
    prompt: str = (
        "Split the question into at most {queries} simpler questions, each of which one passage of a document could "
        "answer. A question that is simple already is repeated as it is. Reply with JSON: "
        '{"queries": ["…"]}\n\nQuestion: {question}'
    )
    """What the model is asked; {question} and {queries} (how many at most) are filled in."""


class StepBackSettings(LLMTransformSettings):
    """A more general question beside the one that was asked (step-back prompting, Zheng et al. 2024)."""

    cost: ClassVar[str] = "one completion a question, and one more search"

    kind: Literal["step_back"] = "step_back"
    prompt: str = (
        "Write one more general question, whose answer gives the background that the question below needs. "
        "Write the question alone.\n\nQuestion: {question}\nMore general question:"
    )
    """What the model is asked; {question} stands for the question."""

    def build(self, resources: Resources) -> LLMTransform:
        """Makes the transform with its model.

        Raises:
            ConfigError: A key is missing.
            DataError: There is no such model.
        """

        def read(question: str, replies: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
            general = replies[0].strip().split("\n")[0].strip()
            if not general:
                raise ValueError("the reply is empty")
            return tuple(dict.fromkeys((question, general))), ()

        return LLMTransform(self.llm.build(resources), self, read)


def _schema(most: int) -> dict[str, Any]:
    return {
        "title": "queries",
        "type": "object",
        "properties": {"queries": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": most}},
        "required": ["queries"],
        "additionalProperties": False,
    }
