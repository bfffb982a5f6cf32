"""HyDE: the question is searched for as the passage that would answer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ...core.components import Resources
from ._base import LLMTransform, LLMTransformSettings

__all__ = ["HydeSettings"]


class HydeSettings(LLMTransformSettings):
    """Hypothetical document embeddings (Gao, Ma, Lin & Callan 2023).

    The vector that is searched for is the mean of the question's and the passages'. BM25 searches for the question
    itself. The passages may be wrong: only their wording counts.
    """

    cost: ClassVar[str] = "`passages` completions a question, and their encoding"

    kind: Literal["hyde"] = "hyde"
    prompt: str = (
        "Write a passage of a document that answers the question, in three sentences.\n\nQuestion: {question}\nPassage:"
    )
    """What the model is asked; {question} stands for the question. Tell it what your documents look like."""
    passages: int = Field(default=1, ge=1, le=16)
    """Passages a question; above 1 needs a temperature above 0. More steadies the search and costs as many calls."""

    @model_validator(mode="after")
    def _differ(self) -> HydeSettings:
        if self.passages > 1 and self.temperature == 0:
            raise ValueError(f"passages is {self.passages}, which would all be the same at temperature 0; set 0.7, say")
        return self

    def build(self, resources: Resources) -> LLMTransform:
        """Makes the transform with its model.

        Raises:
            ConfigError: A key is missing.
            DataError: There is no such model.
        """

        def read(question: str, replies: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
            if not all(reply.strip() for reply in replies):
                raise ValueError("the reply is empty")
            return (question,), tuple(reply.strip() for reply in replies)

        return LLMTransform(self.llm.build(resources), self, read, draws=self.passages)
