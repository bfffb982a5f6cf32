"""What is searched for in place of a question, or why a query transform could not say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...core.types import Status

__all__ = ["Combine", "Expansion", "as_asked"]

Combine = Literal["rrf", "max"]
"""How the results of a question's several queries become one: reciprocal ranks added, or a chunk's best score."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What a query transform made of one question.

    Attributes:
        queries: Each is searched for, in every channel; none where the transform failed.
        passages: Passages as an answer might look; their vectors are averaged with the queries'.
        status: `ok`, or what went wrong; such a question finds nothing, and is scored as failed, not as badly searched.
        detail: What went wrong, in words.
        seconds: Time of the LLM.
        prompt_tokens: Tokens that the LLM read.
        completion_tokens: Tokens that the LLM wrote.
    """

    queries: tuple[str, ...]
    passages: tuple[str, ...] = ()
    status: Status = "ok"
    detail: str = ""
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def as_asked(questions: Sequence[str] | Sequence[Expansion]) -> list[Expansion]:
    """Questions as they are, each its own and only query; what is an expansion already stays one."""
    return [Expansion((one,)) if isinstance(one, str) else one for one in questions]
