"""Fusion, caps and thresholds, against slow definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragladder.core.errors import ConfigError
from ragladder.core.types import Chunk
from ragladder.rag.retrieve import RetrieveSettings, align, document_codes, fuse, search, to_hits

CHUNKS = 12
Ranking = list[tuple[int, float]]


def rankings() -> st.SearchStrategy[Ranking]:
    """One question's result in a channel: distinct positions with falling scores, ties by position."""

    def build(pairs: dict[int, int]) -> Ranking:
        return sorted(((at, score / 4) for at, score in pairs.items()), key=lambda pair: (-pair[1], pair[0]))

    return st.dictionaries(st.integers(0, CHUNKS - 1), st.integers(-8, 8), max_size=6).map(build)


def channel(rows: list[Ranking], k: int = 6) -> tuple[np.ndarray, np.ndarray]:
    scores, positions = np.full((len(rows), k), -np.inf, np.float32), np.full((len(rows), k), -1, np.int64)
    for row, found in enumerate(rows):
        for column, (at, score) in enumerate(found):
            scores[row, column], positions[row, column] = score, at
    return scores, positions


def run(dense: list[Ranking], bm25: list[Ranking], **values: Any) -> list[Ranking]:
    chosen = RetrieveSettings(**{"mode": "hybrid", "top_k": 12, "fetch_k": 12, **values})
    scores, positions = fuse(align(channel(dense), channel(bm25)), chosen, np.arange(CHUNKS) // 3)
    assert scores.shape == positions.shape == (len(dense), chosen.top_k)
    assert (np.isneginf(scores) == (positions < 0)).all()
    return [
        [(int(at), float(score)) for score, at in zip(*row, strict=True) if at >= 0]
        for row in zip(scores, positions, strict=True)
    ]


both = st.lists(st.tuples(rankings(), rankings()), min_size=1, max_size=4)


def slow_rrf(dense: Ranking, bm25: Ranking, k: int) -> Ranking:
    total: dict[int, float] = {}
    for found in (dense, bm25):
        for rank, (at, _) in enumerate(found, 1):
            total[at] = total.get(at, 0.0) + 1 / (k + rank)
    return sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))


def slow_weighted(dense: Ranking, bm25: Ranking, weight: float, how: str) -> Ranking:
    def normal(found: Ranking) -> tuple[dict[int, float], float]:
        scores = [score for _, score in found]
        if not scores:
            return {}, 0.0
        low, high = min(scores), max(scores)
        if how == "minmax":
            return {at: (score - low) / (high - low) if high > low else 1.0 for at, score in found}, 0.0
        mean, deviation = float(np.mean(scores)), float(np.std(scores))
        values = {at: (score - mean) / deviation if high > low else 0.0 for at, score in found}
        return values, min(values.values())

    total: dict[int, float] = {}
    used = [(found, share) for found, share in ((dense, weight), (bm25, 1 - weight)) if share > 0]
    for at in {at for found, _ in used for at, _ in found}:
        total[at] = 0.0
        for found, share in used:
            values, missing = normal(found)
            total[at] += share * values.get(at, missing)
    return sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))


def same(got: Ranking, expected: Ranking) -> bool:
    """Equal up to rounding; places may change among scores that are equal up to rounding."""
    if [at for at, _ in sorted(got)] != [at for at, _ in sorted(expected)]:
        return False
    by_place = dict(expected)
    exact = all(score == pytest.approx(by_place[at], abs=1e-9) for at, score in got)
    falling = all(a >= b for (_, a), (_, b) in zip(got, got[1:], strict=False))
    return exact and falling


@given(both, st.integers(1, 100))
def test_rrf_is_the_published_formula(rows: list[tuple[Ranking, Ranking]], k: int) -> None:
    got = run([d for d, _ in rows], [b for _, b in rows], fusion="rrf", rrf_k=k)
    for one, (dense, bm25) in zip(got, rows, strict=True):
        assert same(one, slow_rrf(dense, bm25, k))


def test_rrf_by_hand() -> None:
    got = run([[(3, 0.9), (7, 0.8)]], [[(7, 5.0), (1, 4.0)]], rrf_k=60)
    assert got == [[(7, 1 / 62 + 1 / 61), (3, 1 / 61), (1, 1 / 62)]]
    assert run([[(3, 0.9)]], [[(1, 5.0)]])[0] == [(1, 1 / 61), (3, 1 / 61)], "ties stand by position"


@given(both, st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0]), st.sampled_from(["minmax", "zscore"]))
def test_weighted_is_the_slow_definition(rows: list[tuple[Ranking, Ranking]], weight: float, how: str) -> None:
    got = run([d for d, _ in rows], [b for _, b in rows], fusion="weighted", weight=weight, normalise=how)
    for one, (dense, bm25) in zip(got, rows, strict=True):
        assert same(one, slow_weighted(dense, bm25, weight, how))


