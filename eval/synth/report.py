"""What `ragladder data synth` did: how many questions were tried, and at what each of the others fell."""

from __future__ import annotations

from typing import Literal

from ...core.components import Model
from .asking import CallCounts

__all__ = ["FILTERS", "FilterCount", "KindCount", "SynthReport"]

FILTERS: dict[str, str] = {
    "declined": "the LLM found nothing worth asking",
    "failed": "the LLM did not answer",
    "unreadable": "the LLM's reply was not the JSON asked for",
    "evidence": "the evidence is not in the passage, or too long or short",
    "form": "no proper question, or one that speaks of 'the passage'",
    "ambiguous": "the same question arises from several documents",
    "duplicate": "nearly the same as another question",
    "round_trip": "a search for the question does not find its evidence",
    "answerable": "not answerable from its evidence",
    "unanswerable": "meant to be unanswerable, but the documents answer it",
    "every_hop": "one of its excerpts alone answers it",
    "closed_book": "answerable without any document",
    "split": "its document belongs to a split that gets no synthetic questions",
    "unfinished": "the budget ran out before it was checked",
}
"""What a candidate can fall at, in the order in which it is met, and what that means."""
_MOST_EXAMPLES = 3


class FilterCount(Model):
    """One filter."""

    name: str
    """As in `FILTERS`."""
    fell: int
    """Candidates that fell at it."""
    meaning: str
    """In words."""
    examples: tuple[str, ...] = ()
    """The first few, with the reason."""


class KindCount(Model):
    """One kind of question."""

    kind: str
    """`single`, `multi` or `unanswerable`."""
    wanted: int
    """How many were wanted."""
    tried: int
    """Candidates: passages, or pairs of passages, that a question was to be written from."""
    kept: int
    """Questions that passed everything."""
    note: str = ""
    """Why there are fewer than wanted."""


class SynthReport(Model):
    """The outcome in figures: tried = kept + what fell, for all kinds together."""

    writer: Literal["llm", "extractive"]
    """Who wrote the questions."""
    source: str
    """The tag `source` of every question: `synthetic-llm` or `synthetic-extractive`."""
    documents: int
    """Documents in the corpus."""
    passages: int
    """Passages that could be asked about."""
    kinds: tuple[KindCount, ...]
    """By kind."""
    filters: tuple[FilterCount, ...]
    """All filters that were met, also those at which nothing fell."""
    calls: CallCounts | None
    """What was asked of the LLM; None without one."""
    splits: dict[str, int]
    """Questions by split; empty where none was set."""
    stopped: str = ""
    """Why it ended early: the budget; empty where it did not."""
    notes: tuple[str, ...] = ()
    """What else a reader of the questions should know."""

    @property
    def kept(self) -> int:
        """Questions kept."""
        return sum(kind.kept for kind in self.kinds)

    @property
    def tried(self) -> int:
        """Candidates."""
        return sum(kind.tried for kind in self.kinds)

    def lines(self) -> list[str]:
        """In words, a line a figure; a filter's examples are indented below it."""
        made = []
        for kind in self.kinds:
            note = f"  ({kind.note})" if kind.note else ""
            made.append(f"{kind.kind:13} {kind.kept} kept of {kind.tried} tried, {kind.wanted} wanted{note}")
        for count in self.filters:
            made.append(f"  {count.name:12} {count.fell:5} fell: {count.meaning}")
            made += [f"{'':21}{example}" for example in count.examples if count.fell]
        if self.calls is not None:
            calls = self.calls
            money = "" if calls.money is None else f", {calls.money:.4f} in money"
            made.append(
                f"LLM calls: {calls.calls} ({calls.reused} answered before, {calls.failed} failed, {calls.unreadable} "
                f"unreadable), {calls.prompt_tokens:,} + {calls.completion_tokens:,} tokens{money}"
            )
        if self.splits:
            made.append("splits: " + ", ".join(f"{count} {split}" for split, count in self.splits.items()))
        return [*made, *(f"note: {note}" for note in self.notes)]


class Tally:
    """Counts while candidates fall."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Takes the filters that are switched on."""
        self._names = names
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, name: str, example: str) -> None:
        """Notes one candidate."""
        self._counts[name] = self._counts.get(name, 0) + 1
        shown = self._examples.setdefault(name, [])
        if len(shown) < _MOST_EXAMPLES:
            shown.append(example)

    def result(self) -> tuple[FilterCount, ...]:
        """One row a filter, in order."""
        return tuple(
            FilterCount(
                name=name,
                fell=self._counts.get(name, 0),
                meaning=meaning,
                examples=tuple(self._examples.get(name, ())),
            )
            for name, meaning in FILTERS.items()
            if name in self._names or name in self._counts
        )
