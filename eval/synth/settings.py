"""The config section `synth:`: which questions are written, by whom, and which of them are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ...core.chat import ChatSection
from ...core.components import Model
from ..splits import SplitBy

__all__ = ["KINDS", "Kind", "SynthBudget", "SynthFilters", "SynthSettings", "SynthSplit"]

Kind = Literal["single", "multi", "unanswerable"]
"""Of a question: one passage answers it, two documents together do, or none does."""
KINDS: tuple[Kind, ...] = ("single", "multi", "unanswerable")
"""All of them."""


class SynthBudget(Model):
    """What the questions of one file may cost, the calls of an interrupted command before included."""

    calls: int | None = Field(default=None, ge=1)
    """Most calls of the LLM. A kept single-hop question takes about 3, a multi-hop one about 5, a dropped one fewer."""
    tokens: int | None = Field(default=None, ge=1)
    """Most tokens, prompts and completions together. The calls in flight when it is reached are still made."""
    money: float | None = Field(default=None, gt=0)
    """Most money, by the prices in the LLM's section; needs them."""


class SynthFilters(Model):
    """Which questions are kept. Each that is switched off saves calls and lets worse questions through."""

    evidence: float = Field(default=90.0, ge=85, le=100)
    """Least likeness (0 to 100) of an excerpt that the LLM gave to a stretch of its passage. What is kept is always the
    document's own wording. 100 takes exact excerpts alone, looks (blanks, quotes, case) aside."""
    max_evidence: int = Field(default=600, ge=50)
    """Most characters of one excerpt: a longer one says little about where the answer stands."""
    near: float = Field(default=92.0, ge=50, le=101)
    """Likeness (0 to 100) from which a question counts as a duplicate of one that is there; 101 switches it off. The
    patterns' questions are alike by their wording, so of them only equal ones count."""
    round_trip: bool = True
    """A search for the question must find its evidence. Costs no call. Drops questions that fit many passages, but hard
    ones too: with it, scores of the synthetic questions flatter the retriever."""
    round_trip_k: int = Field(default=20, ge=1)
    """Chunks that are looked at; fewer keeps easier questions."""
    retriever: Literal["bm25", "pipeline"] = "bm25"
    """Which search: words alone, which needs no model, or the config's pipeline as it stands."""
    answerable: bool = True
    """The LLM, given the evidence alone, must reach the answer. One call a question."""
    closed_book: bool = True
    """The LLM, given nothing, must not reach the answer. One call a question."""
    every_hop: bool = True
    """Multi-hop: with either excerpt alone the LLM must not reach the answer. Two calls a question."""
    agreement: float = Field(default=0.5, gt=0, le=1)
    """Token F1 from which two answers are the same; one that holds the other counts as the same as well."""


class SynthSplit(Model):
    """How the questions get their splits: by the rules of `ragladder data split`.

    Questions on a document that the config's own questions use go to the split that the document has there.
    """

    by: SplitBy = "document"
    """What stays together. `tag` is of no use here and refused."""
    shares: tuple[float, float, float] = (0.5, 0.2, 0.3)
    """Of train, dev and test. `[1, 0, 0]` writes training questions alone, and none on documents that dev or test of
    the config's own questions use."""

    @field_validator("by")
    @classmethod
    def _no_tag(cls, value: SplitBy) -> SplitBy:
        if value == "tag":
            raise ValueError("synthetic questions are split by 'document' or 'cluster'")
        return value

    @field_validator("shares")
    @classmethod
    def _sum(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("need three numbers from 0 up with sum 1: train, dev, test")
        return value


class SynthSettings(Model):
    """Synthetic questions: written from the documents, then filtered."""

    n: int = Field(default=200, ge=1)
    """Questions wanted, after the filters."""
    by: Literal["auto", "llm", "extractive"] = "auto"
    """Who writes. `llm`: the LLM below; `extractive`: patterns over headings and definitions, free and at once, in
    English only, fit for embedding training and for nothing that is reported; `auto`: the LLM where there is one."""
    llm: ChatSection | None = None  # pyright: ignore[reportInvalidTypeForm]
    """The LLM that writes and checks; the pipeline's generator LLM where not set. A larger one writes better."""
    kinds: dict[Kind, float] = {"single": 0.6, "multi": 0.2, "unanswerable": 0.2}
    """Shares: `single` from one passage, `multi` from two passages of two documents, `unanswerable` fits the documents
    but is not answered by them. Patterns write `single` alone."""
    personas: tuple[str, ...] = ()
    """Who asks, in a few words each, taken in turn: `a new employee`, `an auditor in a hurry`."""
    styles: tuple[str, ...] = ("a natural question", "a short search query of key words", "a question in own words")
    """How it is asked, taken in turn."""
    language: str = ""
    """Language of the questions, in English; that of the passage where not set."""
    passage: int = Field(default=1500, ge=200)
    """Most characters of the passage that a question is written from. More text, more tokens, broader questions."""
    per_passage: int = Field(default=2, ge=1)
    """Most questions of one kind on one passage."""
    tries: float = Field(default=3.0, ge=1)
    """Most candidates for each question wanted; after that what was found is written, and the report says why."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """Of the writing; checks are greedy. Lower writes more alike."""
    max_tokens: int = Field(default=700, ge=64)
    """Most tokens of one reply; one that is cut is no JSON and counts as unreadable."""
    enforce_json: bool = True
    """Sends the form of the reply to the server as a JSON schema. False for servers that refuse one: more unreadable
    replies, nothing else."""
    seed: int = 0
    """Chooses the passages, personas and styles."""
    budget: SynthBudget = SynthBudget()
    """Hard stop. What is finished is written, and a higher budget goes on from there."""
    filters: SynthFilters = SynthFilters()
    """Which questions are kept."""
    split: SynthSplit = SynthSplit()
    """Train, dev and test."""

    @model_validator(mode="after")
    def _usable(self) -> SynthSettings:
        shares = self.kinds.values()
        if not shares or min(shares) < 0 or sum(shares) <= 0:
            raise ValueError("kinds: need a share above 0 for at least one of single, multi, unanswerable")
        if not self.styles or not all(text.strip() for text in (*self.styles, *self.personas)):
            raise ValueError("styles and personas: need at least one style, and no empty text")
        if self.by == "extractive" and self.llm is not None:
            raise ValueError("by is 'extractive', which asks no LLM; take out 'llm', or set by to 'llm'")
        return self

    def wanted(self) -> dict[Kind, int]:
        """Questions of each kind: `n` shared out by largest remainder, kinds without a share left out."""
        total = sum(self.kinds.values())
        exact: dict[Kind, float] = {
            kind: self.n * self.kinds.get(kind, 0.0) / total for kind in KINDS if self.kinds.get(kind, 0.0) > 0
        }
        counts: dict[Kind, int] = {kind: int(value) for kind, value in exact.items()}
        rest = sorted(exact, key=lambda kind: (counts[kind] - exact[kind], KINDS.index(kind)))
        for kind in rest[: self.n - sum(counts.values())]:
            counts[kind] += 1
        return counts
