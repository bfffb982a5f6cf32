"""A sentence or two by an LLM that say where a chunk stands in its document, embedded before it.

The recipe is Anthropic's "Contextual retrieval" (2024). One completion a chunk, kept for good under the cache folder;
an endpoint's `budget` is a hard stop, after which the same command goes on where it stopped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ..core.cache import JsonCache, digest
from ..core.chat import ChatModel, ChatRequest, ChatSection, Message
from ..core.components import Resources, Settings
from ..core.errors import StageError
from ..core.types import Chunk, Document

__all__ = ["SITUATE", "LLMContextSettings", "SituatedContext"]

SITUATE = (
    "Document: {title}\n\n{document}\n\nThis passage stands in the document:\n\n{chunk}\n\n"
    "Say in one or two short sentences what the passage is about and where in the document it stands, so that it can "
    "be found by search: name the things, products, people and dates that the passage itself leaves out. Write "
    "nothing else."
)
"""The built-in prompt."""

_SLOT = re.compile(r"\{(title|document|chunk)\}")
_KEEP_EVERY = 64  # completions written at a time: a kill loses at most so many


class LLMContextSettings(Settings):
    """A sentence or two by an LLM, then the text: for chunks that do not say what they speak of."""

    cost: ClassVar[str] = "one completion a chunk, kept for good; about document_characters/4 prompt tokens each"
    kind: Literal["llm"] = "llm"
    llm: ChatSection  # pyright: ignore[reportInvalidTypeForm]
    """Which model writes: `openai` for an endpoint (with `budget` as a hard stop), `local` for one on this machine."""
    document_characters: int = Field(default=6000, ge=200)
    """Characters of the document that the model is shown, with the chunk in the middle. More tells it more, and is what
    a completion costs."""
    max_tokens: int = Field(default=100, ge=8)
    """Most tokens that it writes; they are embedded with each chunk."""
    prompt: str = SITUATE
    """What it is asked, with {document}, {chunk} and, if you like, {title}."""

    @field_validator("prompt")
    @classmethod
    def _slots(cls, value: str) -> str:
        for slot in ("document", "chunk"):
            if f"{{{slot}}}" not in value:
                raise ValueError(f"the prompt lacks {{{slot}}}")
        return value

    def build(self, resources: Resources) -> SituatedContext:
        """Makes the component with its model.

        Raises:
            ConfigError: A key is missing.
            DataError: There is no such model.
        """
        return SituatedContext(self.llm.build(resources), self, resources)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The model's identity and what it is asked."""
        kept = self.model_dump(mode="json", exclude={"llm"})
        return {**kept, "llm": self.llm.identity(resources), "version": self.version}


class SituatedContext:
    """Writes contexts with a chat model; each chunk of a document once, whatever asks for it.

    Attributes:
        chat: The model.
    """

    def __init__(self, chat: ChatModel, settings: LLMContextSettings, resources: Resources) -> None:
        """Takes a ready model; contexts are kept below `resources.cache_dir`."""
        self.chat = chat
        self._settings = settings
        self._identity = digest(settings.identity(resources))
        self._cache = JsonCache(resources.cache_dir / "contexts")

    def text(self, chunk: Chunk, document: Document) -> str:
        """The chunk's text with its context."""
        return self.texts([chunk], {document.id: document})[0]

    def texts(self, chunks: Sequence[Chunk], documents_by_id: Mapping[str, Document]) -> list[str]:
        """The chunks' texts with their contexts, in order.

        Raises:
            StageError: The model failed on some; those that it wrote are kept.
            EndpointError: The endpoint cannot be reached.
            BudgetError: The budget is used up.
        """
        rows = self._rows(chunks, documents_by_id)
        return [f"{row['text']}\n{chunk.text}" for row, chunk in zip(rows, chunks, strict=True)]

    def usage(self, chunks: Sequence[Chunk], documents_by_id: Mapping[str, Document]) -> tuple[int, int]:
        """Prompt and completion tokens that the contexts cost when they were first written."""
        rows = self._rows(chunks, documents_by_id)
        return sum(row["prompt_tokens"] for row in rows), sum(row["completion_tokens"] for row in rows)

    def _rows(self, chunks: Sequence[Chunk], documents_by_id: Mapping[str, Document]) -> list[dict[str, Any]]:
        requests = [self._request(chunk, documents_by_id[chunk.doc_id]) for chunk in chunks]
        keys = [digest([self._identity, request.identity()]) for request in requests]
        known = self._cache.get_many(keys)
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        failures: list[str] = []
        waiting = list(missing.items())
        for at in range(0, len(waiting), _KEEP_EVERY):
            part = waiting[at : at + _KEEP_EVERY]
            made: dict[str, Any] = {}
            for (key, _), done in zip(part, self.chat.complete([request for _, request in part]), strict=True):
                text = " ".join(done.text.split())
                if done.status == "ok" and text:
                    tokens = {"prompt_tokens": done.prompt_tokens, "completion_tokens": done.completion_tokens}
                    made[key] = {"text": text, **tokens}
                else:
                    failures.append(done.detail or done.status if done.status != "ok" else "nothing was written")
            self._cache.put_many(made)
            known.update(made)
        if failures:
            raise StageError(
                f"context: the LLM wrote no context for {len(failures)} of {len(chunks)} chunks, the first because: "
                f"{failures[0]}. The others are kept; run the same command again to ask for these"
            )
        return [known[key] for key in keys]

    def _request(self, chunk: Chunk, document: Document) -> ChatRequest:
        values = {"title": document.title, "document": self._excerpt(chunk, document), "chunk": chunk.text}
        prompt = _SLOT.sub(lambda match: values[match[1]], self._settings.prompt)
        return ChatRequest((Message("user", prompt),), max_tokens=self._settings.max_tokens)

    def _excerpt(self, chunk: Chunk, document: Document) -> str:
        """As much of the document as the settings allow, the chunk in the middle where it has text on both sides."""
        most = self._settings.document_characters
        start = max(0, min((chunk.start + chunk.end - most) // 2, len(document.text) - most))
        return document.text[start : start + most]
