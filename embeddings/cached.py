"""A cache in front of an embedder: each unique text is encoded once, and a kill loses little."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.cache import VectorCache, digest
from ..core.errors import StageError
from ..core.progress import Reporter
from ..core.types import Embedder
from ._embedder import Role, unit_vectors

__all__ = ["CachedEmbedder"]

SEGMENT = 2000
"""Texts written at a time: a kill loses at most so many."""
SLICE = 256
"""Texts handed to the embedder at a time: how often progress moves."""
_PREFIXES = ("query_prefix", "document_prefix")


class CachedEmbedder:
    """Encodes what a cache does not hold; meets `core.types.Embedder`."""

    def __init__(
        self,
        embedder: Embedder,
        identity: Mapping[str, Any],
        cache: VectorCache,
        reporter: Reporter | None = None,
    ) -> None:
        """Wraps an embedder.

        Args:
            embedder: Encodes the texts.
            identity: `settings.identity(resources)`: all that determines its vectors.
            cache: Where vectors are kept; may serve any number of embedders.
            reporter: Where progress goes; none is shown without one.
        """
        self.embedder = embedder
        self._identity = dict(identity)
        self._cache = cache
        self._reporter = reporter or Reporter(quiet=True)

    @property
    def dimension(self) -> int:
        """Length of a vector; an endpoint may have to be asked for it."""
        return int(self.embedder.dimension)

    def keys(self, texts: Sequence[str], role: Role) -> list[str]:
        """Keys of texts in the cache: a digest of the embedder's identity, the role's prefix, and the text."""
        variant = getattr(self.embedder, "variant", None)
        if variant is None:
            base = digest([self._identity, role])
        else:
            # Only the role's own prefix matters, so another query prefix leaves the documents' vectors valid.
            shared = {key: value for key, value in self._identity.items() if key not in _PREFIXES}
            base = digest([shared, variant(role)])
        return [digest([base, text]) for text in texts]

    def missing(self, texts: Sequence[str], role: Role) -> int:
        """How many unique texts would have to be encoded: the cost of `encode`, for a plan."""
        return len(self._cache.missing(self.keys(texts, role)))

    def encode(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """Vectors of texts, in their order; those that the cache lacks are encoded and added.

        Raises:
            StageError: The embedder gave NaN, another number or length of vectors than it should, or another length
                than it gave when others of these texts were encoded.
        """
        if not len(texts):
            return np.zeros((0, self.dimension), dtype=np.float32)
        keys = self.keys(texts, role)
        text_of = dict(zip(keys, texts, strict=True))
        missing = self._cache.missing(keys)
        if missing:
            self._add(missing, text_of, role)
        try:
            return self._cache.get(keys)
        except ValueError as error:  # rows of unlike length
            raise StageError(
                "the embedder's vectors of today and those kept of it have different dimensions: another model answers "
                "under its name. Change `model` to a name of its own, or delete the folder vectors/ of the cache"
            ) from error

    def _add(self, missing: list[str], text_of: Mapping[str, str], role: Role) -> None:
        ordered = sorted(missing, key=lambda key: len(text_of[key]), reverse=True)
        slices = [ordered[start : start + SLICE] for start in range(0, len(ordered), SLICE)]
        # Equal lengths side by side save padding. The longest go first (memory runs out at once or never); the order of
        # the rest is mixed, for an honest time left.
        rest = slices[1:]
        random.Random(0).shuffle(rest)
        made: list[tuple[list[str], np.ndarray]] = []
        try:
            with self._reporter.task(f"encode ({role})", len(ordered), "texts") as task:
                for part in [slices[0], *rest]:
                    made.append((part, self._encode(part, text_of, role)))
                    task.advance(len(part))
                    if sum(len(keys) for keys, _ in made) >= SEGMENT:
                        self._put(made)
                        made = []
        finally:
            # Also after an error: what an endpoint has encoded is paid for.
            self._put(made)

    def _put(self, made: Sequence[tuple[list[str], np.ndarray]]) -> None:
        if made:
            keys = [key for part, _ in made for key in part]
            self._cache.put(keys, np.concatenate([vectors for _, vectors in made]))

    def _encode(self, keys: Sequence[str], text_of: Mapping[str, str], role: Role) -> np.ndarray:
        name = type(self.embedder).__name__
        vectors = np.asarray(self.embedder.encode([text_of[key] for key in keys], role))
        if vectors.shape != (len(keys), self.dimension):
            raise StageError(
                f"{name}: encode gave an array of shape {vectors.shape} for {len(keys)} texts; "
                f"({len(keys)}, {self.dimension}) was expected"
            )
        return unit_vectors(vectors, name, getattr(self.embedder, "normalize", True))
