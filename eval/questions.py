"""Questions with reference answers and gold evidence, one JSON object a line."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ..core.components import Model
from ..core.errors import DataError
from ..core.types import Evidence, Question, Split

__all__ = [
    "EvidenceRow",
    "QuestionRow",
    "by_split",
    "files_identity",
    "load_questions",
    "question_files",
    "save_questions",
    "with_evidence",
]

MOST_PROBLEMS = 20
"""Problems that a message lists before it counts the rest."""
TABLES = (".csv", ".tsv")
"""Suffixes of tables, which an import turns into questions."""


class EvidenceRow(Model):
    """Where a passage that answers the question stands."""

    doc_id: str = Field(min_length=1)
    """Path of the document below the corpus folder."""
    text: str = Field(min_length=1)
    """The passage as a reader sees it."""
    start: int | None = Field(default=None, ge=0)
    """Offset in the source, where known; checked against the text before it is used."""
    end: int | None = Field(default=None, ge=0)
    """Offset after the passage's last character."""


class QuestionRow(Model):
    """One line of a questions file."""

    id: str = Field(min_length=1)
    """Unique over all files."""
    question: str = Field(min_length=1)
    """As a user would ask it."""
    answer: str = ""
    """Reference answer; for a question that the documents do not answer, how to say so."""
    evidence: tuple[EvidenceRow, ...] = ()
    """Gold passages; none means that the documents do not answer the question."""
    tags: dict[str, str] = {}
    """Slices of the report, for instance `kind: table`."""
    split: Literal["train", "dev", "test"] | None = None
    """train: finetuning; dev: every choice; test: the gate."""

    def to_question(self) -> Question:
        """The row as a core type."""
        evidence = tuple(Evidence(e.doc_id, e.text, e.start, e.end) for e in self.evidence)
        return Question(self.id, self.question, self.answer, evidence, self.tags, self.split)


def question_files(path: Path) -> list[Path]:
    """The files that a path stands for: itself, or the `.jsonl` files of a folder, sorted.

    Raises:
        DataError: Nothing there, or a folder without `.jsonl` files.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix.lower() in TABLES:
            new = f"ragladder data import csv {shlex.quote(str(path))} FOLDER"
            raise DataError(f"questions: {path} is a table, and JSONL is read here; convert it first: {new}")
        return [path]
    if not path.is_dir():
        raise DataError(f"questions: no such file or folder: {path}")
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise DataError(f"questions: no .jsonl file in {path}")
    return files


def files_identity(path: Path) -> list[list[str]]:
    """Names and sha256 of the question files, for stage keys and provenance."""
    return [[f.name, hashlib.sha256(f.read_bytes()).hexdigest()] for f in question_files(path)]


def load_questions(path: Path) -> tuple[Question, ...]:
    """Reads questions from a `.jsonl` file or a folder of them.

    Raises:
        DataError: Listing the broken lines (up to 20) by file and number, and ids that stand twice.
    """
    problems: list[str] = []
    questions: list[Question] = []
    origin: dict[str, str] = {}
    for file in question_files(path):
        for number, line in _lines(file):
            where = f"{file}:{number}"
            row = _parse(line, where, problems)
            if row is None:
                continue
            if row.id in origin:
                problems.append(f"{where}: id '{row.id}' stands twice (first at {origin[row.id]}); ids must be unique")
                continue
            origin[row.id] = where
            questions.append(row.to_question())
    if problems:
        rest = len(problems) - MOST_PROBLEMS
        shown = problems[:MOST_PROBLEMS] + ([f"and {rest} more"] if rest > 0 else [])
        raise DataError("questions cannot be used:\n" + "\n".join(shown))
    if not questions:
        raise DataError(f"questions: {path} holds none")
    return tuple(questions)


def _lines(file: Path) -> Iterable[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")  # Windows editors set a byte order mark
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{file}:{line}: not UTF-8 text; save the file as UTF-8") from None
    return [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]


def _parse(line: str, where: str, problems: list[str]) -> QuestionRow | None:
    try:
        data: Any = json.loads(line)
    except json.JSONDecodeError as error:
        problems.append(f"{where}: not valid JSON: {error.msg} at column {error.colno}")
        return None
    try:
        return QuestionRow.model_validate(data)
    except ValidationError as error:
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            problems.append(f"{where}: {key or 'line'}: {problem['msg']}")
        return None


def save_questions(path: Path, questions: Sequence[Question]) -> None:
    """Writes questions in the native format.

    Raises:
        DataError: The file cannot be written.
    """
    rows = []
    for q in questions:
        evidence = tuple(EvidenceRow(doc_id=e.doc_id, text=e.text, start=e.start, end=e.end) for e in q.evidence)
        tags = dict(q.tags)
        row = QuestionRow(id=q.id, question=q.text, answer=q.answer, evidence=evidence, tags=tags, split=q.split)
        rows.append(row.model_dump_json(exclude_none=True))
    try:
        Path(path).write_text("\n".join(rows) + "\n", encoding="utf-8")
    except (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def by_split(questions: Iterable[Question], split: Split) -> tuple[Question, ...]:
    """The questions of one split, in order.

    Raises:
        DataError: There are none.
    """
    questions = tuple(questions)
    chosen = tuple(q for q in questions if q.split == split)
    if not chosen:
        counts = Counter(q.split or "without a split" for q in questions)
        found = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise DataError(
            f"questions: none has split '{split}' (found: {found}); set \"split\" on each line, or let "
            "'ragladder data split' do it"
        )
    return chosen


def with_evidence(questions: Iterable[Question], split: Split) -> tuple[Question, ...]:
    """The questions of one split that the documents answer, in order.

    Raises:
        DataError: The split has none, so that neither retrieval nor answers can be scored on it.
    """
    chosen = by_split(questions, split)
    found = tuple(q for q in chosen if q.answerable)
    if not found:
        has = "its only question has no" if len(chosen) == 1 else f"none of its {len(chosen)} questions has"
        raise DataError(
            f"questions: split '{split}' can score neither retrieval nor answers: {has} evidence; add questions that "
            "the documents answer, or split again ('ragladder data split' with another --seed)"
        )
    return found
