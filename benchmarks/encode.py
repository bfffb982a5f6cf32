"""How fast each backend and precision encodes, against plain fp32 `encode`, and what it does to nDCG@10.

    python benchmarks/encode.py --texts 300                                  # speed, on made-up texts
    python benchmarks/encode.py --texts 300 --scifact ../shared/data/scifact # speed, on SciFact's own texts
    python benchmarks/encode.py --scifact ../shared/data/scifact --full      # all of SciFact, with nDCG@10 (test)

The baseline is the library's own call, as most people write it: `SentenceTransformer(MODEL).encode(texts)` in fp32. All
kinds encode the same texts in turns (`--rounds`), so that a machine that slows down slows all of them; printed is the
median over rounds, the baseline's time divided by it, and the share of the baseline's ten nearest texts that are the
same (each text against all others). Backends that are not installed are named and left out. `--full` encodes each kind
once, whatever `--rounds` says, and adds nDCG@10 and its difference from fp32. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ragladder.core.components import Resources
from ragladder.core.errors import MissingExtra
from ragladder.embeddings._library import load_model, model_folder
from ragladder.embeddings.encode import SentenceTransformerSettings, unit_vectors
from ragladder.eval.ir import ranking_metrics

KINDS = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)
PLAIN = "plain encode, fp32"
Encode = Callable[[Sequence[str]], np.ndarray]


def made_up(count: int) -> list[str]:
    """Texts of 20 to 300 words, lengths spread as those of passages are."""
    rng = random.Random(0)
    words = [
        "valve",
        "pump",
        "was",
        "opened",
        "in",
        "spring",
        "and",
        "closed",
        "when",
        "pressure",
        "fell",
        "below",
        "two",
    ]
    return [" ".join(rng.choices(words, k=min(300, 20 + int(rng.expovariate(1 / 90))))) for _ in range(count)]


def scifact(folder: Path) -> tuple[list[str], list[str], dict[str, str], dict[str, dict[str, int]]]:
    """Ids and texts of the documents, the test queries, and their judgements."""
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    queries = {row["_id"]: row["text"] for row in map(json.loads, (folder / "queries.jsonl").read_text().splitlines())}
    texts = [f"{row['title']} {row['text']}" for row in rows]
    return [row["_id"] for row in rows], texts, {name: queries[name] for name in qrels}, qrels


def plain(model: str, max_length: int | None, resources: Resources) -> Encode:
    """What most people write."""
    loaded = load_model(model_folder(model, resources))
    loaded.max_seq_length = max_length or loaded.max_seq_length
    return lambda texts: unit_vectors(loaded.encode(list(texts), show_progress_bar=False), "plain")


def encoders(model: str, max_length: int | None, only: Sequence[str], resources: Resources) -> dict[str, Encode]:
    """The baseline and each kind that is installed, by name."""
    found: dict[str, Encode] = {PLAIN: plain(model, max_length, resources)}
    for backend, dtype in KINDS:
        name = f"{backend} {dtype}"
        if only and name not in only:
            continue
        settings = SentenceTransformerSettings(model=model, max_length=max_length, backend=backend, dtype=dtype)
        started = time.perf_counter()
        try:
            embedder = settings.build(resources)
        except MissingExtra as error:
            print(f"left out: {name}: {error}")
            continue
        print(f"loaded {name} (exported where the cache lacked it): {time.perf_counter() - started:.1f} s", flush=True)
        found[name] = lambda texts, embedder=embedder: embedder.encode(texts, "document")
    return found


def neighbours(vectors: np.ndarray, k: int = 10) -> np.ndarray:
    """The k nearest other texts of each."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def ndcg(vectors: np.ndarray, queries: np.ndarray, ids: list[str], names: list[str], qrels: dict) -> float:
    """Mean nDCG@10 over the test queries."""
    best = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :10]
    rankings = [[ids[place] for place in row] for row in best]
    values = [ranking_metrics(qrels[name], r, (10,))["ndcg@10"] for r, name in zip(rankings, names, strict=True)]
    return float(np.mean(values))


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scifact", type=Path, help="folder in BEIR's layout: its texts instead of made-up ones")
    parser.add_argument("--full", action="store_true", help="all of --scifact, once, with nDCG@10")
    parser.add_argument("--only", action="append", default=[], metavar="'openvino bf16'", help="this kind; repeatable")
    parser.add_argument("--cache", type=Path, default=Path(".ragladder"), help="where exports are kept")
    given = parser.parse_args()
    if given.full and given.scifact is None:
        parser.error("--full needs --scifact DIR")
    resources = Resources(cache_dir=given.cache.absolute())
    kinds = encoders(given.model, given.max_length, given.only, resources)
    ids, texts, queries, qrels = scifact(given.scifact) if given.scifact else ([], made_up(given.texts), {}, {})
    texts = texts if given.full else texts[: given.texts]
    for encode in kinds.values():
        encode(texts[:32])  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    vectors: dict[str, np.ndarray] = {}
    for number in range(1 if given.full else given.rounds):
        for name, encode in kinds.items():
            started = time.perf_counter()
            vectors[name] = encode(texts)
            seconds[name].append(time.perf_counter() - started)
            print(f"round {number + 1}, {name}: {seconds[name][-1]:.1f} s", flush=True)
    base, near = statistics.median(seconds[PLAIN]), neighbours(vectors[PLAIN][:2000])
    reference = 0.0
    if given.full:
        reference = ndcg(vectors[PLAIN], kinds[PLAIN](list(queries.values())), ids, list(queries), qrels)
    print(f"\n{len(texts)} texts, {given.model}, max length {given.max_length}\n")
    print("| kind | texts/s | x plain | same of 10 nearest |" + (" nDCG@10 | difference |" if given.full else ""))
    print("|---|---|---|---|" + ("---|---|" if given.full else ""))
    for name, encode in kinds.items():
        took = statistics.median(seconds[name])
        pairs = zip(near, neighbours(vectors[name][:2000]), strict=True)
        same = np.mean([len(set(a) & set(b)) / 10 for a, b in pairs])
        row = f"| {name} | {len(texts) / took:.1f} | {base / took:.2f} | {same:.3f} |"
        if given.full:
            value = ndcg(vectors[name], encode(list(queries.values())), ids, list(queries), qrels)
            row += f" {value:.4f} | {value - reference:+.4f} |"
        print(row)


if __name__ == "__main__":
    main()
