"""What a sweep costs beside the encoding of its texts: 5 chunkers x 4 sizes x hybrid weights x top_k on Chroma's set.

    python benchmarks/sweep.py DIR                               # the whole set: DIR has questions_df.csv, corpora/
    python benchmarks/sweep.py DIR --corpora state_of_the_union  # a small part, to try it
    python benchmarks/sweep.py DIR --work FOLDER                 # what is finished is kept: the same command goes on

Steps, each in a process of its own, so that none finds a model loaded or memory filled by the one before:

1. `sweep`: the sweep in an empty store, from loading the config to the ranked result;
2. `encode`: `SentenceTransformer.encode` once over the unique chunk texts of that sweep, which sorts them by length
   itself, in the same precision, batch size and length limit. The sweep's time includes imports and the loading of the
   model, this one's does not;
3. `again`: the same trials over again in the full store: what is left when nothing is encoded or searched;
4. `more`: a sweep with as many fusion weights again, in the full store. What it takes beyond step 3 is the price of
   trials that differ after the search only.

Printed are two ratios: step 1 over (step 2 + the seconds of the searches, as their stages recorded them), and the
seconds of a hundred more trials. Each is given in wall-clock time and in seconds of the processor: where the two differ
much, something else was running, and the wall-clock ratio says little. A step that is interrupted starts afresh.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from ragladder.eval.load_chroma import load_chroma
from ragladder.ladder.sweep.run import sweep

CHUNKERS = ["token", "sentence", "recursive", "marks", "section"]
"""`marks` is the recursive chunker with the separators of Chroma's paper."""
SEPARATORS = ["\n\n", "\n", ".", "?", "!", " ", ""]
SIZES = [100, 150, 200, 250]
WEIGHTS = [0.2, 0.4, 0.6, 0.8, 1.0]
MORE = [0.1, 0.3, 0.5, 0.7, 0.9]
TOP_K = [5, 10]
MOST_RATIO = 1.15
MOST_SECONDS = 5.0


