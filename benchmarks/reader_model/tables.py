"""Tables of the reader model's training text, as pipe tables, as rows without a head, or as one card a row."""

from __future__ import annotations

from dataclasses import dataclass

from facts import capital
from questions import Asker
from values import Values

ROW_KINDS = ["thing", "topic", "code", "code", "town", "place", "setting", "jargon", "role", "model", "partno"]
LABELS = {
    "dur": ["Hold time", "Wait", "Timeout", "Deadline", "Lead time", "Time"],
    "qty": ["Limit", "Range", "Load", "Value", "Weight"],
    "num": ["Retries", "Count", "Maximum", "Default", "Stock", "Pieces"],
    "money": ["Price", "Fee", "Cost"],
    "role": ["Owner", "Who", "Contact role", "Tell"],
    "place": ["Location", "Where", "Kept at"],
    "action": ["Action", "What to do", "Remedy", "First step", "Do"],
    "meaning": ["Meaning", "What it says", "Cause", "Note"],
    "time": ["Start", "Opens", "Closes"],
    "state": ["State", "Result"],
    "name": ["Contact", "Person"],
    "partno": ["Part number", "Order number", "Spare part"],
    "color": ["Colour", "Lamp", "Label"],
    "pct": ["Share", "Discount"],
    "team": ["Team", "Owner team"],
    "town": ["Site", "Town"],
    "date": ["Date", "Valid from"],
}
CELL_QUESTIONS = ["What is the {c} of {r}?", "{r} {c}", "{c} for {r}?", "Which {c} does {r} have?", "{c} of the {r}"]
CELL_QUESTIONS += ["What does the table give as {c} for {r}?", "What is {r}'s {c}?"]
ROW_QUESTIONS = ["Which one has {c} {v}?", "What has a {c} of {v}?", "Where is the {c} {v}?"]
KIND_QUESTIONS = {
    "action": ["{r}", "What do I do about {r}?", "{r} again, what now?", "It says {r}. What is the first step?"],
    "meaning": ["What does {r} mean?", "{r} meaning", "What is {r} about?", "What is {r}?"],
    "dur": ["How long for {r}?", "{r}, how long?"],
    "num": ["How many for {r}?", "What is {r} set to?"],
    "money": ["How much is {r}?", "What does {r} cost?"],
    "place": ["Where is {r}?", "Where do I find {r}?"],
    "town": ["Where is {r}?", "Which site has {r}?"],
    "role": ["Who is told about {r}?", "Who handles {r}?"],
    "name": ["Who is the contact for {r}?", "Who do I ask about {r}?"],
    "partno": ["Which number do I order for {r}?", "I need a new {r}, which number?"],
    "date": ["Since when does {r} hold?"],
}
Cell = tuple[str, str]


@dataclass
class Table:
    """A table, questions on it with their answers, and questions on a row that it lacks."""

    text: str
    asked: list[Cell]
    absent: list[str]


class TableWriter:
    """Writes tables and asks about their cells.

    Args:
        values: Source of slot values, and of randomness.
        asker: Varies the questions.
    """

    def __init__(self, values: Values, asker: Asker):
        self.values, self.rng, self.asker = values, values.rng, asker

    def cell(self, kind: str) -> str:
        """Returns a cell's text."""
        if kind == "meaning":
            link = self.rng.choice([" ", " is ", " not "])
            return capital(self.values.get("thing")) + link + self.values.get("state")
        text = self.values.get(kind)
        return capital(text) if kind == "action" else text

    def table(self) -> Table:
        """Returns a table of two to six rows and one to four columns of values."""
        rng = self.rng
        kind = rng.choice(ROW_KINDS)
        rows = list(dict.fromkeys(self.values.get(kind) for _ in range(rng.randint(3, 7))))
        absent = rows.pop()
        kinds = rng.sample(list(LABELS), rng.randint(1, 4))
        labels = [rng.choice(LABELS[kind]) for kind in kinds]
        if rng.random() < 0.25:
            labels[0] = capital(self.values.get("attr" if kinds[0] in ("dur", "qty", "num") else "topic"))
        cells = [[self.cell(kind) for kind in kinds] for _ in rows]
        layout, named = rng.random(), rng.random() > 0.12
        if named and layout < 0.3:
            text = self.cards(rows, labels, cells)
        else:
            text = self.pipes(rows, labels, cells, head=named)
        columns = list(zip(kinds, labels, strict=True))
        asked = [pair for row, line in zip(rows, cells, strict=True) for pair in self.asked(row, line, columns, named)]
        if named:
            firsts = [line[0] for line in cells]
            once = [(value, row) for value, row in zip(firsts, rows, strict=True) if firsts.count(value) == 1]
            asked += [(self.by_value(labels[0], value), row) for value, row in once]
        return Table(text, asked, [question for question, _ in self.asked(absent, kinds, columns, named)])

    def pipes(self, rows: list[str], labels: list[str], cells: list[list[str]], head: bool) -> str:
        """Returns a pipe table; one that a chunker cut has lost its head."""
        lines = [[self.rng.choice(["Item", "Name", "Code", "Case", "Type"]), *labels]] if head else []
        lines += [[row, *line] for row, line in zip(rows, cells, strict=True)]
        text = [" | ".join(line) for line in lines]
        if self.rng.random() < 0.7:
            text = [f"| {line} |" for line in text]
            if head:
                text.insert(1, "|" + " --- |" * (len(labels) + 1))
        return "\n".join(text)

    def cards(self, rows: list[str], labels: list[str], cells: list[list[str]]) -> str:
        """Returns each row as a heading with labelled values below or behind it."""
        mark = self.rng.choice(["## {}\n{}", "**{}**\n{}", "{}. {}", "{}\n{}", "{}: {}"])
        colon = self.rng.choice([": ", " "])
        separator, end = self.rng.choice([(", ", "."), ("; ", "."), ("\n", ""), ("\n- ", "")])
        texts = []
        for row, line in zip(rows, cells, strict=True):
            values = [f"{label}{colon}{cell}" for label, cell in zip(labels, line, strict=True)]
            texts.append(mark.format(capital(row), separator.join(values) + end))
        return "\n".join(texts)

    def asked(self, row: str, line: list[str], columns: list[Cell], named: bool) -> list[Cell]:
        """Returns a question on each cell of a row; columns without a name are asked for by their kind alone."""
        rng, asked = self.rng, []
        for (kind, label), cell in zip(columns, line, strict=True):
            taken = {text for other, _ in columns if other != kind for text in KIND_QUESTIONS.get(other, [])}
            of_kind = [text for text in KIND_QUESTIONS.get(kind, []) if text not in taken]
            if of_kind and (not named or rng.random() < 0.5):
                asked.append((rng.choice(of_kind).format(r=row), cell))
            elif named:
                asked.append((rng.choice(CELL_QUESTIONS).format(c=label.lower(), r=row), cell))
        return [(self.asker.dress(question), answer) for question, answer in asked]

    def by_value(self, label: str, value: str) -> str:
        """Returns a question that gives a cell and asks for its row."""
        return self.asker.dress(self.rng.choice(ROW_QUESTIONS).format(c=label.lower(), v=value))
