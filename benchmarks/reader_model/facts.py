"""Facts of the reader model's training text: sentences with known questions and answers.

Every fact is a sentence pattern (`lexicon/patterns.txt`) filled with random values; the pattern also lists
questions for its slots, so the answer to each question is known and stands in the passage word for word.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from values import LEXICON, Values, inflect

NOUN_SLOTS = {"thing", "part", "topic", "jargon", "place", "role"}
SEGMENT = re.compile(r"\{([^}]+)\}|\(([^()]*\|[^()]*)\)")

GREETINGS = ["Hi, ", "Hello, ", "Quick question: ", "Sorry, ", "A customer asks: "]
LEADS = ["Can you tell me: ", "I need to know: ", "Do you know ", "My question: ", "Please tell me, "]
LEADS += ["A partner wants to know: ", "We have a new colleague. ", "I could not find this. "]
EMBED_SLOTS = ("month", "adj", "thing", "topic", "place", "ref", "state", "role", "verb", "part")
INTROS = ["In most cases", "As a rule", "Since {month}", "On a {adj} {thing}", "Note:", "Important:"]
INTROS += ["Unlike the {thing}", "For the {topic}", "At the {place}", "By default", "**{topic}.**"]
ADDITIONS = [" (see {ref})", ", even if the {thing} is {state}", ", unless the {role} says otherwise"]
ADDITIONS += ["; this also holds for the {topic}", " so that the {thing} can {verb}", " (new)", ", as before"]
ADDITIONS += [", and the {thing} is {state}", " because of the {topic}", "; the {part} follows later"]
ROW_KINDS = ["thing", "topic", "code", "town", "place", "setting", "jargon", "role", "model", "partno"]
COLUMN_LABELS = {
    "dur": ["Hold time", "Wait", "Timeout", "Deadline"],
    "qty": ["Limit", "Range", "Load"],
    "num": ["Retries", "Count", "Maximum"],
    "money": ["Price", "Fee", "Cost"],
    "role": ["Owner", "Who", "Contact role"],
    "place": ["Location", "Where"],
    "action": ["Action", "What to do", "Remedy"],
    "time": ["Start", "Opens", "Closes"],
    "state": ["Meaning", "State"],
    "name": ["Contact", "Person"],
    "partno": ["Part number", "Order number"],
    "color": ["Colour", "Lamp"],
    "pct": ["Share", "Discount"],
    "team": ["Team", "Owner team"],
}
CELL_QUESTIONS = ["What is the {c} of {r}?", "{r} {c}", "{c} for {r}?", "Which {c} does {r} have?"]
CELL_QUESTIONS += ["What does the table give as {c} for {r}?", "{c} of the {r}", "What is {r}'s {c}?"]
ROW_QUESTIONS = ["Which one has {c} {v}?", "What has a {c} of {v}?", "Where is the {c} {v}?"]


@dataclass
class Pattern:
    """One sentence shape and its questions, `(answer slot, question template)` each."""

    statement: str
    questions: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Fact:
    """A filled pattern; `heading` is set when only the heading tells it from its siblings."""

    pattern: Pattern
    values: dict[str, str]
    heading: str = ""


def load_patterns() -> list[Pattern]:
    """Reads `lexicon/patterns.txt`."""
    patterns = []
    for line in (LEXICON / "patterns.txt").read_text().splitlines():
        slot, _, text = line.partition(": ")
        if slot == "s":
            patterns.append(Pattern(text))
        elif text:
            patterns[-1].questions.append((slot, text))
    return patterns


def slots_of(template: str) -> list[str]:
    """Returns the value slots named in a template."""
    return [slot.partition(":")[0] for slot in re.findall(r"\{([^}]+)\}", template)]


def capital(text: str) -> str:
    """Returns the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


