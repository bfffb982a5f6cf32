"""Components with a planted fault, and a reader that has none, for checking the diagnosis (see diagnosis.py).

They stand in for broken parts of a pipeline; none of them is of use for anything else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field
from ragladder.core.components import Model, Resources
from ragladder.core.types import Answer, Chunk, Document, Hit, Question
from ragladder.rag.parse import ParseSettings, parser_settings

ABSTENTION = "Not documented"
_LETTERS = re.compile(r"\w+")


def _bare(text: str) -> str:
    return " ".join(_LETTERS.findall(text.lower()))


class HalfParser:
    """Gives the first half of each document: what stands in the second is lost in parsing."""

    class Settings(Model):
        """Which format it stands in for."""

        extension: str
        """With its dot."""

    def __init__(self, settings: Settings, resources: Resources) -> None:
        self._inner = parser_settings(ParseSettings(), f"file{settings.extension}").build(resources)

    def parse(self, path: str, doc_id: str) -> Document:
        document = self._inner.parse(path, doc_id)
        half = document.text[: len(document.text) // 2]
        sections = tuple(
            replace(section, end=min(section.end, len(half)))
            for section in document.sections
            if section.start < len(half)
        )
        return replace(document, text=half, sections=sections, pages=tuple(p for p in document.pages if p < len(half)))


class BlindEmbedder:
    """Gives random vectors: nothing is retrieved but by luck."""

    dimension = 64

    def encode(self, texts: Sequence[str], role: str) -> Any:
        draw = np.random.default_rng(len(texts) + (role == "query"))
        vectors = draw.standard_normal((len(texts), self.dimension)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class UpsideDownReranker:
    """Puts the best last."""

    def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
        return [[Hit(hit.chunk, float(place)) for place, hit in enumerate(reversed(found))] for found in hits]


class Reader:
    """Gives the reference answer where the passages that it reads hold all the evidence, and abstains otherwise."""

    class Settings(Model):
        """What is wrong with it; nothing by default."""

        reads: int | None = Field(default=None, ge=1)
        """Passages that it looks at: with one, a worse order loses answers."""
        prompt: int | None = Field(default=None, ge=1)
        """Passages that fit into its prompt; the others are cut off."""
        easily_distracted: bool = False
        """Fails as soon as there is a passage without evidence."""
        rambles: bool = False
        """Answers everything wrongly."""
        fails: bool = False
        """Gives no answer at all: a failure, with its status."""

    def __init__(self, settings: Settings, resources: Resources) -> None:
        self._settings = settings

    def generate(self, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]) -> list[Answer]:
        return [self._answer(question, chunks) for question, chunks in zip(questions, contexts, strict=True)]

    def _answer(self, question: Question, chunks: Sequence[Chunk]) -> Answer:
        shown = tuple(chunks[: self._settings.prompt])
        if self._settings.fails:
            return Answer(question.id, "", shown, "generation_error", "planted")
        return Answer(question.id, self._text(question, shown[: self._settings.reads]), shown)

    def _text(self, question: Question, chunks: Sequence[Chunk]) -> str:
        if self._settings.rambles:
            return "Somebody should look into that one day."
        texts = [_bare(chunk.text) for chunk in chunks]
        wanted = [_bare(evidence.text) for evidence in question.evidence]
        if not wanted or not all(any(part in text or text in part for text in texts if text) for part in wanted):
            return ABSTENTION
        useless = [text for text in texts if not any(part in text or text in part for part in wanted)]
        return ABSTENTION if self._settings.easily_distracted and useless else question.answer
