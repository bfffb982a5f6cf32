"""A chunker from outside: one chunk a paragraph, short ones joined to the next."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from ragladder.core.components import Resources
from ragladder.core.types import Chunk, Document

__all__ = ["Paragraphs"]


class Paragraphs:
    """Cuts at empty lines; a paragraph shorter than `least` is joined to the next."""

    class Settings(BaseModel):
        """What a config can say."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        least: int = Field(default=40, ge=1)
        """Fewest characters of a chunk, but for the last."""

    def __init__(self, settings: Settings, resources: Resources) -> None:
        """Takes the settings; `resources` has the device and folders."""
        self._least = settings.least

    def chunk(self, document: Document) -> list[Chunk]:
        """Chunks with exact offsets, in order of start."""
        chunks: list[Chunk] = []
        start = end = 0
        for part in document.text.split("\n\n"):
            end += len(part)
            if end - start >= self._least:
                chunks += self._made(document, start, end)
                start = end + 2
            end += 2
        return chunks + self._made(document, start, len(document.text))

    def _made(self, document: Document, start: int, end: int) -> list[Chunk]:
        text = document.text[start:end]
        if not text.strip():
            return []
        return [Chunk(document.id, start, end, text, document.ref, document.title, document.heading_path(start))]
