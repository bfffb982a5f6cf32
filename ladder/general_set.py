"""A set of questions that a model is not trained for, to see what a training makes it forget."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from ..core.components import Model, Resources
from ..core.errors import DataError
from ..core.types import Split
from ..eval.ir import qrels_of, ranking_metrics
from ..eval.load import DataFormat, load_dataset

__all__ = ["GeneralSet", "GeneralSetSettings", "general_set"]

_K = 10
Encode = Callable[[Sequence[str], Literal["query", "document"]], np.ndarray]


class GeneralSetSettings(Model):
    """Another field's questions and documents, searched by the model alone."""

    path: str
    """The data set; a relative path starts from the config file's folder."""
    format: DataFormat = "beir"
    """What `path` is; a format that brings its documents: beir or squad."""
    split: Split | None = None
    """Which of its questions; null: all. Do not report forgetting on the questions that you chose by."""
    queries: int = Field(default=200, ge=10)
    """So many of them, drawn at random."""
    documents: int = Field(default=1000, ge=10)
    """Searched among so many documents: those that answer, and others drawn at random. Each score encodes them."""
    max_loss: float | None = Field(default=0.01, ge=0)
    """A model that loses more nDCG@10 than this here is not taken, however good it is on dev; null: measured only."""
    tries: int = Field(default=3, ge=0, le=8)
    """Where the best on dev loses too much: so many further shares of its weights are tried, each where a line through
    the losses of its neighbours comes near to what may be lost. Each costs a dev evaluation and an encoding of
    `documents`."""

    @model_validator(mode="after")
    def _brings_documents(self) -> GeneralSetSettings:
        if self.format not in ("beir", "squad"):
            raise ValueError(f"format {self.format} brings no documents; use beir or squad")
        return self


class GeneralSet:
    """Questions with the documents that answer them, and others.

    Attributes:
        questions: Texts of the questions.
        documents: Texts that are searched.
    """

    def __init__(self, questions: Sequence[str], relevant: Sequence[dict[str, int]], documents: dict[str, str]) -> None:
        """Keeps what is searched.

        Args:
            questions: Texts.
            relevant: For each the grades of its documents by id.
            documents: Text by id.
        """
        self.questions = tuple(questions)
        self.documents = documents
        self._relevant = tuple(relevant)

    def scores(self, encode: Encode) -> list[float]:
        """nDCG@10 of each question with a model's vectors."""
        ids = list(self.documents)
        vectors = encode([self.documents[name] for name in ids], "document")
        similarity = encode(self.questions, "query") @ np.asarray(vectors).T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :_K]
        return [
            ranking_metrics(grades, [ids[place] for place in row], (_K,))[f"ndcg@{_K}"]
            for grades, row in zip(self._relevant, order, strict=True)
        ]

    def score(self, encode: Encode) -> float:
        """Their mean."""
        return float(np.mean(self.scores(encode)))


def general_set(settings: GeneralSetSettings, resources: Resources, seed: int = 0) -> GeneralSet:
    """Reads a set and draws from it.

    Args:
        settings: Which.
        resources: Their `base_dir` is where a relative path starts from.
        seed: Of the draw.

    Raises:
        DataError: The set cannot be read, or holds no such questions.
    """
    source = resources.path(settings.path)
    imported = load_dataset(settings.format, source if source.exists() else Path(settings.path).absolute())
    asked = [q for q in imported.questions if q.evidence and settings.split in (None, q.split)]
    if not asked:
        raise DataError(f"general set {source}: it has no answerable question of the split '{settings.split}'")
    draw = random.Random(seed)
    asked = draw.sample(asked, min(settings.queries, len(asked)))
    grades = [qrels_of(question) for question in asked]
    texts = dict(imported.documents or {})
    wanted = list(dict.fromkeys(name for one in grades for name in one if name in texts))
    others = sorted(set(texts) - set(wanted))
    room = max(0, min(settings.documents - len(wanted), len(others)))
    chosen = [*wanted, *draw.sample(others, room)]
    return GeneralSet([question.text for question in asked], grades, {name: texts[name] for name in chosen})
