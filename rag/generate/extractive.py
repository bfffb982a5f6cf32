"""A reader without a model: it copies the sentence that shares most with the question."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from ...core.components import Resources, Settings
from ...core.types import Answer, Chunk, Question
from ..index.words import stop_words, words

__all__ = ["ExtractiveGenerator", "ExtractiveSettings"]

_HEADING_WEIGHT = 0.5
# a sentence ends at .!? before a space and a capital, digit or quote; a line break always ends one
_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(]?[A-Z0-9])|\n+")
_MARKS = re.compile(r"^\s*(?:#+|[-*+]|\d+[.)])\s+")


class ExtractiveSettings(Settings):
    """Copies the best sentences of the passages: free, deterministic, and the floor that an LLM has to beat."""

    cost: ClassVar[str] = "none; under 1 ms a question"

    kind: Literal["extractive"] = "extractive"
    sentences: int = Field(default=1, ge=1)
    """Sentences copied, in order of score. More answers more, in more words."""
    threshold: float = Field(default=0.35, ge=0, le=1)
    """Least share of the question's words, by weight, that a sentence must hold; below it the reader abstains."""
    cite: bool = True
    """Puts the passage's reference in square brackets after the sentence."""
    abstention: str = Field(default="Not documented [none]", min_length=1)
    """What is answered where no sentence reaches the threshold."""

    def build(self, resources: Resources) -> ExtractiveGenerator:
        """Makes the reader."""
        return ExtractiveGenerator(self)


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence and the words that count for it."""

    text: str
    ref: str
    words: frozenset[str]
    heading: frozenset[str]


class ExtractiveGenerator:
    """Scores sentences by the share of the question's words that they hold.

    A word weighs log(1 + n / (1 + sentences that hold it)) over the n sentences of the question's passages, so a word
    in every sentence weighs little. A word that stands only in the passage's title or headings counts half. The
    earlier sentence wins a tie.
    """

    def __init__(self, settings: ExtractiveSettings) -> None:
        """Makes the reader; see `ExtractiveSettings`."""
        self._settings = settings
        self._stops = stop_words("english")

    def generate(self, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]) -> list[Answer]:
        """Answers each question from its passages, best first."""
        answers: list[Answer] = []
        for question, chunks in zip(questions, contexts, strict=True):
            started = time.perf_counter()
            text = self._answer(question.text, chunks)
            seconds = time.perf_counter() - started
            answers.append(Answer(question.id, text, tuple(chunks), seconds=seconds))
        return answers

    def _answer(self, question: str, chunks: Sequence[Chunk]) -> str:
        asked = frozenset(self._words([question])[0])
        sentences = self._sentences(chunks)
        counts = Counter(word for sentence in sentences for word in sentence.words & asked)
        weights = {word: math.log(1 + len(sentences) / (1 + counts[word])) for word in sorted(asked)}
        total = sum(weights.values())
        if not total:
            return self._settings.abstention

        def score(sentence: _Sentence) -> float:
            near = sentence.heading - sentence.words
            exact = sum(weight for word, weight in weights.items() if word in sentence.words)
            above = sum(weight for word, weight in weights.items() if word in near)
            return (exact + _HEADING_WEIGHT * above) / total

        scored = [(score(sentence), sentence) for sentence in sentences]
        best = sorted((pair for pair in scored if pair[0] >= self._settings.threshold), key=lambda pair: -pair[0])
        if not best:
            return self._settings.abstention
        return "; ".join(self._shown(sentence) for _, sentence in best[: self._settings.sentences])

    def _shown(self, sentence: _Sentence) -> str:
        return f"{sentence.text} [{sentence.ref}]" if self._settings.cite else sentence.text

    def _sentences(self, chunks: Sequence[Chunk]) -> list[_Sentence]:
        found: list[_Sentence] = []
        for chunk in chunks:
            # a heading is no answer; its words count by `heading`
            lines = [line for line in chunk.text.split("\n") if not line.lstrip().startswith("#")]
            texts = [_MARKS.sub("", part).strip() for part in _END.split("\n".join(lines))]
            texts = [text for text in texts if text]
            heading = frozenset(self._words([" ".join((chunk.title, *chunk.heading))])[0])
            for text, held in zip(texts, self._words(texts), strict=True):
                found.append(_Sentence(text, chunk.ref or chunk.doc_id, frozenset(held), heading))
        return found

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        return words(texts, "english", self._stops)
