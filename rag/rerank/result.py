"""What a reranking gave: the hits anew, and the questions that it failed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import StageError
from ...core.types import Hit, Status

__all__ = ["Failure", "Reranked", "rerank_with", "whole"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a question has no result."""

    status: Status
    detail: str


@dataclass(frozen=True)
class Reranked:
    """Hits with new scores.

    Attributes:
        hits: Of each question, best first; none where it failed.
        failures: By place of the question.
        seconds: Time of an LLM or endpoint.
        prompt_tokens: Tokens that an LLM or endpoint read.
        completion_tokens: Tokens that an LLM wrote.
    """

    hits: list[list[Hit]]
    failures: Mapping[int, Failure] = field(default_factory=dict)
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def rerank_with(reranker: Any, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> Reranked:
    """Reranks by any reranker.

    Args:
        reranker: A `core.types.Reranker`. One that can fail on single questions has a method `attempt` too, with the
            same arguments, which gives a `Reranked`.
        questions: The questions.
        hits: Of each question, best first; deeper ones than its `depth` (where it has one) are left out.

    Raises:
        StageError: It gave another number of lists than there are questions.
    """
    depth = getattr(reranker, "depth", None)
    seen = [list(row[:depth]) for row in hits]
    attempt = getattr(reranker, "attempt", None)
    found = attempt(questions, seen) if attempt is not None else Reranked(reranker.rerank(questions, seen))
    if len(found.hits) != len(questions):
        raise StageError(
            f"{type(reranker).__name__}: rerank gave {len(found.hits)} lists of hits for {len(questions)} questions"
        )
    return found


def whole(found: Reranked) -> list[list[Hit]]:
    """The hits of a reranking in which nothing may fail.

    Raises:
        StageError: Something did.
    """
    if found.failures:
        first = next(iter(found.failures.values()))
        raise StageError(
            f"reranking failed for {len(found.failures)} of {len(found.hits)} questions, the first with "
            f"{first.status}: {first.detail}"
        )
    return found.hits
