"""The concepts that every part shares: documents, chunks, hits, questions, evidence, answers, scores.

All are frozen. Offsets are counts of Python characters in `Document.text`, start included, end excluded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = [
    "SPLITS",
    "Answer",
    "Chunk",
    "Chunker",
    "Document",
    "Embedder",
    "Evidence",
    "Generator",
    "Hit",
    "Index",
    "Metric",
    "Parser",
    "Question",
    "Reranker",
    "Score",
    "Section",
    "Split",
    "Status",
]

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

Status = Literal["ok", "judge_error", "parse_error", "timeout", "generation_error", "not_applicable"]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the text below it, up to the next heading of its level or a higher one.

    Attributes:
        start: Offset of the heading line.
        end: Offset after the last character of the section.
        level: 1 for the topmost heading.
        path: Titles from the topmost heading down to this one.
    """

    start: int
    end: int
    level: int
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed file.

    Attributes:
        id: Path of the file below the corpus folder, with `/`; unique in a corpus.
        text: Markdown-like text: `#` headings, `|` tables, lists, paragraphs.
        title: First heading, or the file's title, or its name.
        ref: Short reference to cite, for instance `HW-207`; the id where no pattern is set.
        sections: In order of start; empty where the file has no headings.
        pages: Offset at which each page starts; empty for files without pages.
        metadata: Further facts about the file, for filters.
    """

    id: str
    text: str
    title: str
    ref: str
    sections: tuple[Section, ...] = ()
    pages: tuple[int, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def heading_path(self, offset: int) -> tuple[str, ...]:
        """Titles of the innermost section that holds an offset; empty outside of any."""
        path: tuple[str, ...] = ()
        for section in self.sections:
            if section.start > offset:
                break
            if section.end > offset:
                path = section.path
        return path


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of one document; `document.text[start:end] == text`."""

    doc_id: str
    start: int
    end: int
    text: str
    ref: str = ""
    title: str = ""
    heading: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Unique in a chunking: document and offsets."""
        return f"{self.doc_id}:{self.start}-{self.end}"


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved chunk; a higher score is better, and a list of hits is sorted by it."""

    chunk: Chunk
    score: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage of a document that answers a question.

    `text` is as a reader sees it; `start` and `end` are offsets in the text of one parser, None until located there.
    """

    doc_id: str
    text: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its reference answer and gold evidence; no evidence means that the documents do not answer it."""

    id: str
    text: str
    answer: str
    evidence: tuple[Evidence, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    split: Split | None = None

    @property
    def answerable(self) -> bool:
        """True where some document holds the answer."""
        return bool(self.evidence)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pipeline returned for a question.

    Attributes:
        question_id: Which question.
        text: The answer; empty where the status is not `ok`.
        contexts: The chunks that stood in the prompt, in their order.
        status: `ok`, or what went wrong.
        detail: What went wrong, in words.
        seconds: Wall-clock time of generation (a batch's time divided by its size).
        prompt_tokens: Tokens sent to the LLM; 0 for a reader without one.
        completion_tokens: Tokens that the LLM wrote.
    """

    question_id: str
    text: str
    contexts: tuple[Chunk, ...] = ()
    status: Status = "ok"
    detail: str = ""
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one question; `value` is None where the status is not `ok`."""

    question_id: str
    metric: str
    value: float | None
    status: Status = "ok"
    detail: str = ""


@runtime_checkable
class Parser(Protocol):
    """Turns a file into a document. Raises DataError for a file that it cannot read."""

    def parse(self, path: str, doc_id: str) -> Document: ...


@runtime_checkable
class Chunker(Protocol):
    """Cuts a document into chunks with exact offsets, in order of start."""

    def chunk(self, document: Document) -> list[Chunk]: ...


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors, float32, shape (len(texts), dimension); of length 1 unless `normalize: false` asks
    otherwise."""

    @property
    def dimension(self) -> int: ...

    def encode(self, texts: Sequence[str], role: Literal["query", "document"]) -> Any: ...


@runtime_checkable
class Index(Protocol):
    """Finds nearest vectors: (scores, positions), both of shape (queries, k), best first, -1 where fewer than k."""

    def search(self, vectors: Any, k: int) -> tuple[Any, Any]: ...


@runtime_checkable
class Reranker(Protocol):
    """Scores hits anew for each question; the result is sorted by the new score."""

    def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]: ...


@runtime_checkable
class Generator(Protocol):
    """Answers questions from their contexts; one answer a question, in order, failures as a status."""

    def generate(self, questions: Sequence[Question], contexts: Sequence[Sequence[Chunk]]) -> list[Answer]: ...


@runtime_checkable
class Metric(Protocol):
    """Scores answers; one score a question and metric name."""

    name: str

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> list[Score]: ...
