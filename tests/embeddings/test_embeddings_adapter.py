"""Query adapters: what they learn, what they keep, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ragladder.core.errors import DataError, StageError
from ragladder.embeddings.adapter import (
    AdaptedEmbedder,
    QueryAdapter,
    QueryAdapterSettings,
    adapted,
    adapter_fingerprint,
    load_query_adapter,
    train_query_adapter,
)
from ragladder.embeddings.pairs import Pair

WIDTH, COUNT = 16, 80
PAIRS = [Pair(f"q{n}", f"question {n}", f"passage {n}", f"c{n}") for n in range(COUNT)]
TRAIN, DEV = PAIRS[:60], PAIRS[60:]


class Rotated:
    """An embedder whose queries are the passages' vectors, turned: what a matrix can undo."""

    dimension = WIDTH

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.passages = draw.normal(size=(COUNT, WIDTH)).astype(np.float32)
        turn, scale = np.linalg.qr(np.eye(WIDTH) + 0.35 * draw.normal(size=(WIDTH, WIDTH)))
        self.queries = (self.passages @ (turn * np.sign(np.diag(scale)))).astype(np.float32)
        self.asked = 0

    def encode(self, texts: Sequence[str], role: str) -> np.ndarray:
        self.asked += len(texts)
        rows = self.queries if role == "query" else self.passages
        found = rows[[int(text.split()[1]) for text in texts]]
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def first_place(encode: Callable[..., np.ndarray]) -> float:
    """Share of the dev questions whose passage is nearest."""
    scores = encode([p.query for p in DEV], "query") @ encode([p.positive for p in DEV], "document").T
    return float(np.mean(scores.argmax(axis=1) == np.arange(len(DEV))))


FAST = QueryAdapterSettings(learning_rates=(3e-3,), epochs=40, patience=None, weight_decay=0.0)


@pytest.mark.parametrize("rank", [None, 12])
def test_an_adapter_learns_and_its_saved_file_scores_the_same(tmp_path: Path, rank: int | None) -> None:
    embedder = Rotated()
    settings = FAST.model_copy(update={"rank": rank})
    result = train_query_adapter(TRAIN, embedder.encode, first_place, settings, tmp_path)
    assert result.best_score >= result.base_score + 0.15
    assert result.improved and result.learning_rate == 3e-3
    assert result.best_score == max(score for *_, score in result.tried)
    assert result.parameters == (WIDTH * WIDTH if rank is None else 2 * WIDTH * rank)
    assert embedder.asked == 2 * len(TRAIN) + 2 * len(DEV), "each text is encoded once"
    saved = load_query_adapter(tmp_path)
    assert first_place(adapted(embedder.encode, saved)) == result.best_score
    assert json.loads((tmp_path / "adapter.json").read_text())["best_epoch"] == result.best_epoch
    wrapped = AdaptedEmbedder(embedder, saved)
    assert wrapped.dimension == WIDTH
    documents = wrapped.encode(["passage 1"], "document")
    np.testing.assert_array_equal(documents, embedder.encode(["passage 1"], "document"))


def test_the_base_is_kept_where_nothing_beats_it(tmp_path: Path) -> None:
    embedder = Rotated()
    plain = embedder.encode([p.query for p in DEV], "query")

    def likeness(encode: Callable[..., np.ndarray]) -> float:
        return float((encode([p.query for p in DEV], "query") * plain).sum())

    result = train_query_adapter(TRAIN, embedder.encode, likeness, FAST, tmp_path)
    assert (result.improved, result.best_epoch, result.best_score) == (False, 0, result.base_score)
    np.testing.assert_allclose(load_query_adapter(tmp_path).apply(plain), plain, atol=1e-6)


def test_every_learning_rate_is_tried_and_patience_stops_each(tmp_path: Path) -> None:
    settings = QueryAdapterSettings(learning_rates=(1e-3, 1e-4), patience=2, epochs=30)
    result = train_query_adapter(TRAIN, Rotated().encode, lambda encode: 0.5, settings, tmp_path)
    assert [(rate, epoch) for rate, epoch, _ in result.tried] == [(1e-4, 1), (1e-4, 2), (1e-3, 1), (1e-3, 2)]


def test_the_same_seed_gives_the_same_adapter(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_query_adapter(TRAIN, Rotated().encode, first_place, FAST, tmp_path / name)
    assert adapter_fingerprint(tmp_path / "a") == adapter_fingerprint(tmp_path / "b")


def test_unusable_input_is_refused(tmp_path: Path) -> None:
    encode = Rotated().encode
    with pytest.raises(DataError, match="1 training pairs; two different"):
        train_query_adapter(TRAIN[:1], encode, first_place, FAST, tmp_path)
    with pytest.raises(DataError, match="all passages are the same text"):
        same = [Pair(p.question_id, p.query, "passage 0", "c") for p in TRAIN]
        train_query_adapter(same, encode, first_place, FAST, tmp_path)
    with pytest.raises(StageError, match="dev evaluation gave nan"):
        train_query_adapter(TRAIN, encode, lambda encode: float("nan"), FAST, tmp_path)
    with pytest.raises(ValidationError, match="learning rate"):
        QueryAdapterSettings(learning_rates=())
    assert not list(tmp_path.iterdir())


def test_a_damaged_or_foreign_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no query adapter"):
        load_query_adapter(tmp_path)
    (tmp_path / "query_adapter.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DataError, match="not a query adapter"):
        load_query_adapter(tmp_path)
    with pytest.raises(DataError, match="trained for vectors of 3 dimensions, these have 5"):
        QueryAdapter(np.zeros((3, 3), np.float32)).apply(np.ones((2, 5)))


@given(st.integers(0, 10_000), st.floats(0, 2))
def test_adapted_queries_have_unit_length(seed: int, size: float) -> None:
    draw = np.random.default_rng(seed)
    adapter = QueryAdapter((size * draw.normal(size=(6, 6))).astype(np.float32))
    out = adapter.apply(draw.normal(size=(4, 6)))
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)
