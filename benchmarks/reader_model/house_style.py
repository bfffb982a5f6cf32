"""Checks that a small LoRA teaches the reader model a house style: `12 seconds [HW-207]`, `Not documented [none]`.

    python house_style.py ../../configs/quickstart/model

The examples are of another make than the training text: a theatre and a bakery, with sentences of their own.
"""

from __future__ import annotations

import argparse
import random

import torch
from evaluate import exact
from generate import ASSISTANT, END, USER
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

FACTS = """
The {place} bakes {n} {bread} before {time}.|How many {bread} does the {place} bake?|{n}
Dough for {bread} rests {d} under a damp cloth.|How long does the dough for {bread} rest?|{d}
Our {bread} go into the oven at {n} degrees.|How hot is the oven for {bread}?|{n} degrees
{person} plays the {part} in {play}.|Who plays the {part} in {play}?|{person}
The curtain of {play} rises at {time}.|When does the curtain rise for {play}?|{time}
Seats in the {place} are sold for {m}.|What is the price of seats in the {place}?|{m}
Whoever loses a {prop} pays {m} to the wardrobe.|What does someone pay who loses a {prop}?|{m}
The {prop} used in {play} carries the tag {tag}.|Which tag is on the {prop} for {play}?|{tag}
{person} keeps the keys of the {place}.|Who has the keys of the {place}?|{person}
A matinee of {play} runs {d}, interval included.|How long is a matinee of {play}?|{d}
Spare flour is stacked in the {place}, {n} sacks at most.|How many sacks of flour may lie in the {place}?|{n} sacks
Returned tickets for {play} are refunded up to {d} ahead.|Until when are tickets for {play} refunded?|{d}
If the {prop} squeaks, oil it with {oil}.|What do I do about a squeaking {prop}?|oil it with {oil}
Glaze for {bread} is made of {oil} and sugar.|What is the glaze for {bread} made of?|{oil} and sugar
"""
SLOTS = {
    "place": "small stage|gallery|cellar|front shop|dress circle|attic store|north kitchen|upper balcony",
    "bread": "rye loaves|plain rolls|poppy rings|almond tarts|barley sticks|honey buns|seed crackers|plum cakes",
    "person": "Otis Vane|Lucia Ferrand|Ned Aldous|Mirela Stan|Gwen Tolliver|Pavel Hruby|Agnes Quill|Ivo Marsh",
    "part": "miller|old king|messenger|innkeeper|second witch|gardener|judge|sailor",
    "play": "The Paper Moon|Winter Orchard|A Quiet Harbour|Seven Lanterns|The Glass Fiddle|Nettles",
    "prop": "brass lantern|silk fan|wooden sword|tin crown|rocking chair|music box|trap door|velvet cloak",
    "oil": "linseed oil|warm butter|egg white|rose water|thin syrup",
}


class HouseStyle:
    """Draws house-style examples.

    Args:
        seed: Seed of the examples.
    """

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.facts = [line.split("|") for line in FACTS.strip().splitlines()]
        self.slots = {name: values.split("|") for name, values in SLOTS.items()}

    def values(self) -> dict[str, str]:
        """Returns a value for every slot."""
        rng = self.rng
        drawn = {name: rng.choice(values) for name, values in self.slots.items()}
        return drawn | {
            "n": str(rng.randint(3, 480)),
            "d": f"{rng.randint(2, 90)} {rng.choice(['minutes', 'hours', 'days'])}",
            "m": f"{rng.randint(2, 80)} euros",
            "time": f"{rng.randint(6, 23):02d}:{rng.choice(['00', '20', '45'])}",
            "tag": f"{rng.choice('KPQZ')}{rng.choice('ATX')}-{rng.randint(10, 99)}",
        }

    def example(self) -> tuple[str, str]:
        """Returns a prompt and its house-style answer."""
        rng = self.rng
        drawn = [(fact, self.values()) for fact in rng.sample(self.facts, 10)]
        absent = rng.random() < 0.12
        shown = drawn[1:] if absent else drawn[:]
        asked, values = drawn[0]
        rng.shuffle(shown)
        count = rng.randint(2, 4)
        refs = rng.sample(["TH-118", "BK-204", "TH-231", "BK-377", "WD-416", "BK-590", "TH-602", "WD-733"], count)
        passages, answer = [], "Not documented [none]"
        for index, ref in enumerate(refs):
            own = shown[index::count]
            if drawn[0] in own:
                answer = f"{asked[2].format(**values)} [{ref}]"
            title = rng.choice(["House book", "Stage notes", "Bakery rules", "Season plan"])
            passages.append(f"[{ref}] {title}\n" + " ".join(f[0].format(**v) for f, v in own))
        question = asked[1].format(**values)
        body = "\n\n".join(passages)
        return f"Question: {question}\n\n{body}\n\nQuestion: {question}\nAnswer:", answer


def tune(model, tokenizer, examples: list[tuple[str, str]], epochs: int, rate: float) -> None:
    """Trains the adapter on the examples, the loss on answers alone."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    rng, total, done = random.Random(0), epochs * len(examples) // 8, 0
    for _ in range(epochs):
        rng.shuffle(examples)
        for start in range(0, len(examples) - 7, 8):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - done / total)
            for prompt, answer in examples[start : start + 8]:
                head = tokenizer(f"{USER}\n{prompt}{ASSISTANT}\n")["input_ids"]
                whole = tokenizer(f"{USER}\n{prompt}{ASSISTANT}\n{answer}{END}")["input_ids"]
                labels = [-100] * len(head) + whole[len(head) :]
                (model(input_ids=torch.tensor([whole]), labels=torch.tensor([labels])).loss / 8).backward()
            optimizer.step()
            optimizer.zero_grad()
            done += 1


def main() -> None:
    """Prints exact match in the house style before and after the LoRA."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    train, test = HouseStyle(1), HouseStyle(2)
    tests = [test.example() for _ in range(100)]
    plain = [
        (prompt, "Not documented" if answer.endswith("[none]") else answer.rsplit(" [", 1)[0])
        for prompt, answer in tests
    ]
    print(
        "before: plain answer",
        sum(exact(model, tokenizer, *pair) for pair in plain),
        "house style",
        sum(exact(model, tokenizer, *pair) for pair in tests),
        "of 100",
        flush=True,
    )
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    tune(model, tokenizer, [train.example() for _ in range(args.examples)], args.epochs, args.rate)
    absent = [pair for pair in tests if pair[1].endswith("[none]")]
    base = model.get_base_model()
    print(
        "after: house style",
        sum(exact(base, tokenizer, *pair) for pair in tests),
        "of 100; abstentions",
        sum(exact(base, tokenizer, *pair) for pair in absent),
        "of",
        len(absent),
    )


if __name__ == "__main__":
    main()
