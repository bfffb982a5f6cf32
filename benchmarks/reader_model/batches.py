"""The curriculum: which items the reader model reads when, packed into sequences of one length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from generate import ASSISTANT, END, ItemWriter
from transformers import PreTrainedTokenizerFast

BATCH_TOKENS = 4096


@dataclass
class Stage:
    """A part of the curriculum: until how many million tokens, and the share of each `(shape, length)`."""

    until: float
    mix: dict[tuple[str, int], float]


CURRICULUM = [
    Stage(1.5, {("mini", 256): 1}),
    Stage(8, {("pairs", 256): 0.5, ("few", 512): 0.35, ("mini", 256): 0.15}),
    Stage(12, {("pairs", 256): 0.25, ("few", 512): 0.35, ("mid", 512): 0.4}),
    Stage(
        1e9, {("pairs", 256): 0.06, ("few", 512): 0.28, ("mid", 512): 0.39, ("full", 1024): 0.22, ("long", 2048): 0.05}
    ),
]


class Batches:
    """Draws packed batches of items; a batch depends on the seed and the step alone.

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
        """Returns token ids, shape (sequences, length), and the mask of answer tokens.

        Args:
            step: Number of the batch.
            tokens: Tokens trained so far; they say which stage of the curriculum it is.
        """
        rng = self.writer.rng
        rng.seed(self.seed * 10_000_019 + step)
        mix = next(stage.mix for stage in CURRICULUM if tokens < stage.until * 1e6)
        shape, length = rng.choices(list(mix), list(mix.values()))[0]
        ids = torch.tensor([self.row(shape, length) for _ in range(max(1, BATCH_TOKENS // length))])
        return ids, answer_mask(ids, self.answer_start, self.answer_end)

    def row(self, shape: str, length: int) -> list[int]:
        """Returns one sequence: items of the shape, smaller ones where no more fits, at last one that is cut off."""
        row: list[int] = []
        ids: list[int] = []
        for smaller in (shape, "pairs", "mini"):
            missed = 0
            while len(row) < length and missed < 2:
                ids = self.tokenizer(self.writer.item(smaller).text())["input_ids"]
                if len(row) + len(ids) <= length:
                    row += ids
                else:
                    missed += 1
        return (row + ids)[:length]


def answer_mask(ids: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """Returns which tokens belong to an answer: those after `<|assistant|>` and its line break, to `<|end|>`.

    Args:
        ids: Token ids, shape (sequences, length).
        start: Id of `<|assistant|>`.
        end: Id of `<|end|>`.
    """
    opened = (ids == start).cumsum(1)
    closed = (ids == end).cumsum(1)
    inside = (opened > closed) | (ids == end)
    after = torch.zeros_like(inside)
    after[:, 2:] = (ids[:, :-2] == start) | inside[:, :-2] & inside[:, 1:-1]
    return inside & (ids != start) & after
