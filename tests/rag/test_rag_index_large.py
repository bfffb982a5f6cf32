"""Indexes for many chunks: inverted lists, codes, GPUs, Qdrant's engine in process, a server that vanishes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from ragladder.core.components import Resources
from ragladder.core.errors import ConfigError, DataError, EndpointError, MissingExtra, UnreachableError
from ragladder.rag.index import IndexSection, IvfFlatIndexSettings, IvfPqIndexSettings, faiss
from ragladder.rag.index.faiss import FaissIndex


def unit(count: int, seed: int = 0, dimension: int = 16) -> np.ndarray:
    """Unit vectors round a few centres, as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(12, dimension))
    vectors = (centres[rng.integers(0, 12, count)] + 0.4 * rng.normal(size=(count, dimension))).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make(kind: Any, tmp_path: Path, device: str = "cpu") -> Any:
    chosen: Any = TypeAdapter(IndexSection).validate_python(kind)
    return chosen.build(Resources(device=device, base_dir=tmp_path, cache_dir=tmp_path, env={}))


def recall(index: Any, vectors: np.ndarray, queries: np.ndarray, k: int = 10) -> float:
    _, found = index.search(queries, k)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :k]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(found.tolist(), exact.tolist(), strict=True)]))


def test_more_lists_probed_find_more_up_to_all(tmp_path: Path) -> None:
    vectors, queries = unit(3000), unit(50, 1)
    found = [
        recall(make({"kind": "ivf_flat", "nlist": 40, "nprobe": n}, tmp_path).build(vectors), vectors, queries)
        for n in (1, 5, 40)
    ]
    assert found[0] < found[1] <= found[2] == 1.0


def test_codes_are_small_and_rescoring_makes_up_for_them(tmp_path: Path) -> None:
    vectors, queries = unit(2000), unit(40, 1)
    sizes, found = {}, {}
    for rescore in ("none", "fp16", "fp32"):
        index = make({"kind": "ivf_pq", "m": 4, "rescore": rescore, "nprobe": 500}, tmp_path).build(vectors)
        found[rescore] = recall(index, vectors, queries)
        index.save(tmp_path / rescore)
        sizes[rescore] = (tmp_path / rescore / "index.faiss").stat().st_size
        again = make({"kind": "ivf_pq", "m": 4, "rescore": rescore, "nprobe": 500}, tmp_path).load(tmp_path / rescore)
        for one, other in zip(index.search(queries, 5), again.search(queries, 5), strict=True):
            assert np.array_equal(one, other)
    assert found["none"] < 0.9 < 0.97 < found["fp16"] <= found["fp32"]
    assert sizes["none"] < sizes["fp16"] < sizes["fp32"]


