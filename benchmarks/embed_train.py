"""What embedding finetuning gains on BEIR folders, by configs/embed-beir.yaml: full weights, LoRA, query adapter.

    NQ=DIR/nq_open_oracle/nq-open-oracle.jsonl
    python benchmarks/embed_train.py --train DIR/feedbackqa:dev --general $NQ:dev --other $NQ:test DIR/scifact:test
    python benchmarks/embed_train.py --train DIR/scifact:test --general $NQ:dev --other $NQ:test DIR/feedbackqa:dev
    python benchmarks/embed_train.py --train DIR/feedbackqa:dev --sample 40 --methods adapter   # a trial

`--shares 0.5,0.75` also scores these shares of the trained weights, the rest being the base's.
`--train DIR:SPLIT` trains on the folder's train queries and scores its SPLIT, of which nothing is chosen: a part of the
train queries, whose documents no other train query asks about, is held out as dev. `--general` is the set of which a
model may lose .01 nDCG@10 at most, or it is not taken. `--other` are sets that are reported and neither trained for nor
chosen by. Both may be a JSONL file of open-domain questions with their passages (`question`, `ctxs`: title and text, as
DPR has it) in place of a BEIR folder: a seventh of its passages with their questions is `dev`, the rest `test`.
Prints a Markdown table: nDCG@10 and Recall@10 before and after, paired differences with 95% intervals over queries, and
seconds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ragladder.core.progress import Reporter
from ragladder.embeddings._merge import mix
from ragladder.eval.questions import load_questions
from ragladder.eval.statistics import paired_comparison
from ragladder.ladder.config import PipelineConfig, load_experiment, with_changes
from ragladder.ladder.rungs.embedding import with_model
from ragladder.ladder.rungs.embedding_data import embedding_data
from ragladder.ladder.rungs.embedding_stages import embedding_stage, trained_adapter
from ragladder.ladder.workbench import Workbench

CONFIG = Path(__file__).parents[1] / "configs" / "embed-beir.yaml"
METRICS = {"ndcg@10": "nDCG@10", "evidence_recall@10": "Recall@10"}
METHODS = ("adapter", "lora", "full")
Values = dict[str, dict[str, float]]


def judgements(folder: Path, split: str) -> dict[str, dict[str, str]]:
    """Grades by query and document."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    with open(folder / "qrels" / f"{split}.tsv", encoding="utf-8") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            found[row["query-id"]][row["corpus-id"]] = row["score"]
    return dict(found)


def held_out(train: dict[str, dict[str, str]], share: float, most: int) -> set[str]:
    """Queries for dev, with all the queries that ask about the same documents."""
    asking: dict[str, set[str]] = defaultdict(set)
    for query, grades in train.items():
        for document in grades:
            asking[document].add(query)
    wanted, dev = min(most, int(share * len(train))), set[str]()
    order = sorted(train)
    random.Random(7).shuffle(order)
    for query in order:
        if len(dev) >= wanted:
            break
        group, todo = set[str](), {query}
        while todo:
            one = todo.pop()
            group.add(one)
            todo |= {other for document in train[one] for other in asking[document]} - group
        # A web of queries that hang together is no fair sample.
        if len(group) <= wanted // 4:
            dev |= group
    return dev


def beir_of_passages(source: Path, out: Path) -> Path:
    """A BEIR folder of questions with the passage that answers each; DPR's JSONL layout."""
    corpus: dict[str, dict[str, str]] = {}
    queries, parts = [], {"dev": [], "test": []}
    for place, line in enumerate(source.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        passage = row["ctxs"][0]
        name = hashlib.sha256(passage["text"].encode()).hexdigest()[:16]
        corpus[name] = {"_id": name, "title": passage["title"], "text": passage["text"]}
        queries.append({"_id": f"q{place}", "text": row["question"]})
        parts["dev" if int(name, 16) % 7 == 0 else "test"].append(f"q{place}\t{name}\t1\n")
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus.values()), ("queries", queries)):
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for split, rows in parts.items():
        (out / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows), encoding="utf-8")
    return out


def write_folder(source: Path, split: str, out: Path, sample: int | None) -> Path:
    """A BEIR folder with the scored split as test, and dev held out from train."""
    train = judgements(source, "train") if (source / "qrels" / "train.tsv").is_file() else {}
    test = judgements(source, split)
    if sample is not None:
        train = {query: train[query] for query in random.Random(1).sample(sorted(train), min(2 * sample, len(train)))}
        test = {query: test[query] for query in random.Random(2).sample(sorted(test), min(sample, len(test)))}
    dev = held_out(train, 0.15, 300)
    parts = {"train": {q: g for q, g in train.items() if q not in dev}, "dev": {q: train[q] for q in sorted(dev)}}
    parts["test"] = test
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    (out / "queries.jsonl").write_bytes((source / "queries.jsonl").read_bytes())
    kept = {document for part in parts.values() for grades in part.values() for document in grades}
    with open(source / "corpus.jsonl", encoding="utf-8") as handle:
        lines = [line for line in handle if sample is None or json.loads(line)["_id"] in kept]
    (out / "corpus.jsonl").write_text("".join(lines), encoding="utf-8")
    for name, part in parts.items():
        rows = [
            f"{query}\t{document}\t{grade}\n" for query, grades in part.items() for document, grade in grades.items()
        ]
        (out / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows), encoding="utf-8")
    return out


def workbench(folder: Path, overrides: Sequence[str], cache: Path) -> Workbench:
    """The config's workbench on a folder."""
    config = load_experiment(CONFIG, [*overrides, f"data.path={folder}", f"runtime.cache_dir={cache}"])
    questions = load_questions(Path(config.data.questions))
    return Workbench(config, CONFIG.parent, questions, Reporter(interval=30))


