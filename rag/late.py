"""Late chunking: a document goes through the encoder once, and each chunk's vector is the mean of its tokens'.

Günther, Mohr, Williams, Wang & Xiao, "Late chunking: contextual chunk embeddings using long-context embedding models",
2024. The vectors know what stands round a chunk, and one pass over the documents serves every chunker and size: the
token vectors are written to a folder once and pooled from there. It suits models that pool by the mean and read long
texts; questions are encoded as ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..core.errors import DataError, StageError
from ..core.progress import Reporter
from ..core.types import Chunk, Document

__all__ = [
    "TokenEmbedder",
    "TokenVectors",
    "late_vectors",
    "load_token_vectors",
    "pooled",
    "save_token_vectors",
]

_VECTORS, _OFFSETS, _META = "vectors.f16", "offsets.i32", "documents.json"


@runtime_checkable
class TokenEmbedder(Protocol):
    """An embedder that also gives the vectors of a text's tokens.

    `token_vectors` yields for each text (vectors, offsets) of all its tokens, however long it is, special tokens left
    out: floats of shape (tokens, dimension), not normalised, as they go into the model's mean pooling; and character
    offsets (start, end), integers of shape (tokens, 2), in order. A text beyond the model's window goes through it in
    windows that share `overlap` tokens.
    """

    dimension: int

    def token_vectors(self, texts: Sequence[str], overlap: int) -> Iterable[tuple[Any, Any]]:
        """Token vectors and offsets of each text, in order; see the class."""
        ...


@dataclass(frozen=True)
class TokenVectors:
    """Token vectors of a corpus.

    Attributes:
        vectors: All tokens of all documents, shape (tokens, dimension); mapped from disk.
        offsets: Their character offsets in their document, shape (tokens, 2).
        rows: First and last row (excluded) of each document, by its id.
    """

    vectors: np.ndarray
    offsets: np.ndarray
    rows: Mapping[str, tuple[int, int]]


def save_token_vectors(
    folder: Path,
    documents: Sequence[Document],
    embedder: TokenEmbedder,
    overlap: int,
    reporter: Reporter | None = None,
) -> None:
    """Passes each document through an encoder once and writes what comes out, in float16.

    It takes 2 x dimension bytes of disk a token: 77 MB for 100,000 tokens of 384 dimensions.

    Args:
        folder: Where to; must exist.
        documents: The corpus.
        embedder: Gives token vectors.
        overlap: Tokens that two windows of a long document share.
        reporter: Where progress goes.

    Raises:
        StageError: Vectors and offsets do not fit each other or the embedder's dimension, or are not finite.
    """
    rows: dict[str, tuple[int, int]] = {}
    total = 0
    texts = [document.text for document in documents]
    reporter = reporter or Reporter(quiet=True)
    with (
        open(folder / _VECTORS, "wb") as vectors_file,
        open(folder / _OFFSETS, "wb") as offsets_file,
        reporter.task("encode (late)", len(documents), "documents") as task,
    ):
        found = embedder.token_vectors(texts, overlap) if texts else ()
        for document, (vectors, offsets) in zip(documents, found, strict=True):
            vectors, offsets = _checked(vectors, offsets, document.id, embedder)
            vectors_file.write(np.ascontiguousarray(vectors, dtype=np.float16).tobytes())
            offsets_file.write(np.ascontiguousarray(offsets, dtype=np.int32).tobytes())
            rows[document.id] = (total, total + len(offsets))
            total += len(offsets)
            task.advance(1)
    meta = {"dimension": int(embedder.dimension), "tokens": total, "rows": rows}
    (folder / _META).write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8", errors="surrogatepass")


def load_token_vectors(folder: Path) -> TokenVectors:
    """Reads what `save_token_vectors` wrote; the vectors are mapped, not copied into memory."""
    meta = json.loads((folder / _META).read_text(encoding="utf-8", errors="surrogatepass"))
    tokens, dimension = meta["tokens"], meta["dimension"]
    rows = {doc_id: (first, last) for doc_id, (first, last) in meta["rows"].items()}
    if not tokens:
        return TokenVectors(np.zeros((0, dimension), np.float16), np.zeros((0, 2), np.int32), rows)
    vectors = np.memmap(folder / _VECTORS, dtype=np.float16, mode="r", shape=(tokens, dimension))
    offsets = np.fromfile(folder / _OFFSETS, dtype=np.int32).reshape(tokens, 2)
    return TokenVectors(vectors, offsets, rows)


def late_vectors(chunks: Sequence[Chunk], tokens: TokenVectors) -> np.ndarray:
    """Vectors of chunks, each pooled from the one pass over its document.

    Args:
        chunks: Chunks, of any chunker.
        tokens: Of at least their documents.

    Returns:
        Unit vectors, float32, shape (len(chunks), dimension), in the order of the chunks; zeros for a chunk without a
        token that the model knows.

    Raises:
        DataError: A chunk's document is missing.
    """
    places: dict[str, list[int]] = {}
    for position, chunk in enumerate(chunks):
        places.setdefault(chunk.doc_id, []).append(position)
    missing = sorted(places.keys() - tokens.rows.keys())
    if missing:
        raise DataError(f"{len(missing)} documents of the chunks are not in the corpus, the first is {missing[0]}")
    out = np.zeros((len(chunks), tokens.vectors.shape[1]), dtype=np.float32)
    for doc_id, positions in places.items():
        first, last = tokens.rows[doc_id]
        spans = [(chunks[at].start, chunks[at].end) for at in positions]
        out[positions] = pooled(tokens.vectors[first:last], tokens.offsets[first:last], spans)
    return out


def pooled(vectors: np.ndarray, offsets: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """The mean of the token vectors of each span, as a unit vector.

    A token belongs to every span that it overlaps by a character.

    Args:
        vectors: Shape (tokens, dimension).
        offsets: Start and end of each token, shape (tokens, 2), in order.
        spans: Start and end of each stretch, in characters.

    Returns:
        Float32, shape (len(spans), dimension); zeros for a span without tokens.
    """
    # Sums up to each token, in float64 so that long documents lose nothing to rounding.
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, axis=0, dtype=np.float64)])
    edges = np.asarray(spans, dtype=np.int64).reshape(-1, 2)
    first = np.searchsorted(offsets[:, 1], edges[:, 0], side="right")
    last = np.maximum(np.searchsorted(offsets[:, 0], edges[:, 1], side="left"), first)
    totals = sums[last] - sums[first]
    lengths = np.linalg.norm(totals, axis=1, keepdims=True)
    # What is left of rounding where nothing was added has no direction.
    known = (lengths > 0) & (last > first)[:, None]
    return np.divide(totals, lengths, out=np.zeros_like(totals), where=known).astype(np.float32)


def _checked(vectors: Any, offsets: Any, doc_id: str, embedder: TokenEmbedder) -> tuple[np.ndarray, np.ndarray]:
    vectors, offsets = np.asarray(vectors), np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    name = type(embedder).__name__
    if vectors.shape != (len(offsets), embedder.dimension):
        raise StageError(
            f"{name}: token_vectors gave vectors of shape {vectors.shape} for {len(offsets)} "
            f"tokens of {doc_id}; ({len(offsets)}, {embedder.dimension}) was expected"
        )
    if not np.isfinite(vectors).all() or (len(vectors) and np.abs(vectors).max() > np.finfo(np.float16).max):
        raise StageError(f"{name}: token vectors of {doc_id} are not finite, or too large for float16")
    return vectors, offsets
