"""A team's own metrics of answers: functions named `module:attribute` in the config, called once a question.

    def brevity(question, answer, contexts):
        return 1.0 if len(answer.text.split()) <= 12 else 0.0

What the function raises, and what it returns that is no number, ends as a status of that question.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ..core.components import Custom, Model, Resources, load_attribute
from ..core.errors import ComponentError
from ..core.types import Answer, Question, Score

__all__ = ["CustomMetric", "custom_scores"]


class CustomMetric(Model):
    """A metric of answers from outside. Costs what its function costs; it is called anew each time, never cached."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=60)
    """Under which it is reported, and named as answer metric or guardrail. Higher must mean better there."""
    function: str
    """`module:attribute`, called with a Question, its Answer and the chunks that stood in the prompt. It returns a
    number, or None where the metric does not apply to the question."""

    @model_validator(mode="after")
    def _callable(self) -> CustomMetric:
        # raised as pydantic's own error, so that it is reported with its line and beside all other problems
        try:
            self.load()
        except ComponentError as error:
            raise PydanticCustomError("metric_function", "{why}", {"why": str(error)}) from None
        return self

    def identity(self) -> dict[str, Any]:
        """Name, function and the hash of its source file: scores of edited code are other scores.

        Raises:
            ComponentError: It has no source file.
        """
        return {"name": self.name, **Custom(kind=self.function).identity(Resources())}

    def load(self) -> Callable[..., Any]:
        """The function.

        Raises:
            ComponentError: It cannot be imported, or cannot be called with three arguments.
        """
        if ":" not in self.function:
            raise ComponentError(f"metric '{self.name}': '{self.function}' is not module:attribute")
        function = load_attribute(self.function)
        if not callable(function) or inspect.isclass(function):
            raise ComponentError(f"metric '{self.name}': '{self.function}' is no function")
        try:
            inspect.signature(function).bind(None, None, None)
        except TypeError as error:
            raise ComponentError(
                f"metric '{self.name}': '{self.function}' must take a question, an answer and its contexts ({error})"
            ) from None
        except ValueError:  # built in C, without a signature to look at: it is tried
            pass
        return function


def custom_scores(
    questions: Sequence[Question], answers: Sequence[Answer], metrics: Sequence[CustomMetric]
) -> list[Score]:
    """Scores answers by functions of the user.

    Args:
        questions: N questions.
        answers: Their answers, in order; one that failed scores with its status, and no function is called.
        metrics: Which.

    Returns:
        For each question a score of each metric: `not_applicable` where the function returned None, `judge_error` where
        it raised, or returned something that is no finite number.

    Raises:
        ComponentError: A function cannot be imported.
    """
    functions = [(metric, metric.load()) for metric in metrics]
    return [
        _score(metric, function, question, answer)
        for question, answer in zip(questions, answers, strict=True)
        for metric, function in functions
    ]


def _score(metric: CustomMetric, function: Callable[..., Any], question: Question, answer: Answer) -> Score:
    if answer.status != "ok":
        return Score(question.id, metric.name, None, answer.status, answer.detail)
    try:
        value = function(question, answer, answer.contexts)
    except Exception as error:  # it is somebody's code and raises anything
        why = f"{metric.function} raised {type(error).__name__}: {error}"
        return Score(question.id, metric.name, None, "judge_error", why)
    if value is None:
        return Score(question.id, metric.name, None, "not_applicable", f"{metric.function} returned None")
    if not isinstance(value, Real) or not math.isfinite(value):
        why = f"{metric.function} returned {value!r:.100}, which is no finite number"
        return Score(question.id, metric.name, None, "judge_error", why)
    return Score(question.id, metric.name, float(value))
