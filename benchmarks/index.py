"""Vector indexes side by side: peak memory, building time, search time, and recall@10 against exact search.

    python benchmarks/index.py --size 1000000 --dimension 384 --queries 200 --kinds flat ivf_flat ivf_pq
    python benchmarks/index.py --size 100000 --kinds hnsw '{"kind": "ivf_flat", "nprobe": 64}'
    python benchmarks/index.py --size 1000000 --kinds flat ivf_flat --device cuda    # ratios to the CPU, too

Vectors are synthetic and clustered as embeddings of text are: topics of very unequal size, subjects within them, and
noise in a few directions. Each index runs in a process of its own, whose peak memory is printed; the vectors are mapped
from disk and count in it as far as they are read. One line an index, and the same as JSON with --json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 50_000  # vectors made at a time
K = 10


def make_vectors(path: Path, size: int, dimension: int, queries: int, seed: int) -> None:
    """Writes `vectors.npy` and `queries.npy`: unit vectors, float32."""
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(max(8, size // 20_000), dimension))
    share = 1.0 / np.arange(1, len(topics) + 1)  # a few topics hold most of the chunks, as Zipf's law has it
    subjects = max(50, size // 200)
    of_topic = rng.choice(len(topics), size=subjects, p=share / share.sum())
    centres = topics[of_topic] + 0.5 * rng.normal(size=(subjects, dimension))
    spread = 1.0 / np.sqrt(np.arange(1, 65))  # few directions hold most of the noise, as in a spectrum of embeddings
    spread *= 1.3 * np.sqrt(dimension) / np.linalg.norm(spread)
    directions = spread[:, None] * rng.normal(size=(64, dimension)) / np.sqrt(dimension)
    out = np.lib.format.open_memmap(path / "vectors.npy", "w+", np.float32, (size, dimension))

    def some(count: int) -> np.ndarray:
        around = centres[rng.integers(0, subjects, size=count)]
        noise = rng.normal(size=(count, 64)) @ directions + 0.5 * rng.normal(size=(count, dimension))
        made = (around + noise).astype(np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    for start in range(0, size, ROWS):
        out[start : start + ROWS] = some(min(ROWS, size - start))
    out.flush()
    np.save(path / "queries.npy", some(queries))


def truth(folder: Path) -> None:
    """Writes `truth.npy`: the positions of exact search, by numpy, a block of vectors at a time."""
    vectors, queries = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    best = np.full((len(queries), K), -np.inf, np.float32)
    where = np.full((len(queries), K), -1, np.int64)
    for start in range(0, len(vectors), ROWS):
        scores = np.concatenate([best, queries @ vectors[start : start + ROWS].T], axis=1)
        places = np.concatenate(
            [
                where,
                np.broadcast_to(np.arange(start, start + scores.shape[1] - K), (len(queries), scores.shape[1] - K)),
            ],
            axis=1,
        )
        top = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        best, where = np.take_along_axis(scores, top, axis=1), np.take_along_axis(places, top, axis=1)
    np.save(folder / "truth.npy", where)


def measure(folder: Path, kind: Any, device: str) -> dict[str, Any]:
    """Builds and searches one index in this process."""
    from pydantic import TypeAdapter
    from ragladder.core.components import Resources
    from ragladder.rag.index import IndexSection

    vectors, queries = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    expected = np.load(folder / "truth.npy")
    settings: Any = TypeAdapter(IndexSection).validate_python(kind)
    index = settings.build(Resources(device=device, cache_dir=folder / "cache"))
    started = time.perf_counter()
    index.build(vectors)
    built = time.perf_counter() - started
    index.search(queries[:1], K)  # the first search opens what later ones use
    started = time.perf_counter()
    _, found = index.search(queries, K)
    searched = time.perf_counter() - started
    common = [len(set(a) & set(b)) / K for a, b in zip(found.tolist(), expected.tolist(), strict=True)]
    return {
        "index": settings.model_dump(mode="json"),
        "device": device,
        "on_gpu": bool(getattr(index, "on_gpu", False)),
        "recall_at_10": round(float(np.mean(common)), 4),
        "peak_gib": round(peak_gib(), 2),
        "build_seconds": round(built, 1),
        "milliseconds_per_query": round(1000 * searched / len(queries), 3),
    }


def peak_gib() -> float:
    """Most memory of this process so far; Linux's `ru_maxrss` would begin at the peak of the one that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        kib = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kib) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def run(folder: Path, kind: Any, device: str) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--child", str(folder), "--kinds", json.dumps(kind), "--device", device]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Prints a line an index."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--kinds", nargs="+", default=["flat", "ivf_flat", "ivf_pq", "hnsw"], help="names or JSON")
    parser.add_argument("--device", default="cpu", help="cuda runs each index on the CPU too, and prints the ratio")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    kinds = [json.loads(kind) if kind[:1] in '{"' else kind for kind in given.kinds]
    if given.child:
        print(json.dumps(measure(given.child, kinds[0], given.device)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_vectors(folder, given.size, given.dimension, given.queries, given.seed)
        truth(folder)
        if not given.json:
            print(f"{given.size:,} x {given.dimension}, {given.queries} queries")
        for kind in kinds:
            report(folder, kind, given.device, given.json)


def report(folder: Path, kind: Any, device: str, as_json: bool) -> None:
    """Measures one index, on the CPU as well where the device is another, and prints it."""
    rows = [run(folder, kind, one) for one in dict.fromkeys(("cpu", device))]
    for row in rows:
        if as_json:
            print(json.dumps(row), flush=True)
            continue
        where = f"{row['device']}{'' if row['on_gpu'] or row['device'] == 'cpu' else ' (not on the GPU)'}"
        print(
            f"{json.dumps(kind):<44} {where:<6} recall@10 {row['recall_at_10']:.3f}  peak {row['peak_gib']:.2f} GiB  "
            f"build {row['build_seconds']:.1f} s  search {row['milliseconds_per_query']:.3f} ms a query",
            flush=True,
        )
    if len(rows) == 2 and not as_json:
        names = {"build_seconds": "build", "milliseconds_per_query": "search"}
        shown = [f"{word} {rows[0][key] / max(rows[1][key], 1e-9):.1f} x" for key, word in names.items()]
        print(f"{'':<44} CPU time / GPU time: {', '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
