"""Metadata filters as masks, for every index and for one that cannot filter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from ragladder.core.components import Resources
from ragladder.rag.index import BM25Index, BM25Settings, IndexSection, search_index
from ragladder.rag.index.points import FILTER_LIMIT, Listed, listed_points
from ragladder.rag.index.topk import oversampled

KINDS: list[Any] = [
    "numpy",
    "flat",
    "qdrant",
    "quantised",
    "hnsw",
    "ivf_flat",
    {"kind": "ivf_pq", "bits": 4, "m": 8, "rescore": "fp32", "rescore_factor": 40},
]


def unit(count: int, seed: int = 0, dimension: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make(kind: Any, tmp_path: Path) -> Any:
    chosen: Any = TypeAdapter(IndexSection).validate_python(kind)
    return chosen.build(Resources(base_dir=tmp_path, cache_dir=tmp_path, env={}))


def slow(vectors: np.ndarray, queries: np.ndarray, allowed: np.ndarray, k: int) -> list[list[int]]:
    scores = np.where(allowed, queries @ vectors.T, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[int(at) for at in row if allowed[at]] for row in order]


@pytest.mark.parametrize("share", [0.5, 0.03, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_gives_the_best_of_what_it_lets_pass(kind: Any, share: float, tmp_path: Path) -> None:
    vectors, queries = unit(400), unit(9, 1)
    allowed = np.random.default_rng(2).random(400) < share
    index = make(kind, tmp_path).build(vectors)
    scores, positions = search_index(index, queries, 10, allowed)
    assert scores.shape == positions.shape == (9, 10)
    found = [[int(at) for at in row if at >= 0] for row in positions]
    assert all(allowed[at] for row in found for at in row)
    expected = slow(vectors, queries, allowed, 10)
    assert [len(row) for row in found] == [len(row) for row in expected]
    common = [len(set(a) & set(b)) / len(b) for a, b in zip(found, expected, strict=True)]
    assert np.mean(common) > (0.97 if kind in ("hnsw", "quantised", KINDS[-1]) else 0.999)
    assert (np.diff(np.where(np.isinf(scores), -9, scores), axis=1) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_that_lets_nothing_pass_finds_nothing(kind: Any, tmp_path: Path) -> None:
    index = make(kind, tmp_path).build(unit(60))
    scores, positions = search_index(index, unit(2, 1), 3, np.zeros(60, dtype=bool))
    assert (positions == -1).all() and np.isneginf(scores).all()


class CannotFilter:
    """Test double: an index from outside, which knows no masks and counts how deep it was asked."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self.depths: list[int] = []

    def search(self, vectors: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        self.depths.append(k)
        scores = np.asarray(vectors) @ self.vectors.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), order


def test_an_index_that_cannot_filter_is_searched_deeper() -> None:
    vectors, queries = unit(500), unit(5, 1)
    allowed = np.arange(500) % 50 == 3
    index = CannotFilter(vectors)
    _, positions = search_index(index, queries, 4, allowed)
    assert positions.tolist() == slow(vectors, queries, allowed, 4)
    assert index.depths[-1] > 100 and index.depths == sorted(index.depths)
    search_index(index, queries, 4)
    assert index.depths[-1] == 4, "without a filter it is asked for no more than is wanted"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(1, 12))
def test_oversampling_equals_a_filtered_sort(passing: list[bool], k: int) -> None:
    allowed = np.array(passing, dtype=bool)
    vectors, queries = unit(max(1, len(passing)))[: len(passing)], unit(3, 1)
    _, positions = oversampled(CannotFilter(vectors).search, queries, k, allowed)
    assert positions.shape == (3, k)
    assert [[at for at in row if at >= 0] for row in positions.tolist()] == slow(vectors, queries, allowed, k)


def test_qdrant_is_sent_the_shorter_list_and_never_a_long_one() -> None:
    few = np.zeros(100, dtype=bool)
    few[[3, 7]] = True
    assert listed_points(few) == Listed((3, 7), found=True)
    assert listed_points(~few) == Listed((3, 7), found=False)
    assert listed_points(np.arange(4 * FILTER_LIMIT) % 2 == 0) is None


def test_bm25_filters_and_keeps_scores() -> None:
    texts = ["red pump", "red red lamp", "blue pump", "red pump pump"]
    index = BM25Index.build(texts, BM25Settings())
    scores, positions = index.search(["red pump", "blue", "yellow"], 4)
    allowed = np.array([True, False, True, True])
    some, places = index.search(["red pump", "blue", "yellow"], 4, allowed)
    whole = dict(zip(positions[0].tolist(), scores[0].tolist(), strict=True))
    assert places[0].tolist()[:3] == [at for at in positions[0].tolist() if at in (0, 2, 3)]
    assert [whole[at] for at in places[0].tolist()[:3]] == some[0][:3].tolist(), "a filter changes no score"
    assert places[1].tolist() == [2, -1, -1, -1] and (places[2] == -1).all()
    assert (index.search(["red"], 2, np.zeros(4, dtype=bool))[1] == -1).all()


@pytest.mark.parametrize("language", ["german", "dutch", "french", "spanish", "italian", "portuguese"])
def test_bm25_knows_stop_words_of_other_languages(language: str) -> None:
    word = {"german": "und", "dutch": "een", "french": "les", "spanish": "los", "italian": "che", "portuguese": "uma"}
    texts = [f"{word[language]} xylophon", "xylophon"]
    chosen = BM25Settings.model_validate({"stemmer": None, "stop_words": language})
    assert (BM25Index.build(texts, chosen).search([word[language]], 2)[1] == -1).all()
    kept = BM25Settings.model_validate({"stemmer": None, "stop_words": None})
    assert BM25Index.build(texts, kept).search([word[language]], 2)[1][0].tolist() == [0, -1]


def test_bm25_takes_stop_words_of_your_own(tmp_path: Path) -> None:
    chosen = BM25Settings(stop_words=("Pump", "the"))
    index = BM25Index.build(["the pump", "a lamp"], chosen)
    index.save(tmp_path)
    for one in (index, BM25Index.load(tmp_path)):
        assert (one.search(["pump"], 2)[1] == -1).all() and one.search(["lamp"], 2)[1][0, 0] == 1
