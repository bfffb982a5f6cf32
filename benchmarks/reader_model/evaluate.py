"""Prints the reader model's held-out exact match by item size and task.

    python evaluate.py ../../configs/quickstart/model

An answer counts only if every one of its tokens, the end mark included, is the model's first choice; that is
what greedy decoding would have written.
"""

from __future__ import annotations

import argparse

import torch
from generate import ASSISTANT, END, TASKS, USER, ItemWriter
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

HELD_OUT_SEED = 987_654_321
SHAPES = ("mini", "few", "mid", "full", "long")


@torch.no_grad()
def exact(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> bool:
    """Tells whether greedy decoding answers the prompt exactly."""
    head = tokenizer(f"{USER}\n{prompt}{ASSISTANT}\n")["input_ids"]
    whole = tokenizer(f"{USER}\n{prompt}{ASSISTANT}\n{answer}{END}")["input_ids"]
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=torch.tensor([whole]), use_cache=False).last_hidden_state[0, len(head) - 1 : -1]
        best = model.lm_head(hidden).argmax(-1)
    return best.tolist() == whole[len(head) :]


def share_right(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, shape: str, task: str, count: int
) -> float:
    """Returns the exact match on held-out items of one shape and task."""
    writer = ItemWriter(HELD_OUT_SEED)
    items = [writer.item(shape, task) for _ in range(count)]
    return sum(exact(model, tokenizer, item.prompt(), item.turns[0][1]) for item in items) / count


def accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> dict[str, float]:
    """Returns a quick view: plain questions by shape, and the other tasks at a middle size."""
    scores = {f"qa/{shape}": share_right(model, tokenizer, shape, "qa", count) for shape in SHAPES[:-1]}
    scores |= {f"{task}/few": share_right(model, tokenizer, "few", task, count) for task in TASKS if task != "qa"}
    return {name: round(score, 2) for name, score in scores.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=200, help="items a cell")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    print(f"held-out exact match, {args.count} items a cell")
    print("shape  " + "".join(f"{task:>7}" for task in TASKS))
    for shape in SHAPES:
        cells = [share_right(model, tokenizer, shape, task, args.count) for task in TASKS]
        print(f"{shape:<7}" + "".join(f"{cell:>7.1%}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
