"""Listwise reranking: an LLM is shown numbered passages and says in which order they answer the question."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ...core.chat import ChatModel, ChatRequest, ChatSection, Completion, Message
from ...core.components import Resources, Settings
from ...core.types import Hit
from .order import shown
from .result import Failure, Reranked, whole

__all__ = ["ListwiseReranker", "ListwiseSettings"]

_PROMPT = (
    "Rank the {count} passages below by how well they answer the question, the best first. Name every passage once, by "
    'its number. Reply with JSON alone: {"ranking": [2, 1, …]}\n\nQuestion: {question}\n\n{passages}\n\n'
    "Question: {question}"
)
_SLOT = re.compile(r"\{(question|passages|count)\}")


class ListwiseSettings(Settings):
    """An LLM sorts the passages, a window at a time from the bottom up (RankGPT, Sun et al. 2023).

    A reply that names no ranking, or a passage that is not there, is a failure of that question: it gets the status
    `parse_error`, and never the order of retrieval in silence. Passages that a reply leaves out stand below those that
    it names, in the order that they had; one named twice counts at its first place.
    """

    cost: ClassVar[str] = "about (depth - window) / step + 1 completions a question, of `window` passages each"

    kind: Literal["listwise"] = "listwise"
    llm: ChatSection  # pyright: ignore[reportInvalidTypeForm]
    """Which model: `openai` for an endpoint, `local` for a model on this machine. Small ones do this badly."""
    depth: int = Field(default=20, ge=2)
    """Hits that are sorted. More can bring up evidence from further down; calls grow with it."""
    window: int = Field(default=10, ge=2, le=50)
    """Passages a call. More needs fewer calls with longer prompts; models lose passages in the middle of long ones."""
    step: int = Field(default=5, ge=1)
    """How far the window moves up between calls; below `window`, so that the best of one go on into the next."""
    characters: int = Field(default=1500, ge=50)
    """Characters of a passage that are shown; the rest is cut."""
    with_heading: bool = True
    """Shows the document's title and headings above the passage."""
    prompt: str = _PROMPT
    """What the model is asked; {question}, {passages} and {count} are filled in."""
    max_tokens: int = Field(default=256, ge=8)
    """Most tokens of a reply: about four a passage of the window."""

    @field_validator("prompt")
    @classmethod
    def _asks(cls, value: str) -> str:
        for slot in ("question", "passages"):
            if f"{{{slot}}}" not in value:
                raise ValueError(f"the prompt lacks {{{slot}}}")
        return value

    @model_validator(mode="after")
    def _overlaps(self) -> ListwiseSettings:
        if self.step >= self.window:
            raise ValueError(f"step ({self.step}) must be below window ({self.window}), or nothing moves on upwards")
        return self

    @property
    def reads_scores(self) -> bool:
        """The order of retrieval is read, its scores are not."""
        return False

    def build(self, resources: Resources) -> ListwiseReranker:
        """Makes the reranker with its model.

        Raises:
            ConfigError: A key is missing.
            DataError: There is no such model.
        """
        return ListwiseReranker(self.llm.build(resources), self)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The model's identity, the prompt and the window."""
        kept = self.model_dump(mode="json", exclude={"llm"})
        return {**kept, "llm": self.llm.identity(resources), "version": self.version}


@dataclass
class _Row:
    """One question under way."""

    question: str
    hits: list[Hit]
    failure: Failure | None = None
    spent: list[Completion] = field(default_factory=list)


