"""One RAG pipeline as a config has it."""

from __future__ import annotations

import json
from typing import Any

from ..core.components import Model
from ..core.config import apply_overrides, validate
from ..embeddings.encode import EmbedSection, SentenceTransformerSettings
from ..rag.chunk import ChunkSection, RecursiveSettings
from ..rag.context import ContextSection, NoneSettings
from ..rag.generate import ExtractiveSettings, GeneratorSection
from ..rag.index import BM25Settings, FlatIndexSettings, IndexSection
from ..rag.parse import ParseSettings
from ..rag.rerank import NoRerankerSettings, RerankerSection
from ..rag.retrieve import RetrieveSettings
from ..rag.transform import NoTransformSettings, TransformSection

__all__ = ["PipelineConfig", "with_changes"]


class PipelineConfig(Model):
    """One RAG pipeline, from files to answers."""

    parse: ParseSettings = ParseSettings()
    """How files become text."""
    chunk: ChunkSection = RecursiveSettings()  # pyright: ignore[reportInvalidTypeForm]
    """How text is cut."""
    context: ContextSection = NoneSettings()  # pyright: ignore[reportInvalidTypeForm]
    """What is embedded with a chunk."""
    embed: EmbedSection = SentenceTransformerSettings()  # pyright: ignore[reportInvalidTypeForm]
    """The embedding model."""
    query_adapter: str | None = None
    """Folder of a trained query adapter, which moves query vectors only: no new index. Costs nothing to use."""
    index: IndexSection = FlatIndexSettings()  # pyright: ignore[reportInvalidTypeForm]
    """The vector index."""
    bm25: BM25Settings = BM25Settings()
    """Lexical search, used where `retrieve.mode` is bm25 or hybrid."""
    transform: TransformSection = NoTransformSettings()  # pyright: ignore[reportInvalidTypeForm]
    """What is searched for in place of the question, by an LLM."""
    retrieve: RetrieveSettings = RetrieveSettings()
    """Search and fusion."""
    rerank: RerankerSection = NoRerankerSettings()  # pyright: ignore[reportInvalidTypeForm]
    """A second, dearer look at the best hits."""
    generate: GeneratorSection = ExtractiveSettings()  # pyright: ignore[reportInvalidTypeForm]
    """Who answers."""


def with_changes(pipeline: PipelineConfig, changes: dict[str, Any]) -> PipelineConfig:
    """A pipeline with some settings changed.

    Args:
        pipeline: The starting point.
        changes: Key path below `pipeline`: new value. A mapping replaces the whole section.

    Raises:
        ConfigError: A value does not fit.
    """
    data = pipeline.model_dump(mode="json")
    overrides = [f"{path}={json.dumps(value)}" for path, value in changes.items()]
    named = ", ".join(f"{path}={json.dumps(value)}" for path, value in changes.items())
    return validate(apply_overrides(data, overrides), PipelineConfig, f"pipeline with {named}")
