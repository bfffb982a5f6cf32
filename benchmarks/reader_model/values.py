"""Random slot values (names, quantities, codes, clauses) for the reader model's training text."""

from __future__ import annotations

import random
import string
from pathlib import Path

DOUBLED = {"cancel", "format", "label", "log", "plan", "scan", "ship", "step", "stop", "submit", "swap", "tag", "top"}
DOUBLED |= {"transfer", "trim", "unplug", "wrap"}
LEXICON = Path(__file__).parent / "lexicon"


def read_words(name: str) -> list[str]:
    """Returns the whitespace-separated words of a lexicon file."""
    return (LEXICON / name).read_text().split()


def read_phrases(name: str) -> list[str]:
    """Returns the `|`-separated phrases of a lexicon file."""
    return [phrase.strip() for phrase in (LEXICON / name).read_text().split("|")]


def read_keyed(name: str) -> dict[str, list[str]]:
    """Returns the `key: values` lines of a file; values are split at `|`, or at blanks if there is none."""
    table = {}
    for line in (LEXICON / name).read_text().splitlines():
        key, _, rest = line.partition(": ")
        table[key] = rest.split("|") if "|" in rest else rest.split()
    return table


def inflect(verb: str, form: str) -> str:
    """Returns a regular verb's third person (`s`), past (`ed`) or gerund (`ing`)."""
    vowels = "aeiou"
    if form == "s":
        if verb.endswith(("s", "x", "ch", "sh", "z")):
            return verb + "es"
        return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in vowels else verb + "s"
    if verb in DOUBLED:
        return verb + verb[-1] + form
    if form == "ed":
        if verb.endswith("e"):
            return verb + "d"
        return verb[:-1] + "ied" if verb.endswith("y") and verb[-2] not in vowels else verb + "ed"
    return verb[:-1] + "ing" if verb.endswith("e") and not verb.endswith("ee") else verb + "ing"


