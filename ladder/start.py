"""Starts a project on someone's own documents: questions read, split, and a config written that climbs at once."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..core.components import Resources
from ..core.errors import DataError
from ..core.types import Question
from ..core.words import counted
from ..eval.gold import locate
from ..eval.load import load_dataset
from ..eval.power import power_rows
from ..eval.questions import save_questions
from ..eval.splits import balanced_seed, split_questions
from ..rag.parse import ParsedCorpus, ParseSettings, parse_corpus
from .templates import EDITOR_LINE, write_editor_schema

__all__ = ["start_project"]

_SHOWN = 3
_TABLES, _LINES = (".csv", ".tsv"), (".jsonl",)
"""What questions are read from: a table, or JSON by line."""
_NEAR_SHARE = 0.8
"""Part of its share that each split of new questions should hold."""

_CONFIG = """\
# The ladder on your own documents:
#
#     ragladder climb {file}
#
# `ragladder check {file}` validates it and prints the plan; every key can be overridden by --set.

name: {name}
seed: 7

data:
  documents: {documents}
  questions: questions.jsonl            # train finetunes, dev chooses, test is for the gate alone

# The starting point. Change it to the pipeline that you have now: the ladder climbs from it.
pipeline:
  chunk: {{kind: recursive, size: 256}}
  embed: {{kind: sentence_transformer, model: all-MiniLM-L6-v2}}
  retrieve: {{mode: dense, top_k: 5, fetch_k: 50}}
  # No LLM is set: the best sentences of the passages are the answer. With one, the LLM is measured too:
  #   generate:
  #     kind: llm
  #     llm: {{kind: openai, base_url: "http://localhost:8000/v1", model: my-model, api_key_env: MY_KEY}}
  generate: extractive

rungs:
  retrieval:                            # cheapest: nothing is trained
    space:
      retrieve.mode: [bm25, hybrid]
      chunk:
        - {{kind: section, size: 256}}
        - {{kind: section, size: 128}}
        - {{kind: recursive, size: 512}}
      context: [title, heading]
{embedding}
gate:
  alpha: 0.05
  target: 0.9                           # stop when the answer metric on test is at least this for certain

runtime:
  workers: {workers}
"""
_EMBEDDING = """\
  embedding: {}                         # finetunes the embedding model on the train questions
"""
_NO_EMBEDDING = """\
  # embedding: {{}}                       # left out: {train} train questions are too few, try it from {least} on
"""
LEAST_TO_TRAIN = 20
"""Train questions with evidence from which the embedding rung is put into a new config."""


def start_project(folder: Path, documents: Path, questions: Path) -> list[str]:
    """Makes a new folder with `questions.jsonl` (split where they were not), `ladder.yaml`, and its schema for editors.

    Args:
        folder: A new folder.
        documents: The documents; they stay where they are.
        questions: `.csv`, `.jsonl`, or a folder of `.jsonl` files.

    Returns:
        What was found, a line each.

    Raises:
        DataError: Documents or questions cannot be used, or the folder is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already and not empty; name a new folder")
    if not questions.exists():
        raise DataError(f"{questions}: there is no such file")
    if questions.is_file() and questions.suffix.lower() not in _TABLES + _LINES:
        raise DataError(
            f"{questions}: questions are read from {', '.join(_TABLES + _LINES)}; save a spreadsheet as CSV (in Excel: "
            "'CSV UTF-8')"
        )
    with tempfile.TemporaryDirectory() as cache:
        corpus = parse_corpus(documents, ParseSettings(), Resources(cache_dir=Path(cache)))
    if not corpus.documents:
        raise DataError(f"{documents}: no document could be read; " + _first([f.reason for f in corpus.failures]))
    texts = {document.id: document.text for document in corpus.documents}
    kind = "csv" if questions.suffix.lower() in _TABLES else "native"
    imported = load_dataset(kind, questions, texts)
    found = imported.questions
    parted = any(question.split for question in found)
    if not parted:
        found = split_questions(found, seed=balanced_seed(found, enough=_NEAR_SHARE)).questions
    lines = _lines(documents, corpus, found, imported.notes, parted)
    train = sum(1 for question in found if question.split == "train" and question.answerable)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_questions(folder / "questions.jsonl", found)
        (folder / "ladder.yaml").write_text(EDITOR_LINE + _config(folder, documents, train), encoding="utf-8")
        write_editor_schema(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return [*lines, f"{folder / 'ladder.yaml'} and {folder / 'questions.jsonl'} are written"]


def _config(folder: Path, documents: Path, train: int) -> str:
    trains = train >= LEAST_TO_TRAIN
    return _CONFIG.format(
        file=shlex.quote(str(folder / "ladder.yaml")),
        name=folder.resolve().name,
        documents=os.path.relpath(documents.resolve(), folder.resolve()),
        embedding=_EMBEDDING if trains else _NO_EMBEDDING.format(train=train, least=LEAST_TO_TRAIN),
        workers=min(4, os.cpu_count() or 1),
    )


def _lines(
    documents: Path, corpus: ParsedCorpus, found: Sequence[Question], notes: Sequence[str], parted: bool
) -> list[str]:
    failed = f"; {counted(len(corpus.failures), 'file')} could not be" if corpus.failures else ""
    lines = [f"{documents}: {counted(len(corpus.documents), 'document')} read{failed}"]
    lines += [f"  {failure.doc_id}: {failure.reason}" for failure in corpus.failures[:_SHOWN]]
    if len(corpus.failures) > _SHOWN:
        lines.append(f"  and {counted(len(corpus.failures) - _SHOWN, 'more file', 'more')}; a climb lists them all")
    counts = {split: sum(q.split == split for q in found) for split in ("train", "dev", "test")}
    how = "as their file says" if parted else "by document"
    shown = ", ".join(f"{split} {count}" for split, count in counts.items())
    lines.append(f"{counted(len(found), 'question')}, split {how}: {shown}")
    lines += [f"  note: {note}" for note in notes]
    gold = locate(found, corpus.documents)
    lost = [q for q in found if q.answerable and not all(span.found for span in gold[q.id])]
    bare = [q for q in found if not q.answerable]
    if lost:
        nowhere = _first([question.id for question in lost])
        lines.append(f"  evidence of {counted(len(lost), 'question')} was not found in the documents: {nowhere}")
    if bare:
        have = "has no evidence: it counts as one" if len(bare) == 1 else "have no evidence: they count as ones"
        lines.append(f"  {counted(len(bare), 'question')} {have} that the documents do not answer")
    lines += [f"  {row.sentence()}" for row in power_rows(found, 0.3, 0.1) if row.split == "test"]
    return lines


def _first(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")
