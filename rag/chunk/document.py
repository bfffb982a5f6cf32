"""One chunk a document, for collections of short ones."""

from __future__ import annotations

from typing import ClassVar, Literal

from ...core.components import Resources, Settings
from ...core.types import Chunk, Document
from ._spans import as_chunks

__all__ = ["DocumentChunker", "DocumentSettings"]


class DocumentSettings(Settings):
    """The whole document as one chunk. Embedders read only its beginning, as far as their window goes."""

    cost: ClassVar[str] = "nothing"
    kind: Literal["document"] = "document"

    def build(self, resources: Resources) -> DocumentChunker:
        """Makes the chunker."""
        return DocumentChunker()


class DocumentChunker:
    """Leaves a document whole."""

    def chunk(self, document: Document) -> list[Chunk]:
        """One chunk, none for an empty document."""
        return as_chunks(document, [(0, len(document.text))])