def scores(bench: Workbench, pipeline: PipelineConfig) -> Values:
    """Metric, then query: value, on test."""
    questions = bench.split("test")
    found = bench.retrieval_scores(pipeline, questions, bench.retrieve(pipeline, questions))
    return {
        name: {s.question_id: float(s.value) for s in found if s.metric == name and s.value is not None}
        for name in METRICS
    }


@dataclass(frozen=True)
class Trained:
    """What a method gave: the pipeline, a word on it, seconds, and the share of the trained weights."""

    pipeline: PipelineConfig
    note: str
    seconds: float
    share: float = 0.0


def trained(bench: Workbench, method: str) -> Trained:
    """Trains, or finds it trained."""
    pipeline, rung = bench.config.pipeline, bench.config.rungs.embedding
    data = embedding_data(bench, pipeline)
    print(f"{method}: {data.pairs.summary()}", flush=True)
    if method == "adapter":
        folder, result = trained_adapter(bench, pipeline, rung, data)
        note = f"dev {result.base_score:.4f} -> {result.best_score:.4f}, learning rate {result.learning_rate}"
        return Trained(with_changes(pipeline, {"query_adapter": str(folder)}), note, result.seconds)
    rung = rung.model_copy(update={"train": rung.train.model_copy(update={"method": method})})
    stage = embedding_stage(bench, pipeline, rung, data)
    result = bench.get(stage)
    note = f"dev {result['base_score']:.4f} -> {result['best_score']:.4f}, alpha {result['alpha']:g}"
    kept = with_model(pipeline, str(bench.store.folder(stage) / "model"))
    return Trained(kept, note, result["seconds"], result["alpha"])


def mixture(bench: Workbench, given: Trained, share: float, out: Path) -> PipelineConfig:
    """The pipeline with another share of the trained weights than the one that was kept; `out` gets the model."""
    from sentence_transformers import SentenceTransformer

    pipeline = bench.config.pipeline
    base = SentenceTransformer(str(bench.component(pipeline.embed).source), device="cpu")
    kept = SentenceTransformer(str(given.pipeline.embed.model), device="cpu").state_dict()
    mix(base, {name: value.clone() for name, value in base.state_dict().items()}, kept, share / given.share)
    base.save_pretrained(str(out))
    return with_model(pipeline, str(out))


def row(name: str, base: Values, after: Values, seconds: float, note: str) -> str:
    """A line of the table."""
    cells = [name]
    for metric in METRICS:
        ids = sorted(base[metric])
        found = paired_comparison([after[metric][i] for i in ids], [base[metric][i] for i in ids])
        mean = sum(after[metric][i] for i in ids) / len(ids)
        cells.append(f"{mean:.4f} | {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")
    return f"| {' | '.join(cells)} | {seconds:.0f} | {note} |"


def beir(given: str, work: Path) -> tuple[Path, str]:
    """Folder and split of an argument PATH:SPLIT; a JSONL file becomes a folder."""
    text, _, split = given.rpartition(":")
    path = Path(text).absolute()
    return (beir_of_passages(path, work / path.stem) if path.is_file() else path), split


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="DIR:SPLIT to train on (its train queries) and score")
    parser.add_argument("--other", nargs="+", default=[], metavar="PATH:SPLIT", help="sets that are not trained for")
    parser.add_argument("--general", metavar="PATH:SPLIT", help="set that guards against forgetting")
    parser.add_argument("--methods", default=",".join(METHODS), help="of " + ", ".join(METHODS))
    parser.add_argument("--shares", default="", help="shares of the trained weights to score as well, as 0.5,0.75")
    parser.add_argument("--sample", type=int, help="only so many queries and their documents, for a trial")
    parser.add_argument("--work", type=Path, default=Path(".ragladder") / "bench-embed", help="folder for stages")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    if arguments.general:
        folder, split = beir(arguments.general, work)
        arguments.overrides.append(f"rungs.embedding.general={{path: {folder}, split: {split}}}")
    benches = {}
    for given in (arguments.train, *arguments.other):
        source, split = beir(given, work)
        name = f"{source.name}-{split}" + (f"-{arguments.sample}" if arguments.sample else "")
        folder = write_folder(source, split, work / name, arguments.sample)
        benches[name] = workbench(folder, arguments.overrides, work / "cache")
    base = {name: scores(bench, bench.config.pipeline) for name, bench in benches.items()}
    for name, values in base.items():
        for metric, shown in METRICS.items():
            found = values[metric]
            print(f"{name}: base {shown} {sum(found.values()) / len(found):.4f} ({len(found)} queries)")
    lines = []
    for method in arguments.methods.split(","):
        started, target = time.monotonic(), next(iter(benches.values()))
        given = trained(target, method)
        print(f"{method}: {given.note}, trained in {given.seconds:.0f} s, {time.monotonic() - started:.0f} s in all")
        found = {method: given.pipeline}
        for share in [float(text) for text in arguments.shares.split(",") if text and given.share]:
            out = work / f"{method}-{next(iter(benches))}-share-{share:g}"
            found[f"{method}, share {share:g}"] = mixture(target, given, share, out)
        for shown, pipeline in found.items():
            for name, bench in benches.items():
                after = scores(bench, pipeline)
                lines.append(row(f"{shown}, {name}", base[name], after, given.seconds, given.note))
                print(lines[-1], flush=True)
    heads = "".join(f" {shown} | difference [95%] |" for shown in METRICS.values())
    print(f"\n| what |{heads} seconds | dev |\n|---|" + "---|" * (2 * len(METRICS) + 2))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
