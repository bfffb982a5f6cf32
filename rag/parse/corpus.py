"""A folder of files to documents: in parallel, cached a file at a time, with failures kept.

A parser with a method `parse_many(path, doc_id) -> ParsedCorpus` gives many documents of one file, as JSONL does.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.cache import JsonCache, digest
from ...core.components import Resources
from ...core.errors import DataError
from ...core.types import Document
from ._base import document_from_json, document_to_json
from ._pool import Job, run_jobs
from ._saved import ParsedCorpus, ParseFailure, load_documents
from .settings import FORMATS, ParseSettings, parser_settings

__all__ = ["corpus_identity", "parse_corpus"]

_LISTED = 100  # failures that a message names


def parse_corpus(folder: Path, settings: ParseSettings, resources: Resources) -> ParsedCorpus:
    """Reads the files of a folder.

    A file that was read before with the same parser comes from the cache; files that gave no document are tried again.

    Args:
        folder: The corpus folder.
        settings: Which files and parsers.
        resources: `workers` processes read side by side; the cache is `cache_dir/parses`.

    Raises:
        DataError: The folder is missing or holds no file to read; with `strict`, a list of the failures.
        ConfigError: A parser cannot be made, for instance since a package of its own is not installed.
    """
    files = _files(folder, settings)
    failures: dict[str, str] = {}
    keys: dict[str, str] = {}
    jobs: dict[str, Job] = {}
    collections: dict[int, bool] = {}
    for doc_id, path in files.items():
        parser = parser_settings(settings, doc_id)
        if parser is None:
            failures[doc_id] = _unsupported(doc_id)
            continue
        try:
            keys[doc_id] = digest([_sha256(path), doc_id, parser.identity(resources), settings.ref_pattern])
        except OSError as error:
            failures[doc_id] = f"it cannot be opened: {error.strerror}"
            continue
        if id(parser) not in collections:
            # what a component lacks is one error now, not one failure a file
            collections[id(parser)] = hasattr(parser.build(resources), "parse_many")
        out = str(_parses(resources) / f".{keys[doc_id]}.{uuid.uuid4().hex}.tmp") if collections[id(parser)] else ""
        jobs[doc_id] = Job(str(path), doc_id, parser, out)

    found, failed = _parsed_files(jobs, keys, settings, resources)
    corpus = _joined(found, {**failures, **failed}, settings.ref_pattern)
    if settings.strict and corpus.failures:
        raise DataError(_listing(folder, corpus, len(files), found))
    return corpus


def _parsed_files(
    jobs: dict[str, Job], keys: dict[str, str], settings: ParseSettings, resources: Resources
) -> tuple[dict[str, ParsedCorpus], dict[str, str]]:
    """What each file gave, and why others gave nothing; from the cache where it is there.

    Files of one document are kept together in a `JsonCache`; a file of many has a folder of its own, written by the
    process that parses, so that a large one neither passes through a pipe nor is read by those who ask for others.
    """
    folder = _parses(resources)
    cache = JsonCache(folder)
    known = cache.get_many([keys[file] for file, job in jobs.items() if not job.out])
    found = {file: ParsedCorpus((document_from_json(known[keys[file]]),)) for file in jobs if keys[file] in known}
    for file, job in jobs.items():
        if job.out and (folder / keys[file]).is_dir():
            found[file] = load_documents(folder / keys[file])
    failures: dict[str, str] = {}
    new: dict[str, Any] = {}
    missing = [job for file, job in jobs.items() if file not in found]
    try:
        for job, result in run_jobs(missing, settings.timeout, resources):
            if isinstance(result, str):
                failures[job.doc_id] = result
            elif job.out:
                found[job.doc_id] = load_documents(_published(Path(job.out), folder / keys[job.doc_id]))
            else:
                document = _with_ref(document_from_json(result["document"]), settings.ref_pattern)
                found[job.doc_id] = ParsedCorpus((document,))
                new[keys[job.doc_id]] = document_to_json(document)
            if len(new) >= 200:  # so that a kill loses little of a long parse
                cache.put_many(new)
                new = {}
    finally:
        for job in missing:
            if job.out:
                shutil.rmtree(job.out, ignore_errors=True)
    cache.put_many(new)
    return found, failures


def _published(temporary: Path, place: Path) -> Path:
    """Moves a finished folder to its place, unless another process was first."""
    try:
        os.replace(temporary, place)
    except OSError:
        if not place.is_dir():
            raise
    return place


def _joined(found: Mapping[str, ParsedCorpus], failures: Mapping[str, str], pattern: str | None) -> ParsedCorpus:
    """One corpus of all files; a document whose id another file has taken is a failure."""
    documents: dict[str, Document] = {}
    failed = dict(failures)
    for file in sorted(found):
        for document in found[file].documents:
            if document.id in documents:
                failed[f"{file}#{document.id}"] = (
                    "a document of another file has that id too; set own_ids of the parser to false"
                )
            else:
                documents[document.id] = _with_ref(document, pattern)
        failed.update((failure.doc_id, failure.reason) for failure in found[file].failures)
    return ParsedCorpus(
        tuple(documents[doc_id] for doc_id in sorted(documents)),
        tuple(ParseFailure(doc_id, failed[doc_id]) for doc_id in sorted(failed)),
    )


def _listing(folder: Path, corpus: ParsedCorpus, files: int, found: Mapping[str, ParsedCorpus]) -> str:
    whole = sum(failure.doc_id not in found and ":" not in failure.doc_id for failure in corpus.failures)
    what = f"{whole} of {files} files" if whole == len(corpus.failures) else f"{len(corpus.failures)} files or records"
    lines = [f"  {failure.doc_id}: {failure.reason}" for failure in corpus.failures[:_LISTED]]
    if len(corpus.failures) > _LISTED:
        lines.append(f"  and {len(corpus.failures) - _LISTED} more")
    return "\n".join([f"{folder}: {what} cannot be read:", *lines, "mend or remove them, or set parse.strict to false"])


def _parses(resources: Resources) -> Path:
    return resources.cache_dir / "parses"


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
            section = FORMATS[f".{doc_id.rpartition('.')[2]}".lower()]
            if section not in parsers:
                parsers[section] = parser.identity(resources)
    return {
        "files": {doc_id: _sha256_or_none(path) for doc_id, path in files.items()},
        "parsers": parsers,
        "ref_pattern": settings.ref_pattern,
        "strict": settings.strict,
        "timeout": settings.timeout,
    }


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
        if settings.include == ("**/*",):
            raise DataError(f"{folder}: there is no file in it; check the path")
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
