"""Late chunking: a document goes through the encoder once, and each chunk's vector is the mean of its tokens'.

Günther, Mohr, Williams, Wang & Xiao, "Late chunking: contextual chunk embeddings using long-context embedding models",
2024. The vectors know what stands round a chunk, and one pass over the documents serves every chunker and size. It
suits models that pool by the mean and read long texts; questions are encoded as ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..core.errors import DataError, StageError
from ..core.types import Chunk, Document

__all__ = ["TokenEmbedder", "late_vectors", "pooled"]


@runtime_checkable
class TokenEmbedder(Protocol):
    """An embedder that also gives the vectors of a text's tokens.

    `token_vectors` returns (vectors, offsets) of all tokens of the text, however long it is, special tokens left out:
    float32 or float16 of shape (tokens, dimension), not normalised, as they go into the model's mean pooling; and
    character offsets (start, end), int64 of shape (tokens, 2), in order. A text beyond the model's window goes through
    it in overlapping windows, and each token takes its vector from the window where it stands furthest from an edge.
    """

    dimension: int

    def token_vectors(self, text: str) -> tuple[Any, Any]: ...


def late_vectors(
    chunks: Sequence[Chunk], documents_by_id: Mapping[str, Document], embedder: TokenEmbedder
) -> np.ndarray:
    """Vectors of chunks, each pooled from one pass over its document.

    Args:
        chunks: Chunks.
        documents_by_id: At least the documents of these chunks.
        embedder: Gives token vectors; each document is passed to it once.

    Returns:
        Unit vectors, float32, shape (len(chunks), dimension), in the order of the chunks; zeros for a chunk without a
        token that the model knows.

    Raises:
        DataError: A chunk's document is missing.
        StageError: The token vectors and their offsets do not fit each other or the embedder's dimension.
    """
    places: dict[str, list[int]] = {}
    for position, chunk in enumerate(chunks):
        places.setdefault(chunk.doc_id, []).append(position)
    missing = sorted(places.keys() - documents_by_id.keys())
    if missing:
        raise DataError(f"{len(missing)} documents of the chunks are not in the corpus, the first is {missing[0]}")
    out = np.zeros((len(chunks), embedder.dimension), dtype=np.float32)
    for doc_id, positions in places.items():
        vectors, offsets = embedder.token_vectors(documents_by_id[doc_id].text)
        vectors, offsets = np.asarray(vectors), np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
        if vectors.shape != (len(offsets), embedder.dimension):
            raise StageError(
                f"{type(embedder).__name__}: token_vectors gave vectors of shape {vectors.shape} for {len(offsets)} "
                f"tokens of {doc_id}; ({len(offsets)}, {embedder.dimension}) was expected"
            )
        out[positions] = pooled(vectors, offsets, [(chunks[at].start, chunks[at].end) for at in positions])
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
