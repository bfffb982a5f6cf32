"""What a written question must pass before it is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ...core.cache import digest
from ...core.types import Chunk, Evidence, Question
from .._near import NearIndex
from ..answers import normalise_answer, token_f1
from ..gold import SHORTEST_LOOSE, locate_text
from .asking import Asker, Prompt
from .passages import Passage
from .prompts import AnswerReply, ask_closed_book, ask_with_excerpts
from .settings import Kind, SynthFilters

__all__ = ["Candidate", "Filters", "Retrieve", "agreement", "question_id", "verbatim"]

_MOST_QUESTION = 400
_ABOUT_THE_TEXT = re.compile(
    r"\b(the|this|these|that) (passage|excerpt|paragraph)s?\b"
    r"|\b(this|these) (text|document|section|article|table|page|context)s?\b"
    r"|\b(passage|excerpt|document|text) [12]\b"
    r"|\bthe (text|document|section|article|context) (say|state|mention|describe|provide|give|specif)"
    r"|\b(according to|mentioned in|described in|stated in) the (text|document|section|article|context|table)\b"
    r"|\b(mentioned|described|listed|given|stated) above\b",
    re.IGNORECASE,
)


class Retrieve(Protocol):
    """Finds chunks for questions."""

    def __call__(self, questions: Sequence[str], k: int) -> Sequence[Sequence[Chunk]]:
        """Up to k chunks a question, best first."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question under examination.

    Attributes:
        question: As it would be kept.
        kind: Of the question.
        passages: What it was written from.
        found: Chunks that a search for it found, where one was made.
    """

    question: Question
    kind: Kind
    passages: tuple[Passage, ...]
    found: tuple[Chunk, ...] = field(default=(), repr=False)


Fell = Callable[[Candidate, str, str], None]
"""Notes a candidate that fell, at which filter, and why."""


def question_id(text: str, evidence: Sequence[Evidence]) -> str:
    """An id that question and evidence determine."""
    return "syn-" + digest([text, [[e.doc_id, e.text] for e in evidence]])[:12]


def agreement(given: str, reference: str) -> float:
    """How far an answer agrees with a reference, 0 to 1: token F1, or 1 where it holds the reference's words in a row.

    A number of the reference that the answer lacks makes it 0.
    """
    got, wanted = normalise_answer(given), normalise_answer(reference)
    if not got or not wanted:
        return 0.0
    if set(re.findall(r"\d+", wanted)) - set(re.findall(r"\d+", got)):
        return 0.0
    return 1.0 if f" {wanted} " in f" {got} " else token_f1(given, reference)


def verbatim(excerpt: str, passage: Passage, settings: SynthFilters) -> tuple[Evidence | None, str]:
    """The stretch of a passage that an excerpt quotes, as the document has it; or None, and why.

    Args:
        excerpt: As an LLM gave it.
        passage: Where it should stand.
        settings: Least likeness, and the longest stretch.
    """
    excerpt = excerpt.strip().strip("\"'“”").strip()
    if not excerpt:
        return None, "no excerpt was given"
    span = locate_text(excerpt, passage.doc_id, passage.text)
    if not span.found or span.score < settings.evidence:
        return None, f"not in the passage: '{excerpt[:60]}'"
    start, end = span.start, span.end
    while end < len(passage.text) and passage.text[end] in '.!?)”"':
        end += 1
    if end - start > settings.max_evidence:
        return None, f"{end - start} characters long"
    text = passage.text[start:end]
    if len(re.sub(r"\W", "", text)) < SHORTEST_LOOSE:
        return None, f"too short to be found again: '{text}'"
    first = passage.start + start
    return Evidence(passage.doc_id, text, first, first + len(text)), ""


class Filters:
    """The filters in their order, those without a call first.

    A question counts as there from the duplicate filter on, also where it falls later: asked again it would fall again.
    """

    def __init__(
        self,
        settings: SynthFilters,
        existing: Sequence[str],
        asker: Asker | None,
        retrieve: Retrieve | None,
        fell: Fell,
    ) -> None:
        """Makes the filters.

        Args:
            settings: Which, and how strict.
            existing: Questions that are there already, of which none is to be a duplicate.
            asker: For the filters that ask an LLM; they are left out where there is none.
            retrieve: For the round trip; it is left out where there is none.
            fell: Called for each candidate that falls.
        """
        self._settings = settings
        self._asker = asker
        self._retrieve = retrieve
        self._fell = fell
        self._seen = NearIndex(settings.near)
        for text in existing:
            self._seen.add(text)

    def passed(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates that pass all filters, in order."""
        left = [c for c in candidates if self._form(c)]
        left = [c for c in left if self._new(c)]
        left = self._round_trip(left)
        if self._asker is not None:
            left = self._answerable(self._asker, left)
            left = self._every_hop(self._asker, left)
            left = self._not_known(self._asker, left)
        return left

    def _form(self, candidate: Candidate) -> bool:
        text, answer = candidate.question.text, candidate.question.answer
        about = _ABOUT_THE_TEXT.search(text)
        why = ""
        if len(re.findall(r"\w+", text)) < 2 or len(text) > _MOST_QUESTION or "\n" in text:
            why = "no question of 2 words to 400 characters on one line"
        elif about is not None:
            why = f"speaks of the text: '{about.group()}'"
        elif candidate.question.answerable and not normalise_answer(answer):
            why = "no answer was given"
        if why:
            self._fell(candidate, "form", why)
        return not why

    def _new(self, candidate: Candidate) -> bool:
        other = self._seen.nearest(candidate.question.text)
        if other is not None:
            self._fell(candidate, "duplicate", f"as '{other[:80]}'")
            return False
        self._seen.add(candidate.question.text)
        return True

    def _round_trip(self, candidates: list[Candidate]) -> list[Candidate]:
        wanted = self._settings.round_trip or any(c.kind == "unanswerable" for c in candidates)
        if self._retrieve is None or not wanted or not candidates:
            return candidates
        k = self._settings.round_trip_k
        found = self._retrieve([candidate.question.text for candidate in candidates], k)
        left = []
        for candidate, chunks in zip(candidates, found, strict=True):
            missing = [e for e in candidate.question.evidence if not any(_holds(chunk, e) for chunk in chunks[:k])]
            if missing and self._settings.round_trip:
                self._fell(candidate, "round_trip", f"{missing[0].doc_id} is not among the first {k} chunks")
                continue
            left.append(replace(candidate, found=tuple(chunks[:k])))
        return left

    def _answerable(self, asker: Asker, candidates: list[Candidate]) -> list[Candidate]:
        """Answerable from the evidence; the unanswerable kind: neither from its passage nor what a search finds."""
        if not self._settings.answerable:
            return candidates

        def prompt(candidate: Candidate) -> Prompt[AnswerReply]:
            excerpts = [evidence.text for evidence in candidate.question.evidence]
            if candidate.kind == "unanswerable":
                found = [chunk.text for chunk in candidate.found[:5]]
                excerpts = list(dict.fromkeys([*(passage.text for passage in candidate.passages), *found]))
            title = ", ".join(dict.fromkeys(" > ".join((p.title, *p.heading[1:])) for p in candidate.passages))
            return ask_with_excerpts(candidate.question.text, excerpts, title)

        left = []
        for candidate, answer in self._answers(asker, "answerable", candidates, prompt):
            if candidate.kind == "unanswerable":
                if answer:
                    self._fell(candidate, "unanswerable", f"the documents do answer it: '{answer[:60]}'")
                    continue
            elif not self._same(answer, candidate, within=True):
                said = f"'{answer[:60]}'" if answer else "nothing"
                why = f"from the evidence: {said}, wanted: '{candidate.question.answer[:60]}'"
                self._fell(candidate, "answerable", why)
                continue
            left.append(candidate)
        return left

    def _every_hop(self, asker: Asker, candidates: list[Candidate]) -> list[Candidate]:
        """Multi-hop questions that no single excerpt answers."""
        left = candidates
        for hop in range(2 if self._settings.every_hop else 0):
            asked = [c for c in left if c.kind == "multi" and hop < len(c.question.evidence)]
            dropped = set()

            def prompt(candidate: Candidate, hop: int = hop) -> Prompt[AnswerReply]:
                return ask_with_excerpts(candidate.question.text, [candidate.question.evidence[hop].text])

            answered = self._answers(asker, "every_hop", asked, prompt)
            for candidate, answer in answered:
                if self._same(answer, candidate):
                    dropped.add(candidate.question.id)
                    self._fell(candidate, "every_hop", f"excerpt {hop + 1} alone answers it")
            kept = {c.question.id for c, _ in answered} - dropped
            left = [c for c in left if c.kind != "multi" or c.question.id in kept]
        return left

    def _not_known(self, asker: Asker, candidates: list[Candidate]) -> list[Candidate]:
        if not self._settings.closed_book:
            return candidates
        asked = [candidate for candidate in candidates if candidate.kind != "unanswerable"]
        known = {}
        for candidate, answer in self._answers(asker, "closed_book", asked, lambda c: ask_closed_book(c.question.text)):
            known[candidate.question.id] = self._same(answer, candidate)
            if known[candidate.question.id]:
                self._fell(candidate, "closed_book", f"answered without a document: '{answer[:60]}'")
        return [c for c in candidates if c.kind == "unanswerable" or known.get(c.question.id) is False]

    def _answers(
        self,
        asker: Asker,
        stage: str,
        candidates: Sequence[Candidate],
        prompt: Callable[[Candidate], Prompt[AnswerReply]],
    ) -> list[tuple[Candidate, str]]:
        """The LLM's answers, empty where it knows none; candidates without a reply that can be read fall."""
        replies = asker.ask([prompt(candidate) for candidate in candidates])
        answered = []
        for candidate, reply in zip(candidates, replies, strict=True):
            if reply.value is None:
                self._fell(candidate, reply.status, f"check '{stage}': {reply.detail}")
            else:
                answered.append((candidate, reply.value.answer.strip() if reply.value.known else ""))
        return answered

    def _same(self, answer: str, candidate: Candidate, within: bool = False) -> bool:
        """Whether an answer is the reference, or, where `within`, a part of it that says something."""
        wanted = candidate.question.answer
        if agreement(answer, wanted) >= self._settings.agreement:
            return True
        part = normalise_answer(answer)
        return within and bool(part) and f" {part} " in f" {normalise_answer(wanted)} "


def _holds(chunk: Chunk, evidence: Evidence) -> bool:
    """Whether a chunk covers at least half of the evidence."""
    if chunk.doc_id != evidence.doc_id or evidence.start is None or evidence.end is None:
        return False
    shared = min(chunk.end, evidence.end) - max(chunk.start, evidence.start)
    return 2 * shared >= evidence.end - evidence.start
