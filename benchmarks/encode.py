"""How fast each backend and precision encodes, against plain fp32 `encode`, and what it does to nDCG@10.

    python benchmarks/encode.py --texts 300                               # speed alone, on made-up texts
    python benchmarks/encode.py --texts 300 --beir DIR                    # speed and nDCG@10, all documents of a set
    python benchmarks/encode.py --texts 300 --beir DIR --documents 1000   # nDCG@10 on fewer documents: differences only
    python benchmarks/encode.py --beir DIR --only 'openvino bf16' --only 'openvino int8'

The baseline is the library's own call, as most people write it: `SentenceTransformer(MODEL).encode(texts)` in fp32. For
the speed all kinds encode the same texts in turns (`--rounds`), so that a machine that slows down slows all of them;
printed is the median over rounds, the baseline's time divided by it, and the share of the baseline's ten nearest texts
that are the same (each text against all others). With a folder in BEIR's layout each kind then encodes its documents
and test queries once, for nDCG@10 and its difference from fp32; `--documents` keeps all that a query is judged on and
fills up with others, in a fixed order. A kind that is not installed, or does not suit the model, is named with its
reason and left out. OpenVINO's int8 is calibrated on `--calibration` (default: the corpus's own first texts, else the
made-up ones). Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ragladder.core.components import Resources
from ragladder.core.errors import RagladderError
from ragladder.embeddings.encode import SentenceTransformerSettings, unit_vectors
from ragladder.embeddings.models import load_model, model_folder
from ragladder.eval.ir import ranking_metrics

KINDS = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
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


@dataclass(frozen=True)
class Beir:
    """A test set: documents, queries, and grades by query and document."""

    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def read_beir(folder: Path, most: int | None) -> Beir:
    """A set in BEIR's layout, of at most so many documents: those that are judged, then others in a fixed order."""
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    judged = {document for grades in qrels.values() for document in grades}
    random.Random(0).shuffle(rows)
    rows.sort(key=lambda row: row["_id"] not in judged)
    kept = rows if most is None else rows[: max(most, len(judged))]
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    queries = {row["_id"]: row["text"] for row in map(json.loads, lines) if row["_id"] in qrels}
    return Beir({row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in kept}, queries, qrels)


def plain(model: str, max_length: int | None, resources: Resources) -> Encode:
    """What most people write."""
    loaded = load_model(model_folder(model, resources))
    loaded.max_seq_length = max_length or loaded.max_seq_length
    return lambda texts: unit_vectors(loaded.encode(list(texts), show_progress_bar=False), "plain")


def encoders(given: argparse.Namespace, calibration: Path, resources: Resources) -> dict[str, Encode]:
    """The baseline and each kind that can be had, by name."""
    found: dict[str, Encode] = {PLAIN: plain(given.model, given.max_length, resources)}
    for backend, dtype in KINDS:
        name = f"{backend} {dtype}"
        if given.only and name not in given.only:
            continue
        fields: dict[str, Any] = {"backend": backend, "dtype": dtype}
        if name == "openvino int8":
            fields["calibration"] = str(calibration)
        started = time.perf_counter()
        try:
            settings = SentenceTransformerSettings(model=given.model, max_length=given.max_length, **fields)
            embedder = settings.build(resources)
        except RagladderError as error:
            print(f"left out: {name}: {error}", flush=True)
            continue
        print(f"loaded {name} (exported where the cache lacked it): {time.perf_counter() - started:.1f} s", flush=True)
        found[name] = lambda texts, embedder=embedder: embedder.encode(texts, "document")
    return found


