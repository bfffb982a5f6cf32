"""Training throughput: ragladder against a bare sentence-transformers script of the same settings, and by precision.

    python benchmarks/embed_throughput.py --pairs 256
    python benchmarks/embed_throughput.py --pairs 4096 --device cuda --batch-size 128 --precisions bf16,fp32

Pairs are made up of random words, as long as real ones (`--words`), so no data is needed. Both train two epochs on the
same pairs in the same order, with the same batches, precision, length and optimizer; no layer is frozen. The second
epoch is timed, from the end of the first: so loading, making the trainer and warming up are outside, and are printed
apart. In that time ours writes a checkpoint, the bare script none (take enough pairs, for writing takes a second); dev
is not scored (ours asks for a number, which costs nothing). Each run is a process of its own, in the order ours, bare,
bare, ours, so that a machine that warms up or slows down favours neither. A ratio of 0.95 or more is wanted.
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
        epochs=2,
        batch_size=arguments.batch_size,
        dtype=precision,
        freeze_layers=0,
        learning_rate=5e-5,
        wise_ft=(),
        patience=None,
    )


def ours(arguments: argparse.Namespace, precision: str) -> list[float]:
    """When `train_embedder` began to make its trainer, and when each epoch's steps were done."""
    stamps: list[float] = []

    def dev(encode: Any) -> float:
        """A double: it is asked for the base first, then after each epoch."""
        stamps.append(time.perf_counter())
        return 0.5

    pairs = made_pairs(arguments.pairs, arguments.words)
    with tempfile.TemporaryDirectory() as folder:
        resources = Resources(device=arguments.device)
        train_embedder(arguments.model, pairs, dev, settings(arguments, precision), Path(folder), resources)
    return stamps[:3]


def bare(arguments: argparse.Namespace, precision: str) -> list[float]:
    """The same of a script as the library's documentation has it."""
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers
    from transformers import TrainerCallback

    stamps: list[float] = []

    class Clock(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            stamps.append(time.perf_counter())

    wanted = settings(arguments, precision)
    folder = model_folder(arguments.model, Resources())
    model = SentenceTransformer(str(folder), device=arguments.device, model_kwargs={"dtype": torch.float32})
    model.max_seq_length = wanted.max_length
    pairs = made_pairs(arguments.pairs, arguments.words)
    rows = {"anchor": [pair.query for pair in pairs], "positive": [pair.positive for pair in pairs]}
    with tempfile.TemporaryDirectory() as out:
        stamps.append(time.perf_counter())
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=out,
                num_train_epochs=wanted.epochs,
                per_device_train_batch_size=wanted.batch_size,
                learning_rate=wanted.resolved_learning_rate(),
                warmup_steps=wanted.warmup_ratio,
                bf16=precision == "bf16",
                use_cpu=arguments.device == "cpu",
                dataloader_pin_memory=arguments.device != "cpu",
                batch_sampler=BatchSamplers.NO_DUPLICATES,
                seed=wanted.seed,
                data_seed=wanted.seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict(rows),
            loss=MultipleNegativesRankingLoss(model, scale=wanted.scale),
            callbacks=[Clock()],
        )
        trainer.train()
    return stamps


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
        stamps = {"ours": ours, "bare": bare}[arguments.once](arguments, arguments.precisions)
        print(json.dumps({"stamps": stamps}))
        return
    print(
        "| precision | ours, pairs/s | bare, pairs/s | ratio | set-up: ours, s | bare, s |\n|---|---|---|---|---|---|"
    )
    for precision in arguments.precisions.split(","):
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        setup: dict[str, list[float]] = {"ours": [], "bare": []}
        for which in ("ours", "bare", "bare", "ours"):
            start, first, second = run_once(which, precision, arguments)
            rates[which].append(arguments.pairs / (second - first))
            # What the first epoch took longer.
            setup[which].append((first - start) - (second - first))
        rate = {name: sum(values) / len(values) for name, values in rates.items()}
        extra = {name: sum(values) / len(values) for name, values in setup.items()}
        print(
            f"| {precision} | {rate['ours']:.1f} | {rate['bare']:.1f} | {rate['ours'] / rate['bare']:.3f} | "
            f"{extra['ours']:.1f} | {extra['bare']:.1f} |",
            flush=True,
        )


def run_once(which: str, precision: str, arguments: argparse.Namespace) -> list[float]:
    """The stamps of one run in a process of its own."""
    given = [f"--{name}={getattr(arguments, name)}" for name in ("pairs", "words", "model", "device")]
    command = [sys.executable, __file__, *given, f"--batch-size={arguments.batch_size}", f"--precisions={precision}"]
    ran = subprocess.run([*command, f"--once={which}"], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])["stamps"]


if __name__ == "__main__":
    main()
