"""Tables of questions: CSV, ragas testsets, and Hugging Face datasets saved on disk.

They often name a passage but not its document. It is then looked for in the documents given, exactly, else on letters
and digits alone; a ragas testset without documents brings its reference contexts as documents.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..core.types import SPLITS, Evidence, Question, Split
from ..core.words import counted
from ._finder import PassageFinder
from ._source import DocumentSet, Problems, csv_rows, json_rows, plain_text, require_file
from .imported import Imported
from .load_squad import SquadRow, squad_dataset

__all__ = ["load_csv", "load_huggingface", "load_ragas"]

_COLUMNS = ("id", "question", "answer", "doc_id", "evidence", "split")
_ALIASES = {"document": "doc_id", "doc": "doc_id", "file": "doc_id", "filename": "doc_id", "source": "doc_id"}
_ALIASES |= dict.fromkeys(("context", "passage", "excerpt", "quote"), "evidence")
_ALIASES |= dict.fromkeys(("query", "user_input", "prompt"), "question")
_ALIASES |= dict.fromkeys(("reference", "ground_truth", "expected"), "answer")
_TAG = "tag."
_RAGAS_TAGS = {"synthesizer_name": "synthesizer", "query_style": "style", "query_length": "length"}
_HOP = re.compile(r"\A<\d+-hop>\s*")  # ragas' mark of a passage in a multi-hop sample
_HF_SPLITS: Mapping[str, Split] = {"train": "train", "validation": "dev", "valid": "dev", "dev": "dev", "test": "test"}
Row = tuple[str, Mapping[str, Any]]


def load_csv(source: Path, documents: Mapping[str, str] | None = None) -> Imported:
    """Reads a table, parted by commas, semicolons or tabs, with the column `question`; there may be others.

    These are `id`, `answer`, `doc_id`, `evidence` and `split`.

    Columns `tag.<name>` become tags. Rows with the same id are one question with several pieces of evidence; what they
    repeat must be the same or empty. A row without evidence is a question that the documents do not answer.

    Args:
        source: The file.
        documents: Text by document id, to find evidence in whose `doc_id` is empty.

    Raises:
        DataError: Listing what is wrong by file and line.
    """
    problems = Problems(source)
    rows = list(csv_rows(require_file(source, "CSV is one file"), problems))
    imported = _table(rows, documents, problems, f"{source}:1")
    problems.check()
    return imported


def load_ragas(source: Path, documents: Mapping[str, str] | None = None) -> Imported:
    """Reads a ragas testset, JSONL or CSV: `user_input`, `reference`, `reference_contexts`.

    Args:
        source: The file.
        documents: Text by document id, in which the contexts are looked for. Without them each context becomes a
            document: a corpus of answers alone, in which retrieval looks easier than it is.

    Raises:
        DataError: Listing what is wrong by file and line, contexts that no document holds among them.
    """
    problems = Problems(source)
    require_file(source, "a ragas testset is one .jsonl or .csv file")
    rows = list(csv_rows(source, problems) if source.suffix == ".csv" else json_rows(source, problems))
    imported = _ragas([(where, row, None) for where, row in rows], documents, problems)
    problems.check()
    return imported


def load_huggingface(source: Path, documents: Mapping[str, str] | None = None) -> Imported:
    """Reads a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.

    Its columns say what it holds: SQuAD's (`context, question, answers`), a ragas testset's (`user_input,
    reference_contexts`), or those of a CSV file. The splits of a DatasetDict are kept, `validation` as dev.

    Args:
        source: The folder.
        documents: As for CSV and ragas; not used for SQuAD's columns.

    Raises:
        DataError: No such dataset, other columns, or listing what is wrong by split and row.
    """
    problems = Problems(source)
    parts = _on_disk(source)
    columns = set().union(*(part.column_names for _, part in parts))
    rows: list[tuple[str, dict[str, Any], Split | None]] = [
        (f"{source}[{name}][{n}]", row, _HF_SPLITS.get(name)) for name, part in parts for n, row in enumerate(part)
    ]
    if {"context", "question", "answers"} <= columns:
        squad: list[SquadRow] = [
            (where, str(row.get("title") or ""), row["context"], {"id": f"{n + 1}", **row}, split)
            for n, (where, row, split) in enumerate(rows)
        ]
        imported = squad_dataset(squad, problems)
    elif "user_input" in columns:
        imported = _ragas(rows, documents, problems)
    elif "question" in columns:
        cells = [
            (where, {"split": split or "", **{k: "" if v is None else str(v) for k, v in row.items()}})
            for where, row, split in rows
        ]
        imported = _table(cells, documents, problems, str(source))
    else:
        raise DataError(
            f"{source}: the columns are {', '.join(sorted(columns))}, but a dataset of questions has 'question', "
            "'user_input' (ragas), or 'context', 'question' and 'answers' (SQuAD); rename them"
        )
    problems.check()
    return imported


def _on_disk(source: Path) -> list[tuple[str, Any]]:
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; name one that save_to_disk of the datasets library wrote")
    from datasets import DatasetDict, load_from_disk

    try:
        loaded: Any = load_from_disk(str(source))
    except Exception as error:  # the library raises many kinds
        raise DataError(f"{source}: not a dataset saved by save_to_disk ({error})") from None
    parts = loaded.items() if isinstance(loaded, DatasetDict) else [("rows", loaded)]
    return [(str(name), part) for name, part in parts]


def _table(rows: Sequence[Row], documents: Mapping[str, str] | None, problems: Problems, header: str) -> Imported:
    """Questions of rows with the columns of a CSV file."""
    if not rows:
        problems.add(header, "there are no rows below the header")
        return Imported(())
    if not _columns_fit(rows[0][1], header, problems):
        return Imported(())
    unplaced = [row.get("evidence", "").strip() for _, row in rows if not row.get("doc_id", "").strip()]
    finder = _Finder(documents, [passage for passage in unplaced if passage])
    made: dict[str, tuple[str, Question]] = {}
    for where, row in rows:
        key = row.get("id", "").strip() or f"q-{len(made) + 1}"
        question = _question(key, row, where, finder, problems)
        if question is None:
            continue
        if key not in made:
            made[key] = (where, question)
            continue
        first_where, first = made[key]
        made[key] = (first_where, replace(first, evidence=first.evidence + question.evidence))
        if (question.text or first.text) != first.text or (question.answer or first.answer) != first.answer:
            problems.add(where, f"id '{key}' has another question or answer at {first_where}; ids must be unique")
        if not question.evidence:
            problems.add(where, f"id '{key}' stands twice (first at {first_where}), here without evidence")
    for where, question in made.values():
        if not question.text:
            problems.add(where, "question: is empty")
    return Imported(tuple(question for _, question in made.values()), {}, finder.notes())


def _columns_fit(names: Iterable[str], header: str, problems: Problems) -> bool:
    unknown = [name for name in names if name not in _COLUMNS and not name.startswith(_TAG)]
    for name in unknown:
        near = [_ALIASES.get(name.casefold(), ""), *difflib.get_close_matches(name.casefold(), _COLUMNS, 1)]
        meant = next((column for column in near if column), "")
        hint = f"did you mean '{meant}'?" if meant else f"known: {', '.join(_COLUMNS)}; for a tag write tag.{name}"
        problems.add(header, f"unknown column '{name}' ({hint})")
    if "question" not in names:
        problems.add(header, "there is no column 'question'")
    return not unknown and "question" in names


def _question(key: str, row: Mapping[str, str], where: str, finder: _Finder, problems: Problems) -> Question | None:
    split, passage, doc_id = (row.get(name, "").strip() for name in ("split", "evidence", "doc_id"))
    if split and split not in SPLITS:
        problems.add(where, f"split: must be train, dev or test, got '{split}'")
        return None
    evidence: tuple[Evidence, ...] = ()
    if passage:
        doc_id = doc_id or finder.document(passage, where, problems)
        if not doc_id:
            return None
        evidence = (Evidence(doc_id, passage),)
    elif doc_id:
        problems.add(where, f"evidence: is empty, but doc_id is '{doc_id}'; give the passage that answers")
        return None
    tags = {name.removeprefix(_TAG): value for name, value in row.items() if name.startswith(_TAG) and value.strip()}
    chosen: Any = split or None
    return Question(key, row["question"].strip(), row.get("answer", "").strip(), evidence, tags, chosen)


def _ragas(
    rows: Iterable[tuple[str, Mapping[str, Any], Split | None]],
    documents: Mapping[str, str] | None,
    problems: Problems,
) -> Imported:
    """Questions of rows with the keys of a ragas testset."""
    texts: list[tuple[str, Mapping[str, Any], Split | None, list[str] | None]] = [
        (where, row, split, _texts(row.get("reference_contexts"))) for where, row, split in rows
    ]
    finder = _Finder(documents, [_passage(text) for *_, contexts in texts for text in contexts or ()])
    corpus, own = DocumentSet(), dict[str, str]()
    questions: list[Question] = []
    for where, row, split, contexts in texts:
        asked, answer = row.get("user_input"), row.get("reference")
        if not isinstance(asked, str) or not asked.strip():
            what = "is a conversation; only single questions are taken" if asked else "is missing or empty"
            problems.add(where, f"user_input: {what}")
            continue
        if contexts is None:
            problems.add(where, "reference_contexts: expected a list of texts")
            continue
        evidence = []
        for passage in map(_passage, contexts):
            if documents is not None:
                doc_id = finder.document(passage, where, problems)
            else:
                doc_id = own.get(passage) or own.setdefault(passage, corpus.add(f"context-{len(own) + 1:05}", passage))
            if doc_id:
                evidence.append(Evidence(doc_id, passage))
        tags = {name: str(row[key]) for key, name in _RAGAS_TAGS.items() if row.get(key)}
        questions.append(Question(f"ragas-{len(questions) + 1}", asked, answer or "", tuple(evidence), tags, split))
    notes = finder.notes()
    if own:
        notes += (
            f"the {len(own)} reference contexts became the documents: retrieval looks easier among them than in all "
            "your documents; better name their folder by --documents",
        )
    return Imported(tuple(questions), corpus.texts, notes)


def _passage(text: str) -> str:
    """A reference context without ragas' mark of a hop."""
    return plain_text(_HOP.sub("", text))


