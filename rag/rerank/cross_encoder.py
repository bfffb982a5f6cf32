"""Cross-encoders: a model reads question and passage together and gives one score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.cache import JsonCache, digest
from ...core.chat.weights import resolve_model, weights_fingerprint
from ...core.components import Resources, Settings
from ...core.errors import DataError
from ...core.quiet import quiet_libraries
from ...core.types import Hit
from .order import reordered, shown

__all__ = ["CrossEncoderReranker", "CrossEncoderSettings"]

_KEPT = 2048  # pairs written at a time


class CrossEncoderSettings(Settings):
    """A cross-encoder (Nogueira & Cho 2019), by sentence-transformers."""

    cost: ClassVar[str] = "one pass of the model a question and passage; the dearest step of retrieval"

    kind: Literal["cross_encoder"] = "cross_encoder"
    model: str
    """Folder of the model, or its name on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None takes the newest."""
    depth: int = Field(default=20, ge=1)
    """Hits that are scored anew. More can bring up evidence from further down; time grows with it."""
    max_length: int | None = Field(default=512, ge=16)
    """Tokens of question and passage that are read; the rest of the passage is cut. None takes the model's limit."""
    with_heading: bool = True
    """Shows the model the document's title and headings above the passage."""
    batch_size: int = Field(default=32, ge=1)
    """Pairs read at once. More needs more memory."""

    @property
    def reads_scores(self) -> bool:
        """The scores of retrieval are not read."""
        return False

    def build(self, resources: Resources) -> CrossEncoderReranker:
        """Makes the reranker; weights are loaded at its first use.

        Raises:
            DataError: There is no such model.
        """
        return CrossEncoderReranker(self, resources)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The weights' fingerprint in place of the path; not the batch size."""
        folder = resolve_model(self.model, resources, "rerank.model", self.revision)
        kept = self.model_dump(mode="json", exclude={"model", "revision", "batch_size"})
        return {**kept, "weights": weights_fingerprint(folder, resources), "version": self.version}


class CrossEncoderReranker:
    """A loaded cross-encoder. Each pair of question and passage is scored once and kept, for whatever asks for it.

    Attributes:
        depth: Hits that it wants to see.
    """

    def __init__(self, settings: CrossEncoderSettings, resources: Resources) -> None:
        """Finds the files; see `CrossEncoderSettings.build`."""
        self.depth = settings.depth
        self._settings = settings
        self._device = resources.device
        self._folder = resolve_model(settings.model, resources, "rerank.model", settings.revision)
        self._model: Any = None
        # what determines a pair's score; how many pairs are wanted does not
        left_out = ("depth", "with_heading")
        identity = {key: value for key, value in settings.identity(resources).items() if key not in left_out}
        self._cache = JsonCache(resources.cache_dir / "pairs" / digest(identity)[:20])

    def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
        """Scores the first `depth` hits of each question anew; deeper ones are left out."""
        tops = [list(row[: self.depth]) for row in hits]
        pairs = [
            (question, shown(hit.chunk, self._settings.with_heading))
            for question, row in zip(questions, tops, strict=True)
            for hit in row
        ]
        scores = iter(self._scores(pairs))
        return [reordered(row, [next(scores) for _ in row]) for row in tops]

    def _scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        keys = [digest(list(pair)) for pair in pairs]
        known = self._cache.get_many(keys)
        missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
        if missing:
            model = self._load()
            todo = list(missing.items())
            for start in range(0, len(todo), _KEPT):  # a kill loses at most so many
                part = todo[start : start + _KEPT]
                asked = [pair for _, pair in part]
                found = model.predict(asked, batch_size=self._settings.batch_size, show_progress_bar=False).tolist()
                # rounded, so that what else shares a batch, which changes the last bits, changes no order
                made = {key: round(float(score), 6) for (key, _), score in zip(part, found, strict=True)}
                self._cache.put_many(made)
                known.update(made)
        return [known[key] for key in keys]

    def _load(self) -> Any:
        if self._model is None:
            from sentence_transformers import CrossEncoder

            try:
                with quiet_libraries():
                    model = CrossEncoder(str(self._folder), device=self._device, max_length=self._settings.max_length)
            except Exception as error:  # transformers raises errors of many kinds for a broken model
                raise DataError(f"rerank.model: {self._folder} cannot be loaded as a cross-encoder: {error}") from None
            if model.num_labels != 1:
                raise DataError(
                    f"rerank.model: {self._folder} gives {model.num_labels} scores a pair; a reranker gives one"
                )
            self._model = model
        return self._model
