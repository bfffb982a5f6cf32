"""The pipeline: retrieve, rerank, generate, put together from ready parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.errors import ConfigError
from ..core.types import Answer, Chunk, Document, Embedder, Generator, Hit, Index, Question, Reranker
from .chunk import merge_hits
from .index import BM25Index
from .retrieve import Candidates, RetrieveSettings, document_codes, fuse, search, to_hits

__all__ = ["Pipeline"]


@dataclass(frozen=True)
class Pipeline:
    """Answers questions from chunks; made once, used many times.

    Attributes:
        chunks: What is searched; index positions are places in it.
        settings: How results are fused and cut.
        embedder: Encodes questions, with the prefix they need; None where only words are searched.
        index: Of the chunks' vectors.
        bm25: Of the chunks' texts; None where only vectors are searched.
        reranker: Sorts hits anew; None keeps the order of retrieval.
        generator: Answers; None where only retrieval is wanted.
        chunker: Made the chunks; needed where larger stretches are read than are searched (`merge_hits`).
        documents: Texts of those stretches, by id.

    Raises:
        ConfigError: The settings' mode needs a part that is not there.
    """

    chunks: Sequence[Chunk]
    settings: RetrieveSettings
    embedder: Embedder | None = None
    index: Index | None = None
    bm25: BM25Index | None = None
    reranker: Reranker | None = None
    generator: Generator | None = None
    chunker: Any = None
    documents: Mapping[str, Document] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that the parts fit the mode."""
        dense, words = self.settings.channels
        if dense and (self.embedder is None or self.index is None):
            raise ConfigError(f"retrieve.mode is '{self.settings.mode}', which needs an embedder and an index")
        if words and self.bm25 is None:
            raise ConfigError(f"retrieve.mode is '{self.settings.mode}', which needs a BM25 index")

    def candidates(self, queries: Sequence[str], fetch_k: int | None = None) -> Candidates:
        """One search of the channels that the mode uses, for `fuse` with this or other settings."""
        dense, words = self.settings.channels
        return search(
            queries,
            fetch_k or self.settings.fetch_k,
            self.embedder if dense else None,
            self.index if dense else None,
            self.bm25 if words else None,
        )

    def retrieve(self, queries: Sequence[str]) -> list[list[Hit]]:
        """The hits of each question, best first, at most `top_k`.

        With a reranker, as many hits as it wants (`depth`) are scored anew before the best are kept.
        """
        if not queries:
            return []
        merges = hasattr(self.chunker, "family")
        limit = self.settings.fetch_k if merges else self.settings.top_k
        if self.reranker is not None:
            limit = max(limit, getattr(self.reranker, "depth", self.settings.fetch_k))
        scores, positions = fuse(self.candidates(queries), self.settings, self._documents(), limit)
        hits = to_hits(scores, positions, self.chunks)
        if self.reranker is not None:
            hits = self.reranker.rerank(queries, hits)
        if merges:
            hits = merge_hits(hits, self.chunker, self.documents, self.settings.top_k)
        return [list(row[: self.settings.top_k]) for row in hits]

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Retrieves for each question and answers it, one answer a question, in order.

        Raises:
            ConfigError: There is no generator.
        """
        if self.generator is None:
            raise ConfigError("this pipeline has no generator, so it can retrieve but not answer")
        if not questions:
            return []
        hits = self.retrieve([question.text for question in questions])
        return self.generator.generate(questions, [[hit.chunk for hit in row] for row in hits])

    def ask(self, text: str) -> Answer:
        """Answers one question."""
        return self.answer([Question(id="ask", text=text, answer="")])[0]

    def as_retriever(self) -> Any:
        """A LlamaIndex retriever over this pipeline."""
        from .llama_index import make_retriever

        return make_retriever(self)

    def as_query_engine(self) -> Any:
        """A LlamaIndex query engine over this pipeline; an answer that failed raises StageError."""
        from .llama_index import make_query_engine

        return make_query_engine(self)

    def _documents(self) -> np.ndarray | None:
        return document_codes(self.chunks) if self.settings.per_document is not None else None
