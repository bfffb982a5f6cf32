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
from typing import Literal

from ..core.types import Document, Question

__all__ = ["FUZZY_THRESHOLD", "Gold", "GoldSpan", "locate", "locate_text", "spans_of"]

FUZZY_THRESHOLD = 85.0
"""Least similarity (0 to 100) at which a fuzzy match counts as found."""
SHORTEST_LOOSE = 12
"""Letters and digits that a text must have to be searched for other than exactly: shorter ones match by chance."""
_MARGIN = 10  # characters by which a fuzzy match may be off at its ends


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
    """Finds the evidence of all questions; each document is normalised at most once.

    Args:
        questions: Any number.
        documents: A parsed corpus.

    Returns:
        Spans by question id.
    """
    texts = {document.id: document.text for document in documents}
    folded: dict[str, tuple[str, list[int]]] = {}
    gold: dict[str, tuple[GoldSpan, ...]] = {}
    for question in questions:
        spans = []
        for evidence in question.evidence:
            text = texts.get(evidence.doc_id)
            if text is None:
                spans.append(_lost(evidence.doc_id, evidence.text))
                continue
            if evidence.start is not None and text[evidence.start : evidence.end] == evidence.text:
                end = evidence.start + len(evidence.text)
                spans.append(GoldSpan(evidence.doc_id, evidence.start, end, 100.0, "exact", len(evidence.text)))
                continue
            if evidence.text not in text and evidence.doc_id not in folded:
                folded[evidence.doc_id] = _fold(text)
            spans.append(locate_text(evidence.text, evidence.doc_id, text, folded.get(evidence.doc_id)))
        gold[question.id] = tuple(spans)
    return gold


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
    needle, _ = _fold(wanted)
    if len(needle) < SHORTEST_LOOSE:
        return _lost(doc_id, wanted)
    haystack, offsets = folded or _fold(text)
    start = haystack.find(needle)
    if start >= 0:
        end = offsets[start + len(needle) - 1] + 1
        return GoldSpan(doc_id, offsets[start], end, 100.0, "normalised", len(wanted))
    from rapidfuzz import fuzz

    match = fuzz.partial_ratio_alignment(needle, haystack, score_cutoff=FUZZY_THRESHOLD)
    if match is None or match.dest_end <= match.dest_start or len(haystack) < len(needle) * 0.8:
        return _lost(doc_id, wanted)
    around = haystack[max(0, match.dest_start - _MARGIN) : match.dest_end + _MARGIN]
    if any(number not in around for number in re.findall(r"[0-9]+", unicodedata.normalize("NFKC", wanted))):
        # a like row or sentence with another value is not the evidence
        return _lost(doc_id, wanted)
    start, end = offsets[match.dest_start], offsets[match.dest_end - 1] + 1
    return GoldSpan(doc_id, start, end, round(match.score, 2), "fuzzy", len(wanted))


def _lost(doc_id: str, wanted: str) -> GoldSpan:
    return GoldSpan(doc_id, -1, -1, 0.0, "lost", len(wanted))


def _fold(text: str) -> tuple[str, list[int]]:
    """Letters and digits in compatibility form and lower case, and where each stood."""
    letters: list[str] = []
    offsets: list[int] = []
    for offset, character in enumerate(text):
        if character.isascii():
            if character.isalnum():
                letters.append(character.lower())
                offsets.append(offset)
            continue
        for folded in unicodedata.normalize("NFKD", character).casefold():
            if folded.isalnum():
                letters.append(folded)
                offsets.append(offset)
    return "".join(letters), offsets