def main() -> None:
    """Runs the steps that are not yet done and prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder in Chroma's layout")
    parser.add_argument("--corpora", nargs="*", default=[], help="names of corpora; all where none is given")
    parser.add_argument("--chunkers", nargs="*", default=CHUNKERS)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument(
        "--work", type=Path, help="keeps data, store and finished steps; a temporary folder if left out"
    )
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step is not None:
        print(json.dumps(STEPS[given.step](given.work.absolute(), given.model)))
        return
    with tempfile.TemporaryDirectory() as name:
        root = (given.work or Path(name)).absolute()
        prepare(root, given)
        report({step: finished(root, step, given.model) for step in STEPS})


def prepare(root: Path, given: argparse.Namespace) -> None:
    """Writes data and configs; a folder of another benchmark is refused."""
    asked = {"source": str(given.source.absolute()), "corpora": given.corpora, "model": given.model}
    asked |= {"chunkers": given.chunkers, "sizes": given.sizes}
    kept = root / "asked.json"
    if kept.is_file():
        if json.loads(kept.read_text()) != asked:
            sys.exit(f"{root} holds steps of another benchmark ({kept.read_text()}); give another --work")
        return
    root.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(root / "documents", ignore_errors=True)
    write_data(root, given.source, given.corpora)
    for name, weights in (("sweep.yaml", WEIGHTS), ("more.yaml", WEIGHTS + MORE)):
        content = experiment(given.model, given.chunkers, given.sizes, weights)
        content["runtime"] = {"device": "cpu", "cache_dir": str(root / "cache")}
        (root / name).write_text(yaml.safe_dump(content))
    kept.write_text(json.dumps(asked))


def finished(root: Path, step: str, model: str) -> dict[str, Any]:
    """What a step gave; it is run where that is not known."""
    file = root / f"{step}.json"
    if not file.is_file():
        if step == "sweep":
            shutil.rmtree(root / "cache", ignore_errors=True)  # a part of it would be a head start
        command = [sys.executable, __file__, str(root), "--step", step, "--work", str(root), "--model", model]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"step {step} failed with code {done.returncode}; the same command goes on from there")
        part = file.with_suffix(".part")
        part.write_text(done.stdout.splitlines()[-1])
        part.replace(file)
        print(f"{step}: {done.stdout.splitlines()[-1]}", file=sys.stderr)
    return json.loads(file.read_text())


def report(found: dict[str, dict[str, Any]]) -> None:
    """Prints the ratios."""
    first, encode, again, more = (found[step] for step in STEPS)
    print(first["plan"])
    searches = first["searches"]
    rows = [
        (f"sweep of {first['trials']} trials ({first['counts']}), empty store", first),
        (f"encode of {encode['texts']:,} unique texts, once", encode),
        ("searches (wall-clock, as recorded)", {"wall": searches, "cpu": searches}),
        ("the same trials in the full store", again),
        (f"{more['trials']} trials in the full store", more),
    ]
    width = max(len(text) for text, _ in rows)
    print(f"{'':{width}}      wall s     processor s")
    for text, row in rows:
        print(f"{text:{width}}  {row['wall']:10.1f}  {row['cpu']:14.1f}")
    ratio = {kind: first[kind] / (encode[kind] + searches) for kind in ("wall", "cpu")}
    added = more["trials"] - first["trials"]
    each = {kind: 100 * (more[kind] - again[kind]) / added for kind in ("wall", "cpu")}
    print(f"sweep / (encode + searches): {_judged(ratio, MOST_RATIO)}")
    print(f"a hundred more trials after the search, of {added}, seconds: {_judged(each, MOST_SECONDS)}")
    print(f"winner: {first['winner']}")


def _judged(found: dict[str, float], most: float) -> str:
    verdict = "kept" if found["wall"] <= most else "MISSED"
    return f"{found['wall']:.3f} by wall-clock, {found['cpu']:.3f} by processor (at most {most:g} is wanted: {verdict})"


def experiment(model: str, chunkers: list[str], sizes: list[int], weights: list[float]) -> dict[str, Any]:
    """The config: cosine and BM25 fused by weights, chunkers with their sizes in cl100k tokens. The pipeline as
    configured is the first point, so that it is no trial, and no encoding, more."""
    chunk: list[dict[str, Any]] = []
    for kind in chunkers:
        own: dict[str, Any] = {"kind": kind} if kind == "section" else {"kind": kind, "overlap": 0}
        if kind == "marks":
            own = {"kind": "recursive", "overlap": 0, "separators": SEPARATORS}
        chunk += [{**own, "size": size, "tokenizer": "cl100k"} for size in sizes]
    first = {"weight": weights[0], "top_k": TOP_K[0]}
    return {
        "name": "bench-sweep",
        "seed": 7,
        "data": {"documents": "documents", "questions": "questions.jsonl"},
        "pipeline": {
            "parse": {"markdown": "structural"},
            "chunk": chunk[0],
            "embed": {"kind": "sentence_transformer", "model": model, "max_length": 256, "batch_size": 32},
            "index": "flat",
            "retrieve": {"mode": "hybrid", "fusion": "weighted", "fetch_k": 50, **first},
        },
        "score": {"ks": [1, 5, 10], "budgets": [2000], "ragas": False},
        "sweep": {
            "space": {"chunk": chunk, "retrieve.weight": weights, "retrieve.top_k": TOP_K},
            "objectives": ["evidence_recall@2000c", "context_chars"],
        },
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


def swept(root: Path, config: str) -> dict[str, Any]:
    """A sweep whose trials are all run, whatever the store has."""
    for log in (root / "cache" / "sweeps").glob("*/trials.jsonl"):
        log.unlink()
    wall, cpu = time.perf_counter(), time.process_time()
    record = sweep(root / config)
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    found = {"trials": sum(record.counts.values()), "counts": record.counts, "winner": record.winner}
    return took | found | {"plan": record.plan[0], "searches": stage_seconds(root, "search-")}


def plain_encoding(root: Path, model: str) -> dict[str, Any]:
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
    wall, cpu = time.perf_counter(), time.process_time()
    library.encode(list(texts), batch_size=32, show_progress_bar=False)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "texts": len(texts)}


def stage_seconds(root: Path, start: str) -> float:
    """Seconds of the stages whose name begins so, as recorded."""
    records = (root / "cache" / "stages").glob(f"{start}*/stage.json")
    return sum(json.loads(path.read_text())["seconds"] for path in records)


STEPS: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "sweep": lambda root, _: swept(root, "sweep.yaml"),
    "encode": plain_encoding,
    "again": lambda root, _: swept(root, "sweep.yaml"),
    "more": lambda root, _: swept(root, "more.yaml"),
}
"""In the order in which they run."""


if __name__ == "__main__":
    main()
