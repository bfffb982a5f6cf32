"""Chunks inside chunks: small ones are embedded and found, larger ones round them are read.

Parent retrieval (LangChain's `ParentDocumentRetriever`) reads the parent of each chunk that is found. Auto-merging
(llama-index's `HierarchicalNodeParser` and `AutoMergingRetriever`) reads it only where enough of its children are
found.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from ...core.components import Resources, Settings
from ...core.types import Chunk, Document
from ._spans import Span, as_chunks, token_counter
from .merge import Family, stripped
from .recursive import split_recursively

__all__ = ["HierarchicalChunker", "HierarchicalSettings"]

_SEPARATORS = ("\n\n", "\n", ". ", " ", "")


class HierarchicalSettings(Settings):
    """Embeds small chunks and reads the larger ones round them: exact search, and room for the answer."""

    cost: ClassVar[str] = "milliseconds a document; only the smallest chunks are encoded, larger ones fill the prompt"
    kind: Literal["hierarchical"] = "hierarchical"
    sizes: tuple[int, ...] = Field(default=(2048, 512, 128), min_length=2)
    """Most tokens in a chunk of each level, largest first. The last level is embedded."""
    read: Literal["auto_merging", "parent"] = "auto_merging"
    """`parent` reads the next larger chunk of each that is found; `auto_merging` goes up, level by level, where more
    than `merge_ratio` of a chunk's parts are among the `top_k` found. Parents cost prompt tokens at every question."""
    merge_ratio: float = Field(default=0.5, ge=0, lt=1)
    """auto_merging: share of a chunk's parts that must be exceeded."""
    tokenizer: Literal["words", "cl100k"] = "words"
    """What a token is: `words` counts words and punctuation marks (fast), `cl100k` is OpenAI's byte-pair encoding."""

    @field_validator("sizes")
    @classmethod
    def _each_is_smaller(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if min(sizes) < 1 or any(small >= large for large, small in zip(sizes, sizes[1:], strict=False)):
            raise ValueError(f"each of the sizes must be smaller than the one before and at least 1, got {sizes}")
        return sizes

    def build(self, resources: Resources) -> HierarchicalChunker:
        """Makes the chunker."""
        return HierarchicalChunker(self)


class HierarchicalChunker:
    """Cuts a document into chunks, these into smaller ones, and so on."""

    def __init__(self, settings: HierarchicalSettings) -> None:
        """Loads the tokenizer."""
        self._settings = settings
        self._count = token_counter(settings.tokenizer).count

    def chunk(self, document: Document) -> list[Chunk]:
        """The smallest chunks, in order."""
        return as_chunks(document, self._leaves(document.text, {}))

    def family(self, document: Document) -> Family:
        """The larger chunk round each smaller one, for `merge_hits`."""
        parents: dict[Span, Span] = {}
        self._leaves(document.text, parents)
        return Family(parents, self._settings.merge_ratio if self._settings.read == "auto_merging" else None)

    def _leaves(self, text: str, parents: dict[Span, Span]) -> list[Span]:
        """Cuts level by level and notes the parent of each span; a span that is its own parent is left out."""
        level: list[Span] = [(0, len(text))]
        for depth, size in enumerate(self._settings.sizes):
            finer: list[Span] = []
            for span in level:
                pieces = split_recursively(text, span, _SEPARATORS, size, 0, self._count)
                finer += pieces
                whole = stripped(text, span)
                if depth:
                    found = (stripped(text, piece) for piece in pieces)
                    parents.update((piece, whole) for piece in found if piece != whole and piece[0] < piece[1])
            level = finer
        return level
