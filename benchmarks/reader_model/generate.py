"""Writes the reader model's training text: passages, a question and its answer, in the chat format.

    python generate.py --shape full --count 3      # look at a few items

Layers, each in a file of its own: values (a name, a quantity) fill patterns, which makes facts; facts become sentences
of passages, and questions; here passages and questions become items.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass

from facts import slots_of
from passages import THEME, Passage, PassageWriter, Shape
from values import Values

ABSTAIN = "Not documented"
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
TASKS = {"qa": 0.75, "none": 0.11, "ref": 0.07, "cite": 0.07}
REF_QUESTIONS = ["Which document says: {}", "Which document answers: {}", "Where does it say: {}"]
REF_QUESTIONS += ["Give the reference only: {}", "In which document do I find: {}", "Reference for: {}"]
CITE_STYLES = [
    ("{} Cite the document.", "{a} ({r})"),
    ("{} (with reference)", "{a} ({r})"),
    ("{} Reference first.", "{r}: {a}"),
    ("{} Name the document too.", "{a}, see {r}"),
    ("{} Name the source first.", "{r} - {a}"),
]
SHAPES = {
    "pairs": Shape((1, 1), (2, 4), (0, 0), (1, 4), header=0.15, alike=0.9),
    "mini": Shape((1, 1), (1, 4), (0, 0), (0, 3), header=0.4),
    "few": Shape((1, 2), (2, 5), (0, 1), (2, 6), header=0.7),
    "mid": Shape((1, 3), (2, 6), (0, 2), (2, 8)),
    "full": Shape((2, 4), (3, 7), (0, 3), (3, 10)),
    "long": Shape((4, 5), (7, 14), (1, 4), (6, 16)),
}


@dataclass
class Item:
    """Passages and `(question, answer)` turns; the first question also stands before the passages."""

    passages: list[Passage]
    turns: list[tuple[str, str]]

    def prompt(self) -> str:
        """Returns the first user message, as the RAG tool writes it."""
        question = self.turns[0][0]
        body = "\n\n".join(passage.text for passage in self.passages)
        return f"Question: {question}\n\n{body}\n\nQuestion: {question}\nAnswer:"

    def text(self) -> str:
        """Returns the whole item in the chat format."""
        parts = [f"{USER}\n{self.prompt()}{ASSISTANT}\n{self.turns[0][1]}{END}"]
        parts += [f"{USER}\nQuestion: {q}\nAnswer:{ASSISTANT}\n{a}{END}" for q, a in self.turns[1:]]
        return "".join(parts)


class ItemWriter:
    """Draws items.

    Args:
        seed: Seed of the random source; the same seed gives the same items.
    """

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.writer = PassageWriter(Values(self.rng))

    def item(self, shape_name: str, task: str | None = None) -> Item:
        """Returns one item; `task` is that of its first turn, None draws it. Follow-ups draw theirs."""
        shape = SHAPES[shape_name]
        while True:
            passages = self.writer.passages(shape)
            pool = self.pool(passages)
            tasks = [task or self.task()] + [self.task() for _ in range(self.rng.randint(*shape.follow_ups))]
            turns = [self.turn(name, passages, pool) for name in tasks]
            if turns[0]:
                return Item(passages, [turn for turn in turns if turn])

    def task(self) -> str:
        """Draws a task."""
        return self.rng.choices(list(TASKS), list(TASKS.values()))[0]

    def pool(self, passages: list[Passage]) -> list[tuple[str, str, str]]:
        """Returns `(question, answer, reference)` of every fact that can be asked for, and of some table cells."""
        everything = [fact for passage in passages for fact in passage.facts]
        found = []
        for passage in passages:
            pairs = [self.writer.asker.question(fact, everything) for fact in passage.facts]
            pairs += self.rng.sample(passage.asked, min(4, len(passage.asked)))
            found += [(*pair, passage.ref) for pair in pairs if pair]
        self.rng.shuffle(found)
        return found

    def turn(self, task: str, passages: list[Passage], pool: list[tuple[str, str, str]]) -> tuple[str, str] | None:
        """Returns a question and its answer, or None if these passages have no such question (any more)."""
        if task == "none":
            return self.unanswerable(passages)
        if not pool or (task != "qa" and not pool[-1][2]):
            return None
        question, answer, ref = pool.pop()
        if task == "ref":
            return self.rng.choice(REF_QUESTIONS).format(question), ref
        if task == "cite":
            lead, style = self.rng.choice(CITE_STYLES)
            return lead.format(question), style.format(a=answer, r=ref)
        return question, answer

    def unanswerable(self, passages: list[Passage]) -> tuple[str, str] | None:
        """Returns a question on what is absent but resembles something present: a row, a sibling, the same name."""
        rng = self.rng
        rows = [question for passage in passages for question in passage.absent]
        if rows and rng.random() < 0.3:
            return rng.choice(rows), ABSTAIN
        everything = [fact for passage in passages for fact in passage.facts]
        model = rng.choice(everything)
        if rng.random() < 0.55:
            fact = self.writer.facts.fact(model.pattern)
        else:
            fact = self.writer.facts.fact(None, {k: v for k, v in model.values.items() if k in (*THEME, "place")})
            if fact.pattern.statement == model.pattern.statement:
                return None
        slots = set(slots_of(fact.pattern.statement)) - {"is"}
        rivals = [other for other in everything if other.pattern.statement == fact.pattern.statement]
        if any(other.values.get(slot) == fact.values[slot] for other in rivals for slot in slots):
            return None
        pair = self.writer.asker.question(fact, [*everything, fact])
        return (pair[0], ABSTAIN) if pair else None


def main() -> None:
    """Prints items."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="full", choices=SHAPES)
    parser.add_argument("--task", default=None, choices=TASKS)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    writer = ItemWriter(args.seed)
    for _ in range(args.count):
        print(writer.item(args.shape, args.task).text(), end="\n\n" + "-" * 80 + "\n\n")


if __name__ == "__main__":
    main()
