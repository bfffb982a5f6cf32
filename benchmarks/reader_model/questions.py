"""Words questions as people do: short names, synonyms, keywords, greetings, a sentence about their situation."""

from __future__ import annotations

from facts import Fact, capital, fill, slots_of
from values import Values

NAMES = ("thing", "part", "topic", "jargon", "place", "role")
SHORTENED, REWORDED, RENAMED = 0.25, 0.15, 0.1
SMALL_WORDS = {"the", "a", "an", "does", "do", "is", "are", "i", "we", "to", "of", "it", "must", "my", "should"}
GREETINGS = ["Hi, ", "Hello, ", "Quick question: ", "Sorry, ", "A customer asks: "]
LEADS = ["Can you tell me: ", "I need to know: ", "Do you know ", "My question: ", "Please tell me, "]
SITUATIONS = ["We have a new colleague.", "I could not find this.", "I am at the {place}.", "I work as a {role}."]
SITUATIONS += ["Our {thing} was {state} on {day}.", "We have a {state} {thing} here.", "The {topic} again.", "{month}."]
SITUATIONS += ["The {role} asked me about the {topic}.", "This is for the {team} team.", "{place}, {time}.", "{thing}:"]
SLOTS = ("place", "role", "thing", "state", "day", "topic", "month", "team", "time")


class Asker:
    """Asks about facts.

    Args:
        values: Source of slot values, and of randomness.
    """

    def __init__(self, values: Values):
        self.values, self.rng = values, values.rng

    def question(self, fact: Fact, others: list[Fact]) -> tuple[str, str] | None:
        """Returns a question on a fact and its answer, or None if `others` answer it too."""
        if not fact.pattern.questions:
            return None
        slot, template = self.rng.choice(fact.pattern.questions)
        shape = fact.pattern.statement
        siblings = [other for other in others if other is not fact and other.pattern.statement == shape]
        named = [name for name in slots_of(template) if name != "is"]
        if not fact.heading:
            if any(all(sibling.values[name] == fact.values[name] for name in named) for sibling in siblings):
                return None
            if len(others) > 1 and not named:
                return None
        values = {
            name: self.mention(name, value, [sibling.values[name] for sibling in siblings])
            for name, value in fact.values.items()
        }
        renamed = [name for name in named if name in NAMES]
        if renamed and len(named) > 1 and not siblings and self.rng.random() < RENAMED:
            values[renamed[0]] = self.values.get(renamed[0])  # what the house calls otherwise: the rest must do
        text = fill(template, values, self.rng)
        return self.dress(self.with_heading(text, fact.heading) if fact.heading else text), fact.values[slot]

    def mention(self, name: str, value: str, rivals: list[str]) -> str:
        """Returns a value as a question may name it: without its first word, or with a synonym."""
        rng, words, synonyms = self.rng, value.split(), self.values.synonyms
        if name.rstrip("23") == "verb":
            near = [word for word in synonyms.get(value, []) if word in self.values.verbs]
            return rng.choice(near) if near and rng.random() < REWORDED else value
        if name.rstrip("23") not in NAMES or value[-1].isdigit():
            return value
        if len(words) > 1 and rng.random() < SHORTENED and not any(r.split()[-1] == words[-1] for r in rivals):
            words = words[1:]
        if rng.random() < REWORDED:
            words = [rng.choice(synonyms[word]) if word in synonyms else word for word in words]
        return " ".join(words)

    def with_heading(self, question: str, heading: str) -> str:
        """Adds the heading that tells the fact from its siblings to a question."""
        if not question.endswith("?"):
            return self.rng.choice(["{} {}", "{1} {0}"]).format(question, heading)
        if self.rng.random() < 0.3:
            return f"{heading}: {question}"
        return f"{question[:-1]} {self.rng.choice(['for', 'on', 'in', 'at', 'of'])} {heading}?"

    def dress(self, question: str) -> str:
        """Varies a question's wording."""
        rng, roll = self.rng, self.rng.random()
        lower = question[0].lower() + question[1:] if question[1:2].islower() else question
        if roll < 0.04:
            question = rng.choice(GREETINGS) + lower
        elif roll < 0.07:
            question = question.rstrip("?") + rng.choice([", please?", " thanks", " please", "??"])
        elif roll < 0.12:
            question = question.lower()
        elif roll < 0.16:
            lead = rng.choice(LEADS)
            question = lead + (question if lead.endswith(": ") else lower)
        elif roll < 0.24:
            situation = rng.choice(SITUATIONS).format(**{slot: self.values.get(slot) for slot in SLOTS})
            question = f"{capital(situation)} {question}"
        elif roll < 0.31:
            question = " ".join(word for word in question.rstrip("?").split() if word.lower() not in SMALL_WORDS)
        if rng.random() < 0.1:
            question = question.replace("What is", "What's").replace("Where is", "Where's")
            question = question.replace("do I", rng.choice(["do we", "should I", "does one"]))
        return capital(question) if rng.random() < 0.85 else question
