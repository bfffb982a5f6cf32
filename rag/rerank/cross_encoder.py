"""Cross-encoders: a model reads question and passage together and gives one score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.chat.weights import resolve_model, weights_fingerprint
from ...core.components import Resources, Settings
from ...core.errors import DataError
from ...core.quiet import quiet_libraries
from ...core.types import Hit
from .order import reordered, shown

__all__ = ["CrossEncoderReranker", "CrossEncoderSettings"]


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
    """A loaded cross-encoder.

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

    def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
        """Scores the first `depth` hits of each question anew; deeper ones are left out."""
        tops = [list(row[: self.depth]) for row in hits]
        pairs = [
            (question, shown(hit.chunk, self._settings.with_heading))
            for question, row in zip(questions, tops, strict=True)
            for hit in row
        ]
        if not pairs:
            return tops
        model = self._load()
        scores = iter(model.predict(pairs, batch_size=self._settings.batch_size, show_progress_bar=False).tolist())
        return [reordered(row, [next(scores) for _ in row]) for row in tops]

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
