"""The passages that questions are written from: stretches of sections, taken from all documents in turn."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...core.types import Document

__all__ = ["Passage", "drawn", "in_turn", "passages_of", "related_pairs"]

_FEWEST_WORDS = 12  # a passage with fewer says too little to ask about
_MOST_POSTINGS = 20  # a word of more passages relates nothing
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document: `document.text[start:end] == text`."""

    doc_id: str
    start: int
    end: int
    text: str
    title: str
    heading: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Unique in a corpus."""
        return f"{self.doc_id}:{self.start}-{self.end}"


def passages_of(document: Document, size: int) -> list[Passage]:
    """Cuts a document at its headings, and long sections between paragraphs.

    Args:
        document: Parsed.
        size: Most characters of a passage; a single paragraph that is longer is cut at the last blank before it.
    """
    cuts = sorted({0, len(document.text), *(section.start for section in document.sections)})
    found = []
    for first, last in zip(cuts, cuts[1:], strict=False):
        for start, end in _pieces(document.text, first, last, size):
            text = document.text[start:end]
            if len(_WORD.findall(text)) >= _FEWEST_WORDS:
                found.append(Passage(document.id, start, end, text, document.title, document.heading_path(start)))
    return found


def _pieces(text: str, first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    """Spans without blanks at their ends, none longer than the size."""
    start = first
    while start < last:
        while start < last and text[start].isspace():
            start += 1
        end = last
        if end - start > size:
            mark = max(text.rfind("\n\n", start, start + size), start)
            mark = mark if mark > start else text.rfind("\n", start, start + size)
            mark = mark if mark > start else text.rfind(" ", start, start + size)
            end = mark if mark > start else start + size
        stop = end
        while stop > start and text[stop - 1].isspace():
            stop -= 1
        if stop > start:
            yield start, stop
        start = max(end, start + 1)


def drawn(documents: Sequence[Document], count: int, seed: int) -> list[Document]:
    """So many documents, drawn by a hash of their ids; all of them, in their order, where there are no more."""
    if len(documents) <= count:
        return list(documents)
    order = sorted(documents, key=lambda document: _draw(seed, "document", document.id))
    return order[:count]


def _draw(seed: int, salt: str, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{salt}:{text}".encode("utf-8", "surrogatepass")).digest()


def in_turn(passages: Sequence[Passage], seed: int, salt: str) -> list[Passage]:
    """The passages in a drawn order that takes one of each document, then the next of each.

    A document that is added changes the place of no other in relation to the rest.
    """
    groups: dict[str, list[Passage]] = defaultdict(list)
    for passage in passages:
        groups[passage.doc_id].append(passage)
    places: list[tuple[int, bytes, Passage]] = []
    for doc_id, members in groups.items():
        for number, passage in enumerate(sorted(members, key=lambda passage: _draw(seed, salt, passage.key))):
            places.append((number, _draw(seed, salt, doc_id), passage))
    return [passage for *_, passage in sorted(places, key=lambda place: place[:2])]


def related_pairs(passages: Sequence[Passage]) -> list[tuple[Passage, Passage]]:
    """For each passage the one of another document that shares most rare words with it; each pair once.

    A word weighs log(N / n), n of N passages holding it; words of one passage, or of more than 20, weigh nothing. So
    the work grows with the number of passages, not with that of pairs.
    """
    words = [frozenset(word for word in _WORD.findall(p.text.casefold()) if len(word) > 3) for p in passages]
    postings: dict[str, list[int]] = defaultdict(list)
    for place, held in enumerate(words):
        for word in held:
            postings[word].append(place)
    pairs: list[tuple[Passage, Passage]] = []
    seen: set[tuple[int, int]] = set()
    for place, passage in enumerate(passages):
        scores: dict[int, float] = defaultdict(float)
        for word in sorted(words[place]):  # a set's order differs between processes, and with it the last digits
            others = postings[word]
            if len(others) <= _MOST_POSTINGS:
                weight = math.log(len(passages) / len(others)) if len(others) > 1 else 0.0
                for other in others:
                    if passages[other].doc_id != passage.doc_id:
                        scores[other] += weight
        # ties go to the earlier passage
        ranked = sorted(((score, -other) for other, score in scores.items() if score > 0), reverse=True)
        for _, minus in ranked:
            pair = (min(place, -minus), max(place, -minus))
            if pair not in seen:
                seen.add(pair)
                pairs.append((passage, passages[-minus]))
                break
    return pairs
