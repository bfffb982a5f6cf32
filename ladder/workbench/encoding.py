"""What is embedded, and the vectors of a pipeline's chunks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.cache import VectorCache, digest
from ...core.errors import ConfigError
from ...core.store import Stage
from ...core.types import Chunk, Document
from ...embeddings.encode import CachedEmbedder
from ...rag.context import LateSettings, LLMContextSettings, embedding_texts
from ...rag.late import TokenVectors, late_vectors, load_token_vectors, save_token_vectors
from ...rag.parse import ParsedCorpus
from ..config import PipelineConfig

if TYPE_CHECKING:
    from .bench import Workbench

__all__ = ["cached_embedder", "texts_to_embed", "vectors_stage"]


def cached_embedder(bench: Workbench, pipeline: PipelineConfig) -> CachedEmbedder:
    """The pipeline's embedder behind a cache of its own."""
    identity = pipeline.embed.identity(bench.resources)
    cache = VectorCache(bench.resources.cache_dir / "vectors" / digest(identity)[:20])
    return CachedEmbedder(bench.component(pipeline.embed), identity, cache, bench.reporter)


def texts_to_embed(bench: Workbench, pipeline: PipelineConfig) -> list[str]:
    """The text that is embedded (and searched for words) of each chunk, in order.

    What an LLM writes is a stage, whose cost the meters note.

    Raises:
        StageError: The context's LLM failed on some chunks.
        BudgetError: Its budget is used up.
    """
    if isinstance(pipeline.context, LLMContextSettings):
        stage = _written_stage(bench, pipeline)
        texts, usage = bench.get(stage)
        bench.note_tokens(stage, *usage)
        return texts
    chunks, corpus = bench.get(bench.chunks_stage(pipeline)), bench.get(bench.documents_stage(pipeline))
    return embedding_texts(chunks, _by_id(corpus), pipeline.context, bench.resources)


def vectors_stage(bench: Workbench, pipeline: PipelineConfig) -> Stage[np.ndarray]:
    """Chunk vectors, float32, shape (chunks, dimension)."""
    if isinstance(pipeline.context, LateSettings):
        return _late_stage(bench, pipeline)

    def build(out: Path, *_: Any) -> None:
        texts = texts_to_embed(bench, pipeline)
        np.save(out / "vectors.npy", bench.embedder(pipeline).encode(texts, "document"))

    params = {
        "embedder": pipeline.embed.identity(bench.resources),
        "context": pipeline.context.identity(bench.resources),
    }
    inputs: tuple[Stage[Any], ...] = (bench.chunks_stage(pipeline), bench.documents_stage(pipeline))
    if isinstance(pipeline.context, LLMContextSettings):
        # An input, so that its cost counts wherever the vectors are used.
        written = _written_stage(bench, pipeline)
        inputs = (*inputs, written)
        if bench.store.has(written):
            bench.note_tokens(written, *bench.get(written)[1])
    return Stage("encode", params, build, _load_vectors, inputs)


def _late_stage(bench: Workbench, pipeline: PipelineConfig) -> Stage[np.ndarray]:
    """Chunk vectors pooled from one pass over the documents, which every chunker and size shares."""

    def build(out: Path, chunks: list[Chunk], tokens: TokenVectors) -> None:
        np.save(out / "vectors.npy", late_vectors(chunks, tokens))

    inputs = (bench.chunks_stage(pipeline), _token_stage(bench, pipeline))
    return Stage("encode-late", {}, build, _load_vectors, inputs)


def _token_stage(bench: Workbench, pipeline: PipelineConfig) -> Stage[TokenVectors]:
    """Token vectors of all documents; chunking is no part of it."""

    def build(out: Path, corpus: ParsedCorpus) -> None:
        embedder = bench.component(pipeline.embed)
        if not hasattr(embedder, "token_vectors"):
            raise ConfigError(
                f"context 'late' needs an embedder that gives token vectors, which '{pipeline.embed.kind}' does not; "
                "use kind sentence_transformer with a model that pools by the mean, or another context"
            )
        if not getattr(embedder, "normalize", True):
            raise ConfigError("context 'late' gives vectors of length 1; leave embed.normalize out")
        save_token_vectors(out, corpus.documents, embedder, pipeline.context.overlap, bench.reporter)

    embedder = {k: v for k, v in pipeline.embed.identity(bench.resources).items() if k != "query_prefix"}
    params = {"embedder": embedder, "context": pipeline.context.identity(bench.resources)}
    return Stage("tokens", params, build, load_token_vectors, (bench.documents_stage(pipeline),))


def _written_stage(bench: Workbench, pipeline: PipelineConfig) -> Stage[tuple[list[str], tuple[int, int]]]:
    """Texts with contexts that an LLM wrote, and the tokens that they cost."""

    def build(out: Path, chunks: list[Chunk], corpus: ParsedCorpus) -> None:
        context, documents = bench.component(pipeline.context), _by_id(corpus)
        data = {"texts": context.texts(chunks, documents), "usage": context.usage(chunks, documents)}
        (out / "texts.json").write_text(json.dumps(data, ensure_ascii=False), "utf-8", "surrogatepass")

    def load(out: Path) -> tuple[list[str], tuple[int, int]]:
        data = json.loads((out / "texts.json").read_text("utf-8", "surrogatepass"))
        return data["texts"], tuple(data["usage"])

    inputs = (bench.chunks_stage(pipeline), bench.documents_stage(pipeline))
    return Stage("context", {"context": pipeline.context.identity(bench.resources)}, build, load, inputs)


def _by_id(corpus: ParsedCorpus) -> Mapping[str, Document]:
    return {document.id: document for document in corpus.documents}


def _load_vectors(out: Path) -> np.ndarray:
    return np.load(out / "vectors.npy", mmap_mode="r")
