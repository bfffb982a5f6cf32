"""The learning curve: what a share of the data reaches, and what doubling the data would bring.

Scores are taken as linear in log2 of the number of train questions, which holds well over the few doublings that are
looked at here. The gain of a doubling is the least-squares slope, computed for each dev question by itself, so that its
interval can respect questions that share a document.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from pydantic import Field, field_validator

from ..core.components import Model
from ..core.types import Question

__all__ = ["CurveAdvice", "CurveSettings", "advise", "doubling_gains", "share_of"]

T = TypeVar("T", bound=Question)
CurveAdvice = Literal["more_data", "bigger_model", "stop", "unclear"]


class CurveSettings(Model):
    """On which shares of the train questions an adapter is trained, besides all of them."""

    shares: tuple[float, ...] = (0.25, 0.5)
    """Each costs a training of that share of the time, and the answers to the dev questions."""
    worthwhile: float = Field(default=0.01, gt=0)
    """Predicted gain of doubling the data, in the answer metric, that would be worth writing the questions."""

    @field_validator("shares")
    @classmethod
    def _below_one(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or min(value) <= 0 or max(value) >= 1:
            raise ValueError("need one share or more, each above 0 and below 1 (all of the data is always trained on)")
        return tuple(sorted(set(value)))


def share_of(questions: Sequence[T], share: float, seed: int) -> list[T]:
    """A share of the questions, in their order; a smaller share is part of a larger one.

    Args:
        questions: All.
        share: Above 0, at most 1; at least one question is taken.
        seed: Of the draw.
    """

    def draw(question: T) -> str:
        return hashlib.sha256(f"{seed}:{question.id}".encode()).hexdigest()

    count = max(1, round(share * len(questions)))
    kept = {question.id for question in sorted(questions, key=draw)[:count]}
    return [question for question in questions if question.id in kept]


def doubling_gains(points: Sequence[tuple[int, Mapping[str, float | None]]]) -> dict[str, float]:
    """The least-squares slope of each question's score over log2 of the number of train questions.

    Args:
        points: Number of train questions, and the score by dev question; two different numbers or more.

    Returns:
        The gain of one doubling by question; questions that lack a score somewhere are left out.

    Raises:
        ValueError: Fewer than two different numbers.
    """
    logs = [math.log2(count) for count, _ in points]
    middle = sum(logs) / len(logs)
    spread = sum((x - middle) ** 2 for x in logs)
    if spread == 0:
        raise ValueError("a slope needs two different numbers of train questions")
    gains = {}
    for question in points[0][1]:
        values = [scores.get(question) for _, scores in points]
        there = [value for value in values if value is not None]
        if len(there) == len(points):
            gains[question] = sum((x - middle) * v for x, v in zip(logs, there, strict=True)) / spread
    return gains


def advise(gain: float, low: float | None, high: float | None, worthwhile: float, met: bool) -> tuple[CurveAdvice, str]:
    """More data, a bigger model, or stop.

    Args:
        gain: Predicted gain of doubling.
        low: Lower end of its interval; None where it has none.
        high: Upper end.
        worthwhile: Gain that is worth the work.
        met: Whether the target is met.
    """
    interval = "no interval" if low is None or high is None else f"95% interval {low:+.3f} to {high:+.3f}"
    seen = f"doubling the train questions is predicted to bring {gain:+.3f} ({interval})"
    if met:
        return "stop", f"{seen}; the target is met"
    if low is not None and low > 0 and gain >= worthwhile:
        return "more_data", f"{seen}: write more train questions"
    if high is not None and high < worthwhile:
        return "bigger_model", f"{seen}, less than {worthwhile:g}: more data will not pay; try a bigger model, or stop"
    return "unclear", f"{seen}: too few dev questions to tell whether more data would pay"
