"""Late interaction: each token of the question is matched with its nearest token of the passage (MaxSim)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.chat.weights import resolve_model, weights_fingerprint
from ...core.components import Resources, Settings
from ...core.errors import DataError
from ...core.quiet import quiet_libraries
from ...core.types import Hit
from .order import reordered, shown

__all__ = ["LateInteractionReranker", "LateInteractionSettings", "maxsim"]


class LateInteractionSettings(Settings):
    """MaxSim over an embedding model's token vectors, as in ColBERT (Khattab & Zaharia 2020)."""

    cost: ClassVar[str] = "one pass of an embedding model a passage, each unique passage once"

    kind: Literal["late_interaction"] = "late_interaction"
    model: str
    """Folder of an embedding model, or its name on the Hugging Face hub; it need not be the retriever's."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None takes the newest."""
    depth: int = Field(default=20, ge=1)
    """Hits that are scored anew. More can bring up evidence from further down; time grows with it."""
    max_length: int = Field(default=256, ge=8)
    """Tokens that are read of a text; the rest is cut."""
    with_heading: bool = True
    """Shows the model the document's title and headings above the passage."""
    weight: float = Field(default=1.0, gt=0, le=1)
    """Weight of MaxSim against the retrieval score, both scaled to 0 to 1 within a question; 1 leaves retrieval out."""
    batch_size: int = Field(default=32, ge=1)
    """Texts encoded at once. More needs more memory."""

    @property
    def reads_scores(self) -> bool:
        """The scores of retrieval count where `weight` is below 1."""
        return self.weight < 1

    def build(self, resources: Resources) -> LateInteractionReranker:
        """Makes the reranker; weights are loaded at its first use.

        Raises:
            DataError: There is no such model.
        """
        return LateInteractionReranker(self, resources)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The weights' fingerprint in place of the path; not the batch size."""
        folder = resolve_model(self.model, resources, "rerank.model", self.revision)
        kept = self.model_dump(mode="json", exclude={"model", "revision", "batch_size"})
        return {**kept, "weights": weights_fingerprint(folder, resources), "version": self.version}


def maxsim(question: np.ndarray, passage: np.ndarray) -> float:
    """Mean over the question's tokens of the greatest inner product with a token of the passage.

    ColBERT takes the sum; the mean gives the same order for one question and can be compared between questions.

    Args:
        question: Unit vectors, shape (tokens, dimension).
        passage: Unit vectors, shape (tokens, dimension).
    """
    if not len(question) or not len(passage):
        return 0.0
    return float((question.astype(np.float32) @ passage.astype(np.float32).T).max(axis=1).mean())


class LateInteractionReranker:
    """A loaded token encoder.

    Attributes:
        depth: Hits that it wants to see.
    """

    def __init__(self, settings: LateInteractionSettings, resources: Resources) -> None:
        """Finds the files; see `LateInteractionSettings.build`."""
        self.depth = settings.depth
        self._settings = settings
        self._device = resources.device
        self._folder = resolve_model(settings.model, resources, "rerank.model", settings.revision)
        self._loaded: tuple[Any, Any] | None = None

    def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
        """Scores the first `depth` hits of each question anew; deeper ones are left out."""
        tops = [list(row[: self.depth]) for row in hits]
        texts = [[shown(hit.chunk, self._settings.with_heading) for hit in row] for row in tops]
        vectors = self._encode([*questions, *(text for row in texts for text in row)])
        result: list[list[Hit]] = []
        for question, row, passages in zip(questions, tops, texts, strict=True):
            scores = [maxsim(vectors[question], vectors[passage]) for passage in passages]
            if self._settings.weight < 1:
                scores = _mixed(scores, [hit.score for hit in row], self._settings.weight)
            result.append(reordered(row, scores))
        return result

    def _encode(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Unit vectors of each unique text's tokens, special tokens left out, float16 to save memory."""
        import torch

        if not texts:
            return {}
        tokenizer, model = self._load()
        unique = sorted(dict.fromkeys(texts), key=len)
        found: dict[str, np.ndarray] = {}
        for start in range(0, len(unique), self._settings.batch_size):
            batch = unique[start : start + self._settings.batch_size]
            inputs = tokenizer(
                batch,
                padding=True,
                truncation=True,
                max_length=self._settings.max_length,
                return_special_tokens_mask=True,
                return_tensors="pt",
            )
            special = inputs.pop("special_tokens_mask").bool() | ~inputs["attention_mask"].bool()
            with torch.inference_mode():
                states = model(**inputs.to(self._device)).last_hidden_state.float()
            states = torch.nn.functional.normalize(states, dim=-1).cpu()
            for text, vectors, left_out in zip(batch, states, special, strict=True):
                found[text] = vectors[~left_out].numpy().astype(np.float16)
        return found

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer

            try:
                with quiet_libraries():
                    tokenizer = AutoTokenizer.from_pretrained(self._folder)
                    model = AutoModel.from_pretrained(self._folder).to(self._device).eval()
            except Exception as error:  # transformers raises errors of many kinds for a broken model
                raise DataError(f"rerank.model: {self._folder} cannot be loaded as an encoder: {error}") from None
            self._loaded = tokenizer, model
        return self._loaded


def _mixed(scores: Sequence[float], retrieval: Sequence[float], weight: float) -> list[float]:
    new, old = _scaled(scores), _scaled(retrieval)
    return [weight * a + (1 - weight) * b for a, b in zip(new, old, strict=True)]


def _scaled(scores: Sequence[float]) -> list[float]:
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
