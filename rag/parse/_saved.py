"""A parsed corpus, and the folder that keeps one: `documents.parquet` and `failures.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ...core.files import write_atomic
from ...core.types import Document
from ._base import document_from_json, document_to_json

__all__ = ["ParseFailure", "ParsedCorpus", "load_documents", "save_documents"]


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """A file that could not be read, and why; `corpus.jsonl:17` for one line of a file."""

    doc_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ParsedCorpus:
    """The documents of a folder and what could not be read, both sorted by id."""

    documents: tuple[Document, ...]
    failures: tuple[ParseFailure, ...] = ()


def save_documents(path: Path, corpus: ParsedCorpus) -> None:
    """Writes a corpus into a folder: `documents.parquet` and `failures.json`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [document_to_json(document) for document in corpus.documents]
    columns: dict[str, Any] = {
        name: pa.array([row[name] for row in rows], pa.string()) for name in ("id", "text", "title", "ref")
    }
    for name in ("sections", "pages", "metadata"):
        columns[name] = pa.array([json.dumps(row[name], ensure_ascii=False) for row in rows], pa.string())
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path / "documents.parquet", compression="zstd")
    failures = [asdict(failure) for failure in corpus.failures]
    write_atomic(path / "failures.json", (json.dumps(failures, ensure_ascii=False, indent=1) + "\n").encode())


def load_documents(path: Path) -> ParsedCorpus:
    """Reads what `save_documents` wrote.

    Raises:
        DataError: It is not there, or is something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    try:
        rows = pq.read_table(path / "documents.parquet").to_pylist()
        failures = json.loads((path / "failures.json").read_text(encoding="utf-8"))
        for row in rows:
            row.update({name: json.loads(row[name]) for name in ("sections", "pages", "metadata")})
        documents = tuple(document_from_json(row) for row in rows)
        return ParsedCorpus(documents, tuple(ParseFailure(**failure) for failure in failures))
    except FileNotFoundError as error:
        raise DataError(f"{error.filename or path}: no such file; run the parsing again") from None
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a saved corpus ({error}); delete it and run the parsing again") from error