class Values:
    """Samples slot values.

    Args:
        rng: Source of randomness.
    """

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.nouns, self.topics = read_words("nouns.txt"), read_words("topics.txt")
        self.adjectives, self.verbs = read_words("adjectives.txt"), read_words("verbs.txt")
        self.roles, self.places = read_phrases("roles.txt"), read_phrases("places.txt")
        self.towns = read_words("towns.txt")
        names = (LEXICON / "names.txt").read_text().splitlines()
        self.first, self.last = names[0].split(), names[1].split()
        self.keyed = read_keyed("values.txt")
        self.codas = self.keyed["coda"] + [""] * 6
        self.synonyms = {}
        for line in (LEXICON / "synonyms.txt").read_text().splitlines():
            for word in line.split():
                self.synonyms[word] = [other for other in line.split() if other != word]

    def get(self, slot: str) -> str:
        """Returns a value for a slot such as `dur`, `dur2` or `topic`."""
        kind = slot.rstrip("23")
        method = getattr(self, "v_" + kind, None)
        return method() if method else self.rng.choice(self.keyed[kind])

    def pseudo(self) -> str:
        """Returns a pronounceable invented word."""
        pick = self.rng.choice
        count = self.rng.choices((1, 2, 3), (4, 5, 0.4))[0]
        return "".join(pick(self.keyed["onset"]) + pick(self.keyed["vowel"]) + pick(self.codas) for _ in range(count))

    def noun_phrase(self, heads: list[str]) -> str:
        """Returns a noun with a modifier, or a rarer shape (invented word, model number)."""
        rng, head = self.rng, self.rng.choice(heads)
        shape = rng.random()
        if shape < 0.36:
            return f"{rng.choice(self.adjectives)} {head}"
        if shape < 0.72:
            return f"{rng.choice(rng.choice((self.nouns, self.topics)))} {head}"
        if shape < 0.84:
            return head
        if shape < 0.93:
            return f"{self.pseudo()} {head}"
        return f"{self.pseudo().capitalize()} {head}" if shape < 0.96 else f"{head} {self.v_model()}"

    def v_thing(self) -> str:
        return self.noun_phrase(self.nouns)

    v_part = v_thing

    def v_topic(self) -> str:
        return self.noun_phrase(self.topics)

    def v_jargon(self) -> str:
        return self.pseudo() if self.rng.random() < 0.5 else self.rng.choice(self.nouns + self.topics)

    def v_model(self) -> str:
        rng = self.rng
        return rng.choice(string.ascii_uppercase) + str(rng.choice((rng.randint(1, 9), rng.randint(10, 99))))

    def v_adj(self) -> str:
        return self.rng.choice(self.adjectives)

    def v_verb(self) -> str:
        return self.rng.choice(self.verbs)

    def v_is(self) -> str:
        return "is"

    def v_state(self) -> str:
        return inflect(self.v_verb(), "ed") if self.rng.random() < 0.6 else self.rng.choice(self.adjectives)

    def v_role(self) -> str:
        return self.rng.choice(self.roles)

    def v_roles(self) -> str:
        return self.v_role() + "s"

    def v_place(self) -> str:
        return self.rng.choice(self.places)

    def v_town(self) -> str:
        return self.rng.choice(self.towns) if self.rng.random() < 0.7 else self.pseudo().capitalize()

    def v_name(self) -> str:
        last = self.rng.choice(self.last) if self.rng.random() < 0.7 else self.pseudo().capitalize()
        return last if self.rng.random() < 0.08 else f"{self.rng.choice(self.first)} {last}"

    def v_num(self) -> str:
        rng = self.rng
        if rng.random() < 0.2:
            return rng.choice(self.keyed["small"])
        value = rng.choice((rng.randint(2, 20), rng.randint(2, 99), rng.randint(100, 999), rng.randint(1, 99) * 100))
        return f"{value:,}" if rng.random() < 0.5 else str(value)

    def v_dur(self) -> str:
        rng = self.rng
        unit = rng.choice(
            ["seconds", "minutes", "hours", "days", "weeks", "months", "years"] + ["working days", "business days"]
        )
        value = (
            rng.choice(self.keyed["small"])
            if rng.random() < 0.25
            else str(rng.choice((rng.randint(2, 30), rng.randint(2, 99))))
        )
        return f"one {unit.rstrip('s')}" if rng.random() < 0.04 else f"{value} {unit}"

    def v_period(self) -> str:
        return (
            self.v_dur() if self.rng.random() < 0.75 else self.rng.choice(["day", "week", "month", "quarter", "year"])
        )

    def v_qty(self) -> str:
        rng = self.rng
        value = rng.choice((str(rng.randint(2, 95)), str(rng.randint(100, 990)), f"{rng.uniform(0.1, 30):.1f}"))
        return ("-" if rng.random() < 0.03 else "") + value + " " + rng.choice(self.keyed["quantity"])

    def v_torque(self) -> str:
        return f"{self.rng.choice((self.rng.randint(2, 60), round(self.rng.uniform(0.4, 9), 1)))} Nm"

    def v_dist(self) -> str:
        return (
            f"{self.rng.randint(2, 400)} {self.rng.choice(['mm', 'cm', 'm', 'metres', 'centimetres', 'millimetres'])}"
        )

    def v_kg(self) -> str:
        return f"{self.rng.choice((self.rng.randint(2, 99), round(self.rng.uniform(0.2, 30), 1)))} kg"

    def v_volt(self) -> str:
        value = self.rng.choice([5, 9, 12, 24, 36, 48, 110, 230, 400, self.rng.randint(3, 99)])
        return f"{value} {self.rng.choice(['volts', 'V'])}"

    def v_pct(self) -> str:
        value = self.rng.randint(1, 99)
        return self.rng.choice([f"{value} percent", f"{value}%", f"{value} %"])

    def v_money(self) -> str:
        rng = self.rng
        value = rng.choice(
            (str(rng.randint(2, 95)), f"{rng.randint(1, 60)}.{rng.randint(5, 99):02d}", str(rng.randint(2, 90) * 50))
        )
        return rng.choice(["{} euros", "EUR {}", "€{}", "€ {}", "{} euros"]).format(value)

    def v_code(self) -> str:
        rng = self.rng
        letters = "".join(rng.choices(string.ascii_uppercase, k=rng.choice((1, 1, 2))))
        return f"{letters}-{rng.randint(10, 999)}" if rng.random() < 0.75 else f"{letters}{rng.randint(10, 999)}"

    def v_partno(self) -> str:
        rng = self.rng
        letters = "".join(rng.choices(string.ascii_uppercase, k=2))
        return (
            f"{letters}-{rng.randint(10, 99)}-{rng.randint(100, 999)}"
            if rng.random() < 0.7
            else f"{letters}{rng.randint(1000, 99999)}"
        )

    def v_prefix(self) -> str:
        return "".join(self.rng.choices(string.ascii_uppercase, k=self.rng.randint(2, 3)))

    def v_ref(self) -> str:
        rng = self.rng
        return f"{self.v_prefix()}-{rng.randint(100, 999)}{rng.choice('ABC') if rng.random() < 0.08 else ''}"

    def v_setting(self) -> str:
        one, two = self.rng.choice(self.nouns + self.topics), self.rng.choice(self.nouns + self.topics + ["max", "min"])
        return self.rng.choice(["{}.{}", "{}_{}", "{}.{}_limit", "{}.max_{}", "{}.{}_max"]).format(one, two)

    def v_path(self) -> str:
        one, two = self.rng.choice(self.topics), self.rng.choice(self.topics)
        return self.rng.choice(["/{}", "/v1/{}s", "/v2/{}s/{}", "POST /{}s", "GET /{}/{}"]).format(one, two)

    def v_status(self) -> str:
        return self.rng.choice(["", "status ", "HTTP "]) + str(self.rng.randint(200, 530))

    def v_email(self) -> str:
        return f"{self.rng.choice(self.topics)}@{self.pseudo()}.example"

    def v_phone(self) -> str:
        rng = self.rng
        return rng.choice(
            [str(rng.randint(1000, 9999)), f"0{rng.randint(10, 99)} {rng.randint(100, 999)} {rng.randint(1000, 9999)}"]
        )

    def v_time(self) -> str:
        return f"{self.rng.randint(0, 23):02d}:{self.rng.choice(['00', '15', '30', '45', '10', '20'])}"

    def v_date(self) -> str:
        rng = self.rng
        day, month, year = rng.randint(1, 28), rng.choice(self.keyed["month"]), rng.randint(2014, 2027)
        return rng.choice([f"{day} {month}", f"{day} {month} {year}", f"{year}-{rng.randint(1, 12):02d}-{day:02d}"])

    def v_month(self) -> str:
        return self.rng.choice(self.keyed["month"])

    def v_day(self) -> str:
        return self.rng.choice(self.keyed["day"])

    def v_ver(self) -> str:
        return f"{self.rng.randint(1, 9)}.{self.rng.randint(0, 20)}" + (
            f".{self.rng.randint(0, 9)}" if self.rng.random() < 0.3 else ""
        )

    def v_action(self) -> str:
        """Returns a short imperative clause."""
        rng, verb = self.rng, self.v_verb()
        tail = rng.choice(
            [
                "",
                "",
                "",
                f" with the {self.v_thing()}",
                f" and {self.v_verb()} it",
                f" and call the {self.v_role()}",
                f" at the {self.v_place()}",
                f" for {self.v_dur()}",
                " twice",
                " again",
            ]
        )
        return f"{verb} the {rng.choice((self.v_thing, self.v_topic))()}{tail}"

    def v_menu(self) -> str:
        return " > ".join(self.rng.choice(self.topics).capitalize() for _ in range(self.rng.choice((1, 2, 2))))

    def v_list(self) -> str:
        words = [inflect(self.rng.choice(self.nouns), "s") for _ in range(self.rng.choice((2, 3)))]
        return ", ".join(words[:-1]) + f" and {words[-1]}"
