"""Reads human labels: a CSV with a row an answer, some rows labelled, all of them where there is nothing to correct."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError
from ..core.types import Question
from ._source import Problems, csv_rows, require_file

__all__ = ["LabelledAnswer", "load_labels"]

_COLUMNS = ("id", "question", "answer", "reference", "context", "human", "score", "judge")
_WORDS: Mapping[str, float] = {
    **dict.fromkeys(("yes", "true", "pass", "correct", "good"), 1.0),
    **dict.fromkeys(("no", "false", "fail", "incorrect", "wrong", "bad"), 0.0),
}


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer, what it was made from, and what a person held of it.

    Attributes:
        question: As it was asked.
        answer: What is judged.
        reference: The reference answer; empty where there is none.
        contexts: Passages that stood in the prompt.
        human: The label, 0 to 1; None where nobody has labelled it.
        score: A judge's score, where the file brings it.
        judge: Which judge gave it; empty where the file brings none.
    """

    question: str
    answer: str
    reference: str = ""
    contexts: tuple[str, ...] = ()
    human: float | None = None
    score: float | None = None
    judge: str = ""


def load_labels(path: Path, questions: Sequence[Question] = ()) -> tuple[LabelledAnswer, ...]:
    """Reads labels from a CSV or TSV file with a header.

    Columns: `answer` and `human` (yes/no, true/false, pass/fail, correct/incorrect, or a number from 0 to 1; empty: not
    labelled); `question`, or `id` of one of `questions`, which then brings its reference answer too; where wanted
    `reference`, `context` (a passage, or a JSON list of passages), and `score` with `judge`, of another tool.

    Args:
        path: The file.
        questions: Those that an `id` may name.

    Raises:
        DataError: Listing what is wrong by file and line; or no row has a label.
    """
    problems = Problems(path)
    known = {question.id: question for question in questions}
    rows = []
    for where, cells in csv_rows(require_file(path, "labels are one CSV file"), problems):
        missing = [name for name in ("answer", "human") if name not in cells]
        unknown = sorted(set(cells) - set(_COLUMNS))
        if missing or unknown:
            what = [f"no column {', '.join(missing)}"] if missing else []
            what += [f"unknown column {', '.join(unknown)}"] if unknown else []
            raise DataError(f"{path}:1: {'; '.join(what)}; the columns are {', '.join(_COLUMNS)}")
        try:
            rows.append(_row(cells, known))
        except ValueError as error:
            problems.add(where, str(error))
    problems.check()
    if not any(row.human is not None for row in rows):
        raise DataError(f"{path}: no row has a label in the column 'human'")
    return tuple(rows)


def _row(cells: Mapping[str, str], known: Mapping[str, Question]) -> LabelledAnswer:
    text = {name: cells.get(name, "").strip() for name in _COLUMNS}
    asked = known.get(text["id"]) if text["id"] else None
    if not text["question"] and asked is None:
        raise ValueError(
            f"id '{text['id']}' is none of the config's questions; give the text in a column 'question'"
            if text["id"]
            else "neither 'question' nor 'id'"
        )
    if bool(text["score"]) != bool(text["judge"]):
        raise ValueError("'score' and 'judge' belong together: name the judge that gave the score")
    return LabelledAnswer(
        question=text["question"] or (asked.text if asked else ""),
        answer=text["answer"],
        reference=text["reference"] or (asked.answer if asked else ""),
        contexts=_contexts(text["context"]),
        human=_label(text["human"]) if text["human"] else None,
        score=_number(text["score"], "score") if text["score"] else None,
        judge=text["judge"],
    )


def _contexts(text: str) -> tuple[str, ...]:
    if not text.startswith("["):
        return (text,) if text else ()
    try:
        passages = json.loads(text)
    except json.JSONDecodeError:
        return (text,)  # a passage that happens to begin with a bracket
    if not isinstance(passages, list) or not all(isinstance(passage, str) for passage in passages):
        raise ValueError("context: a JSON list must hold texts only")
    return tuple(passages)


def _label(text: str) -> float:
    return _WORDS[text.lower()] if text.lower() in _WORDS else _number(text, "human")


def _number(text: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        words = f", or one of {', '.join(_WORDS)}" if column == "human" else ""
        raise ValueError(f"{column}: '{text}' is no number from 0 to 1{words}")
    return value