@given(both, st.sampled_from(["minmax", "zscore"]))
def test_weight_0_and_1_are_the_single_channels(rows: list[tuple[Ranking, Ranking]], how: str) -> None:
    dense, bm25 = [d for d, _ in rows], [b for _, b in rows]
    for weight, single, mode in ((1.0, dense, "dense"), (0.0, bm25, "bm25")):
        order = [[at for at, _ in row] for row in single]
        fused = run(dense, bm25, fusion="weighted", weight=weight, normalise=how)
        assert [[at for at, _ in row] for row in fused] == order
        alone = run(dense, bm25, mode=mode)
        assert [[(at, score) for at, score in row] for row in alone] == single


@given(both, st.permutations(range(4)))
def test_questions_do_not_influence_one_another(rows: list[tuple[Ranking, Ranking]], shuffle: list[int]) -> None:
    order = [place for place in shuffle if place < len(rows)]
    dense, bm25 = [d for d, _ in rows], [b for _, b in rows]
    for values in ({"fusion": "rrf"}, {"fusion": "weighted", "per_document": 1}):
        whole = run(dense, bm25, **values)
        moved = run([dense[place] for place in order], [bm25[place] for place in order], **values)
        assert moved == [whole[place] for place in order]


@given(both)
def test_rrf_takes_the_channels_alike(rows: list[tuple[Ranking, Ranking]]) -> None:
    dense, bm25 = [d for d, _ in rows], [b for _, b in rows]
    for one, other in zip(run(dense, bm25), run(bm25, dense), strict=True):
        assert same(one, other)


@given(both, st.integers(1, 6))
def test_a_deep_search_serves_a_shallow_setting(rows: list[tuple[Ranking, Ranking]], fetch_k: int) -> None:
    dense, bm25 = [d for d, _ in rows], [b for _, b in rows]
    cut = ([d[:fetch_k] for d in dense], [b[:fetch_k] for b in bm25])
    for fusion in ("rrf", "weighted"):
        values: dict[str, Any] = {"fusion": fusion, "top_k": 1}
        assert run(dense, bm25, fetch_k=fetch_k, **values) == run(*cut, fetch_k=12, **values)


@given(both, st.integers(1, 2))
def test_the_cap_keeps_the_best_of_each_document(rows: list[tuple[Ranking, Ranking]], most: int) -> None:
    dense, bm25 = [d for d, _ in rows], [b for _, b in rows]
    free, capped = run(dense, bm25), run(dense, bm25, per_document=most)
    for whole, got in zip(free, capped, strict=True):
        counts: dict[int, int] = {}
        expected = []
        for at, score in whole:
            counts[at // 3] = counts.get(at // 3, 0) + 1
            if counts[at // 3] <= most:
                expected.append((at, score))
        assert got == expected


def test_threshold_and_top_k_cut() -> None:
    dense = [[(0, 0.9), (4, 0.5), (8, 0.1)]]
    assert run(dense, [[]], mode="dense", threshold=0.5) == [[(0, pytest.approx(0.9)), (4, 0.5)]]
    assert [at for at, _ in run(dense, [[]], mode="dense", top_k=1)[0]] == [0]
    assert run(dense, [[]], mode="bm25") == [[]]


def test_search_checks_its_parts_and_takes_channels_of_any_depth() -> None:
    with pytest.raises(ConfigError, match="needs a channel"):
        search(["x"], 5)
    with pytest.raises(ConfigError, match="both an embedder and an index"):
        search(["x"], 5, index=object())  # type: ignore[arg-type]
    candidates = align(channel([[(1, 0.5)]], k=1), channel([[(1, 3.0), (2, 2.0)]], k=4))
    assert sorted(candidates.positions[0].tolist()) == [-1, -1, -1, 1, 2]
    with pytest.raises(ConfigError, match="per_document"):
        fuse(candidates, RetrieveSettings(per_document=1))


def test_settings_must_fetch_enough() -> None:
    with pytest.raises(ValueError, match="fetch_k"):
        RetrieveSettings(top_k=10, fetch_k=5)


@settings(max_examples=20)
@given(st.lists(st.sampled_from("abc"), max_size=8))
def test_documents_and_hits(names: list[str]) -> None:
    chunks = [Chunk(name, place, place + 1, "x") for place, name in enumerate(names)]
    codes = document_codes(chunks)
    assert [[a == b for b in names] for a in names] == (codes[:, None] == codes[None, :]).tolist()
    if chunks:
        hits = to_hits(np.array([[0.5, -np.inf]]), np.array([[0, -1]]), chunks)
        assert [(hit.chunk, hit.score) for hit in hits[0]] == [(chunks[0], 0.5)]
