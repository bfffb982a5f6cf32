"""Questions that an LLM answers without any document: they say nothing about retrieval."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.components import Model
from ..core.types import Question
from .synth.asking import Asker, CallCounts
from .synth.filters import agreement
from .synth.prompts import ask_closed_book

__all__ = ["ClosedBook", "closed_book"]


class ClosedBook(Model):
    """What was answered without documents."""

    asked: int
    """Answerable questions with a reference answer; only these can be checked."""
    checked: int
    """Of these, those with a reply that could be read."""
    known: dict[str, str]
    """The answer by question id, where it agrees with the reference."""
    calls: CallCounts
    """What was asked of the LLM."""
    stopped: str = ""
    """Why it ended early: the budget; empty where it did not."""


def closed_book(questions: Sequence[Question], asker: Asker, threshold: float = 0.5) -> ClosedBook:
    """Asks an LLM each question without documents.

    Args:
        questions: All splits.
        asker: The LLM.
        threshold: Least agreement with the reference answer, see `synth.filters.agreement`.

    Raises:
        EndpointError: The LLM cannot be reached; finished calls are kept.
    """
    asked = [question for question in questions if question.answerable and question.answer.strip()]
    replies = asker.ask([ask_closed_book(question.text) for question in asked])
    known: dict[str, str] = {}
    checked = 0
    for question, reply in zip(asked, replies, strict=True):
        if reply.value is None:
            continue
        checked += 1
        if reply.value.known and agreement(reply.value.answer, question.answer) >= threshold:
            known[question.id] = reply.value.answer
    return ClosedBook(asked=len(asked), checked=checked, known=known, calls=asker.counts, stopped=asker.stopped)
