"""Late chunking: pooling a document's token vectors by chunk."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragladder.core.errors import DataError, StageError
from ragladder.core.types import Chunk, Document
from ragladder.rag.late import TokenEmbedder, late_vectors, pooled


class Letters:
    """Token vectors that tell where a token stands."""

    dimension = 3

    def __init__(self) -> None:
        self.asked: list[str] = []

    def token_vectors(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(text)
        found = list(re.finditer(r"\w+", text))
        vectors = np.array([[1.0, match.start(), len(match.group())] for match in found]).reshape(-1, 3)
        return vectors.astype(np.float16), np.array([match.span() for match in found])


def chunk(text: str, start: int, end: int, doc_id: str = "a") -> Chunk:
    return Chunk(doc_id, start, end, text[start:end])


def unit(*values: float) -> np.ndarray:
    return np.array(values) / np.linalg.norm(values)


def test_a_chunk_is_the_mean_of_its_tokens_in_the_document() -> None:
    text = "one three five"
    documents = {"a": Document("a", text, "", "a"), "b": Document("b", "...", "", "b")}
    embedder = Letters()
    assert isinstance(embedder, TokenEmbedder)
    chunks = [chunk(text, 4, 14), chunk("...", 0, 3, "b"), chunk(text, 0, 3), chunk(text, 0, 6)]
    vectors = late_vectors(chunks, documents, embedder)
    assert vectors.dtype == np.float32 and sorted(embedder.asked) == ["...", text], "each document once"
    np.testing.assert_allclose(vectors[0], unit(1, (4 + 10) / 2, (5 + 4) / 2), rtol=1e-6)
    np.testing.assert_array_equal(vectors[1], 0)
    np.testing.assert_allclose(vectors[2], unit(1, 0, 3), rtol=1e-6)
    np.testing.assert_allclose(vectors[3], unit(1, 2, 4), rtol=1e-6), "a token cut in two counts"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 1000), st.data())
def test_pooling_equals_the_mean_taken_token_by_token(count: int, seed: int, data) -> None:
    random = np.random.default_rng(seed)
    edges = np.cumsum(random.integers(1, 4, size=2 * count))
    offsets = edges.reshape(-1, 2)
    vectors = random.normal(size=(count, 4)).astype(np.float32)
    length = int(edges[-1]) if count else 5
    start = data.draw(st.integers(0, length))
    end = data.draw(st.integers(start, length + 3))
    inside = [at for at, (a, b) in enumerate(offsets) if a < end and b > start]
    wanted = vectors[inside].astype(np.float64).mean(axis=0) if inside else np.zeros(4)
    norm = np.linalg.norm(wanted)
    np.testing.assert_allclose(pooled(vectors, offsets, [(start, end)])[0], wanted / (norm or 1), atol=1e-5)


def test_what_does_not_fit_is_an_error() -> None:
    class Wrong(Letters):
        dimension = 4

    documents = {"a": Document("a", "one", "", "a")}
    with pytest.raises(StageError, match=r"shape \(1, 3\) for 1 tokens of a; \(1, 4\) was expected"):
        late_vectors([chunk("one", 0, 3)], documents, Wrong())
    with pytest.raises(DataError, match="1 documents"):
        late_vectors([chunk("one", 0, 3)], {}, Letters())
    assert late_vectors([], {}, Letters()).shape == (0, 3)