class ListwiseReranker:
    """A chat model that sorts passages.

    Attributes:
        depth: Hits that it wants to see.
        chat: The model.
    """

    def __init__(self, chat: ChatModel, settings: ListwiseSettings) -> None:
        """Takes a ready model; `settings.llm` is not looked at."""
        self.depth = settings.depth
        self.chat = chat
        self._settings = settings

    def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
        """Sorts the first `depth` hits of each question; deeper ones are left out. A score is 1 / rank.

        Raises:
            StageError: It failed on a question; `attempt` goes on instead.
        """
        return whole(self.attempt(questions, hits))

    def attempt(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> Reranked:
        """As `rerank`; a question that fails has no hits, and its reason.

        Raises:
            EndpointError: The endpoint cannot be reached.
            BudgetError: The budget is used up.
        """
        rows = [_Row(question, list(row[: self.depth])) for question, row in zip(questions, hits, strict=True)]
        step, window = self._settings.step, self._settings.window
        # all questions' windows at one height go together, so that an endpoint answers them side by side
        for done in range(0, self.depth, step):
            asked = [row for row in rows if row.failure is None and _reaches(row, done, step, window)]
            places = [_window(row, done, window) for row in asked]
            requests = [self._request(row, *place) for row, place in zip(asked, places, strict=True)]
            for row, place, reply in zip(asked, places, self.chat.complete(requests), strict=True):
                self._take(row, place, reply)
        spent = [reply for row in rows for reply in row.spent]
        sorted_ = [row.hits if row.failure is None else [] for row in rows]
        return Reranked(
            [[Hit(hit.chunk, 1 / rank) for rank, hit in enumerate(row, 1)] for row in sorted_],
            {place: row.failure for place, row in enumerate(rows) if row.failure},
            seconds=sum(reply.seconds for reply in spent),
            prompt_tokens=sum(reply.prompt_tokens for reply in spent),
            completion_tokens=sum(reply.completion_tokens for reply in spent),
        )

    def _request(self, row: _Row, start: int, end: int) -> ChatRequest:
        settings = self._settings
        texts = [shown(hit.chunk, settings.with_heading)[: settings.characters] for hit in row.hits[start:end]]
        passages = "\n\n".join(f"[{number}] {text.strip()}" for number, text in enumerate(texts, 1))
        values = {"question": row.question, "passages": passages, "count": str(len(texts))}
        text = _SLOT.sub(lambda match: values[match[1]], self._settings.prompt)
        return ChatRequest((Message("user", text),), self._settings.max_tokens, json_schema=_schema(len(texts)))

    def _take(self, row: _Row, place: tuple[int, int], reply: Completion) -> None:
        row.spent.append(reply)
        if reply.status != "ok":
            row.failure = Failure(reply.status, f"listwise reranking: {reply.detail}")
            return
        start, end = place
        try:
            ranking = _ranking(reply.text, end - start)
        except ValueError as error:
            row.failure = Failure("parse_error", f"listwise reranking: {error}")
            return
        part = row.hits[start:end]
        rest = [number for number in range(len(part)) if number not in ranking]
        row.hits[start:end] = [part[number] for number in (*ranking, *rest)]


def _window(row: _Row, done: int, window: int) -> tuple[int, int]:
    """Start and end of the window once the view has moved up by `done` from the bottom."""
    end = len(row.hits) - done
    return max(0, end - window), end


def _reaches(row: _Row, done: int, step: int, window: int) -> bool:
    """Whether a window at this height still shows something new: the one before did not reach the top."""
    return len(row.hits) > 1 and (done == 0 or len(row.hits) - (done - step) > window)


def _ranking(text: str, count: int) -> list[int]:
    """Places, from 0, in the order that a reply names them, each once.

    Raises:
        ValueError: No list of numbers, or a number of no passage.
    """
    body = text.strip()
    if body.startswith("```"):
        body = body.strip("`").removeprefix("json").strip()
    try:
        value = json.loads(body)
    except ValueError:
        raise ValueError(f"the reply is not JSON: {text[:120]!r}") from None
    value = value.get("ranking") if isinstance(value, dict) else value
    if not isinstance(value, list) or not value or not all(type(one) is int for one in value):
        raise ValueError(f"the reply holds no list 'ranking' of numbers: {text[:120]!r}")
    wrong = [one for one in value if not 1 <= one <= count]
    if wrong:
        raise ValueError(f"the reply names passage {wrong[0]}, and there are {count}")
    return list(dict.fromkeys(one - 1 for one in value))


def _schema(count: int) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 1, "maximum": count}
    return {
        "title": "ranking",
        "type": "object",
        "properties": {"ranking": {"type": "array", "items": number, "minItems": 1, "maxItems": count}},
        "required": ["ranking"],
        "additionalProperties": False,
    }
