"""The questions of all documents by patterns, as candidates for the filters."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.types import Document, Evidence, Question
from .._near import normal_form
from ._headings import Names
from .extractive import extract_questions
from .filters import Candidate, question_id
from .passages import Passage, in_turn

__all__ = ["documents_by_question", "pattern_candidates"]


def pattern_candidates(documents: Sequence[Document], seed: int) -> list[Candidate]:
    """All questions that the patterns make, one of each document in turn, in a drawn order."""
    names = Names(document.text for document in documents)
    found: list[Candidate] = []
    for document in documents:
        for item in extract_questions(document, names):
            text = document.text[item.start : item.end]
            heading = document.heading_path(item.start)
            passage = Passage(document.id, item.start, item.end, text, document.title, heading)
            evidence = (Evidence(document.id, text, item.start, item.end),)
            tags = {"kind": "single", "pattern": item.pattern}
            question = Question(question_id(item.text, evidence), item.text, item.answer, evidence, tags)
            found.append(Candidate(question, "single", (passage,)))
    passages = [candidate.passages[0] for candidate in found]
    order = {passage.key: place for place, passage in enumerate(in_turn(passages, seed, "single"))}
    return sorted(found, key=lambda candidate: (order[candidate.passages[0].key], candidate.question.id))


def documents_by_question(candidates: Sequence[Candidate]) -> dict[str, list[str]]:
    """The documents that a question arises from, sorted, by the question's normal form."""
    places: dict[str, set[str]] = {}
    for candidate in candidates:
        places.setdefault(normal_form(candidate.question.text), set()).add(candidate.passages[0].doc_id)
    return {text: sorted(found) for text, found in places.items()}
