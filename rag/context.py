"""What is embedded with a chunk: nothing, its title, its heading path, or the sentences beside it.

Only the text that is embedded changes; the chunk, its offsets and what the LLM reads stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import Field

from ..core.components import Resources, Settings, component_section
from ..core.errors import DataError
from ..core.types import Chunk, Document

__all__ = [
    "CONTEXTS",
    "Context",
    "ContextSection",
    "HeadingSettings",
    "NeighboursSettings",
    "NoneSettings",
    "TitleSettings",
    "embedding_texts",
]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LONGEST = 1000  # characters of a sentence; longer ones are cut, so that long documents stay cheap


@runtime_checkable
class Context(Protocol):
    """Makes the text that is embedded for a chunk."""

    def text(self, chunk: Chunk, document: Document) -> str:
        """The chunk's text with its context."""
        ...


class NoneSettings(Settings):
    """The chunk's own text alone."""

    cost: ClassVar[str] = "nothing"
    kind: Literal["none"] = "none"

    def build(self, resources: Resources) -> Context:
        """Makes the component."""
        return _Alone()


class TitleSettings(Settings):
    """The document's title, then the text: tells alike passages of different documents apart."""

    cost: ClassVar[str] = "a few tokens a chunk"
    kind: Literal["title"] = "title"

    def build(self, resources: Resources) -> Context:
        """Makes the component."""
        return _Title()


class HeadingSettings(Settings):
    """`Title > Section > Sub`, then the text: for facts whose paragraph does not repeat what the heading says."""

    cost: ClassVar[str] = "5 to 20 tokens a chunk"
    kind: Literal["heading"] = "heading"
    separator: str = " > "
    """Stands between the titles."""

    def build(self, resources: Resources) -> Context:
        """Makes the component."""
        return _Heading(self.separator)


class NeighboursSettings(Settings):
    """The sentences before and after the chunk as well, for small chunks that lean on what stands beside them."""

    cost: ClassVar[str] = "2 x sentences more to embed a chunk"
    kind: Literal["neighbours"] = "neighbours"
    sentences: int = Field(default=1, ge=1, le=20)
    """Sentences on each side."""

    def build(self, resources: Resources) -> Context:
        """Makes the component."""
        return _Neighbours(self.sentences)


CONTEXTS = (NoneSettings, TitleSettings, HeadingSettings, NeighboursSettings)
"""Settings of the built-in contexts."""

ContextSection = component_section("context", *CONTEXTS)
"""Type of a config field that takes an embedding context."""


class _Alone:
    def text(self, chunk: Chunk, document: Document) -> str:
        return chunk.text


class _Title:
    def text(self, chunk: Chunk, document: Document) -> str:
        return f"{document.title}\n{chunk.text}" if document.title else chunk.text


class _Heading:
    def __init__(self, separator: str) -> None:
        self._separator = separator

    def text(self, chunk: Chunk, document: Document) -> str:
        path = chunk.heading
        # The first heading mostly is the title, which should not stand there twice.
        if document.title and path[:1] != (document.title,):
            path = (document.title, *path)
        return f"{self._separator.join(path)}\n{chunk.text}" if path else chunk.text


class _Neighbours:
    def __init__(self, sentences: int) -> None:
        self._sentences = sentences

    def text(self, chunk: Chunk, document: Document) -> str:
        reach = _LONGEST * self._sentences
        before = _sentences(document.text[max(0, chunk.start - reach) : chunk.start])[-self._sentences :]
        after = _sentences(document.text[chunk.end : chunk.end + reach])[: self._sentences]
        return " ".join([*before, chunk.text, *after])


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def embedding_texts(
    chunks: Sequence[Chunk],
    documents_by_id: Mapping[str, Document],
    settings: Any,
    resources: Resources | None = None,
) -> list[str]:
    """The text to embed for each chunk, in order.

    Args:
        chunks: Chunks.
        documents_by_id: At least the documents of these chunks.
        settings: A `ContextSection` value.
        resources: For a component from outside that needs them.

    Raises:
        DataError: A chunk's document is missing.
    """
    context: Context = settings.build(resources or Resources())
    missing = sorted({chunk.doc_id for chunk in chunks} - documents_by_id.keys())
    if missing:
        raise DataError(f"{len(missing)} documents of the chunks are not in the corpus, the first is {missing[0]}")
    return [context.text(chunk, documents_by_id[chunk.doc_id]) for chunk in chunks]