class FactWriter:
    """Writes facts, passages and tables, and questions about them.

    Args:
        seed: Seed of the random source; the same seed gives the same items.
    """

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.values = Values(self.rng)
        self.patterns = load_patterns()
        self.weights = [len(pattern.questions) for pattern in self.patterns]

    # ---- sentences -------------------------------------------------------------------------------------

    def fill(self, template: str, values: dict[str, str]) -> str:
        """Fills a template's slots and picks one of each `(a|b)`."""

        def replace(match: re.Match) -> str:
            slot, choices = match.groups()
            if choices is not None:
                return self.rng.choice(choices.split("|"))
            name, _, form = slot.partition(":")
            value = values[name]
            if form == "A":
                return capital(value)
            return inflect(value, form) if form else value

        text = SEGMENT.sub(lambda m: replace(m) if m[2] is not None else m[0], template)
        text = SEGMENT.sub(replace, text)
        text = re.sub(r" +([.,?]|$)", r"\1", re.sub("  +", " ", text))
        return re.sub(r"\b([Aa]) (?=[aeioAEIO])", r"\1n ", text)

    def fact(self, pattern: Pattern | None = None, shared: dict[str, str] | None = None) -> Fact:
        """Returns a fact with fresh values, `shared` ones kept."""
        pattern = pattern or self.rng.choices(self.patterns, self.weights)[0]
        names = slots_of(pattern.statement) + [s for _, q in pattern.questions for s in slots_of(q)]
        values = {name: (shared or {}).get(name) or self.values.get(name) for name in names}
        return Fact(pattern, values)

    def sentence(self, fact: Fact) -> str:
        """Returns the fact as a sentence."""
        values = dict(fact.values)
        for name in ("setting", "path"):
            if name in values and self.rng.random() < 0.4:
                values[name] = f"`{values[name]}`"
        text = self.fill(fact.pattern.statement, values)
        return self.embed(text) if self.rng.random() < 0.25 else capital(text)

    def embed(self, text: str) -> str:
        """Returns a sentence with an introduction or an addition that says nothing about the fact."""
        rng = self.rng
        slots = {slot: self.values.get(slot) for slot in EMBED_SLOTS}
        if rng.random() < 0.5:
            intro = rng.choice(INTROS).format(**slots)
            stop = intro[-1] in ":*"
            return f"{intro}{'' if stop else ','} {text if rng.random() < 0.5 and not stop else capital(text)}"
        return capital(text.rstrip(".") + rng.choice(ADDITIONS).format(**slots) + ".")

    def mention(self, name: str, value: str, rivals: list[str]) -> str:
        """Returns a value as a question may name it: shortened, or with a synonym."""
        rng, words = self.rng, value.split()
        if name.rstrip("23") not in NOUN_SLOTS or value[-1].isdigit():
            return value
        if len(words) > 1 and rng.random() < 0.25 and not any(r.split()[-1] == words[-1] for r in rivals):
            words = words[1:]
        if rng.random() < 0.15:
            words = [rng.choice(self.values.synonyms[w]) if w in self.values.synonyms else w for w in words]
        return " ".join(words)

    def question(self, fact: Fact, others: list[Fact]) -> tuple[str, str] | None:
        """Returns a question on the fact and its answer, or None if it would be ambiguous."""
        slot, template = self.rng.choice(fact.pattern.questions)
        siblings = [o for o in others if o is not fact and o.pattern is fact.pattern]
        named = [s for s in slots_of(template) if s != "is"]
        if not fact.heading:
            if any(all(o.values[s] == fact.values[s] for s in named) for o in siblings):
                return None
            if others and len(others) > 1 and not named:
                return None
        values = {s: self.mention(s, v, [o.values[s] for o in siblings]) for s, v in fact.values.items()}
        text = self.fill(template, values)
        if fact.heading:
            text = self.with_heading(text, fact.heading)
        return self.dress(text), fact.values[slot]

    def with_heading(self, question: str, heading: str) -> str:
        """Adds the heading that tells the fact from its siblings to a question."""
        if question.endswith("?"):
            return self.rng.choice(["{} {} {}?", "{} {} {}?", "For {2}: {0}?"]).format(
                question[:-1], self.rng.choice(["for", "on", "in", "at", "of"]), heading
            )
        return self.rng.choice(["{} {}", "{1} {0}"]).format(question, heading)

    def dress(self, question: str) -> str:
        """Varies a question's wording as people do: case, politeness, missing question mark."""
        rng = self.rng
        roll = rng.random()
        if roll < 0.05:
            question = rng.choice(GREETINGS) + question[0].lower() + question[1:]
        elif roll < 0.08:
            question = question.rstrip("?") + rng.choice([", please?", " thanks", " please", "??"])
        elif roll < 0.13:
            question = question.lower()
        elif roll < 0.2:
            lead = rng.choice([*LEADS, f"I am at the {self.values.get('place')}. "])
            question = lead + (question if lead.rstrip()[-1] in ".:" else question[0].lower() + question[1:])
        if rng.random() < 0.1:
            question = question.replace("What is", "What's").replace("Where is", "Where's")
            question = question.replace("do I", rng.choice(["do we", "should I", "does one"]))
        return capital(question) if rng.random() < 0.85 else question

    # ---- passages --------------------------------------------------------------------------------------

    def header(self, ref: str, heading: str) -> str:
        """Returns a passage's first line."""
        rng, get = self.rng, self.values.get
        title = capital(
            f"{get('topic') if rng.random() < 0.5 else get('thing')} {rng.choice(['', get('doctitle')])}"
        ).strip()
        parts = [rng.choice([title, title.title()])] + ([get("heading")] if rng.random() < 0.5 else [])
        if heading:
            parts.append(capital(heading))
        return f"[{ref}] " + " > ".join(parts)

    def body(self, facts: list[Fact], filler: int) -> str:
        """Returns a passage's text: prose, a list, or paragraphs."""
        rng = self.rng
        sentences = [self.sentence(fact) for fact in facts]
        for _ in range(filler):
            sentences.insert(rng.randint(0, len(sentences)), self.values.get("filler"))
        layout = rng.random()
        if layout < 0.6:
            return " ".join(sentences)
        if layout < 0.75:
            mark = rng.choice("-*•")
            return "\n".join(f"{mark} {s}" for s in sentences)
        if layout < 0.82:
            return "\n".join(f"{i}. {s}" for i, s in enumerate(sentences, 1))
        cut = rng.randint(0, len(sentences))
        return (" ".join(sentences[:cut]) + rng.choice(["\n", "\n\n"]) + " ".join(sentences[cut:])).strip()

    def table(self, sep: str) -> tuple[str, list[tuple[str, str]]]:
        """Returns a pipe table and questions on its cells with their answers."""
        rng, get = self.rng, self.values.get
        row_kind = rng.choice(ROW_KINDS)
        rows = list(dict.fromkeys(get(row_kind) for _ in range(rng.randint(2, 6))))
        kinds = rng.sample(list(COLUMN_LABELS), rng.randint(1, 3))
        columns = [
            rng.choice(COLUMN_LABELS[kind])
            if rng.random() < 0.7
            else capital(get("attr") if kind in ("dur", "qty", "num") else get("topic"))
            for kind in kinds
        ]
        cells = [[get(kind) for kind in kinds] for _ in rows]
        edge = rng.random() < 0.7
        lines = [[rng.choice(["Item", "Name", "Code", "Case", "Type"])] + columns] + [
            [r] + c for r, c in zip(rows, cells, strict=True)
        ]
        text = [" | ".join(line) for line in lines]
        if edge:
            text = [f"| {line} |" for line in text]
            text.insert(1, "|" + " --- |" * (len(columns) + 1))
        asked = []
        for row, line in zip(rows, cells, strict=True):
            for column, cell in zip(columns, line, strict=True):
                asked.append((self.dress(rng.choice(CELL_QUESTIONS).format(c=column.lower(), r=row)), cell))
            if sum(line[0] == other[0] for other in cells) == 1:
                asked.append((self.dress(rng.choice(ROW_QUESTIONS).format(c=columns[0].lower(), v=line[0])), row))
        return sep + "\n".join(text), asked
