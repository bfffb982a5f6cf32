"""A teacher LLM as curator of the training answers: it grades, rejects and, where asked, rewrites them.

It sees a question, the passages of one of its prompts, and the answer. A rewrite is taken only where its words stand in
the passages and it cites what the answer cited, so that a teacher's own knowledge does not come in. What the teacher
could not grade stays as it was, and is counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from ..core.chat import ChatModel, ChatRequest, ChatSection, Completion, Message
from ..core.components import Model
from .checks import supported
from .examples import Example

__all__ = ["Curated", "TeacherSettings", "curate"]

_CITED = re.compile(r"\[[^\[\]]*\]\s*$")
_SCHEMA = {
    "title": "verdict",
    "type": "object",
    "properties": {
        "grade": {"type": "integer", "minimum": 1, "maximum": 5},
        "answer": {"type": "string"},
    },
    "required": ["grade", "answer"],
    "additionalProperties": False,
}
_TASK = """You check training data. Below are a prompt with passages and a question, and the answer that a model is to
learn. Grade the answer from 1 to 5: 5 is right, complete and supported by the passages; 3 is right but poorly written
or incomplete; 1 is wrong or not supported. Then write the answer as it should be: same form, same language, same
reference in square brackets, only what the passages say. Reply with JSON alone: {"grade": 1 to 5, "answer": "..."}"""


class TeacherSettings(Model):
    """An LLM that curates the training answers. Costs one call for each train question that has an answer."""

    llm: ChatSection  # pyright: ignore[reportInvalidTypeForm]
    """Which model; one that is clearly stronger than the one that is trained."""
    min_grade: int = Field(default=3, ge=1, le=5)
    """Answers with a lower grade, from 1 to 5, are left out of training."""
    rewrite: bool = False
    """Takes the teacher's wording in place of the reference answer, where the passages support it. Your house style
    becomes the teacher's: look at the samples of `ragladder llm data`."""
    max_tokens: int = Field(default=300, ge=32)
    """Most tokens of a verdict."""


@dataclass(frozen=True, slots=True)
class Curated:
    """The examples after the teacher.

    Attributes:
        examples: What is trained on, in the same order.
        rejected: Questions whose answer was graded too low, with the grade.
        rewritten: Questions whose answer was replaced.
        refused: Questions whose rewrite the passages do not support, or that lost its citation; the answer stays.
        failed: Questions that the teacher gave no usable verdict on; they stay as they were.
    """

    examples: tuple[Example, ...]
    rejected: tuple[tuple[str, int], ...] = ()
    rewritten: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def summary(self) -> str:
        """The counts in a line."""
        return (
            f"teacher: {len(self.rejected)} questions rejected, {len(self.rewritten)} answers rewritten, "
            f"{len(self.refused)} rewrites refused, {len(self.failed)} without a verdict (kept as they were)"
        )


def curate(examples: Sequence[Example], teacher: ChatModel, settings: TeacherSettings) -> Curated:
    """Has the answers graded; abstentions pass unseen, for retrieval decides whether they are right.

    Args:
        examples: What would be trained on.
        teacher: The model of `settings.llm`.
        settings: What is done with the grades.

    Raises:
        EndpointError: The teacher's server cannot be reached.
        BudgetError: Its budget is used up.
    """
    first: dict[str, Example] = {}
    for example in examples:
        if example.kind == "oracle":
            first.setdefault(example.question_id, example)
    asked = list(first.values())
    replies = teacher.complete([_request(example, settings) for example in asked])
    verdicts = {example.question_id: _verdict(reply) for example, reply in zip(asked, replies, strict=True)}
    rejected, rewritten, refused, failed = [], {}, [], []
    for example in asked:
        verdict = verdicts[example.question_id]
        if verdict is None:
            failed.append(example.question_id)
        elif verdict[0] < settings.min_grade:
            rejected.append((example.question_id, verdict[0]))
        elif settings.rewrite and verdict[1].strip() != example.completion.strip():
            if _acceptable(example, verdict[1]):
                rewritten[example.question_id] = verdict[1].strip()
            else:
                refused.append(example.question_id)
    gone = {question for question, _ in rejected}
    kept = tuple(
        replace(e, completion=rewritten.get(e.question_id, e.completion)) if e.kind == "oracle" else e
        for e in examples
        if e.kind != "oracle" or e.question_id not in gone
    )
    return Curated(kept, tuple(rejected), tuple(rewritten), tuple(refused), tuple(failed))


def _request(example: Example, settings: TeacherSettings) -> ChatRequest:
    prompt = "\n\n".join(message.content for message in example.messages)
    text = f"{_TASK}\n\n<prompt>\n{prompt}\n</prompt>\n\n<answer>\n{example.completion}\n</answer>"
    return ChatRequest((Message("user", text),), max_tokens=settings.max_tokens, json_schema=_SCHEMA)


def _verdict(reply: Completion) -> tuple[int, str] | None:
    """Grade and answer; None where the reply holds none."""
    if reply.status != "ok":
        return None
    start, end = reply.text.find("{"), reply.text.rfind("}")
    try:
        found: Any = json.loads(reply.text[start : end + 1])
        grade, answer = found["grade"], found["answer"]
    except (ValueError, KeyError, TypeError):
        return None
    return (grade, answer) if type(grade) is int and 1 <= grade <= 5 and isinstance(answer, str) else None


def _acceptable(example: Example, answer: str) -> bool:
    cited = _CITED.search(example.completion)
    if cited is not None and cited[0].strip() not in answer:
        return False
    return bool(answer.strip()) and supported(replace(example, completion=answer), 1.0)
