"""Trains the reader model from scratch: tokenizer, starting weights, then a curriculum of growing items.

    python train.py --run reader_run --sources ../quickstart/sources/train_*/*

The run can be killed at any time; the same command goes on from its last checkpoint. Data is drawn from the
seed and the step, so a resumed run sees what an uninterrupted one would. `--cooldown N` lets the learning rate
fall to zero over N further tokens and writes the result to RUN/cooled, leaving the checkpoint as it is.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from attention import NAME as SHORT_CAUSAL
from evaluate import accuracy
from generate import ASSISTANT, END, ItemWriter
from start import new_model
from tokenization import train_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CHECKPOINT_SECONDS = 150
WARMUP_STEPS = 60
BATCH_TOKENS = 3072
FIRST_WEIGHT = 3.0  # the first token of an answer shows whether its place was found; the rest is copying


@dataclass
class Stage:
    """A part of the curriculum: until how many million tokens, and the share of each `(shape, length)`."""

    until: float
    mix: dict[tuple[str, int], float]


CURRICULUM = [
    Stage(1.5, {("mini", 256): 1}),
    Stage(8, {("pairs", 256): 0.5, ("few", 256): 0.35, ("mini", 256): 0.15}),
    Stage(12, {("pairs", 256): 0.25, ("few", 256): 0.35, ("mid", 512): 0.4}),
    Stage(
        1e9, {("pairs", 256): 0.1, ("few", 256): 0.25, ("mid", 512): 0.35, ("full", 1024): 0.22, ("long", 2048): 0.08}
    ),
]


class Batches:
    """Draws packed batches of items.

    Args:
        tokenizer: The tokenizer.
        seed: Seed of the data.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int):
        self.tokenizer, self.seed = tokenizer, seed
        self.writer = ItemWriter(seed)
        self.answer_start = tokenizer.convert_tokens_to_ids(ASSISTANT)
        self.answer_end = tokenizer.convert_tokens_to_ids(END)

    def batch(self, step: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns token ids and the mask of answer tokens, one row a packed sequence."""
        self.writer.rng.seed(self.seed * 10_000_019 + step)
        stage = next(stage for stage in CURRICULUM if tokens < stage.until * 1e6)
        kinds, shares = zip(*stage.mix.items(), strict=True)
        shape, length = self.writer.rng.choices(kinds, shares)[0]
        rows = [self.row(shape, length) for _ in range(max(1, BATCH_TOKENS // length))]
        ids = torch.tensor(rows)
        return ids, answer_mask(ids, self.answer_start, self.answer_end)

    def row(self, shape: str, length: int) -> list[int]:
        """Returns one sequence: whole items, the last one cut off, smaller ones where the rest is short."""
        row: list[int] = []
        while len(row) < length:
            small = length - len(row) < length // 3
            text = self.writer.item("mini" if small else shape).text()
            ids = self.tokenizer(text)["input_ids"]
            if len(row) + len(ids) <= length or len(ids) > length or small:
                row += ids
        return row[:length]


def answer_mask(ids: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """Returns which tokens belong to an answer: those after `<|assistant|>` and its line break, to `<|end|>`."""
    opened = (ids == start).cumsum(1)
    closed = (ids == end).cumsum(1)
    inside = (opened > closed) | (ids == end)
    after = torch.zeros_like(inside)
    after[:, 2:] = (ids[:, :-2] == start) | inside[:, :-2] & inside[:, 1:-1]
    return inside & (ids != start) & after


def loss_of(
    model: LlamaForCausalLM, backbone: torch.nn.Module, ids: torch.Tensor, answers: torch.Tensor, share: float = 0.12
) -> tuple:
    """Returns the loss on answers and, lightly, on a sample of the other tokens; the rest needs no logits."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = backbone(input_ids=ids, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
        targets, chosen = ids[:, 1:].flatten(), answers[:, 1:].flatten()
        other = ~chosen & (torch.rand(chosen.shape) < share)
        logits_answer, logits_other = (model.lm_head(hidden[pick]) for pick in (chosen, other))
    first = (~answers[:, :-1]).flatten()[chosen]
    weight = torch.where(first, FIRST_WEIGHT, 1.0)
    losses = F.cross_entropy(logits_answer.float(), targets[chosen], reduction="none")
    answer_loss = (losses * weight).sum() / weight.sum()
    other_loss = F.cross_entropy(logits_other.float(), targets[other])
    hits = (logits_answer.argmax(-1) == targets[chosen]).float()
    return (
        answer_loss + 0.1 * other_loss,
        answer_loss.item(),
        other_loss.item(),
        hits.mean().item(),
        hits[first].mean().item(),
    )


def optimizers_of(model: LlamaForCausalLM, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Returns Muon for the hidden matrices and AdamW for embeddings, norms and biases."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    embeddings = [model.model.embed_tokens.weight]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    muon = torch.optim.Muon(matrices, lr=args.muon_lr, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(
        [{"params": embeddings, "lr": args.adam_lr}, {"params": vectors, "lr": args.adam_lr}],
        betas=(0.9, 0.97),
        weight_decay=0.0,
        fused=True,
    )
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [muon, adam]


def set_rate(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Scales every learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def save_checkpoint(
    path: Path, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], counters: dict
) -> None:
    """Writes a checkpoint beside the old one, then puts it in its place."""
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "counters": counters}
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the model in half precision with its tokenizer, loadable by `from_pretrained`."""
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config.update(
        do_sample=False, max_new_tokens=48, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    copy.to(torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def checkpoint_path(args: argparse.Namespace) -> Path:
    """Returns where the run keeps its state; a cooldown has its own, so that training can go on from before it."""
    return Path(args.run) / ("cooldown.pt" if args.cooldown else "checkpoint.pt")


def prepare(args: argparse.Namespace) -> tuple:
    """Returns tokenizer, model, optimizers and counters, from the checkpoint if there is one."""
    run = Path(args.run)
    run.mkdir(parents=True, exist_ok=True)
    if (run / "tokenizer").exists():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(run / "tokenizer")
    else:
        tokenizer = train_tokenizer(args.vocabulary, [Path(p) for p in args.sources])
        tokenizer.save_pretrained(run / "tokenizer")
    model = new_model(tokenizer, args.seed)
    model.config._attn_implementation = SHORT_CAUSAL
    optimizers, counters = optimizers_of(model, args), {"step": 0, "tokens": 0, "seconds": 0.0}
    checkpoint = checkpoint_path(args)
    if not checkpoint.exists():
        checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            peaks = [group["peak"] for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["peak"] = peak
        counters = state["counters"]
    return tokenizer, model, optimizers, counters


def train(args: argparse.Namespace) -> None:
    """Trains until the token limit, or through the cooldown."""
    run = Path(args.run)
    tokenizer, model, optimizers, counters = prepare(args)
    batches = Batches(tokenizer, args.seed)
    backbone = torch.compile(model.model, dynamic=False) if args.compile else model.model
    saved_at, began = time.time(), time.time() - counters["seconds"]
    end = counters.setdefault("end", counters["tokens"] + args.cooldown) if args.cooldown else args.tokens
    recent: list[tuple] = []
    while counters["tokens"] < end:
        ids, answers = batches.batch(counters["step"], counters["tokens"])
        factor = min(1.0, (counters["step"] + 1) / WARMUP_STEPS)
        set_rate(optimizers, factor * (max(0.02, (end - counters["tokens"]) / args.cooldown) if args.cooldown else 1.0))
        loss, *numbers = loss_of(model, backbone, ids, answers)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        counters.update(step=counters["step"] + 1, tokens=counters["tokens"] + ids.numel(), seconds=time.time() - began)
        recent.append(tuple(numbers))
        if counters["step"] % args.log_every == 0:
            report(counters, recent)
        if counters["step"] % args.evaluate_every == 0:
            print("held-out", accuracy(model, tokenizer, count=args.evaluate_count), flush=True)
        if time.time() - saved_at > CHECKPOINT_SECONDS:
            save_checkpoint(checkpoint_path(args), model, optimizers, counters)
            saved_at = time.time()
    if args.cooldown:
        export(model, tokenizer, run / "cooled")
        checkpoint_path(args).unlink(missing_ok=True)
    else:
        save_checkpoint(checkpoint_path(args), model, optimizers, counters)
    print("held-out", accuracy(model, tokenizer, count=args.evaluate_count * 2), flush=True)


def report(counters: dict, recent: list[tuple]) -> None:
    """Prints the mean numbers since the last report."""
    answer, other, hits, first = (sum(column) / len(recent) for column in zip(*recent, strict=True))
    recent.clear()
    rate = counters["tokens"] / max(1.0, counters["seconds"])
    print(
        f"step {counters['step']} tokens {counters['tokens'] / 1e6:.2f}M {counters['seconds'] / 60:.1f} min "
        f"{rate:.0f} tok/s answer loss {answer:.3f} token hits {hits:.3f} first {first:.3f} text loss {other:.3f}",
        flush=True,
    )


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="reader_run")
    parser.add_argument("--sources", nargs="*", default=[], help="documents for the tokenizer's vocabulary")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=float, default=40e6)
    parser.add_argument("--cooldown", type=float, default=0)
    parser.add_argument("--muon-lr", type=float, default=2e-3)
    parser.add_argument("--adam-lr", type=float, default=1e-3)
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--evaluate-every", type=int, default=1000)
    parser.add_argument("--evaluate-count", type=int, default=60)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--export", help="only write the checkpoint's model to this folder")
    args = parser.parse_args()
    if args.export:
        tokenizer, model, *_ = prepare(args)
        export(model, tokenizer, Path(args.export))
    else:
        train(args)


if __name__ == "__main__":
    main()
