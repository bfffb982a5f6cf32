"""Passages of the reader model's training text: a reference, a title, and facts as prose, lists and tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from facts import Fact, FactWriter, capital
from grammar import Pattern
from questions import Asker
from tables import TableWriter
from values import Values

HEADED = 0.22  # the share of items in which several headings have the same fact with other values
WITH_TABLE = 0.25
CUT = 0.15  # the share of passages that begin in the middle of a sentence, as chunks of a fixed size do
THEME = ("thing", "topic", "jargon")
HEADING_KINDS = ["model", "town", "thing", "place", "code", "jargon", "ver", "role", "topic"]


@dataclass
class Shape:
    """How large an item is: ranges of passages, facts a passage, filler sentences and follow-up questions.

    `header` is the share of items with references, `alike` that of facts which share the item's pattern.
    """

    passages: tuple[int, int]
    facts: tuple[int, int]
    filler: tuple[int, int]
    follow_ups: tuple[int, int] = (0, 0)
    header: float = 1.0
    alike: float = 0.25


@dataclass
class Passage:
    """One passage: its reference, its text, its facts, and questions on its table."""

    ref: str
    text: str
    facts: list[Fact]
    asked: list[tuple[str, str]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


class PassageWriter:
    """Writes passages that get in each other's way: they share names, patterns, or whole facts but for one value.

    Args:
        values: Source of slot values, and of randomness.
    """

    def __init__(self, values: Values):
        self.values, self.rng = values, values.rng
        self.facts, self.asker = FactWriter(values), Asker(values)
        self.tables = TableWriter(values, self.asker)

    def passages(self, shape: Shape) -> list[Passage]:
        """Returns an item's passages."""
        rng = self.rng
        count = rng.randint(*shape.passages)
        with_header = count > 1 or rng.random() < shape.header
        headed = with_header and rng.random() < HEADED and shape.alike < 0.5
        family = self.headed_family(count) if headed else [[] for _ in range(count)]
        theme = {slot: self.values.get(slot) for slot in THEME}
        pattern = self.facts.pattern()
        passages = []
        for own in family:
            facts = list(own)
            for _ in range(max(0, rng.randint(*shape.facts) - len(own))):
                alike, themed = rng.random() < shape.alike, rng.random() < 0.25 and shape.alike < 0.5
                facts.append(self.facts.fact(pattern if alike else None, theme if themed else None))
            rng.shuffle(facts)
            heading = own[0].heading if len(own) == 1 else ""
            passages.append(self.passage(facts, rng.randint(*shape.filler), with_header, heading))
        return passages

    def headed_family(self, count: int) -> list[list[Fact]]:
        """Returns facts alike but for one value, each under its own heading, one list a passage."""
        rng, base = self.rng, self.facts.fact()
        while not base.pattern.questions:
            base = self.facts.fact()
        slot, kind = rng.choice(base.pattern.questions)[0], rng.choice(HEADING_KINDS)
        pattern = Pattern(base.pattern.statement, [pair for pair in base.pattern.questions if pair[0] == slot])
        wording = rng.choice(["Version {}", "version {}", "{}"]) if kind == "ver" else "{}"
        headings = list(dict.fromkeys(self.values.get(kind) for _ in range(rng.randint(2, 4))))
        groups: list[list[Fact]] = [[] for _ in range(count)]
        for index, heading in enumerate(headings):
            values = base.values | ({slot: self.values.get(slot)} if index else {})
            groups[index % count].append(Fact(pattern, values, wording.format(heading)))
        return groups

    def passage(self, facts: list[Fact], filler: int, with_header: bool, heading: str) -> Passage:
        """Returns one passage."""
        rng, ref, table = self.rng, self.values.get("ref") if with_header else "", None
        plain = [fact for fact in facts if fact.heading in ("", heading)]
        parts = [self.body(plain, filler)] if plain else []
        if rng.random() < WITH_TABLE:
            table = self.tables.table()
            parts.append(table.text)
        for fact in facts:
            if fact.heading not in ("", heading):
                mark = rng.choice(["## {}\n{}", "### {}\n{}", "**{}**\n{}", "{}: {}", "{}\n{}"])
                parts.append(mark.format(capital(fact.heading), self.facts.sentence(fact)))
        text = rng.choice(["\n", "\n", "\n\n"]).join(parts)
        if rng.random() < CUT:
            text = self.torn() + text
        if with_header:
            text = self.header(ref, heading) + "\n" + text
        return Passage(ref, text, facts, table.asked if table else [], table.absent if table else [])

    def torn(self) -> str:
        """Returns the end of a sentence."""
        words = self.facts.sentence(self.facts.fact()).split()
        return " ".join(words[len(words) * 2 // 3 :]) + self.rng.choice([" ", "\n", "\n\n"])

    def header(self, ref: str, heading: str) -> str:
        """Returns a passage's first line: `[REF] Title > Heading`."""
        rng, get = self.rng, self.values.get
        title = f"{get(rng.choice(['topic', 'thing']))} {rng.choice(['', get('doctitle')])}".strip()
        parts = [rng.choice([capital(title), title.title()])] + ([get("heading")] if rng.random() < 0.5 else [])
        return f"[{ref}] " + " > ".join(parts + ([capital(heading)] if heading else []))

    def body(self, facts: list[Fact], filler: int) -> str:
        """Returns facts and filler as prose, a list, or paragraphs."""
        rng = self.rng
        sentences = [self.facts.sentence(fact) for fact in facts]
        for _ in range(filler):
            sentences.insert(rng.randint(0, len(sentences)), self.values.get("filler"))
        layout = rng.random()
        if layout < 0.6:
            return " ".join(sentences)
        if layout < 0.75:
            mark = rng.choice("-*•")
            return "\n".join(f"{mark} {sentence}" for sentence in sentences)
        if layout < 0.82:
            return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))
        cut = rng.randint(0, len(sentences))
        return (" ".join(sentences[:cut]) + rng.choice(["\n", "\n\n"]) + " ".join(sentences[cut:])).strip()