def test_lists_are_the_same_each_time(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        make("ivf_pq", tmp_path).build(unit(600)).save(tmp_path / name)
        files.append((tmp_path / name / "index.faiss").read_bytes())
    assert files[0] == files[1]


def test_settings_that_do_not_fit_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nlist is 100, but there are 50 chunks"):
        make({"kind": "ivf_flat", "nlist": 100}, tmp_path).build(unit(50))
    with pytest.raises(ConfigError, match="needs 256 chunks or more, there are 50"):
        make("ivf_pq", tmp_path).build(unit(50))
    with pytest.raises(ConfigError, match=r"m is 5, which does not divide the 16 dimensions; 4, 2, 8 would"):
        make({"kind": "ivf_pq", "m": 5}, tmp_path).build(unit(300))
    with pytest.raises(ValidationError, match="nprobe"):
        IvfFlatIndexSettings(nprobe=0)
    assert IvfPqIndexSettings().parts(384) == 96 and IvfPqIndexSettings().parts(7) == 1
    assert IvfFlatIndexSettings().lists(1_000_000) == 1000 and IvfFlatIndexSettings().lists(10) == 1


def test_a_model_of_another_dimension_is_said(tmp_path: Path) -> None:
    for kind in ("flat", "ivf_flat", "hnsw"):
        index = make(kind, tmp_path).build(unit(100))
        with pytest.raises(DataError, match="holds vectors of 16 dimensions, got 8: .* same model"):
            index.search(unit(2, dimension=8), 3)


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    make("flat", tmp_path).build(unit(20)).save(tmp_path / "kept")
    path = tmp_path / "kept" / "index.faiss"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read .* build it again"):
        make("flat", tmp_path).load(tmp_path / "kept")
    assert not list((tmp_path / "kept").glob("*.tmp"))


class FakeGpu:
    """Test double: a copy of an index "on a GPU", which notes that it was asked."""

    def __init__(self, index: Any) -> None:
        self.index, self.asked, self.nprobe, self.nlist = index, 0, 1, getattr(index, "nlist", 0)

    def search(self, queries: Any, k: int) -> Any:
        import faiss as engine

        self.asked += 1
        loose: Any = engine
        params = loose.SearchParametersIVF(nprobe=self.nprobe) if self.nlist else None
        return self.index.search(queries, k, params=params)


@pytest.mark.parametrize(
    "kind", ["flat", "ivf_flat", {"kind": "ivf_pq", "m": 8}, {"kind": "ivf_pq", "rescore": "none"}]
)
def test_a_gpu_searches_where_there_is_one(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss as engine

    vectors, queries = unit(700), unit(8, 1)
    expected = make(kind, tmp_path).build(vectors).search(queries, 6)
    monkeypatch.setattr(engine, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(engine, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(engine, "index_cpu_to_gpu", lambda res, number, index: FakeGpu(index), raising=False)
    index = make(kind, tmp_path, "cuda:0").build(vectors)
    found = index.search(queries, 6)
    assert index.on_gpu and index._gpu.asked == 1
    assert (found[1] == expected[1]).mean() > 0.95, "where it runs changes no result, save for rounding"
    allowed = np.arange(700) < 300
    assert index.search(queries, 6, allowed)[1].max() < 300
    monkeypatch.setattr(faiss, "GPU_MOST", 100)
    index.search(queries, 101)
    assert index._gpu.asked == 1, "filters and long results stay on the CPU"
    assert not make("hnsw", tmp_path, "cuda").build(vectors).on_gpu
    assert not make(kind, tmp_path, "cpu").build(vectors).on_gpu


def test_the_cpu_build_of_faiss_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss as engine

    monkeypatch.setattr(engine, "get_num_gpus", lambda: 1)
    monkeypatch.delattr(engine, "StandardGpuResources", raising=False)
    assert faiss.gpu_count() == 0


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["flat", "ivf_flat", {"kind": "ivf_pq", "m": 8}])
def test_faiss_on_a_real_gpu_finds_the_same(kind: Any, tmp_path: Path) -> None:
    if not faiss.gpu_count():
        pytest.skip("this FAISS has no GPU")
    vectors, queries = unit(20_000, dimension=64), unit(100, 1, 64)
    cpu, gpu = make(kind, tmp_path).build(vectors), make(kind, tmp_path, "cuda").build(vectors)
    assert isinstance(gpu, FaissIndex) and gpu.on_gpu
    one, other = cpu.search(queries, 10), gpu.search(queries, 10)
    assert (one[1] == other[1]).mean() > 0.95
    assert np.allclose(one[0], other[0], atol=1e-3)


def test_qdrants_engine_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragladder.core.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'ragladder\[qdrant-edge\]'"):
        make("qdrant_edge", tmp_path)


def test_qdrants_engine_in_process(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge")
    vectors, queries = unit(6000), unit(20, 1)  # past the local mode's limit
    index = make("qdrant_edge", tmp_path).build(vectors)
    assert recall(index, vectors, queries) > 0.95
    exact = make({"kind": "qdrant_edge", "exact": True}, tmp_path).build(vectors)
    assert recall(exact, vectors, queries) > 0.999
    for share in (7, 2):
        allowed = np.arange(6000) % share == 0
        _, found = index.search(queries, 10, allowed)
        assert (found % share == 0).all()
    assert (index.search(queries, 3, np.zeros(6000, dtype=bool))[1] == -1).all()
    index.save(tmp_path / "kept")
    again = make("qdrant_edge", tmp_path).load(tmp_path / "kept")
    assert np.array_equal(again.search(queries, 5)[1], index.search(queries, 5)[1])
    with pytest.raises(DataError, match="same model"):
        again.search(unit(1, dimension=8), 3)
    with pytest.raises(DataError, match="build or load"):
        make("qdrant_edge", tmp_path).search(queries, 3)
    with pytest.raises(DataError, match="no index in"):
        make("qdrant_edge", tmp_path).load(tmp_path / "nothing")
    again.close()


@contextmanager
def qdrant_double(points: int, status: int = 200) -> Iterator[tuple[str, ThreadingHTTPServer]]:
    """Test double: a Qdrant server that already holds any collection with so many points."""

    class Handler(BaseHTTPRequestHandler):
        def _reply(self, result: Any) -> None:
            raw = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_GET(self) -> None:
            self._reply({"exists": True})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/points/count"):
                self._reply({"count": points})
                return
            rows = [[{"id": 1, "version": 0, "score": 0.5}] for _ in body["searches"]]
            self._reply([{"points": row} for row in rows])

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_qdrant_server_that_vanishes_is_named(tmp_path: Path) -> None:
    with qdrant_double(3) as (url, _):
        index = make({"kind": "qdrant", "location": url}, tmp_path).build(unit(3))
        assert index.search(unit(2, 1), 1)[1].tolist() == [[1], [1]]
    with pytest.raises(UnreachableError, match=f"{url} does not answer .* run the same command again"):
        index.search(unit(2, 1), 1)
    index.close()


@pytest.mark.parametrize(("status", "cause"), [(401, "index.api_key_env"), (500, "index.location and the server")])
def test_a_qdrant_server_that_refuses_is_another_error(tmp_path: Path, status: int, cause: str) -> None:
    with qdrant_double(3, status) as (url, _):
        index = make({"kind": "qdrant", "location": url}, tmp_path)
        with pytest.raises(EndpointError, match=f"{url} does not answer as it should .*{status}.* Check {cause}"):
            index.build(unit(3))
        index.close()
