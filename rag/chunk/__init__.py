"""Chunkers: how a document is cut into what is embedded and retrieved.

    token             windows of a fixed number of tokens
    sentence          whole sentences
    recursive         paragraphs, else lines, else words
    section           never across a heading, tables by rows
    semantic          cut where neighbouring sentences are least alike
    cluster_semantic  small pieces joined so that what is alike stands together
    sentence_window   a sentence is found, its neighbours are read too
    hierarchical      a small chunk is found, the larger one round it is read
    document          the whole document

All give exact offsets (`document.text[chunk.start:chunk.end] == chunk.text`), keep every visible character, and take
white space off the ends of a chunk. What `sentence_window` and `hierarchical` read in place of what was found is worked
out by `merge_hits` (merge.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...core.components import component_section
from ...core.errors import DataError, StageError
from ...core.types import Chunk, Chunker, Document
from ._spans import token_counter
from .cluster import ClusterSemanticSettings
from .document import DocumentSettings
from .hierarchical import HierarchicalSettings
from .merge import merge_hits
from .recursive import RecursiveSettings
from .section import SectionSettings
from .semantic import SemanticSettings
from .sentence import SentenceSettings
from .token import TokenSettings
from .window import SentenceWindowSettings

__all__ = [
    "CHUNKERS",
    "ChunkSection",
    "ClusterSemanticSettings",
    "DocumentSettings",
    "HierarchicalSettings",
    "RecursiveSettings",
    "SectionSettings",
    "SemanticSettings",
    "SentenceSettings",
    "SentenceWindowSettings",
    "TokenSettings",
    "chunk_corpus",
    "load_chunks",
    "merge_hits",
    "save_chunks",
    "token_counter",
]

CHUNKERS = (
    TokenSettings,
    SentenceSettings,
    RecursiveSettings,
    SectionSettings,
    SemanticSettings,
    ClusterSemanticSettings,
    SentenceWindowSettings,
    HierarchicalSettings,
    DocumentSettings,
)
"""Settings of the built-in chunkers."""

ChunkSection = component_section("chunker", *CHUNKERS)
"""Type of a config field that takes a chunker."""


def chunk_corpus(documents: Iterable[Document], chunker: Chunker) -> list[Chunk]:
    """Chunks of all documents, in their order and by start.

    A chunker with a method `prepare(documents)` is shown all of them first, to encode what it needs at once.

    Raises:
        StageError: The chunker gave a chunk whose text is not at its offsets, or which is there twice.
    """
    documents = list(documents)
    if hasattr(chunker, "prepare"):
        chunker.prepare(documents)  # type: ignore[attr-defined]
    chunks: list[Chunk] = []
    seen: set[str] = set()
    name = type(chunker).__name__
    for document in documents:
        for chunk in chunker.chunk(document):
            if chunk.doc_id != document.id or document.text[chunk.start : chunk.end] != chunk.text:
                raise StageError(
                    f"{name}: chunk {chunk.id} of document {document.id} is not what stands there; "
                    "correct the chunker's offsets"
                )
            if chunk.id in seen:
                raise StageError(f"{name}: chunk {chunk.id} came twice; each must have its own offsets")
            seen.add(chunk.id)
            chunks.append(chunk)
    return chunks


def save_chunks(path: Path, chunks: Sequence[Chunk]) -> None:
    """Writes chunks to a parquet file, in their order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "doc_id": pa.array([chunk.doc_id for chunk in chunks], pa.string()),
        "start": pa.array([chunk.start for chunk in chunks], pa.int64()),
        "end": pa.array([chunk.end for chunk in chunks], pa.int64()),
        "text": pa.array([chunk.text for chunk in chunks], pa.string()),
        "ref": pa.array([chunk.ref for chunk in chunks], pa.string()),
        "title": pa.array([chunk.title for chunk in chunks], pa.string()),
        "heading": pa.array([json.dumps(chunk.heading, ensure_ascii=False) for chunk in chunks], pa.string()),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, compression="zstd")


def load_chunks(path: Path) -> list[Chunk]:
    """Reads what `save_chunks` wrote.

    Raises:
        DataError: There is no such file, or it holds no chunks.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
        return [Chunk(**{**row, "heading": tuple(json.loads(row["heading"]))}) for row in rows]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the chunking again") from None
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a file of chunks ({error}); delete it and run the chunking again") from error
