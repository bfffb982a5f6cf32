"""Stretches of a text as (start, end) offsets: counting tokens, merging pieces, making chunks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ...core.components import Settings
from ...core.types import Chunk, Document

__all__ = ["SizedSettings", "Span", "TokenCounter", "as_chunks", "merge_spans", "token_counter"]

Span = tuple[int, int]

# A run of letters and digits, or one other sign: no visible character is outside of a token.
_WORD = re.compile(r"\w+|[^\w\s]")


class TokenCounter:
    """Tokens of a text as offsets; regular-expression words unless told otherwise."""

    def spans(self, text: str) -> list[Span]:
        """Start and end of each token, in order; together they hold every visible character."""
        return [match.span() for match in _WORD.finditer(text)]

    def count(self, text: str) -> int:
        """Number of tokens."""
        return len(_WORD.findall(text))


class _Cl100kCounter(TokenCounter):
    def __init__(self) -> None:
        self._encoding = _load_cl100k()

    def spans(self, text: str) -> list[Span]:
        tokens = self._encoding.encode_ordinary(text)
        _, starts = self._encoding.decode_with_offsets(tokens)
        # Tokens that share a character start at the same offset; all but the last of them are empty here.
        return [(start, end) for start, end in zip(starts, [*starts[1:], len(text)], strict=False)]

    def count(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))


@lru_cache(maxsize=1)
def _load_cl100k() -> Any:
    """OpenAI's cl100k_base from the copy that llama-index-core ships, so that nothing is downloaded.

    It takes as long as chunking some documents, and every chunker of a sweep asks for it.
    """
    from importlib.util import find_spec
    from pathlib import Path

    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    from ...core.errors import DataError

    spec = find_spec("llama_index.core")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    # The name is the sha1 of the address that tiktoken would load it from.
    name = "_static/tiktoken_cache/9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
    file = next((Path(folder) / name for folder in folders if (Path(folder) / name).is_file()), None)
    if file is None:
        raise DataError("the tokenizer 'cl100k' is not in this version of llama-index-core; use 'words'")
    pattern = (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    )
    sha256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
    ranks = load_tiktoken_bpe(str(file), expected_hash=sha256)
    return tiktoken.Encoding("cl100k_base", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def token_counter(name: Literal["words", "cl100k"]) -> TokenCounter:
    """The tokenizer of that name.

    Raises:
        DataError: Its vocabulary is not there.
    """
    return _Cl100kCounter() if name == "cl100k" else TokenCounter()


class SizedSettings(Settings):
    """What chunkers with a size have in common."""

    size: int = Field(default=256, ge=1)
    """Most tokens in a chunk. Smaller ones point more exactly, but lose their surroundings, and more are embedded."""
    overlap: int = Field(default=32, ge=0)
    """Tokens that a chunk repeats from the one before. Costs embedding time and index size in proportion to `size`."""
    tokenizer: Literal["words", "cl100k"] = "words"
    """What a token is: `words` counts words and punctuation marks (fast), `cl100k` is OpenAI's byte-pair encoding."""

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError(f"overlap ({self.overlap}) must be smaller than size ({self.size})")
        return self


def merge_spans(spans: Sequence[Span], lengths: Sequence[int], size: int, overlap: int) -> list[Span]:
    """Packs adjacent spans into longer ones, first fit, repeating whole spans from the end of the one before.

    The rule is that of LangChain's `TextSplitter._merge_splits` with kept separators.

    Args:
        spans: Adjacent stretches of a text, in order.
        lengths: Tokens of each.
        size: Most tokens of a merged span; a single longer span stays as it is.
        overlap: Most tokens repeated.
    """
    merged: list[Span] = []
    first = total = 0
    for position, length in enumerate(lengths):
        if total + length > size and first < position:
            merged.append((spans[first][0], spans[position - 1][1]))
            while first < position and (total > overlap or (total + length > size and total > 0)):
                total -= lengths[first]
                first += 1
        total += length
    if first < len(spans):
        merged.append((spans[first][0], spans[-1][1]))
    return merged


def as_chunks(
    document: Document, spans: Sequence[Span], heading: Callable[[int], tuple[str, ...]] | None = None
) -> list[Chunk]:
    """Chunks of a document: spans without the white space at their ends, empty and repeated ones left out."""
    heading = heading or document.heading_path
    chunks: list[Chunk] = []
    for start, end in spans:
        text = document.text[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        if not text or (chunks and (chunks[-1].start, chunks[-1].end) == (start, start + len(text))):
            continue
        chunks.append(
            Chunk(document.id, start, start + len(text), text, document.ref, document.title, tuple(heading(start)))
        )
    return chunks