def _texts(value: Any) -> list[str] | None:
    """A list of texts, also from a CSV cell that holds one as JSON or as Python writes it; empty ones left out."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            try:
                value = ast.literal_eval(value) if value.strip() else []
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return None
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return None
    return [text for text in value if text.strip()]


class _Finder:
    """Finds the document of a passage, and counts those that stand in several."""

    def __init__(self, documents: Mapping[str, str] | None, passages: Iterable[str]) -> None:
        self._finder = PassageFinder(documents, passages) if documents is not None else None
        self._several = 0

    def document(self, passage: str, where: str, problems: Problems) -> str:
        """Its id; empty, and a problem noted, where there is none."""
        if self._finder is None:
            problems.add(where, "doc_id: is empty; fill it, or name the documents' folder by --documents")
            return ""
        found = self._finder.documents(passage)
        if not found:
            problems.add(
                where,
                f"no document holds the passage '{passage[:60]}'; copy it as it stands in its document, or name that "
                "document as doc_id",
            )
            return ""
        self._several += len(found) > 1
        return found[0]

    def notes(self) -> tuple[str, ...]:
        """A sentence on the passages that stand in several documents."""
        many = counted(self._several, "passage stands", "passages stand")
        return (f"{many} in more than one document: the first by name was taken",) if self._several else ()
