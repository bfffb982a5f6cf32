"""What the vector of a chunk knows beside its text.

    none        nothing
    title       the document's title
    heading     its heading path
    neighbours  the sentences beside it
    llm         a sentence or two that an LLM writes (situate.py)
    late        all that stands round it: the encoder reads the whole document (late.py)

Only what is embedded changes; the chunk, its offsets and what the LLM reads stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import Field

from ..core.components import Resources, Settings, component_section
from ..core.errors import ConfigError, DataError
from ..core.types import Chunk, Document
from .situate import LLMContextSettings

__all__ = [
    "CONTEXTS",
    "Context",
    "ContextSection",
    "HeadingSettings",
    "LLMContextSettings",
    "LateSettings",
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


class LateSettings(Settings):
    """Late chunking: the encoder reads whole documents, and a chunk's vector is the mean of its tokens'.

    The text alone is what BM25, the reranker and the finetuning of the embedder see.
    """

    cost: ClassVar[str] = "one pass over the documents for all chunk sizes; 2 x dimension bytes of disk a token"
    kind: Literal["late"] = "late"
    overlap: int = Field(default=64, ge=0)
    """Tokens that two windows share where a document is longer than the model's `max_length`. More context at the cuts,
    and the pass takes max_length / (max_length - overlap) times as long."""

    def build(self, resources: Resources) -> Context:
        """Makes the component: the text is the chunk's own; the vectors are pooled in late.py."""
        return _Alone()


CONTEXTS = (NoneSettings, TitleSettings, HeadingSettings, NeighboursSettings, LLMContextSettings, LateSettings)
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

    A context with a method `texts(chunks, documents_by_id)` is shown all chunks at once, others one by one.

    Args:
        chunks: Chunks.
        documents_by_id: At least the documents of these chunks.
        settings: A `ContextSection` value.
        resources: For contexts that need them: `llm`, and components from outside.

    Raises:
        ConfigError: The context is `llm`, and there are no resources for its model and cache.
        DataError: A chunk's document is missing.
    """
    if resources is None and isinstance(settings, LLMContextSettings):
        raise ConfigError("context 'llm' needs resources: its model and the folder that its contexts are kept in")
    context: Context = settings.build(resources or Resources())
    missing = sorted({chunk.doc_id for chunk in chunks} - documents_by_id.keys())
    if missing:
        raise DataError(f"{len(missing)} documents of the chunks are not in the corpus, the first is {missing[0]}")
    if hasattr(context, "texts"):
        return list(context.texts(chunks, documents_by_id))  # type: ignore[attr-defined]
    return [context.text(chunk, documents_by_id[chunk.doc_id]) for chunk in chunks]
