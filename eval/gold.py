"""Finds gold evidence in parsed text, so that every parser and chunker is scored against one truth.

Tried in this order: exactly; then on letters and digits alone (so that whitespace, hyphenation, ligatures, quotes and
table marks do not matter); then fuzzily, with the score kept and the numbers unchanged. Evidence found by none is lost
by that parser.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..core.types import Document, Evidence, Question

__all__ = ["FUZZY_THRESHOLD", "SHORTEST_LOOSE", "Gold", "GoldSpan", "fold", "locate", "locate_text", "spans_of"]

FUZZY_THRESHOLD = 85.0
"""Least similarity (0 to 100) at which a fuzzy match counts as found."""
SHORTEST_LOOSE = 12
"""Letters and digits that a text must have to be searched for other than exactly: shorter ones match by chance."""
_MARGIN = 10  # characters by which a fuzzy match may be off at its ends
_OTHER = re.compile(r"[^\x00-\x7f]+")
_ALNUM = np.array([chr(code).isalnum() for code in range(128)])


@dataclass(frozen=True, slots=True)
class GoldSpan:
    """One piece of evidence in the text of one parser.

    Attributes:
        doc_id: Its document.
        start: Offset of its first character; -1 where it is lost.
        end: Offset after its last character; -1 where it is lost.
        score: Similarity, 100 for an exact or normalised match, 0 where it is lost.
        method: How it was found.
        length: Characters of the evidence as it was given: what is missing where it is lost.
    """

    doc_id: str
    start: int
    end: int
    score: float
    method: Literal["exact", "normalised", "fuzzy", "lost"]
    length: int = 0

    @property
    def found(self) -> bool:
        """False where the parser lost the evidence."""
        return self.method != "lost"


Gold = Mapping[str, tuple[GoldSpan, ...]]
"""Gold spans by question id, in the order of the question's evidence; empty for a question without evidence."""


def locate(questions: Iterable[Question], documents: Iterable[Document]) -> dict[str, tuple[GoldSpan, ...]]:
    """Finds the evidence of all questions, document by document: the time grows with the text that has evidence.

    Each document is normalised at most once, and its normal form is kept only while its evidence is looked for.

    Args:
        questions: Any number.
        documents: A parsed corpus.

    Returns:
        Spans by question id.
    """
    questions = list(questions)
    found = [[_lost(evidence.doc_id, evidence.text) for evidence in question.evidence] for question in questions]
    wanted: dict[str, list[tuple[int, int, Evidence]]] = {}
    for key, question in enumerate(questions):
        for place, evidence in enumerate(question.evidence):
            wanted.setdefault(evidence.doc_id, []).append((key, place, evidence))
    for document in documents:
        folded = None
        for key, place, evidence in wanted.pop(document.id, ()):
            text, start = document.text, evidence.start
            if start is not None and text[start : evidence.end] == evidence.text:
                end = start + len(evidence.text)
                found[key][place] = GoldSpan(document.id, start, end, 100.0, "exact", len(evidence.text))
                continue
            if folded is None and evidence.text not in text:
                folded = fold(text)
            found[key][place] = locate_text(evidence.text, document.id, text, folded)
    return {question.id: tuple(spans) for question, spans in zip(questions, found, strict=True)}


def spans_of(gold: Gold, question: Question) -> tuple[GoldSpan, ...]:
    """The spans of a question.

    Raises:
        ValueError: It has evidence that was never looked for; taken as unanswerable, it would vanish from the means.
    """
    spans = gold.get(question.id, ())
    if question.answerable and not spans:
        raise ValueError(f"question '{question.id}' has evidence but no gold spans; pass what locate() found for it")
    return spans


def locate_text(wanted: str, doc_id: str, text: str, folded: tuple[str, Sequence[int]] | None = None) -> GoldSpan:
    """Finds one passage in one text.

    Args:
        wanted: The passage.
        doc_id: Of the text.
        text: Where to look.
        folded: The text's normal form, if it is already known.
    """
    start = text.find(wanted)
    if start >= 0:
        return GoldSpan(doc_id, start, start + len(wanted), 100.0, "exact", len(wanted))
    needle, _ = fold(wanted)
    if len(needle) < SHORTEST_LOOSE:
        return _lost(doc_id, wanted)
    haystack, offsets = folded or fold(text)
    start = haystack.find(needle)
    if start >= 0:
        first, last = int(offsets[start]), int(offsets[start + len(needle) - 1])
        return GoldSpan(doc_id, first, last + 1, 100.0, "normalised", len(wanted))
    from rapidfuzz import fuzz

    match = fuzz.partial_ratio_alignment(needle, haystack, score_cutoff=FUZZY_THRESHOLD)
    if match is None or match.dest_end <= match.dest_start or len(haystack) < len(needle) * 0.8:
        return _lost(doc_id, wanted)
    around = haystack[max(0, match.dest_start - _MARGIN) : match.dest_end + _MARGIN]
    if any(number not in around for number in re.findall(r"[0-9]+", unicodedata.normalize("NFKC", wanted))):
        # a like row or sentence with another value is not the evidence
        return _lost(doc_id, wanted)
    first, last = int(offsets[match.dest_start]), int(offsets[match.dest_end - 1])
    return GoldSpan(doc_id, first, last + 1, round(match.score, 2), "fuzzy", len(wanted))


def _lost(doc_id: str, wanted: str) -> GoldSpan:
    return GoldSpan(doc_id, -1, -1, 0.0, "lost", len(wanted))


def fold(text: str) -> tuple[str, Sequence[int]]:
    """Letters and digits in compatibility form and lower case, and where each stood.

    Args:
        text: N characters.

    Returns:
        M letters and digits; and M offsets in the text, rising, int32, or int64 for a text beyond 2^31 characters.
    """
    if text.isascii():
        return _fold_ascii(text, 0)
    parts: list[str] = []
    offsets: list[np.ndarray] = []
    done = 0
    for run in _OTHER.finditer(text):
        letters, places = _fold_ascii(text[done : run.start()], done)
        parts.append(letters)
        offsets.append(places)
        for offset in range(run.start(), run.end()):
            folded = unicodedata.normalize("NFKD", text[offset]).casefold()
            kept = "".join(character for character in folded if character.isalnum())
            parts.append(kept)
            offsets.append(np.full(len(kept), offset, dtype=_offset_type(offset)))
        done = run.end()
    letters, places = _fold_ascii(text[done:], done)
    return "".join([*parts, letters]), np.concatenate([*offsets, places])  # type: ignore[return-value]


def _fold_ascii(text: str, first: int) -> tuple[str, Any]:
    """`fold` of ASCII text that begins at an offset."""
    codes = np.frombuffer(text.lower().encode("ascii"), dtype=np.uint8)
    kept = np.flatnonzero(_ALNUM[codes])
    return codes[kept].tobytes().decode("ascii"), (kept + first).astype(_offset_type(first + len(text)))


def _offset_type(largest: int) -> type[np.signedinteger]:
    return np.int32 if largest < 2**31 else np.int64
