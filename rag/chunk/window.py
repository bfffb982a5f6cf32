"""Sentence windows: a sentence is embedded and found, the sentences round it are read.

The method is that of llama-index's `SentenceWindowNodeParser` with its `MetadataReplacementPostProcessor`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from ...core.components import Resources, Settings
from ...core.types import Chunk, Document
from ._sentences import SentenceFinder
from ._spans import Span, as_chunks, token_counter
from .merge import Family, stripped

__all__ = ["SentenceWindowChunker", "SentenceWindowSettings"]


class SentenceWindowSettings(Settings):
    """Embeds each sentence alone and reads it with its neighbours: finds exactly, and answers from enough text."""

    cost: ClassVar[str] = "the corpus is encoded once, but in about 14 times as many vectors as chunks of 256 tokens"
    kind: Literal["sentence_window"] = "sentence_window"
    window: int = Field(default=3, ge=0, le=50)
    """Sentences on each side that are read too. Costs prompt tokens, and no encoding."""
    size: int = Field(default=128, ge=4)
    """Most tokens of a sentence; longer ones are cut at lines, commas and words."""
    tokenizer: Literal["words", "cl100k"] = "words"
    """What a token is: `words` counts words and punctuation marks (fast), `cl100k` is OpenAI's byte-pair encoding."""

    def build(self, resources: Resources) -> SentenceWindowChunker:
        """Makes the chunker."""
        return SentenceWindowChunker(self)


class SentenceWindowChunker:
    """Cuts a document into sentences."""

    def __init__(self, settings: SentenceWindowSettings) -> None:
        """Loads the tokenizers."""
        self._window = settings.window
        self._finder = SentenceFinder(token_counter(settings.tokenizer).count, settings.size)

    def chunk(self, document: Document) -> list[Chunk]:
        """A chunk a sentence, in order."""
        return as_chunks(document, self._finder.spans(document.text))

    def family(self, document: Document) -> Family:
        """The window of each sentence, for `merge_hits`."""
        spans = [stripped(document.text, span) for span in self._finder.spans(document.text)]
        spans = [span for span in spans if span[0] < span[1]]
        last = len(spans) - 1
        reach = self._window
        parents: dict[Span, Span] = {
            span: (spans[max(0, n - reach)][0], spans[min(last, n + reach)][1]) for n, span in enumerate(spans)
        }
        return Family(parents)
