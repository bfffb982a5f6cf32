"""Vector indexes and BM25."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import TypeAdapter
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, DataError, RagladderError, UnreachableError
from ragladder.rag.index import BM25Index, BM25Settings, IndexSection, QdrantIndexSettings, VectorIndex, top_k
from ragladder.rag.index.qdrant import LOCAL_LIMIT

EXACT = ["numpy", "flat", "qdrant", "ivf_flat"]  # at this size ivf_flat looks into all of its lists
ALL = [*EXACT, "hnsw"]


def unit(count: int, seed: int = 0, dimension: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make(kind: Any, tmp_path: Path) -> Any:
    settings = TypeAdapter(IndexSection).validate_python(kind)
    return settings.build(Resources(base_dir=tmp_path, cache_dir=tmp_path, env={}))


@pytest.mark.parametrize("kind", ALL)
def test_finds_what_a_full_comparison_finds(kind: str, tmp_path: Path) -> None:
    vectors, queries = unit(300), unit(20, 1)
    index = make(kind, tmp_path).build(vectors)
    scores, positions = index.search(queries, 7)
    expected = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :7]
    assert isinstance(index, VectorIndex)
    assert scores.dtype == np.float32 and positions.dtype == np.int64
    assert (positions == expected).mean() > (0.95 if kind == "hnsw" else 0.999)
    assert np.allclose(scores, np.take_along_axis(queries @ vectors.T, positions, axis=1), atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("kind", ALL)
def test_fewer_than_k_are_marked(kind: str, tmp_path: Path) -> None:
    scores, positions = make(kind, tmp_path).build(unit(3)).search(unit(2, 1), 5)
    assert scores.shape == positions.shape == (2, 5)
    assert (positions[:, 3:] == -1).all() and np.isneginf(scores[:, 3:]).all()
    assert sorted(positions[0, :3]) == [0, 1, 2]


@pytest.mark.parametrize("kind", ALL)
def test_equal_vectors_stand_in_order_of_position(kind: str, tmp_path: Path) -> None:
    vectors = np.repeat(unit(1), 6, axis=0)
    _, positions = make(kind, tmp_path).build(vectors).search(unit(1), 6)
    assert positions.tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("kind", [*ALL, {"kind": "qdrant", "location": "db"}])
def test_saved_and_loaded_gives_the_same(kind: Any, tmp_path: Path) -> None:
    index = make(kind, tmp_path).build(unit(50))
    expected = index.search(unit(4, 1), 5)
    index.save(tmp_path / "kept")
    if isinstance(kind, dict):
        index.close()
    again = make(kind, tmp_path).load(tmp_path / "kept")
    for one, other in zip(expected, again.search(unit(4, 1), 5), strict=True):
        assert np.array_equal(one, other)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pickle")]
    if isinstance(kind, dict):
        again.close()


def test_a_graph_is_the_same_each_time(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        make("hnsw", tmp_path).build(unit(400)).save(tmp_path / name)
        files.append((tmp_path / name / "index.faiss").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("kind", ALL)
def test_misuse_is_said(kind: str, tmp_path: Path) -> None:
    index = make(kind, tmp_path)
    with pytest.raises(DataError, match="build or load"):
        index.search(unit(1), 3)
    with pytest.raises(DataError, match="shape"):
        index.build(np.zeros(4))
    with pytest.raises(DataError, match="finite"):
        index.build(np.full((2, 4), np.nan))
    index.build(unit(3))
    with pytest.raises(DataError, match="same model"):
        index.search(unit(2, dimension=8), 3)
    with pytest.raises(DataError, match="no index in"):
        make(kind, tmp_path).load(tmp_path / "nothing")
    index.save(tmp_path / "kept")
    other = "flat" if kind != "flat" else "numpy"
    with pytest.raises(DataError, match=f"kind '{kind}'"):
        make(other, tmp_path).load(tmp_path / "kept")


def test_qdrant_local_mode_has_a_limit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="5,000 chunks, there are 5,001"):
        make("qdrant", tmp_path).build(unit(LOCAL_LIMIT + 1, dimension=2))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its lock file stays open
def test_qdrant_in_a_folder_keeps_collections_apart_and_locks(tmp_path: Path) -> None:
    kind = {"kind": "qdrant", "location": "db"}
    one = make(kind, tmp_path).build(unit(5))
    one.save(tmp_path / "one")
    with pytest.raises(DataError, match="in use"):
        make(kind, tmp_path).build(unit(5))
    gc.collect()
    one.build(unit(6, 1))
    one.build(unit(5))
    assert sorted(one.search(unit(1), 9)[1][0][:5]) == [0, 1, 2, 3, 4]
    one.close()
    again = make(kind, tmp_path).load(tmp_path / "one")
    assert sorted(again.search(unit(1), 5)[1][0]) == [0, 1, 2, 3, 4]
    again.close()
    with pytest.raises(DataError, match="build the index again"):
        make({"kind": "qdrant", "location": "other"}, tmp_path).load(tmp_path / "one")


def test_an_unreachable_qdrant_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="http://127.0.0.1:9 does not answer"):
        make({"kind": "qdrant", "location": "http://127.0.0.1:9"}, tmp_path).build(unit(3))
    with pytest.raises(ConfigError, match="QDRANT_KEY"):
        make({"kind": "qdrant", "location": "http://127.0.0.1:9", "api_key_env": "QDRANT_KEY"}, tmp_path)
    assert not QdrantIndexSettings().remote


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 3).map(float)),
    st.integers(1, 8),
)
def test_top_k_is_a_full_sort_cut_off(scores: np.ndarray, k: int) -> None:
    best, where = top_k(scores, k)
    ranking = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    shown = ranking.shape[1]
    assert np.array_equal(where[:, :shown], ranking) and (where[:, shown:] == -1).all()
    assert np.array_equal(best[:, :shown], np.take_along_axis(scores, ranking, axis=1))


TEXTS = [
    "The locker is restarted by its pin.",
    "Error E-417 means that the lock sticks.",
    "Error E-418 means that the lamp is off; see door.retry_max.",
    "Lockers, lockers and more lockers are delivered on Monday.",
]


def find(query: str, **settings: Any) -> list[int]:
    positions = BM25Index.build(TEXTS, BM25Settings(**settings)).search([query], 4)[1][0]
    return positions[positions >= 0].tolist()


def test_bm25_finds_stems_identifiers_and_settings() -> None:
    assert set(find("locker")) == {0, 3}
    assert find("locker", stemmer=None) == [0]
    assert find("what is e-417?")[0] == 1
    assert find("door.retry_max") == [2]
    assert find("E-417")[0] == 1 and find("E-418")[0] == 2
    assert find("giraffe") == [] and find("the of and") == [] and find("") == []
    assert find("the", stop_words=None) != []


def test_bm25_is_lucenes_formula() -> None:
    texts = ["apple banana", "apple apple cherry plum", "pear"]
    settings = BM25Settings(k1=1.2, b=0.6, stemmer=None, stop_words=None)
    scores, positions = BM25Index.build(texts, settings).search(["apple pear"], 3)
    idf = {"apple": math.log(1 + (3 - 2 + 0.5) / 2.5), "pear": math.log(1 + (3 - 1 + 0.5) / 1.5)}
    mean = 7 / 3

    def part(word: str, times: int, length: int) -> float:
        return idf[word] * times / (times + 1.2 * (1 - 0.6 + 0.6 * length / mean))

    expected = {0: part("apple", 1, 2), 1: part("apple", 2, 4), 2: part("pear", 1, 1)}
    found = dict(zip(positions[0].tolist(), scores[0].tolist(), strict=True))
    assert found == pytest.approx(expected, rel=1e-5)
    assert positions[0].tolist() == sorted(expected, key=lambda place: -expected[place])


def test_bm25_is_saved_loaded_and_may_be_empty(tmp_path: Path) -> None:
    index = BM25Index.build(TEXTS, BM25Settings(k1=0.9))
    index.save(tmp_path / "a")
    again = BM25Index.load(tmp_path / "a")
    queries = ["error lock", "lockers on monday", "nothing"]
    for one, other in zip(index.search(queries, 3), again.search(queries, 3), strict=True):
        assert np.array_equal(one, other)
    assert again.settings.k1 == 0.9
    empty = BM25Index.build(["", "the"], BM25Settings())
    empty.save(tmp_path / "b")
    assert (BM25Index.load(tmp_path / "b").search(["x"], 2)[1] == -1).all()
    with pytest.raises(DataError, match="no BM25 index"):
        BM25Index.load(tmp_path / "c")


def test_bm25_is_the_same_in_each_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ragladder.rag.index import *;"
        f"BM25Index.build({TEXTS!r}, BM25Settings()).save(Path(sys.argv[1]))"
    )
    kept = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=env)
        kept.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert kept[0] == kept[1] and kept[0]


def test_a_misspelt_index_gets_a_suggestion() -> None:
    with pytest.raises((RagladderError, ValueError), match="hnsw"):
        TypeAdapter(IndexSection).validate_python("hnws")
