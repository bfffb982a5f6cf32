"""Sentences of a document as offsets: Punkt's, and never across a paragraph, a list item or a table row."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ._spans import Span
from .recursive import split_recursively

__all__ = ["SentenceFinder"]

# A blank line; or a line break before a heading, a list item or a table row.
_BREAK = re.compile(r"\n[ \t]*\n\s*|\n(?=[ \t]*(?:[|*+-]|\#{1,6}[ ]|\d+[.)][ ]))")
_SEPARATORS = ("\n", ", ", " ", "")


class SentenceFinder:
    """Finds sentences by NLTK's Punkt (Kiss & Strunk 2006), as llama-index does, and cuts those that are too long."""

    def __init__(self, count: Callable[[str], int], size: int) -> None:
        """Loads the tokenizer.

        Args:
            count: Counts the tokens of a text.
            size: Most tokens of a sentence.
        """
        from nltk.tokenize.punkt import PunktSentenceTokenizer

        self._punkt: Any = PunktSentenceTokenizer()
        self._count = count
        self._size = size

    def spans(self, text: str) -> list[Span]:
        """Adjacent stretches in order, each with the white space after it; together they are the whole text."""
        cuts = sorted({0, *(match.end() for match in _BREAK.finditer(text)), len(text)})
        spans: list[Span] = []
        for start, end in zip(cuts, cuts[1:], strict=False):
            part = text[start:end]
            inner = sorted({0, *(at for at, _ in self._punkt.span_tokenize(part)), len(part)})
            for a, b in zip(inner, inner[1:], strict=False):
                spans += self._cut(text, (start + a, start + b))
        return spans

    def _cut(self, text: str, span: Span) -> list[Span]:
        if self._count(text[span[0] : span[1]]) <= self._size:
            return [span]
        return split_recursively(text, span, _SEPARATORS, self._size, 0, self._count)
