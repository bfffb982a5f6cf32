"""Reads data sets in the formats that teams have, and writes them as a folder of documents and a questions file.

    native       questions as JSONL, a file or a folder (see eval/questions.py)
    csv          a row a question or a piece of evidence
    beir         corpus.jsonl, queries.jsonl, qrels/*.tsv
    squad        SQuAD-style JSON, version 1.1 or 2.0
    chroma       questions_df.csv with spans over corpora/*.md
    ragas        a ragas testset, JSONL or CSV
    huggingface  a folder that the datasets library saved

`beir`, `squad` and `chroma` bring their documents; those of the others lie in a folder of their own.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from ..core.cache import digest
from ..core.errors import DataError
from ..core.files import whole_folder
from ._source import Problems
from .imported import Imported
from .load_beir import load_beir
from .load_chroma import load_chroma
from .load_squad import load_squad
from .load_tables import load_csv, load_huggingface, load_ragas
from .questions import load_questions, save_questions

__all__ = ["DataFormat", "Imported", "TAKES_DOCUMENTS", "load_dataset", "prepare_dataset", "write_dataset"]

DataFormat = Literal["native", "csv", "beir", "squad", "chroma", "ragas", "huggingface"]
"""What a data set can be, see `load_dataset`."""
TAKES_DOCUMENTS: frozenset[DataFormat] = frozenset({"native", "csv", "ragas", "huggingface"})
"""Formats whose documents may lie in a folder of their own; the others bring them."""
_VERSION = 1  # raised when a loader gives something else for the same source, so that prepared folders are made anew


def load_dataset(format: DataFormat, source: Path, documents: Mapping[str, str] | None = None) -> Imported:
    """Reads a data set.

    Args:
        format: Which of the formats.
        source: Its file or folder.
        documents: Text by document id, in which passages are looked for whose document is not named.

    Raises:
        DataError: Listing what is wrong by file and line; or there is no question in it.
    """
    source = Path(source)
    imported = _LOADERS[format](source, documents)
    if not imported.questions:
        raise DataError(f"{source}: there is no question in it")
    problems = Problems(source)
    seen: set[str] = set()
    for question in imported.questions:
        if question.id in seen:
            problems.add(str(source), f"id '{question.id}' stands twice; ids must be unique")
        seen.add(question.id)
    problems.check()
    return imported


def _load_native(source: Path, documents: Mapping[str, str] | None) -> Imported:
    return Imported(load_questions(source))


_LOADERS: Mapping[DataFormat, Callable[[Path, Mapping[str, str] | None], Imported]] = {
    "native": _load_native,
    "csv": load_csv,
    "beir": load_beir,
    "squad": load_squad,
    "chroma": load_chroma,
    "ragas": load_ragas,
    "huggingface": load_huggingface,
}


def write_dataset(folder: Path, imported: Imported, documents_folder: Path | None = None) -> None:
    """Writes `questions.jsonl` and `documents/`; the folder is there whole or not at all.

    Args:
        folder: Where to; must not exist, or be empty.
        imported: What to write.
        documents_folder: Files to copy into `documents/` (hidden ones left out), for a source without its own.

    Raises:
        DataError: The folder holds something, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: is there already; name a new folder, or delete this one")
    try:
        with whole_folder(folder) as made:
            if documents_folder is not None:
                shutil.copytree(documents_folder, made / "documents", ignore=shutil.ignore_patterns(".*", "~$*"))
            elif imported.documents:
                (made / "documents").mkdir()
            for doc_id, text in imported.documents.items():
                (made / "documents" / doc_id).write_bytes(text.encode())
            save_questions(made / "questions.jsonl", imported.questions)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from None


def prepare_dataset(format: DataFormat, source: Path, cache_dir: Path) -> Path:
    """The folder with `documents/` and `questions.jsonl` for a source, made in the cache when the source is new.

    Args:
        format: A format that brings its documents.
        source: Its file or folder.
        cache_dir: The folder is `cache_dir/datasets/<hash of the source's content>`.

    Raises:
        DataError: The source cannot be used.
    """
    source = Path(source)
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    content = [[str(path.relative_to(source)), _sha256(path)] for path in files]
    folder = Path(cache_dir) / "datasets" / f"{format}-{digest([_VERSION, format, content])[:20]}"
    if not (folder / "questions.jsonl").is_file():
        imported = load_dataset(format, source)
        if not imported.documents:
            raise DataError(f"{source}: the format '{format}' brings no documents; import it with --documents first")
        try:
            write_dataset(folder, imported)
        except DataError:
            if not (folder / "questions.jsonl").is_file():  # else another process was faster
                raise
    return folder


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
