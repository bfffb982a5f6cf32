"""Counts the quickstart's documents and questions, as the Markdown tables of its README."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from source import FORMATS

GROUPS = {"train_a": "train", "train_b": "train", "dev": "dev", "test_a": "test", "test_b": "test"}
KINDS = ("lookup", "jargon", "heading", "identifier", "table", "version", "multi", "unanswerable")
DIFFICULTIES = ("easy", "medium", "hard")


@dataclass(frozen=True)
class Group:
    """What one group holds.

    Attributes:
        name: Its folder.
        split: Where its questions are used.
        formats: Documents by format.
        words: Words of its sources, front matter left out.
        kinds: Questions by kind.
        difficulties: Questions by difficulty.
    """

    name: str
    split: str
    formats: Counter[str]
    words: int
    kinds: Counter[str]
    difficulties: Counter[str]


def read_groups(sources: Path, documents: Path, questions: Path) -> list[Group]:
    """Counts each group.

    Args:
        sources: Folder of the sources, one folder a group.
        documents: Folder of the rendered documents.
        questions: Folder of the questions, one file a group.

    Raises:
        ValueError: A source without its document, or a group without its questions.
    """
    rendered = {path.stem: path.suffix[1:] for path in documents.iterdir() if path.is_file()}
    groups = []
    for name, split in GROUPS.items():
        files = sorted(path for path in (sources / name).iterdir() if path.suffix in (".md", ".csv"))
        missing = [path.stem for path in files if path.stem not in rendered]
        if missing:
            raise ValueError(f"{name}: not rendered: {', '.join(missing)}; run build.py without --stats first")
        if not (questions / f"{name}.jsonl").is_file():
            raise ValueError(f"{name}: no questions in {questions / name}.jsonl")
        lines = (questions / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        tags = [json.loads(line)["tags"] for line in lines]
        group = Group(
            name=name,
            split=split,
            formats=Counter(rendered[path.stem] for path in files),
            words=sum(_words(path) for path in files),
            kinds=Counter(tag["kind"] for tag in tags),
            difficulties=Counter(tag["difficulty"] for tag in tags),
        )
        groups.append(group)
    return groups


def tables(groups: Sequence[Group]) -> str:
    """The counts as two Markdown tables: documents by format, questions by kind and difficulty."""
    formats = (*FORMATS, "csv")
    documents = [[g.name, g.split, *(g.formats[f] for f in formats), g.formats.total(), g.words] for g in groups]
    questions = [
        [g.name, g.split, *(g.kinds[k] for k in KINDS), *(g.difficulties[d] for d in DIFFICULTIES), g.kinds.total()]
        for g in groups
    ]
    total = sum(group.kinds.total() for group in groups)
    counts = [sum(g.kinds[k] for g in groups) for k in KINDS]
    counts += [sum(g.difficulties[d] for g in groups) for d in DIFFICULTIES]
    share = ["share", "", *(f"{100 * count / total:.0f}%" for count in counts), "100%"]
    return "\n\n".join(
        (
            _table(["group", "split", *formats, "documents", "words"], [*documents, _sums(documents)]),
            _table(["group", "split", *KINDS, *DIFFICULTIES, "questions"], [*questions, _sums(questions), share]),
        )
    )


def _words(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = text.split("\n---\n", 1)[1]
    return sum(any(c.isalnum() for c in word) for word in text.replace(",", " ").split())


def _sums(rows: Sequence[Sequence[object]]) -> list[object]:
    columns = list(zip(*rows, strict=True))[2:]
    return ["all", "", *(sum(cell for cell in column if isinstance(cell, int)) for column in columns)]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    rule = ["---", "---", *["---:"] * (len(head) - 2)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *cells])
