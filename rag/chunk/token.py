"""Windows of a fixed number of tokens: the plainest chunker, and the usual baseline."""

from __future__ import annotations

from typing import ClassVar, Literal

from ...core.components import Resources
from ...core.types import Chunk, Document
from ._spans import SizedSettings, as_chunks, token_counter

__all__ = ["TokenChunker", "TokenSettings"]


class TokenSettings(SizedSettings):
    """Windows of `size` tokens, each starting `size - overlap` tokens after the one before. Ignores sentences."""

    cost: ClassVar[str] = "milliseconds a document"
    kind: Literal["token"] = "token"

    def build(self, resources: Resources) -> TokenChunker:
        """Makes the chunker."""
        return TokenChunker(self)


class TokenChunker:
    """Cuts a document into windows of tokens."""

    def __init__(self, settings: TokenSettings) -> None:
        """Loads the tokenizer."""
        self._settings = settings
        self._tokens = token_counter(settings.tokenizer)

    def chunk(self, document: Document) -> list[Chunk]:
        """Windows in order; the last may be shorter, and none is wholly inside the one before."""
        tokens = self._tokens.spans(document.text)
        size, step = self._settings.size, self._settings.size - self._settings.overlap
        starts = range(0, max(len(tokens) - self._settings.overlap, 1), step) if tokens else ()
        return as_chunks(document, [(tokens[at][0], tokens[min(at + size, len(tokens)) - 1][1]) for at in starts])
