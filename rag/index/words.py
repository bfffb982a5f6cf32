"""Text to words for lexical matching."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

__all__ = ["Compounds", "StopWords", "stop_words", "words"]

Compounds = Literal["split", "both"]
StopWords = Literal["english", "german", "dutch", "french", "spanish", "italian", "portuguese"]

# runs of letters and digits, joined by the signs that identifiers have: E-417, door.retry_max, /v2/parcels
_WORD = re.compile(r"\w+(?:[-._/:]\w+)*")
_PART = re.compile(r"[^\W_]+")


def stop_words(which: str | Sequence[str] | None) -> frozenset[str]:
    """Words too common to tell texts apart: bm25s's list of a language, the words given, none for None."""
    if which is None:
        return frozenset()
    if not isinstance(which, str):
        return frozenset(word.lower() for word in which)
    from bm25s import stopwords

    lists = {"english": "EN", "portuguese": "PORTUGUESE"}
    return frozenset(getattr(stopwords, f"STOPWORDS_{lists.get(which, which.upper())}"))


def words(
    texts: Iterable[str], stemmer: str | None, stops: frozenset[str] = frozenset(), compounds: Compounds = "both"
) -> list[list[str]]:
    """Cuts texts into lower-case words, without stop words, stemmed.

    Args:
        texts: The texts.
        stemmer: Language of the Snowball stemmer; None leaves words as they are.
        stops: Words left out.
        compounds: `split` gives the parts of joined words such as `E-417`; `both` gives the whole as well, unstemmed.
    """
    from Stemmer import Stemmer

    stem = Stemmer(stemmer) if stemmer else None
    result: list[list[str]] = []
    for text in texts:
        parts: list[str] = []
        wholes: list[str] = []
        for match in _WORD.finditer(text.lower()):
            whole = match.group()
            inner = _PART.findall(whole)
            parts += [part for part in inner if part not in stops]
            if compounds == "both" and len(inner) > 1:
                wholes.append(whole)
        result.append((stem.stemWords(parts) if stem else parts) + wholes)
    return result
