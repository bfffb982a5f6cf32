"""Trains the reader model from scratch: tokenizer, starting weights, then a curriculum of growing items.

    python train.py --run RUN --tokens 12e6 --sources ../quickstart/sources/train_*/*
    python train.py --run RUN --cooldown 4e6

The first command trains at a constant learning rate, the second lets it fall to zero over further tokens and writes
the model to RUN/cooled. Either can be killed and started again: it goes on from its last checkpoint and sees what an
uninterrupted run would have seen. After a cooldown the first command can go on from before it, with more tokens.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from attention import NAME as SHORT_CAUSAL
from batches import Batches
from evaluate import accuracy
from start import new_model
from tokenization import train_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CHECKPOINT_SECONDS = 150
WARMUP_STEPS = 60
LOWEST_RATE = 0.02  # of the peak; what the cooldown ends at
FIRST_WEIGHT = 3.0  # the first token of an answer shows whether its place was found; the rest is copying
TEXT_SHARE, TEXT_WEIGHT = 0.12, 0.1  # how many tokens outside answers are learnt too, and how lightly


class Losses(NamedTuple):
    """What one batch cost: on answers, on other text, and the shares of answer tokens and first tokens guessed."""

    answer: float
    text: float
    hits: float
    first: float


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, answers: torch.Tensor) -> tuple[torch.Tensor, Losses]:
    """Returns the loss on answers and, lightly, on a sample of the other tokens; the rest needs no logits.

    Args:
        model: The model.
        ids: Token ids, shape (sequences, length).
        answers: Mask of the answer tokens, same shape.
    """
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
        targets, chosen = ids[:, 1:].flatten(), answers[:, 1:].flatten()
        other = ~chosen & (torch.rand(chosen.shape) < TEXT_SHARE)
        logits, text_logits = (model.lm_head(hidden[pick]) for pick in (chosen, other))
    first = (~answers[:, :-1]).flatten()[chosen]
    weight = torch.where(first, FIRST_WEIGHT, 1.0)
    losses = F.cross_entropy(logits.float(), targets[chosen], reduction="none")
    answer_loss = (losses * weight).sum() / weight.sum()
    text_loss = F.cross_entropy(text_logits.float(), targets[other])
    hits = (logits.argmax(-1) == targets[chosen]).float()
    numbers = Losses(answer_loss.item(), text_loss.item(), hits.mean().item(), hits[first].mean().item())
    return answer_loss + TEXT_WEIGHT * text_loss, numbers


def optimizers_of(model: LlamaForCausalLM, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Returns Muon for the hidden matrices and AdamW for embeddings, norms and biases."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [model.model.embed_tokens.weight, *(p for p in model.parameters() if p.ndim == 1)]
    muon = torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.97), weight_decay=0.0, fused=True)
    return [muon, adam]


class Trainer:
    """One run: its model, its optimizers, and how far it is.

    Args:
        run: Folder of the run; the tokenizer and the checkpoints lie in it.
        sources: Documents for the tokenizer's vocabulary, where it is yet to be trained.
        seed: Of the starting weights and of the data.
        rates: Peak learning rates of Muon and of AdamW.
        cooldown: Tokens over which the learning rate falls to zero; 0 for constant rates.
    """

    def __init__(self, run: Path, sources: list[Path], seed: int, rates: tuple[float, float], cooldown: float):
        self.run, self.rates, self.cooldown = run, rates, cooldown
        self.tokenizer = self._tokenizer(sources)
        self.model = new_model(self.tokenizer, seed)
        self.model.config._attn_implementation = SHORT_CAUSAL
        self.optimizers = optimizers_of(self.model, *rates)
        self.batches = Batches(self.tokenizer, seed)
        self.counters = {"step": 0, "tokens": 0, "seconds": 0.0}
        # a cooldown has a checkpoint of its own, so that training can go on from before it
        self.checkpoint = run / ("cooldown.pt" if cooldown else "checkpoint.pt")
        self._load()
        if cooldown:
            self.counters.setdefault("end", self.counters["tokens"] + cooldown)

    def _tokenizer(self, sources: list[Path]) -> PreTrainedTokenizerFast:
        folder = self.run / "tokenizer"
        if not folder.exists():
            train_tokenizer(4096, sources).save_pretrained(folder)
        return PreTrainedTokenizerFast.from_pretrained(folder)

    def _load(self) -> None:
        path = self.checkpoint if self.checkpoint.exists() else self.run / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.counters = state["counters"]

    def save(self) -> None:
        """Writes a checkpoint beside the old one, then puts it in its place."""
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {"model": self.model.state_dict(), "optimizers": optimizers, "counters": self.counters}
        new = self.checkpoint.with_suffix(".new")
        torch.save(state, new)
        new.replace(self.checkpoint)

    def step(self) -> Losses:
        """Trains on the next batch."""
        ids, answers = self.batches.batch(self.counters["step"], self.counters["tokens"])
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * self.rate_factor()
        loss, numbers = loss_of(self.model, ids, answers)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self.counters["step"] += 1
        self.counters["tokens"] += ids.numel()
        return numbers

    def rate_factor(self) -> float:
        """Returns the share of the peak learning rate: rising for some steps, then constant, in a cooldown falling."""
        warm = min(1.0, (self.counters["step"] + 1) / WARMUP_STEPS)
        left = (self.counters["end"] - self.counters["tokens"]) / self.cooldown if self.cooldown else 1.0
        return warm * max(LOWEST_RATE, left)

    def train(self, tokens: float, log_every: int, evaluate_every: int, evaluate_count: int) -> None:
        """Trains until there were so many tokens, or to the end of the cooldown, and evaluates."""
        end = self.counters["end"] if self.cooldown else tokens
        saved_at, began = time.time(), time.time() - self.counters["seconds"]
        recent: list[Losses] = []
        while self.counters["tokens"] < end:
            recent.append(self.step())
            self.counters["seconds"] = time.time() - began
            if self.counters["step"] % log_every == 0:
                self.report(recent)
                recent.clear()
            if self.counters["step"] % evaluate_every == 0:
                print("held-out", accuracy(self.model, self.tokenizer, evaluate_count), flush=True)
            if time.time() - saved_at > CHECKPOINT_SECONDS:
                self.save()
                saved_at = time.time()
        self.save()
        if self.cooldown:
            export(self.model, self.tokenizer, self.run / "cooled")
        print("held-out", accuracy(self.model, self.tokenizer, evaluate_count), flush=True)

    def report(self, recent: list[Losses]) -> None:
        """Prints the means of recent batches."""
        means = Losses(*(sum(column) / len(recent) for column in zip(*recent, strict=True)))
        done, minutes = self.counters["tokens"], self.counters["seconds"] / 60
        print(
            f"step {self.counters['step']} tokens {done / 1e6:.2f}M {minutes:.1f} min "
            f"answer loss {means.answer:.3f} token hits {means.hits:.3f} first {means.first:.3f} "
            f"text loss {means.text:.3f}",
            flush=True,
        )


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the model in half precision with its tokenizer, loadable by `from_pretrained`."""
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config.update(
        do_sample=False, max_new_tokens=48, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    copy.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("reader_run"))
    parser.add_argument("--sources", nargs="*", type=Path, default=[], help="documents for the tokenizer's vocabulary")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=float, default=25e6)
    parser.add_argument("--cooldown", type=float, default=0)
    parser.add_argument("--muon-lr", type=float, default=2e-3)
    parser.add_argument("--adam-lr", type=float, default=1e-3)
    parser.add_argument("--log-every", type=int, default=25, help="steps between reports")
    parser.add_argument("--evaluate-every", type=int, default=1000, help="steps between evaluations")
    parser.add_argument("--evaluate-count", type=int, default=60, help="held-out items a cell")
    parser.add_argument("--export", type=Path, help="only write the checkpoint's model to this folder")
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(args.run, args.sources, args.seed, (args.muon_lr, args.adam_lr), args.cooldown)
    if args.export:
        export(trainer.model, trainer.tokenizer, args.export)
    else:
        trainer.train(args.tokens, args.log_every, args.evaluate_every, args.evaluate_count)


if __name__ == "__main__":
    main()
