"""Training throughput: ragladder against a bare sentence-transformers script of the same settings, and by precision.

    python benchmarks/embed_throughput.py --pairs 256
    python benchmarks/embed_throughput.py --pairs 4096 --device cuda --batch-size 128 --precisions bf16,fp32

Pairs are made up of random words, as long as real ones (`--words`), so no data is needed. Each run is a process of its
own; the order is ours, bare, bare, ours, so that a machine that warms up or slows down favours neither. Prints pairs a
second without loading and dev (ours: with making the trainer), and the ratio, of which 0.95 or more is wanted: take
enough pairs, for the trainer's making takes a second or two.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ragladder.core.components import Resources
from ragladder.embeddings.encode import model_folder
from ragladder.embeddings.pairs import Pair
from ragladder.embeddings.train import EmbedTrainSettings, train_embedder

WORDS = tuple(
    f"{first}{last}" for first in ("sun", "wind", "rain", "stone") for last in ("field", "bank", "fall", "way")
)


def made_pairs(count: int, words: int) -> list[Pair]:
    """Pairs of random words."""
    draw = random.Random(0)
    return [
        Pair(f"q{n}", " ".join(draw.choices(WORDS, k=10)) + f" {n}", " ".join(draw.choices(WORDS, k=words)), f"c{n}")
        for n in range(count)
    ]


def settings(arguments: argparse.Namespace, precision: str) -> EmbedTrainSettings:
    """Those of the run."""
    return EmbedTrainSettings(
        epochs=1,
        batch_size=arguments.batch_size,
        dtype=precision,
        freeze_layers=0,
        learning_rate=5e-5,
        wise_ft=(),
        patience=None,
    )


def ours(arguments: argparse.Namespace, precision: str) -> float:
    """Seconds of the training loop of `train_embedder`, from the base's dev score to the end of the epoch."""
    stamps: list[float] = []

    def dev(encode: Any) -> float:
        stamps.append(time.perf_counter())
        return 0.5

    pairs = made_pairs(arguments.pairs, arguments.words)
    with tempfile.TemporaryDirectory() as folder:
        resources = Resources(device=arguments.device)
        train_embedder(arguments.model, pairs, dev, settings(arguments, precision), Path(folder), resources)
    return stamps[1] - stamps[0]


def bare(arguments: argparse.Namespace, precision: str) -> float:
    """Seconds of `trainer.train()` as the library's documentation has it."""
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers

    wanted = settings(arguments, precision)
    folder = model_folder(arguments.model, Resources())
    model = SentenceTransformer(str(folder), device=arguments.device, model_kwargs={"dtype": torch.float32})
    model.max_seq_length = wanted.max_length
    pairs = made_pairs(arguments.pairs, arguments.words)
    rows = {"anchor": [pair.query for pair in pairs], "positive": [pair.positive for pair in pairs]}
    with tempfile.TemporaryDirectory() as out:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=out,
                num_train_epochs=1,
                per_device_train_batch_size=wanted.batch_size,
                learning_rate=5e-5,
                warmup_steps=wanted.warmup_ratio,
                bf16=precision == "bf16",
                use_cpu=arguments.device == "cpu",
                batch_sampler=BatchSamplers.NO_DUPLICATES,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict(rows),
            loss=MultipleNegativesRankingLoss(model, scale=wanted.scale),
        )
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def main() -> None:
    """Runs each in a process of its own and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--words", type=int, default=180, help="of a passage")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--precisions", default="bf16")
    parser.add_argument("--once", choices=("ours", "bare"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        seconds = {"ours": ours, "bare": bare}[arguments.once](arguments, arguments.precisions)
        print(json.dumps({"seconds": seconds}))
        return
    print("| precision | ours, pairs/s | bare, pairs/s | ratio |\n|---|---|---|---|")
    for precision in arguments.precisions.split(","):
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        for which in ("ours", "bare", "bare", "ours"):
            given = [f"--{name}={getattr(arguments, name.replace('-', '_'))}" for name in ("pairs", "words", "model")]
            given += [f"--batch-size={arguments.batch_size}", f"--device={arguments.device}"]
            command = [sys.executable, __file__, *given, f"--precisions={precision}", f"--once={which}"]
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
            rates[which].append(arguments.pairs / json.loads(ran.stdout.splitlines()[-1])["seconds"])
        mean = {name: sum(values) / len(values) for name, values in rates.items()}
        print(
            f"| {precision} | {mean['ours']:.1f} | {mean['bare']:.1f} | {mean['ours'] / mean['bare']:.3f} |", flush=True
        )


if __name__ == "__main__":
    main()
