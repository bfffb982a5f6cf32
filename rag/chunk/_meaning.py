"""Vectors of pieces of text, for chunkers that cut where the meaning changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ...core.cache import VectorCache, digest
from ...core.components import Resources, Settings
from ...core.devices import fingerprint, locate_model
from ...core.errors import DataError

__all__ = ["MeaningSettings", "PieceVectors"]

_SEGMENT = 2000  # texts encoded between two writes, so that a kill loses little


class MeaningSettings(Settings):
    """What chunkers that embed pieces of text have in common."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Embedding model that compares the pieces: a folder or a hub name. It need not be the one that searches; every
    piece of the corpus is encoded once, which costs about as much as encoding the corpus."""
    tokenizer: Literal["words", "cl100k"] = "words"
    """What a token is: `words` counts words and punctuation marks (fast), `cl100k` is OpenAI's byte-pair encoding."""
    batch_size: int = Field(default=64, ge=1)
    """Pieces a forward pass: memory and speed only, never the result."""

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The settings that matter and the fingerprint of the model's weights, wherever they lie."""
        kept = self.model_dump(mode="json", exclude={"model", "batch_size"})
        return {**kept, "version": self.version, "weights": fingerprint(_folder(self.model, resources))}


class PieceVectors:
    """Unit vectors of pieces, each unique piece encoded once and kept for chunkers with other settings."""

    def __init__(self, settings: MeaningSettings, resources: Resources) -> None:
        """Finds the model; it is loaded at the first piece that is not known.

        Raises:
            DataError: There is no such model.
        """
        self._folder = _folder(settings.model, resources)
        self._batch_size = settings.batch_size
        self._device = resources.device
        weights = fingerprint(self._folder)
        self._cache = VectorCache(resources.cache_dir / "piece-vectors" / weights[:20])
        self._model: Any = None

    def prepare(self, texts: Sequence[str]) -> None:
        """Encodes those that are not known yet, the longest first."""
        keys = {digest(text): text for text in texts}
        missing = sorted(self._cache.missing(keys), key=lambda key: -len(keys[key]))
        for start in range(0, len(missing), _SEGMENT):
            part = missing[start : start + _SEGMENT]
            self._cache.put(part, self._encode([keys[key] for key in part]))

    def get(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32, shape (len(texts), dimension)."""
        self.prepare(texts)
        return self._cache.get([digest(text) for text in texts])

    def _encode(self, texts: list[str]) -> np.ndarray:
        if self._model is None:
            self._model = _load(self._folder, self._device)
        vectors = self._model.encode(texts, batch_size=self._batch_size, show_progress_bar=False)
        vectors = np.asarray(vectors, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():
            raise DataError(f"chunk.model: {self._folder} gives vectors that are not finite; use another model")
        return np.divide(vectors, lengths, out=vectors, where=lengths > 0)


def _folder(name: str, resources: Resources) -> Path:
    place = locate_model(name, resources.base_dir)
    if Path(place).is_dir():
        return Path(place)
    from ...core.chat.weights import resolve_model

    return resolve_model(name, resources, "chunk.model")


def _load(folder: Path, device: str) -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from ...core.quiet import quiet_libraries

    with quiet_libraries():
        from sentence_transformers import SentenceTransformer

        try:
            return SentenceTransformer(str(folder), device=device, local_files_only=True)
        except Exception as error:  # transformers raises errors of many kinds for a broken model
            raise DataError(f"chunk.model: {folder} cannot be loaded as an embedding model: {error}") from None