def neighbours(vectors: np.ndarray, k: int = 10) -> np.ndarray:
    """The k nearest other texts of each."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def ndcg(encode: Encode, data: Beir) -> float:
    """Mean nDCG@10 over the test queries."""
    ids, names = list(data.documents), list(data.queries)
    vectors, queries = encode(list(data.documents.values())), encode(list(data.queries.values()))
    best = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :10]
    rankings = [[ids[place] for place in row] for row in best]
    values = [ranking_metrics(data.qrels[name], r, (10,))["ndcg@10"] for r, name in zip(rankings, names, strict=True)]
    return float(np.mean(values))


def timed(kinds: dict[str, Encode], texts: list[str], rounds: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Median seconds and vectors of each kind, which take turns."""
    for encode in kinds.values():
        encode(texts[:32])  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    vectors: dict[str, np.ndarray] = {}
    for number in range(rounds):
        for name, encode in kinds.items():
            started = time.perf_counter()
            vectors[name] = encode(texts)
            seconds[name].append(time.perf_counter() - started)
            print(f"round {number + 1}, {name}: {seconds[name][-1]:.1f} s", flush=True)
    return {name: statistics.median(times) for name, times in seconds.items()}, vectors


def quality(kinds: dict[str, Encode], data: Beir) -> dict[str, float]:
    """nDCG@10 of each kind."""
    found = {}
    for name, encode in kinds.items():
        found[name] = ndcg(encode, data)
        print(f"nDCG@10, {name}: {found[name]:.4f}", flush=True)
    return found


def table(seconds: dict[str, float], vectors: dict[str, np.ndarray], values: dict[str, float], texts: int) -> list[str]:
    """Lines of a Markdown table."""
    near = neighbours(vectors[PLAIN][:2000])
    lines = ["| kind | texts/s | x plain | same of 10 nearest |" + (" nDCG@10 | difference |" if values else "")]
    lines.append("|---|---|---|---|" + ("---|---|" if values else ""))
    for name, took in seconds.items():
        pairs = zip(near, neighbours(vectors[name][:2000]), strict=True)
        same = np.mean([len(set(a) & set(b)) / 10 for a, b in pairs])
        row = f"| {name} | {texts / took:.1f} | {seconds[PLAIN] / took:.2f} | {same:.3f} |"
        if values:
            row += f" {values[name]:.4f} | {values[name] - values[PLAIN]:+.4f} |"
        lines.append(row)
    return lines


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--texts", type=int, default=300, help="timed in turns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beir", type=Path, help="folder in BEIR's layout: its texts, and nDCG@10")
    parser.add_argument("--documents", type=int, help="most documents for nDCG@10; all without it")
    parser.add_argument("--calibration", type=Path, help="texts for OpenVINO's int8, one a line")
    parser.add_argument("--only", action="append", default=[], metavar="'openvino bf16'", help="this kind; repeatable")
    parser.add_argument("--cache", type=Path, default=Path(".ragladder"), help="where exports are kept")
    given = parser.parse_args()
    unknown = set(given.only) - {" ".join(kind) for kind in KINDS}
    if unknown:
        parser.error(f"--only: no kind {', '.join(sorted(unknown))}; there are {', '.join(map(' '.join, KINDS))}")
    if given.beir is not None and not (given.beir / "corpus.jsonl").is_file():
        parser.error(f"--beir: no corpus.jsonl in {given.beir}")
    return given


def main() -> None:
    """Prints a Markdown table."""
    given = options()
    data = read_beir(given.beir, given.documents) if given.beir else None
    pool = list(data.documents.values()) if data else made_up(max(given.texts, 300))
    texts = pool[: given.texts]
    given.cache.mkdir(parents=True, exist_ok=True)
    calibration = given.calibration or given.cache / "calibration.txt"
    if given.calibration is None:
        calibration.write_text("\n".join(" ".join(text.split()) for text in pool[:300]), encoding="utf-8")
    kinds = encoders(given, calibration.absolute(), Resources(cache_dir=given.cache.absolute()))
    seconds, vectors = timed(kinds, texts, given.rounds)
    values = quality(kinds, data) if data else {}
    print(f"\n{len(texts)} texts timed, median of {given.rounds}; {given.model}, max length {given.max_length}")
    if data:
        print(f"nDCG@10 over {len(data.queries)} queries and {len(data.documents)} documents")
    print("\n" + "\n".join(table(seconds, vectors, values, len(texts))))


if __name__ == "__main__":
    main()
