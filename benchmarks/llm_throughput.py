"""LoRA training of this package against a bare TRL + peft script: losses, tokens a second, peak memory, in one run.

    python benchmarks/llm_throughput.py                                  # CPU, the shape of a 20 M model
    python benchmarks/llm_throughput.py --device cuda --shape 0.5b --dtype bfloat16 --tokens 1024
    python benchmarks/llm_throughput.py --device cuda --shape 0.5b --dtype bfloat16 --quantize 4bit

The model has random weights in the shape of a Llama; all sides get the same rows of random tokens, the same seed and
the same order, in turns, each in a process of its own. Off CUDA there is a third side, `trl loss`: ours with TRL's own
loss in place of ours, so that what ours saves (the output layer runs on answers alone; TRL's runs on every token off
CUDA) stands apart from what our trainer costs a step. Trainer settings that differ between ours and the bare script are
printed. Exits with 1 where losses differ by more than --tolerance, or a side's throughput is below --least of the bare
script's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from types import MethodType
from typing import Any

SHAPES = {
    # hidden, intermediate, layers, heads, key and value heads, vocabulary
    "tiny": (64, 128, 2, 4, 4, 512),
    "20m": (384, 1024, 8, 6, 2, 8192),
    "0.5b": (896, 4864, 24, 14, 2, 151_936),
    "1b": (2048, 8192, 16, 32, 8, 128_256),
}
RANK, ALPHA, SEED = 16, 32, 0
# Names of places and runs, which every process has its own of.
_NAMES = ("output_dir", "logging_dir", "run_name")


def main() -> int:
    """Runs the sides in turns and prints the table."""
    options = _options()
    if options.side:
        print(json.dumps(_side(options)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_model(folder / "model", options.shape)
        rows = _rows(options)
        (folder / "rows.json").write_text(json.dumps(rows))
        sides = ("ours", "bare") if options.device == "cuda" else ("ours", "trl loss", "bare")
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for number in range(options.repeats):
            # Who begins takes turns too: a machine that warms up or is disturbed favours none.
            for side in sides if number % 2 == 0 else reversed(sides):
                found[side].append(_run(side, folder))
                print(f"{side}: {found[side][-1]['tokens_per_second']:.1f} tokens/s", file=sys.stderr)
    return _report(found, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--shape", default="20m", choices=sorted(SHAPES))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--quantize", default="none", choices=("none", "4bit"))
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256, help="of the longest prompt")
    parser.add_argument("--answer", type=int, default=16, help="tokens of an answer")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--least", type=float, default=0.95)
    parser.add_argument("--side", choices=("ours", "trl loss", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(side: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _report(found: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> int:
    speed = {side: median(r["tokens_per_second"] for r in results) for side, results in found.items()}
    print(
        f"{options.shape} on {options.device}, {options.dtype}, quantize {options.quantize}, {options.repeats} repeats"
    )
    print("| side | tokens/s (median) | peak memory, MiB | first loss | last loss |\n|---|---|---|---|---|")
    for side, results in found.items():
        losses, memory = results[0]["losses"], max(r["peak_memory"] for r in results) / 2**20
        print(f"| {side} | {speed[side]:.1f} | {memory:.0f} | {losses[0]:.5f} | {losses[-1]:.5f} |")
    sound = True
    for side in [name for name in found if name != "bare"]:
        pairs = list(zip(found[side], found["bare"], strict=True))
        apart = max(abs(a - b) for mine, bare in pairs for a, b in zip(mine["losses"], bare["losses"], strict=True))
        ratios = sorted(mine["tokens_per_second"] / bare["tokens_per_second"] for mine, bare in pairs)
        ratio, spread = median(ratios), f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        print(f"{side}: throughput ratio (median of pairs): {ratio:.3f}, from {spread} (at least {options.least})")
        print(f"{side}: largest difference of a step's loss: {apart:.2e} (at most {options.tolerance})")
        sound = sound and ratio >= options.least and apart <= options.tolerance
    mine, bare = (found[side][0]["settings"] for side in ("ours", "bare"))
    other = [f"{key} {mine[key]} / {bare[key]}" for key in mine if key not in _NAMES and mine[key] != bare[key]]
    print("trainer settings that differ (ours / bare): " + ("; ".join(other) or "none"))
    return 0 if sound else 1


def _make_model(folder: Path, shape: str) -> None:
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    hidden, inner, layers, heads, kv, words = SHAPES[shape]
    vocab = {"<pad>": 0, "<end>": 1} | {f"w{number}": number for number in range(2, 64)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocab, unk_token="<pad>")), eos_token="<end>", pad_token="<pad>"
    )
    config = LlamaConfig(
        vocab_size=words,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(SEED)
    LlamaForCausalLM(config).to(torch.bfloat16 if shape in ("0.5b", "1b") else torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _rows(options: argparse.Namespace) -> list[dict[str, list[int]]]:
    """Prompts of half to the whole of --tokens, answers of --answer tokens."""
    draw, words = random.Random(SEED), SHAPES[options.shape][5]
    rows = []
    for _ in range(options.examples):
        prompt = [draw.randrange(2, words) for _ in range(draw.randint(options.tokens // 2, options.tokens))]
        answer = [draw.randrange(2, words) for _ in range(options.answer - 1)] + [1]
        rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    return rows


def _side(options: argparse.Namespace) -> dict[str, Any]:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    rows = json.loads((options.folder / "rows.json").read_text())
    with tempfile.TemporaryDirectory() as out:
        trainer = (_bare if options.side == "bare" else _ours)(options, rows, Path(out))
        if options.side == "trl loss":
            from trl.trainer.sft_trainer import SFTTrainer

            trainer.compute_loss = MethodType(SFTTrainer.compute_loss, trainer)
        settings = {key: repr(value) for key, value in vars(trainer.args).items() if not key.startswith("_")}
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    log = trainer.state.log_history
    return {
        "losses": [entry["loss"] for entry in log if "loss" in entry],
        "tokens_per_second": sum(len(row["input_ids"]) for row in rows) / seconds,
        "peak_memory": _peak_memory(options.device),
        "settings": settings,
    }


def _ours(options: argparse.Namespace, rows: list[dict[str, list[int]]], out: Path) -> Any:
    from ragladder.core.components import Resources
    from ragladder.core.progress import Reporter
    from ragladder.llm_ft import LoraSettings
    from ragladder.llm_ft.model import add_adapter, check_device, load_base
    from ragladder.llm_ft.tokens import Encoded, Encoder
    from ragladder.llm_ft.trainer import build_trainer

    settings = LoraSettings.model_validate(
        {
            "rank": RANK,
            "alpha": ALPHA,
            "epochs": 1,
            "batch_size": options.batch_size,
            "dtype": options.dtype,
            "quantize": options.quantize,
            "seed": SEED,
        }
    )
    check_device(settings, options.device)
    model = add_adapter(load_base(options.folder / "model", settings, options.device), settings)
    encoded = [Encoded(row["input_ids"], row["labels"]) for row in rows]
    tokenizer = Encoder.from_folder(options.folder / "model").tokenizer
    trainer = build_trainer(model, tokenizer, encoded, [], settings, out, Resources(device=options.device), False)
    reporter = Reporter(quiet=True)
    trainer.follow(reporter.task("LoRA", 1, "steps").__enter__(), reporter, 0.0)
    trainer.args.save_strategy = "no"  # the bare script keeps no checkpoint either
    trainer.args.logging_steps = trainer.state.logging_steps = 1
    return trainer


def _bare(options: argparse.Namespace, rows: list[dict[str, list[int]]], out: Path) -> Any:
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    half = options.dtype == "bfloat16"
    more: dict[str, Any] = {}
    if options.quantize == "4bit":
        quantized = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if half else torch.float32,
        )
        more = {"quantization_config": quantized, "device_map": {"": 0}}
    kind = torch.bfloat16 if half and options.device == "cuda" else torch.float32
    base: Any = AutoModelForCausalLM.from_pretrained(options.folder / "model", dtype=kind, **more)
    torch.manual_seed(SEED)
    if more:
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(base, lora)
    args = SFTConfig(
        output_dir=str(out),
        num_train_epochs=1,
        per_device_train_batch_size=options.batch_size,
        learning_rate=2e-4,
        lr_scheduler_type="linear",
        warmup_steps=0.05,
        train_sampling_strategy="group_by_length",
        max_length=None,
        bf16=half,
        gradient_checkpointing=False,
        use_cpu=options.device == "cpu",
        seed=SEED,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=options.device == "cuda",
    )
    tokenizer = AutoTokenizer.from_pretrained(options.folder / "model")
    return SFTTrainer(model, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def _peak_memory(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    raise SystemExit(main())
