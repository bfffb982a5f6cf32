"""Draws sentence patterns from a small grammar: who does what to what, when, where, how long, with what.

The hand-written patterns (`lexicon/patterns.txt`) read well but are few, and a model can learn them by heart. A drawn
pattern is new each time, so only looking for the question's words in the passage helps.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass
class Pattern:
    """One sentence shape and its questions, `(answer slot, question template)` each."""

    statement: str
    questions: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Parts:
    """The words that a clause is made of.

    Attributes:
        slot: Slot of who acts.
        actor: Who acts: `the {role}`.
        who: What asks for them: `Who`.
        modal: `must`, or empty.
        aim: Slot of what is acted on.
        aimed: What is acted on, as the sentence has it: `each {topic}`.
        asked: The same as questions have it: `the {topic}`.
    """

    slot: str
    actor: str
    who: str
    modal: str
    aim: str
    aimed: str
    asked: str

    @property
    def be(self) -> str:
        """The form of `to be` that goes with what is acted on."""
        return "are" if self.aim == "list" else "is"


@dataclass(frozen=True)
class Clause:
    """A clause, questions on its parts, and frames for what is added to it: `When` + `must the hood be cleaned`."""

    text: str
    questions: list[tuple[str, str]]
    frames: list[str]


@dataclass(frozen=True)
class Adjunct:
    """A part of a sentence that can be left out: its slot, its wordings, and what asks for it."""

    slot: str
    wordings: str
    asks: str
    label: str


ADJUNCTS = (
    Adjunct("dur", "for {dur}", "How long|For how long", "how long|duration"),
    Adjunct("dur", "within {dur}|in {dur}|in less than {dur}", "How quickly|Within what time|How fast", "deadline"),
    Adjunct("dur", "after {dur}", "After how long|When", "after how long"),
    Adjunct("dur", "{dur} before the {topic2}", "How long before the {topic2}", "how long before the {topic2}"),
    Adjunct("period", "every {period}|each {period}|once every {period}", "How often", "how often|interval"),
    Adjunct("place", "in the {place}|at the {place}|near the {place}", "Where|In which place", "where|place"),
    Adjunct("town", "in {town}|near {town}", "Where|In which town", "where|town"),
    Adjunct("time", "at {time}|before {time}|by {time}", "When|At what time", "when|time"),
    Adjunct("time", "until {time}", "Until when|How late", "until when"),
    Adjunct("time", "from {time} to {time2}", "From when", "from when"),
    Adjunct("day", "on {day}|every {day}", "On which day|When", "which day|day"),
    Adjunct("date", "on {date}|since {date}", "When|On what date|Since when", "date"),
    Adjunct("month", "in {month}|since {month}", "When|In which month", "month"),
    Adjunct("tool", "with a {tool}|using a {tool}", "With what|With which tool", "tool"),
    Adjunct("part", "with the {part}|through the {part}", "With what|Through what", "with what"),
    Adjunct("money", "for {money}|at {money}", "For how much|At what price", "price|cost"),
    Adjunct("num", "up to {num} times|{num} times", "How many times|How often", "how many times"),
    Adjunct("qty", "at {qty}|below {qty}|up to {qty}", "Up to what value|At how much", "limit|value"),
    Adjunct("state", "if the {part2} is {state}", "In which case|When", "when"),
    Adjunct("pct", "at {pct} of its {attr}|up to {pct} of the {attr}", "Up to what share|At how much", "share"),
    Adjunct("phone", "on {phone}|on extension {phone}", "On which number|Under what number", "number"),
    Adjunct("menu", "under {menu}|with {menu}", "Under which menu|Where on the screen", "menu"),
)
ACTORS = (("role", "the {role}|a {role}", "Who"), ("name", "{name}", "Who"), ("team", "the {team} team", "Who"))
ACTORS += (("jargon", "the {jargon}|a {jargon}", "What"), ("thing", "the {thing}", "What"))
OBJECTS = (("topic", "the {topic}|each {topic}|every {topic}"), ("part3", "the {part3}|a {part3}"), ("list", "{list}"))
MODALS = ("", "", "must", "may", "can", "has to", "should", "will")


def active(parts: Parts) -> Clause:
    """Returns `the tutor must clean the hood`."""
    verb = f"{parts.modal} {{verb}}" if parts.modal else "{verb:s}"
    auxiliary, rest = {"": ("does", ""), "has to": ("does", "have to ")}.get(parts.modal, (parts.modal, ""))
    inverted = f"{auxiliary} {parts.actor} {rest}{{verb}}"
    questions = [(parts.slot, f"{parts.who} {verb} {parts.asked}?"), (parts.aim, f"What {inverted}?")]
    frames = [f"{inverted} {parts.asked}", f"do I {{verb}} {parts.asked}", f"{parts.be} {parts.asked} {{verb:ed}}"]
    return Clause(f"{parts.actor} {verb} {parts.aimed}", questions, frames)


def passive(parts: Parts) -> Clause:
    """Returns `the hood must be cleaned by the tutor`."""
    has = {"are": "have to be", "is": "has to be"}
    helper, asks = f"{parts.modal} be", f"{parts.modal} be"
    if parts.modal in ("", "has to"):
        helper, asks = (has[parts.be], has["is"]) if parts.modal else (parts.be, "is")
    questions = [(parts.aim, f"What {asks} {{verb:ed}} by {parts.actor}?")]
    questions += [(parts.slot, f"{parts.who} {{verb:s}} {parts.asked}?")]
    frames = [f"{parts.be} {parts.asked} {{verb:ed}}", f"do we {{verb}} {parts.asked}"]
    return Clause(f"{parts.aimed} {helper} {{verb:ed}} by {parts.actor}", questions, frames)


def agentless(parts: Parts) -> Clause:
    """Returns `the hood must be cleaned`."""
    full = passive(parts)
    return Clause(full.text.removesuffix(f" by {parts.actor}"), [], full.frames)


def imperative(parts: Parts) -> Clause:
    """Returns `clean the hood`."""
    frames = [f"do I {{verb}} {parts.asked}", f"should we {{verb}} {parts.asked}", f"must {parts.asked} be {{verb:ed}}"]
    return Clause(f"{{verb}} {parts.aimed}", [], frames)


VOICES = (active, active, active, active, passive, agentless, imperative, imperative)


class Grammar:
    """Draws patterns.

    Args:
        rng: Source of randomness.
    """

    def __init__(self, rng: random.Random):
        self.rng = rng

    def pick(self, wordings: str) -> str:
        """Returns one of several wordings."""
        return self.rng.choice(wordings.split("|"))

    def parts(self) -> Parts:
        """Draws who does what to what."""
        slot, actors, who = self.rng.choice(ACTORS)
        aim, objects = self.rng.choice(OBJECTS)
        aimed = self.pick(objects)
        asked = aimed.replace("each ", "the ").replace("every ", "the ")
        return Parts(slot, self.pick(actors), who, self.rng.choice(MODALS), aim, aimed, asked)

    def pattern(self) -> Pattern:
        """Returns a pattern of a random voice with one to three adjuncts."""
        parts = self.parts()
        clause = self.rng.choice(VOICES)(parts)
        drawn: dict[str, tuple[Adjunct, str]] = {}
        for adjunct in self.rng.sample(ADJUNCTS, self.rng.choice((1, 2, 2, 3))):
            drawn.setdefault(adjunct.slot, (adjunct, self.pick(adjunct.wordings)))
        said = [wording for _, wording in drawn.values()]
        statement = " ".join([clause.text, *said]) + "."
        if self.rng.random() < 0.25:
            statement = f"{said[0][0].upper()}{said[0][1:]}, {' '.join([clause.text, *said[1:]])}."
        questions = [(slot, self.told(question, said)) for slot, question in clause.questions]
        for slot, (adjunct, wording) in drawn.items():
            rivals = [rival for rival, _ in drawn.values() if rival is not adjunct]
            others = [other for other in said if other != wording]
            if ask := self.unshared(adjunct.asks, [rival.asks for rival in rivals]):
                questions.append((slot, self.told(f"{ask} {self.rng.choice(clause.frames)}?", others)))
            if label := self.unshared(adjunct.label, [rival.label for rival in rivals]):
                questions.append((slot, f"{{verb:ing}} {parts.asked} {label}"))
        return Pattern(statement, questions)

    def unshared(self, wordings: str, rivals: list[str]) -> str:
        """Returns a wording that asks for one adjunct alone: no `When` where there are both a day and a time."""
        taken = {wording for rival in rivals for wording in rival.split("|")}
        free = [wording for wording in wordings.split("|") if wording not in taken]
        return self.rng.choice(free) if free else ""

    def told(self, question: str, adjuncts: list[str]) -> str:
        """Adds to a question some of what it does not ask for."""
        kept = [wording for wording in adjuncts if self.rng.random() < 0.3]
        return question[:-1] + "".join(f" {wording}" for wording in kept) + "?" if kept else question
