"""Late chunking: a document's token vectors, written once, pooled by chunk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragladder.core.errors import DataError, StageError
from ragladder.core.types import Chunk, Document
from ragladder.rag.late import TokenEmbedder, late_vectors, load_token_vectors, pooled, save_token_vectors


class Letters:
    """Token vectors that tell where a token stands."""

    dimension = 3

    def __init__(self) -> None:
        self.asked: list[str] = []

    def token_vectors(self, texts: Sequence[str], overlap: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for text in texts:
            self.asked.append(text)
            found = list(re.finditer(r"\w+", text))
            vectors = np.array([[1.0, match.start(), len(match.group())] for match in found]).reshape(-1, 3)
            yield vectors, np.array([match.span() for match in found])


def chunk(text: str, start: int, end: int, doc_id: str = "a") -> Chunk:
    return Chunk(doc_id, start, end, text[start:end])


def document(doc_id: str, text: str) -> Document:
    return Document(doc_id, text, "", doc_id)


def unit(*values: float) -> np.ndarray:
    return np.array(values) / np.linalg.norm(values)


def test_a_chunk_is_the_mean_of_its_tokens_in_the_document_and_one_pass_serves_all(tmp_path: Path) -> None:
    text = "one three five"
    embedder = Letters()
    assert isinstance(embedder, TokenEmbedder)
    save_token_vectors(tmp_path, [document("a", text), document("b", "..."), document("ö/c", "x")], embedder, 0)
    assert embedder.asked == [text, "...", "x"]
    tokens = load_token_vectors(tmp_path)
    chunks = [
        chunk(text, 4, 14),
        chunk("...", 0, 3, "b"),
        chunk(text, 0, 3),
        chunk(text, 0, 6),
        chunk("x", 0, 1, "ö/c"),
    ]
    vectors = late_vectors(chunks, tokens)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0], unit(1, (4 + 10) / 2, (5 + 4) / 2), rtol=1e-6)
    np.testing.assert_array_equal(vectors[1], 0)
    np.testing.assert_allclose(vectors[2], unit(1, 0, 3), rtol=1e-6)
    np.testing.assert_allclose(vectors[3], unit(1, 2, 4), rtol=1e-6, err_msg="a token cut in two counts")
    np.testing.assert_allclose(vectors[4], unit(1, 0, 1), rtol=1e-6)
    np.testing.assert_allclose(late_vectors(chunks[:1], tokens), vectors[:1], err_msg="another chunking, no new pass")
    assert len(embedder.asked) == 3


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


def test_what_does_not_fit_is_an_error(tmp_path: Path) -> None:
    class Wrong(Letters):
        dimension = 4

    class Infinite(Letters):
        def token_vectors(self, texts: Sequence[str], overlap: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            yield np.full((1, 3), 1e6), np.array([[0, 3]])

    with pytest.raises(StageError, match=r"shape \(1, 3\) for 1 tokens of a; \(1, 4\) was expected"):
        save_token_vectors(tmp_path, [document("a", "one")], Wrong(), 0)
    with pytest.raises(StageError, match="not finite, or too large for float16"):
        save_token_vectors(tmp_path, [document("a", "one")], Infinite(), 0)
    save_token_vectors(tmp_path, [], Letters(), 0)
    empty = load_token_vectors(tmp_path)
    with pytest.raises(DataError, match="1 documents"):
        late_vectors([chunk("one", 0, 3)], empty)
    assert late_vectors([], empty).shape == (0, 3)
