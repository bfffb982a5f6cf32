"""Facts of the reader model's training text: sentences whose questions and answers are known.

A fact is a sentence pattern filled with random values. The pattern also lists questions for its slots, so the answer
to each question is known and stands in the sentence word for word.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from grammar import Grammar, Pattern
from values import LEXICON, Values, inflect

DRAWN = 0.45  # the share of facts whose pattern is drawn from the grammar
EMBEDDED = 0.25  # the share of sentences with an introduction or an addition
SEGMENT = re.compile(r"\{([^}]+)\}|\(([^()]*\|[^()]*)\)")
EMBED_SLOTS = ("month", "adj", "thing", "topic", "place", "ref", "state", "role", "verb", "part")
INTROS = ["In most cases", "As a rule", "Since {month}", "On a {adj} {thing}", "Note:", "Important:"]
INTROS += ["Unlike the {thing}", "For the {topic}", "At the {place}", "By default", "**{topic}.**"]
ADDITIONS = [" (see {ref})", ", even if the {thing} is {state}", ", unless the {role} says otherwise"]
ADDITIONS += ["; this also holds for the {topic}", " so that the {thing} can {verb}", " (new)", ", as before"]
ADDITIONS += [", and the {thing} is {state}", " because of the {topic}", "; the {part} follows later"]


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


def fill(template: str, values: dict[str, str], rng: random.Random) -> str:
    """Fills a template's slots and picks one of each `(a|b)`."""

    def replace(match: re.Match) -> str:
        slot, choices = match.groups()
        if choices is not None:
            return rng.choice(choices.split("|"))
        name, _, form = slot.partition(":")
        if form == "A":
            return capital(values[name])
        return inflect(values[name], form) if form else values[name]

    text = SEGMENT.sub(lambda match: replace(match) if match[2] is not None else match[0], template)
    text = SEGMENT.sub(replace, text)
    text = re.sub(r" +([.,?]|$)", r"\1", re.sub("  +", " ", text))
    return re.sub(r"\b([Aa]) (?=[aeioAEIO])", r"\1n ", text)


class FactWriter:
    """Draws facts and writes them down.

    Args:
        values: Source of slot values, and of randomness.
    """

    def __init__(self, values: Values):
        self.values, self.rng = values, values.rng
        self.patterns = load_patterns()
        self.weights = [len(pattern.questions) for pattern in self.patterns]
        self.grammar = Grammar(self.rng)

    def pattern(self) -> Pattern:
        """Returns a hand-written pattern or one drawn from the grammar."""
        if self.rng.random() < DRAWN:
            return self.grammar.pattern()
        return self.rng.choices(self.patterns, self.weights)[0]

    def fact(self, pattern: Pattern | None = None, shared: dict[str, str] | None = None) -> Fact:
        """Returns a fact with fresh values, `shared` ones kept."""
        pattern = pattern or self.pattern()
        names = slots_of(pattern.statement) + [slot for _, asked in pattern.questions for slot in slots_of(asked)]
        return Fact(pattern, {name: (shared or {}).get(name) or self.values.get(name) for name in names})

    def sentence(self, fact: Fact) -> str:
        """Returns the fact as a sentence."""
        values = dict(fact.values)
        for name in ("setting", "path"):
            if name in values and self.rng.random() < 0.4:
                values[name] = f"`{values[name]}`"
        text = fill(fact.pattern.statement, values, self.rng)
        if self.rng.random() >= EMBEDDED:
            return capital(text)
        return self.embed(text, named=fact.pattern.statement[0] == "{")

    def embed(self, text: str, named: bool) -> str:
        """Adds to a sentence what says nothing about the fact; `named` keeps a leading name's capital."""
        slots = {slot: self.values.get(slot) for slot in EMBED_SLOTS}
        if self.rng.random() < 0.5:
            intro = self.rng.choice(INTROS).format(**slots)
            if intro[-1] in ":*":
                return f"{intro} {capital(text)}"
            return f"{intro}, {text if named else text[0].lower() + text[1:]}"
        return capital(text.rstrip(".") + self.rng.choice(ADDITIONS).format(**slots) + ".")
