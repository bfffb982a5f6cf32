"""What a sweep costs beside the encoding of its texts: 5 chunkers x 4 sizes x hybrid weights x top_k on Chroma's set.

    python benchmarks/sweep.py DIR                               # the whole set: DIR has questions_df.csv, corpora/
    python benchmarks/sweep.py DIR --corpora state_of_the_union  # a small part, to try it

Three times are taken, all in this process:

1. the sweep in an empty store, from loading the config to the ranked result;
2. `SentenceTransformer.encode` once over the unique chunk texts of that sweep, sorted by length as it does itself, plus
   the seconds of its searches as their stages recorded them;
3. the same sweep with a hundred more trials that differ after the search only, minus the first one in the full store.

Printed are their ratio and difference. A second sweep in the full store says what is left when nothing is encoded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from ragladder.eval.load_chroma import load_chroma
from ragladder.ladder.sweep.results import SweepRecord
from ragladder.ladder.sweep.run import sweep

CHUNKERS = ["token", "sentence", "recursive", "marks", "section"]
"""`marks` is the recursive chunker with the separators of Chroma's paper."""
SEPARATORS = ["\n\n", "\n", ".", "?", "!", " ", ""]
SIZES = [100, 150, 200, 250]
WEIGHTS = [0.2, 0.4, 0.6, 0.8, 1.0]
MORE = [0.1, 0.3, 0.5, 0.7, 0.9]
TOP_K = [5, 10]


def main() -> None:
    """Runs the three measurements and prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder in Chroma's layout")
    parser.add_argument("--corpora", nargs="*", default=[], help="names of corpora; all where none is given")
    parser.add_argument("--chunkers", nargs="*", default=CHUNKERS)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_data(root, given.source, given.corpora)
        config = root / "sweep.yaml"
        config.write_text(yaml.safe_dump(experiment(given.model, given.chunkers, given.sizes, WEIGHTS)))
        first, cold = timed(config)
        _, warm = timed(config, again=True)
        texts, encode = plain_encoding(root, given.model)
        searches = stage_seconds(root, "search-")
        config.write_text(yaml.safe_dump(experiment(given.model, given.chunkers, given.sizes, WEIGHTS + MORE)))
        more, longer = timed(config)
    added = sum(more.counts.values()) - sum(first.counts.values())
    print(f"{first.plan[0]}")
    print(f"sweep of {sum(first.counts.values())} trials ({first.counts}), empty store: {cold:8.1f} s")
    print(f"encode of {texts:,} unique texts, once:            {encode:8.1f} s")
    print(f"searches:                                    {searches:8.1f} s")
    print(f"ratio sweep / (encode + searches):           {cold / (encode + searches):8.3f}   (at most 1.15 is wanted)")
    print(f"the same sweep in the full store:            {warm:8.1f} s")
    print(f"{added} more trials after the search:             {longer - warm:8.1f} s   (under 5 is wanted)")
    print(f"winner: {first.winner}")


def experiment(model: str, chunkers: list[str], sizes: list[int], weights: list[float]) -> dict[str, Any]:
    """The config: cosine and BM25 fused by weights, chunkers with their sizes in cl100k tokens."""
    chunk: list[dict[str, Any]] = []
    for kind in chunkers:
        own: dict[str, Any] = {"kind": kind} if kind == "section" else {"kind": kind, "overlap": 0}
        if kind == "marks":
            own = {"kind": "recursive", "overlap": 0, "separators": SEPARATORS}
        chunk += [{**own, "size": size, "tokenizer": "cl100k"} for size in sizes]
    return {
        "name": "bench-sweep",
        "seed": 7,
        "data": {"documents": "documents", "questions": "questions.jsonl"},
        "pipeline": {
            "parse": {"markdown": "structural"},
            "embed": {"kind": "sentence_transformer", "model": model, "max_length": 256},
            "index": "flat",
            "retrieve": {"mode": "hybrid", "fusion": "weighted", "fetch_k": 50},
        },
        "score": {"ks": [1, 5, 10], "budgets": [2000], "ragas": False},
        "sweep": {
            "space": {"chunk": chunk, "retrieve.weight": weights, "retrieve.top_k": TOP_K},
            "objectives": ["evidence_recall@2000c", "context_chars"],
        },
        "runtime": {"device": "cpu", "cache_dir": "CACHE"},
    }


def write_data(root: Path, source: Path, corpora: list[str]) -> None:
    """Chroma's set as documents and dev questions."""
    found = load_chroma(source)
    names = {name for name in found.documents if not corpora or Path(name).stem in corpora}
    (root / "documents").mkdir()
    for name in names:
        (root / "documents" / name).write_text(found.documents[name], encoding="utf-8")
    rows = []
    for question in found.questions:
        if {one.doc_id for one in question.evidence} <= names:
            evidence = [asdict(one) for one in question.evidence]
            row = {"id": question.id, "question": question.text, "answer": "-", "evidence": evidence, "split": "dev"}
            rows.append(json.dumps(row))
    (root / "questions.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def timed(config: Path, again: bool = False) -> tuple[SweepRecord, float]:
    """A sweep and its seconds; `again` forgets the trials, not the store."""
    text = config.read_text().replace("CACHE", str(config.parent / "cache"))
    ready = config.with_name("ready.yaml")
    ready.write_text(text)
    if again:
        for log in (config.parent / "cache" / "sweeps").glob("*/trials.jsonl"):
            log.unlink()
    started = time.perf_counter()
    record = sweep(ready)
    return record, time.perf_counter() - started


def plain_encoding(root: Path, model: str) -> tuple[int, float]:
    """Unique chunk texts of the sweep, and the seconds of encoding them once with the library alone."""
    from ragladder.core.components import Resources
    from ragladder.embeddings.encode import model_folder
    from ragladder.rag.chunk import load_chunks
    from sentence_transformers import SentenceTransformer

    texts: dict[str, None] = {}
    for path in sorted((root / "cache" / "stages").glob("chunk-*/chunks.parquet")):
        texts.update(dict.fromkeys(chunk.text for chunk in load_chunks(path)))
    library = SentenceTransformer(str(model_folder(model, Resources())), device="cpu")
    library.max_seq_length = 256
    started = time.perf_counter()
    library.encode(list(texts), batch_size=32, show_progress_bar=False)
    return len(texts), time.perf_counter() - started


def stage_seconds(root: Path, start: str) -> float:
    """Seconds of the stages whose name begins so, as recorded."""
    records = (root / "cache" / "stages").glob(f"{start}*/stage.json")
    return sum(json.loads(path.read_text())["seconds"] for path in records)


if __name__ == "__main__":
    main()
