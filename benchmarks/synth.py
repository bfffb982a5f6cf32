"""Prints what training on synthetic questions by patterns is worth on the config's own test questions.

    python benchmarks/synth.py configs/quickstart.yaml --work synth-work

Patterns write questions about documents that neither dev nor test uses; the config's embedding model is trained on them
alone, its epoch chosen on dev; dense search before and after is scored on test. Takes a few minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ragladder.core.progress import Reporter
from ragladder.eval.questions import load_questions, save_questions
from ragladder.ladder.config import load_experiment
from ragladder.ladder.evaluate import evaluate_config
from ragladder.ladder.finetune.embedding import embed_train
from ragladder.ladder.synth import synth_questions

KNOBS = (
    "pipeline.parse.html=structural",
    "pipeline.parse.pdf=pdfplumber",
    "pipeline.parse.docx=structural",
    "pipeline.chunk={kind: section, size: 128}",
    "pipeline.generate=extractive",
    "score.ragas=false",
    "rungs.retrieval=null",
    "rungs.llm=null",
    "rungs.embedding.train.hard_negatives=null",
    "synth.by=extractive",
    "synth.n=900",
    "synth.split.shares=[1, 0, 0]",
)
METRICS = ("ndcg@10", "evidence_recall@10", "mrr")


def main() -> None:
    """Measures and prints a row before and one after."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="a folder for questions, stages and the model")
    options = parser.parse_args()
    work, reporter = options.work.absolute(), Reporter()
    knobs = [*KNOBS, f"runtime.cache_dir={work / 'cache'}"]
    folder = work / "questions"
    folder.mkdir(parents=True, exist_ok=True)
    outcome = synth_questions(options.config, knobs, folder / "synthetic.jsonl", reporter)
    print("\n".join(outcome.report.lines()))
    config = load_experiment(options.config, knobs)
    own = load_questions(config.resources(options.config.absolute().parent).path(config.data.questions))
    save_questions(folder / "own.jsonl", [question for question in own if question.split != "train"])
    knobs.append(f"data.questions={folder}")
    shutil.rmtree(work / "model", ignore_errors=True)
    trained = embed_train(options.config, knobs, work / "model", reporter)
    for name, extra in (("before", []), ("after", [f"pipeline.embed.model={trained.model}"])):
        scores = evaluate_config(options.config, "test", [*knobs, *extra], reporter).scores
        figures = "  ".join(f"{metric} {scores[metric].mean:.4f}" for metric in METRICS)
        print(f"{name:6}  {scores[METRICS[0]].n} test questions  {figures}", flush=True)


if __name__ == "__main__":
    main()
