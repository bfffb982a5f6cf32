"""Embedders: texts to unit vectors.

    sentence_transformer  any model of the sentence-transformers library: a folder or a hub name
    static                token vectors distilled from such a model and averaged: hundreds of times faster, less exact

`CachedEmbedder` wraps either, so that a text is encoded once whatever asks for it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ..core.components import Resources, Settings, component_section
from ..core.devices import fingerprint
from ..core.errors import DataError
from ._embedder import Role, SentenceTransformerEmbedder, unit_vectors
from ._library import load_model, model_folder, position_limit
from .cached import CachedEmbedder
from .static import StaticSettings, distill

__all__ = [
    "EMBEDDERS",
    "CachedEmbedder",
    "EmbedSection",
    "Role",
    "SentenceTransformerEmbedder",
    "SentenceTransformerSettings",
    "StaticSettings",
    "distill",
    "model_folder",
    "unit_vectors",
]


class SentenceTransformerSettings(Settings):
    """A model of the sentence-transformers library."""

    cost: ClassVar[str] = (
        "about 15 chunks of 200 tokens a second and core (22 M parameters, fp32; bf16 about twice that)"
    )
    kind: Literal["sentence_transformer"] = "sentence_transformer"
    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A folder with a saved model (a finetuned one, say), or a hub name, downloaded once."""
    query_prefix: str | None = None
    """Put before each query, for instance `query: ` for E5; null takes the model's own prompt. Costs its tokens."""
    document_prefix: str | None = None
    """Put before each chunk, for instance `passage: `; null takes the model's own prompt. Costs its tokens."""
    max_length: int | None = Field(default=None, ge=8)
    """Tokens of a text that are read, the rest is cut; null takes the model's own limit. Time grows with it."""
    batch_size: int = Field(default=32, ge=1)
    """Texts a forward pass: memory and speed only, never the result."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes in half the bits: 1.5 to 2.4 times as fast on CPUs with AVX512-BF16, slower on CPUs without."""
    truncate_dim: int | None = Field(default=None, ge=1)
    """Keep the first so many dimensions: smaller index; harmless only for models trained for it (Matryoshka)."""

    def build(self, resources: Resources) -> SentenceTransformerEmbedder:
        """Loads the model.

        Raises:
            DataError: No such model, or it cannot take `max_length` tokens or give `truncate_dim` dimensions.
        """
        folder = model_folder(self.model, resources)
        model = load_model(folder, resources.device)
        if self.max_length is not None:
            limit = position_limit(model)
            if limit is not None and self.max_length > limit:
                raise DataError(
                    f"embedder: max_length is {self.max_length}, but the model '{self.model}' "
                    f"takes {limit} tokens at most"
                )
            model.max_seq_length = self.max_length
        full = model.get_embedding_dimension()
        if self.truncate_dim is not None and self.truncate_dim > full:
            raise DataError(
                f"embedder: truncate_dim is {self.truncate_dim}, but the model '{self.model}' gives {full} dimensions"
            )
        prefixes = {"query": self.query_prefix, "document": self.document_prefix}
        return SentenceTransformerEmbedder(model, str(folder), prefixes, self.batch_size, self.dtype, self.truncate_dim)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """The settings that matter and the fingerprint of the weights, wherever they lie."""
        settings = self.model_dump(mode="json", exclude={"model", "batch_size"})
        return {**settings, "version": self.version, "weights": fingerprint(model_folder(self.model, resources))}


EMBEDDERS = (SentenceTransformerSettings, StaticSettings)
"""Settings of the built-in embedders."""

EmbedSection = component_section("embedder", *EMBEDDERS)
"""Type of a config field that takes an embedder."""
