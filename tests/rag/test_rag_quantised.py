"""Codes for the search, float vectors for the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from ragladder.core.components import Resources
from ragladder.core.errors import DataError
from ragladder.core.types import Index
from ragladder.rag.index import IndexSection, NumpyIndexSettings

pytest.importorskip("faiss")


def vectors(count: int, dimension: int = 100, seed: int = 0) -> np.ndarray:
    """Clustered like those of texts."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, dimension))
    found = centres[random.integers(0, 40, count)] + 0.7 * random.normal(size=(count, dimension))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def index(**settings: Any) -> Any:
    made = TypeAdapter(IndexSection).validate_python({"kind": "quantised", **settings}).build(Resources())
    assert isinstance(made, Index)
    return made


@pytest.mark.parametrize(("precision", "least"), [("int8", 0.99), ("binary", 0.9)])
def test_rescored_codes_find_what_exact_search_finds(precision: str, least: float) -> None:
    stored, queries = vectors(3000), vectors(50, seed=1)
    exact_scores, exact = NumpyIndexSettings().build(Resources()).build(stored).search(queries, 10)
    scores, found = index(precision=precision, rescore_multiplier=20).build(stored).search(queries, 10)
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])
    assert share >= least
    np.testing.assert_allclose(scores, (queries[:, None] * stored[found]).sum(axis=2), atol=1e-4)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert exact_scores.mean() - scores.mean() < 0.01
    few = index(precision="binary", rescore_multiplier=1).build(stored).search(queries, 10)[1]
    worse = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, few, strict=True)])
    assert worse < 0.9, "without rescoring bits lose much"


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_what_is_saved_is_loaded(tmp_path: Path, precision: str) -> None:
    stored, queries = vectors(200, 20), vectors(5, 20, seed=1)
    one = index(precision=precision).build(stored)
    one.save(tmp_path)
    other = index(precision=precision).load(tmp_path)
    for a, b in zip(one.search(queries, 7), other.search(queries, 7), strict=True):
        np.testing.assert_array_equal(a, b)
    wrong = "int8" if precision == "binary" else "binary"
    with pytest.raises(DataError, match=f"has {precision} codes, not {wrong}"):
        index(precision=wrong).load(tmp_path)


def test_more_results_than_vectors_and_empty_indexes() -> None:
    scores, found = index(precision="binary").build(vectors(3, 20)).search(vectors(2, 20), 5)
    assert (found[:, 3:] == -1).all() and sorted(found[0][:3]) == [0, 1, 2] and np.isinf(scores[:, 3:]).all()
    for precision in ("int8", "binary"):
        assert (index(precision=precision).build(np.zeros((0, 20))).search(vectors(2, 20), 5)[1] == -1).all()
    with pytest.raises(DataError, match="index is empty"):
        index().search(vectors(1), 1)
    with pytest.raises(DataError, match="holds vectors of 20 dimensions, got 24"):
        index().build(vectors(3, 20)).search(vectors(1, 24), 1)
    with pytest.raises(ValidationError, match="precision"):
        index(precision="int4")
