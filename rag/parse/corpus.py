"""A folder of files to documents: in parallel, cached a file at a time, with failures kept."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...core.cache import JsonCache, digest, write_atomic
from ...core.components import Resources
from ...core.errors import DataError
from ...core.types import Document
from ._base import document_from_json, document_to_json
from ._pool import Job, run_jobs
from .settings import FORMATS, ParseSettings, parser_settings

__all__ = ["ParseFailure", "ParsedCorpus", "corpus_identity", "load_documents", "parse_corpus", "save_documents"]


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """A file that could not be read, and why."""

    doc_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ParsedCorpus:
    """The documents of a folder and the files that could not be read, both sorted by id."""

    documents: tuple[Document, ...]
    failures: tuple[ParseFailure, ...] = ()


def parse_corpus(folder: Path, settings: ParseSettings, resources: Resources) -> ParsedCorpus:
    """Reads the files of a folder.

    A file that was read before with the same parser comes from the cache; failures are tried again each time.

    Args:
        folder: The corpus folder.
        settings: Which files and parsers.
        resources: `workers` processes read side by side; the cache is `cache_dir/parses`.

    Raises:
        DataError: The folder is missing or holds no file to read; with `strict`, a list of all failures.
        ConfigError: A parser cannot be made, for instance since a package of its own is not installed.
    """
    files = _files(folder, settings)
    failures: dict[str, str] = {}
    keys: dict[str, str] = {}
    jobs: dict[str, Job] = {}
    for doc_id, path in files.items():
        parser = parser_settings(settings, doc_id)
        if parser is None:
            failures[doc_id] = _unsupported(doc_id)
            continue
        try:
            keys[doc_id] = digest([_sha256(path), doc_id, parser.identity(resources), settings.ref_pattern])
            jobs[doc_id] = Job(str(path), doc_id, parser)
        except OSError as error:
            failures[doc_id] = f"it cannot be opened: {error.strerror}"
    for parser in {id(job.settings): job.settings for job in jobs.values()}.values():
        parser.build(resources)  # what a component from outside lacks is one error now, not one failure a file

    documents, failed = _documents(jobs, keys, settings, resources)
    failures.update(failed)
    corpus = ParsedCorpus(
        tuple(documents[doc_id] for doc_id in sorted(documents)),
        tuple(ParseFailure(doc_id, failures[doc_id]) for doc_id in sorted(failures)),
    )
    if settings.strict and corpus.failures:
        listing = "\n".join(f"  {failure.doc_id}: {failure.reason}" for failure in corpus.failures)
        raise DataError(
            f"{folder}: {len(corpus.failures)} of {len(files)} files cannot be read:\n{listing}\n"
            "mend or remove them, or set parse.strict to false"
        )
    return corpus


def _documents(
    jobs: dict[str, Job], keys: dict[str, str], settings: ParseSettings, resources: Resources
) -> tuple[dict[str, Document], dict[str, str]]:
    """Documents and failures by id, from the cache where they are there."""
    cache = JsonCache(resources.cache_dir / "parses")
    known = cache.get_many(list(keys.values()))
    documents = {doc_id: document_from_json(known[key]) for doc_id, key in keys.items() if key in known}
    failures: dict[str, str] = {}
    new: dict[str, Any] = {}
    missing = [job for doc_id, job in jobs.items() if doc_id not in documents]
    for job, result in run_jobs(missing, settings.timeout, resources):
        if isinstance(result, str):
            failures[job.doc_id] = result
            continue
        document = _with_ref(document_from_json(result), settings.ref_pattern)
        documents[job.doc_id] = document
        new[keys[job.doc_id]] = document_to_json(document)
        if len(new) >= 200:  # so that a kill loses little of a long parse
            cache.put_many(new)
            new = {}
    cache.put_many(new)
    return documents, failures


def corpus_identity(folder: Path, settings: ParseSettings, resources: Resources) -> dict[str, Any]:
    """All that determines what `parse_corpus` gives, for stage keys: file names and hashes, parsers in use, settings.

    Raises:
        DataError: The folder is missing or holds no file to read.
    """
    files = _files(folder, settings)
    parsers: dict[str, Any] = {}
    for doc_id in files:
        parser = parser_settings(settings, doc_id)
        if parser is not None:
            parsers[FORMATS[f".{doc_id.rpartition('.')[2]}".lower()]] = parser.identity(resources)
    return {
        "files": {doc_id: _sha256_or_none(path) for doc_id, path in files.items()},
        "parsers": parsers,
        "ref_pattern": settings.ref_pattern,
        "strict": settings.strict,
        "timeout": settings.timeout,
    }


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


def _files(folder: Path, settings: ParseSettings) -> dict[str, Path]:
    """Document ids and their files, sorted by id."""
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; check the path")
    found: dict[str, Path] = {}
    for pattern in settings.include:
        try:
            matches = list(folder.glob(pattern))
        except (ValueError, NotImplementedError) as error:
            raise DataError(f"parse.include: '{pattern}' is not a glob below the folder ({error})") from None
        for path in matches:
            inside = path.relative_to(folder)
            if path.is_file() and not any(part.startswith((".", "~$")) for part in inside.parts):
                found[inside.as_posix()] = path
    if not found:
        raise DataError(f"{folder}: no file in it fits {', '.join(settings.include)}; check the path and parse.include")
    return dict(sorted(found.items()))


def _unsupported(doc_id: str) -> str:
    extension = Path(doc_id).suffix
    what = f"files of the kind '{extension}' are" if extension else "files without an extension are"
    return f"{what} not read (read are {', '.join(sorted(FORMATS))}); convert it, or leave it out by parse.include"


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sha256_or_none(path: Path) -> str | None:
    try:
        return _sha256(path)
    except OSError:
        return None


def _with_ref(document: Document, pattern: str | None) -> Document:
    match = re.search(pattern, document.id.rpartition("/")[2]) if pattern else None
    return replace(document, ref=match.group(1)) if match and match.group(1) else document
