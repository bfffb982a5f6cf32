"""Which worked examples a question's prompt shows: the same for all, or the most similar ones."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError
from ..core.files import write_atomic
from ..core.types import Chunk, Document, Question
from .prompt import Demonstration, PromptSettings

__all__ = ["DemonstrationPool", "load_demonstrations", "save_demonstrations", "train_demonstrations"]


def train_demonstrations(
    questions: Sequence[Question], documents_by_id: Mapping[str, Document], settings: PromptSettings
) -> tuple[Demonstration, ...]:
    """Worked examples of all train questions, in their order.

    Args:
        questions: Of any split; those of train are taken, each text once, but for those that dev or test ask too.
            Questions without a reference answer give none, those without evidence an abstention.
        documents_by_id: For the references and titles of the evidence.
        settings: Whether the evidence is shown.
    """
    seen = {_same(q.text) for q in questions if q.split != "train"}
    found: list[Demonstration] = []
    for question in questions:
        if question.split != "train" or _same(question.text) in seen:
            continue
        if question.answerable and not question.answer.strip():
            continue
        seen.add(_same(question.text))
        shown = _evidence(question, documents_by_id) if settings.demonstration_evidence else ()
        found.append(Demonstration(question.text, question.answer if question.answerable else "", shown))
    return tuple(found)


class DemonstrationPool:
    """Picks worked examples for questions; never one that asks the same.

    Attributes:
        demonstrations: All there are.
    """

    def __init__(self, demonstrations: Sequence[Demonstration], settings: PromptSettings) -> None:
        """Makes a pool.

        Args:
            demonstrations: Worked examples.
            settings: How many, which, and by what seed.

        Raises:
            ConfigError: There are not enough for any question.
        """
        self.demonstrations = tuple(demonstrations)
        self._settings = settings
        # One more than are shown, since the question itself is never among them.
        if len(self.demonstrations) < settings.demonstrations + 1:
            raise ConfigError(
                f"prompt.demonstrations is {settings.demonstrations}, but there are only {len(self.demonstrations)} "
                "train questions to take them from, and a question never is its own example; lower it"
            )
        order = list(range(len(self.demonstrations)))
        random.Random(settings.demonstration_seed).shuffle(order)
        self._order = order
        self._index: Any = None

    def choose(self, questions: Sequence[str]) -> list[list[Demonstration]]:
        """The worked examples of each question, in the order in which they are shown."""
        return [
            self._first(question, order) for question, order in zip(questions, self._orders(questions), strict=True)
        ]

    def _orders(self, questions: Sequence[str]) -> list[list[int]]:
        if self._settings.demonstration_choice == "fixed" or not questions:
            return [self._order] * len(questions)
        from .index import BM25Settings

        if self._index is None:
            self._index = BM25Settings().build([one.question for one in self.demonstrations])
        # Twice as many, for those that ask the same; what shares no word comes in the order of `fixed`.
        wanted = min(2 * self._settings.demonstrations + 8, len(self.demonstrations))
        scores, positions = self._index.search(list(questions), wanted)
        return [
            list(dict.fromkeys([*(int(p) for p, s in zip(row, points, strict=True) if p >= 0 and s > 0), *self._order]))
            for row, points in zip(positions, scores, strict=True)
        ]

    def _first(self, question: str, order: Sequence[int]) -> list[Demonstration]:
        asked = _same(question)
        usable = (self.demonstrations[place] for place in order if _same(self.demonstrations[place].question) != asked)
        chosen = [one for one, _ in zip(usable, range(self._settings.demonstrations), strict=False)]
        # The most similar stands nearest to the question.
        return chosen[::-1] if self._settings.demonstration_choice == "similar" else chosen


def save_demonstrations(path: Path, demonstrations: Sequence[Demonstration]) -> None:
    """Writes worked examples to a JSONL file."""
    rows = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in demonstrations)
    write_atomic(path, rows.encode("utf-8", "surrogatepass"))


def load_demonstrations(path: Path) -> tuple[Demonstration, ...]:
    """Reads what `save_demonstrations` wrote.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8", "surrogatepass").splitlines()]
        return tuple(
            Demonstration(row["question"], row["answer"], tuple(_chunk(chunk) for chunk in row["contexts"]))
            for row in rows
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: the worked examples of the prompt cannot be read ({error}); export again") from error


def _chunk(row: dict[str, Any]) -> Chunk:
    return Chunk(**{**row, "heading": tuple(row["heading"])})


def _evidence(question: Question, documents_by_id: Mapping[str, Document]) -> tuple[Chunk, ...]:
    chunks: list[Chunk] = []
    for evidence in question.evidence:
        document = documents_by_id.get(evidence.doc_id)
        ref, title = (document.ref, document.title) if document else (evidence.doc_id, "")
        chunks.append(Chunk(evidence.doc_id, 0, len(evidence.text), evidence.text, ref, title))
    return tuple(chunks)


def _same(text: str) -> str:
    """Texts that differ only in case, spaces and closing punctuation ask the same."""
    return " ".join(text.casefold().split()).rstrip(" ?!.")
