"""Writes the reader model's training text: passages, a question and its answer, in the chat format.

python generate.py --shape full --count 3      # look at a few items
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from facts import Fact, FactWriter, capital, slots_of

ABSTAIN = "Not documented"
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
REF_QUESTIONS = ["Which document says: {}", "Which document answers: {}", "Where does it say: {}"]
REF_QUESTIONS += ["Give the reference only: {}", "In which document do I find: {}", "Reference for: {}"]
CITE_STYLES = [
    ("{} Cite the document.", "{a} ({r})"),
    ("{} (with reference)", "{a} ({r})"),
    ("{} Reference first.", "{r}: {a}"),
    ("{} Name the document too.", "{a}, see {r}"),
    ("{} Name the source first.", "{r} - {a}"),
]


@dataclass
class Shape:
    """How large an item is: ranges of passages, facts a passage, filler sentences and follow-up questions.

    `header` is the share of items with references, `special` that of other tasks than plain questions, and
    `alike` that of facts which share the item's pattern.
    """

    passages: tuple[int, int]
    facts: tuple[int, int]
    filler: tuple[int, int]
    follow_ups: tuple[int, int] = (0, 0)
    header: float = 1.0
    special: float = 0.3
    alike: float = 0.25


SHAPES = {
    "pairs": Shape((1, 1), (2, 4), (0, 0), (1, 4), header=0.15, special=0.2, alike=0.9),
    "mini": Shape((1, 1), (1, 4), (0, 0), (0, 3), header=0.4, special=0.15),
    "few": Shape((1, 2), (2, 5), (0, 1), (2, 6), header=0.7, special=0.3),
    "mid": Shape((1, 3), (2, 6), (0, 2), (2, 8)),
    "full": Shape((2, 4), (3, 7), (0, 3), (2, 10)),
    "long": Shape((4, 5), (7, 14), (1, 4), (4, 16)),
}


@dataclass
class Passage:
    """One passage: its reference, its text and the questions it answers."""

    ref: str
    text: str
    facts: list[Fact]
    asked: list[tuple[str, str]]


@dataclass
class Item:
    """Passages and `(question, answer)` turns; the first question also stands before the passages."""

    kind: str
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


class ItemWriter(FactWriter):
    """Draws items of a given shape."""

    def passages(self, shape: Shape) -> list[Passage]:
        """Returns an item's passages; facts share entities or whole patterns so that they get in each other's way."""
        rng = self.rng
        count = rng.randint(*shape.passages)
        with_header = count > 1 or rng.random() < shape.header
        headed = with_header and rng.random() < 0.22 and shape.alike < 0.5
        family = self.headed_family(count, shape) if headed else [[] for _ in range(count)]
        theme = {
            "thing": self.values.get("thing"),
            "topic": self.values.get("topic"),
            "jargon": self.values.get("jargon"),
        }
        pattern = rng.choice(self.patterns)
        passages = []
        for own in family:
            facts = list(own)
            for _ in range(max(0, rng.randint(*shape.facts) - len(own))):
                roll = rng.random()
                facts.append(
                    self.fact(
                        pattern if roll < shape.alike else None,
                        theme if 0.2 < roll < 0.45 and shape.alike < 0.5 else None,
                    )
                )
            rng.shuffle(facts)
            passages.append(
                self.passage(facts, rng.randint(*shape.filler), with_header, own[0].heading if len(own) == 1 else "")
            )
        return passages

    def headed_family(self, count: int, shape: Shape) -> list[list[Fact]]:
        """Returns facts alike but for one value, each under its own heading, one list a passage."""
        rng = self.rng
        base = self.fact()
        slot = rng.choice(base.pattern.questions)[0]
        kind = rng.choice(["model", "town", "thing", "place", "code", "jargon", "ver", "role", "topic"])
        groups: list[list[Fact]] = [[] for _ in range(count)]
        members = rng.randint(2, 4)
        for index in range(members):
            values = dict(base.values)
            if index:
                values[slot] = self.values.get(slot)
            heading = self.values.get(kind)
            heading = rng.choice(["Version {}", "version {}", "{}"]).format(heading) if kind == "ver" else heading
            fact = Fact(
                type(base.pattern)(base.pattern.statement, [q for q in base.pattern.questions if q[0] == slot]),
                values,
                heading,
            )
            groups[index % count if count > 1 else 0].append(fact)
        return groups

    def passage(self, facts: list[Fact], filler: int, with_header: bool, heading: str) -> Passage:
        """Returns one passage."""
        rng, ref, asked = self.rng, self.values.get("ref"), []
        plain = [f for f in facts if not f.heading or f.heading == heading]
        sections = [f for f in facts if f.heading and f.heading != heading]
        text = self.body(plain, filler) if plain else ""
        if rng.random() < 0.18:
            table, asked = self.table("\n" if text else "")
            text += table
        for fact in sections:
            mark = rng.choice(["## {}\n{}", "### {}\n{}", "**{}**\n{}", "{}: {}", "{}\n{}"])
            text += ("\n" if text else "") + mark.format(capital(fact.heading), self.sentence(fact))
        if with_header:
            text = self.header(ref, heading) + "\n" + text
        return Passage(ref if with_header else "", text, facts, asked)

    def pairs(self, passages: list[Passage]) -> list[tuple[str, str, str]]:
        """Returns `(question, answer, reference)` of every answerable fact and table cell, shuffled."""
        everything = [fact for passage in passages for fact in passage.facts]
        found = []
        for passage in passages:
            found += [(*pair, passage.ref) for pair in (self.question(f, everything) for f in passage.facts) if pair]
            found += [(q, a, passage.ref) for q, a in self.rng.sample(passage.asked, min(3, len(passage.asked)))]
        self.rng.shuffle(found)
        return found

    def item(self, shape_name: str, kind: str | None = None) -> Item:
        """Returns one item; `kind` None draws it: a plain question mostly, else a special task."""
        shape = SHAPES[shape_name]
        if kind is None:
            kind = (
                "qa"
                if self.rng.random() > shape.special
                else self.rng.choices(["none", "ref", "cite", "copy", "both"], [5, 2, 1, 0.5, 0.5])[0]
            )
        while True:
            passages = self.passages(shape)
            pairs = self.pairs(passages)
            turns = self.special(kind, passages, pairs) if pairs else None
            if turns:
                extra = [(q, a) for q, a, _ in pairs if q != turns[0][0]][: self.rng.randint(*shape.follow_ups)]
                return Item(kind, passages, turns + extra)

    def special(
        self, kind: str, passages: list[Passage], pairs: list[tuple[str, str, str]]
    ) -> list[tuple[str, str]] | None:
        """Returns the first turn of an item of the given kind, or None if these passages have no such question."""
        rng, (question, answer, ref) = self.rng, pairs[0]
        if kind == "qa":
            return [(question, answer)]
        if kind == "none":
            return self.unanswerable(passages)
        if kind == "copy":
            return self.copying(passages)
        if not ref:
            return None
        if kind == "ref":
            return [(rng.choice(REF_QUESTIONS).format(question), ref)]
        if kind == "cite":
            lead, style = rng.choice(CITE_STYLES)
            return [(lead.format(question), style.format(a=answer, r=ref))]
        if len(pairs) < 2:
            return None
        return [(f"{question} {rng.choice(['And:', 'Also:', 'And'])} {pairs[1][0]}", f"{answer}; {pairs[1][1]}")]

    def unanswerable(self, passages: list[Passage]) -> list[tuple[str, str]] | None:
        """Returns a question on an absent fact that resembles those present."""
        rng = self.rng
        everything = [fact for passage in passages for fact in passage.facts]
        model = rng.choice(everything)
        if rng.random() < 0.55:
            fact = self.fact(model.pattern)
        else:
            fact = self.fact(
                None, {k: v for k, v in model.values.items() if k in ("thing", "topic", "jargon", "place")}
            )
            if fact.pattern.statement == model.pattern.statement:
                return None
        slot_names = set(slots_of(fact.pattern.statement))
        rivals = [f for f in everything if f.pattern.statement == fact.pattern.statement]
        if any(f.values.get(s) == fact.values[s] for f in rivals for s in slot_names - {"is"}):
            return None
        pair = self.question(fact, everything + [fact])
        return [(pair[0], ABSTAIN)] if pair else None

    def copying(self, passages: list[Passage]) -> list[tuple[str, str]]:
        """Returns a copying task: a word's neighbours, a reference list or a title."""
        rng, passage = self.rng, self.rng.choice(passages)
        lines = [line for line in passage.text.split("\n") if line]
        if passage.ref and rng.random() < 0.4:
            if rng.random() < 0.5:
                return [("Which documents are these?", ", ".join(p.ref for p in passages))]
            return [
                (f"What is the title of {passage.ref}?", passage.text.split("] ")[1].split("\n")[0].split(" > ")[0])
            ]
        words = rng.choice(lines).split()
        start = rng.randint(0, max(0, len(words) - 4))
        size = rng.randint(2, 4)
        return [
            (
                "Continue: " + " ".join(words[start : start + size]),
                " ".join(words[start + size : start + size + 6]) or ABSTAIN,
            )
        ]


def main() -> None:
    """Prints items."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="full", choices=SHAPES)
    parser.add_argument("--kind", default=None)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    writer = ItemWriter(args.seed)
    for _ in range(args.count):
        print(writer.item(args.shape, args.kind).text(), end="\n\n" + "-" * 80 + "\n\n")


if __name__ == "__main__":
    main()
