"""BEIR folders: `corpus.jsonl`, `queries.jsonl` and `qrels/{train,dev,test}.tsv` (Thakur et al., 2021).

A judged document becomes evidence whose text is the whole document. Grades other than 1 are kept in the question's tag
`relevance`, in the order of the evidence (see `eval/ir.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..core.types import Evidence, Question, Split
from ._source import DocumentSet, Problems, csv_rows, json_rows, plain_text, require_file
from .imported import Imported
from .ir import relevance_tag

__all__ = ["load_beir"]

_SPLITS: Mapping[str, Split] = {
    "train": "train",
    "dev": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
_LAYOUT = "a BEIR folder has corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv"


def load_beir(source: Path, documents: Mapping[str, str] | None = None) -> Imported:
    """Reads a BEIR folder.

    A document is its title and its text, a blank line between them. Queries without a positive judgement and documents
    without text are left out and counted in the notes.

    Args:
        source: The folder.
        documents: Not used; the folder has its own.

    Raises:
        DataError: Listing what is wrong by file and line.
    """
    problems = Problems(source)
    corpus, ids = _corpus(require_file(source / "corpus.jsonl", _LAYOUT), problems)
    queries = _queries(require_file(source / "queries.jsonl", _LAYOUT), problems)
    judged, splits = _judgements(source / "qrels", queries, ids, problems)
    problems.check()
    questions, unjudged, empty = [], 0, 0
    for query, (text, tags) in queries.items():
        grades = {ids[doc]: grade for doc, grade in judged.get(query, {}).items() if grade > 0 and ids[doc]}
        unjudged += query not in judged
        if not grades:
            empty += query in judged
            continue
        evidence = tuple(Evidence(doc, corpus.texts[doc], 0, len(corpus.texts[doc])) for doc in grades)
        tags = {**tags, **relevance_tag(list(grades.values()))}
        questions.append(Question(query, text, "", evidence, tags, splits[query]))
    counts = {
        f"{unjudged} queries without judgements were left out": unjudged,
        f"{empty} queries whose judgements name no relevant document with text were left out": empty,
        f"{sum(not doc for doc in ids.values())} documents without text were left out": not all(ids.values()),
    }
    notes = ("there are no reference answers, so only retrieval can be scored",)
    return Imported(tuple(questions), corpus.texts, notes + tuple(note for note, there in counts.items() if there))


def _corpus(path: Path, problems: Problems) -> tuple[DocumentSet, dict[str, str]]:
    """Documents, and their ids by BEIR's; an empty id for one without text."""
    corpus, ids = DocumentSet(), dict[str, str]()
    for where, row in json_rows(path, problems):
        key, title, text = _text(row, "_id"), _text(row, "title"), _text(row, "text")
        if not key or text is None or title is None:
            problems.add(where, "needs '_id' and 'text' (and 'title') as strings")
        elif key in ids:
            problems.add(where, f"_id '{key}' stands twice")
        else:
            whole = plain_text(title, text)
            ids[key] = corpus.add(key, whole) if whole else ""
    return corpus, ids


def _queries(path: Path, problems: Problems) -> dict[str, tuple[str, dict[str, str]]]:
    queries: dict[str, tuple[str, dict[str, str]]] = {}
    for where, row in json_rows(path, problems):
        key, text = _text(row, "_id"), _text(row, "text")
        if not key or not text or not text.strip():
            problems.add(where, "needs '_id' and 'text' as strings that are not empty")
        elif key in queries:
            problems.add(where, f"_id '{key}' stands twice")
        else:
            queries[key] = (text, {})
    return queries


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key, "" if key == "title" else None)
    value = "" if value is None and key == "title" else value
    return value if isinstance(value, str) else None


def _judgements(
    folder: Path, queries: Mapping[str, Any], ids: Mapping[str, str], problems: Problems
) -> tuple[dict[str, dict[str, int]], dict[str, Split]]:
    files = sorted(folder.glob("*.tsv"))
    if not files:
        raise DataError(f"{folder}: no .tsv file; {_LAYOUT}")
    judged: dict[str, dict[str, int]] = {}
    splits: dict[str, Split] = {}
    for file in files:
        split = _SPLITS.get(file.stem)
        if split is None:
            problems.add(str(file), "name it train.tsv, dev.tsv or test.tsv: the name is the split of its queries")
            continue
        for where, row in csv_rows(file, problems):
            if list(row) != ["query-id", "corpus-id", "score"]:
                problems.add(f"{file}:1", "the header must be 'query-id', 'corpus-id', 'score', tabs between them")
                break
            query, doc, grade = row["query-id"], row["corpus-id"], _grade(row["score"])
            if query not in queries:
                problems.add(where, f"query-id '{query}' is not in queries.jsonl")
            elif doc not in ids:
                problems.add(where, f"corpus-id '{doc}' is not in corpus.jsonl")
            elif grade is None:
                problems.add(where, f"score '{row['score']}' is not a whole number")
            elif splits.setdefault(query, split) != split:
                problems.add(where, f"query-id '{query}' is judged for the splits {splits[query]} and {split}")
            elif judged.setdefault(query, {}).setdefault(doc, grade) != grade:
                problems.add(where, f"query-id '{query}' with corpus-id '{doc}' is judged twice, differently")
    return judged, splits


def _grade(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
