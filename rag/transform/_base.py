"""What the query transforms share: settings, one call a question, and the reading of replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field, field_validator

from ...core.chat import ChatModel, ChatRequest, ChatSection, Completion, Message
from ...core.components import Resources, Settings
from .expansion import Combine, Expansion

__all__ = ["LLMTransform", "LLMTransformSettings", "listed"]

Reader = Callable[[str, Sequence[str]], tuple[tuple[str, ...], tuple[str, ...]]]
"""From a question and the replies to queries and passages; ValueError with the reason where they say neither."""


class LLMTransformSettings(Settings):
    """What the query transforms share."""

    kind: Any
    llm: ChatSection  # pyright: ignore[reportInvalidTypeForm]
    """Which model: `openai` for an endpoint, `local` for one on this machine. It need not be the one that answers."""
    prompt: str = ""
    """What it is asked."""
    max_tokens: int = Field(default=256, ge=1)
    """Most tokens of a reply. A reply cut short is a failure where it is a list."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0 is greedy, so that queries are the same each time."""
    seed: int | None = None
    """Seed of the sampling, for a temperature above 0."""
    combine: Combine = "rrf"
    """How the results of several queries become one in each channel: `rrf` adds reciprocal ranks, `max` takes a chunk's
    best score (which keeps the unit that `retrieve.threshold` is in)."""

    @field_validator("prompt")
    @classmethod
    def _asks(cls, value: str) -> str:
        if "{question}" not in value:
            raise ValueError("the prompt lacks {question}")
        return value

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The model's identity, the prompt and what is asked of the model."""
        kept = self.model_dump(mode="json", exclude={"llm", "combine"})
        return {**kept, "llm": self.llm.identity(resources), "version": self.version}


def listed(text: str, key: str) -> tuple[str, ...]:
    """The texts of a reply such as {"queries": ["…", "…"]}, in their order, each once; a fenced block will do.

    Args:
        text: The reply.
        key: Name of the list; a bare list will do.

    Raises:
        ValueError: No list of texts can be read.
    """
    body = text.strip()
    if body.startswith("```"):
        body = body.strip("`").removeprefix("json").strip()
    try:
        value = json.loads(body)
    except ValueError:
        raise ValueError(f"the reply is not JSON: {text[:120]!r}") from None
    value = value.get(key) if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"the reply holds no list '{key}' of texts: {text[:120]!r}")
    found = tuple(dict.fromkeys(one.strip() for one in value if one.strip()))
    if not found:
        raise ValueError(f"the list '{key}' of the reply is empty")
    return found


class LLMTransform:
    """A query transform by a chat model.

    Attributes:
        chat: The model.
        combine: How the results of several queries become one.
    """

    def __init__(
        self,
        chat: ChatModel,
        settings: LLMTransformSettings,
        read: Reader,
        schema: dict[str, Any] | None = None,
        draws: int = 1,
        values: dict[str, Any] | None = None,
    ) -> None:
        """Takes a ready model.

        Args:
            chat: The model; `settings.llm` is not looked at.
            settings: Prompt and limits.
            read: Makes queries and passages of the replies.
            schema: JSON schema of a reply; None for free text.
            draws: Replies a question.
            values: What else the prompt's slots stand for.
        """
        self.chat = chat
        self.combine: Combine = settings.combine
        self._settings = settings
        self._read = read
        self._schema = schema
        self._draws = draws
        self._values = values or {}

    def expand(self, questions: Sequence[str]) -> list[Expansion]:
        """What to search for in place of each question; failures of single ones are a status.

        Raises:
            EndpointError: The endpoint cannot be reached.
            BudgetError: The budget is used up.
        """
        requests = [self._request(question, draw) for question in questions for draw in range(self._draws)]
        replies = self.chat.complete(requests)
        each = [replies[start : start + self._draws] for start in range(0, len(replies), self._draws)]
        return [self._expansion(question, some) for question, some in zip(questions, each, strict=True)]

    def _request(self, question: str, draw: int) -> ChatRequest:
        text = self._settings.prompt
        for name, value in self._values.items():
            text = text.replace("{" + name + "}", str(value))
        text = text.replace("{question}", question)  # last, so that braces in a question stay as they are
        settings = self._settings
        return ChatRequest(
            (Message("user", text),),
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            json_schema=self._schema,
            repeat=draw,
        )

    def _expansion(self, question: str, replies: Sequence[Completion]) -> Expansion:
        spent: dict[str, Any] = {
            "seconds": sum(reply.seconds for reply in replies),
            "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
            "completion_tokens": sum(reply.completion_tokens for reply in replies),
        }
        failed = next((reply for reply in replies if reply.status != "ok"), None)
        if failed is not None:
            return Expansion((), status=failed.status, detail=f"query transform: {failed.detail}", **spent)
        try:
            queries, passages = self._read(question, [reply.text for reply in replies])
        except ValueError as error:
            return Expansion((), status="parse_error", detail=f"query transform: {error}", **spent)
        return Expansion(queries, passages, **spent)
