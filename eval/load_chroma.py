"""The layout of Chroma's chunking evaluation: `questions_df.csv` with spans over the texts in `corpora/`.

Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval" (2024).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..core.types import Evidence, Question
from ._source import Problems, csv_rows, read_source, require_file
from .imported import Imported

__all__ = ["load_chroma"]

_LAYOUT = "the layout has questions_df.csv (question, references, corpus_id) and corpora/<corpus_id>.md"
_COLUMNS = {"question", "references", "corpus_id"}


def load_chroma(source: Path, documents: Mapping[str, str] | None = None) -> Imported:
    """Reads a folder in the layout of Chroma's chunking evaluation.

    A corpus stays one document, its text as it is, so that the spans hold. The corpus is also the tag `corpus`.

    Args:
        source: The folder.
        documents: Not used; the folder has its own.

    Raises:
        DataError: Listing what is wrong by file and line, spans whose text is another among them.
    """
    problems = Problems(source)
    file = require_file(source / "questions_df.csv", _LAYOUT)
    texts = {path.name: read_source(path) for path in _corpora(source / "corpora")}
    names = {Path(name).stem: name for name in texts}
    questions: list[Question] = []
    for where, row in csv_rows(file, problems):
        if not row.keys() >= _COLUMNS:
            problems.add(f"{file}:1", f"needs the columns {', '.join(sorted(_COLUMNS))}, has {', '.join(row)}")
            break
        name = names.get(row["corpus_id"])
        if name is None:
            problems.add(where, f"corpus_id '{row['corpus_id']}' has no file in {source / 'corpora'}")
        elif not row["question"].strip():
            problems.add(where, "question is empty")
        else:
            evidence = _references(row["references"], name, texts[name], where, problems)
            tags = {"corpus": row["corpus_id"]}
            questions.append(Question(f"chroma-{len(questions) + 1}", row["question"], "", evidence, tags, "test"))
    problems.check()
    notes = (
        "there are no reference answers, so only retrieval can be scored",
        "all questions are in the split test: the set is a benchmark",
    )
    return Imported(tuple(questions), texts, notes)


def _corpora(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.glob("*") if path.suffix in (".md", ".txt")) if folder.is_dir() else []
    if not files:
        raise DataError(f"{folder}: no .md or .txt file; {_LAYOUT}")
    return files


def _references(cell: str, doc_id: str, text: str, where: str, problems: Problems) -> tuple[Evidence, ...]:
    try:
        rows: Any = json.loads(cell)
    except json.JSONDecodeError as error:
        problems.add(where, f"references: not valid JSON: {error.msg} at column {error.colno}")
        return ()
    if not isinstance(rows, list) or not rows:
        problems.add(where, "references: expected a list of objects, at least one")
        return ()
    evidence = []
    for place, row in enumerate(rows):
        content, start, end = (row.get(k) if isinstance(row, dict) else None for k in _KEYS)
        if not (isinstance(content, str) and content and isinstance(start, int) and isinstance(end, int)):
            problems.add(where, f"references[{place}]: needs {', '.join(_KEYS)}")
        elif text[start:end] != content:
            problems.add(where, f"references[{place}]: the text at {start}:{end} of {doc_id} is another")
        else:
            evidence.append(Evidence(doc_id, content, start, end))
    return tuple(evidence)


_KEYS = ("content", "start_index", "end_index")
