"""The pipeline: transform, search, rerank, finish, generate, put together from ready parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..core.errors import ConfigError
from ..core.types import Answer, Chunk, Document, Embedder, Generator, Hit, Index, Question, Reranker
from .index import BM25Index
from .rerank import Failure, Reranked, rerank_with
from .rerank.result import whole
from .retrieve import (
    Candidates,
    Corpus,
    RetrieveSettings,
    finish,
    fuse,
    needs_documents,
    search,
    search_depth,
    to_hits,
)
from .transform import Expansion, LLMTransform, as_asked

__all__ = ["Pipeline"]

Filter = Mapping[str, Sequence[str]]
"""For each key of the metadata the values, as patterns, of which a document must have one."""


@dataclass(frozen=True)
class Pipeline:
    """Answers questions from chunks; made once, used many times.

    Attributes:
        chunks: What is searched; index positions are places in it.
        settings: How results are fused, cut and widened.
        embedder: Encodes questions, with the prefix they need; None where only words are searched.
        index: Of the chunks' vectors.
        bm25: Of the chunks' texts; None where only vectors are searched.
        reranker: Sorts hits anew; None keeps the order of retrieval.
        generator: Answers; None where only retrieval is wanted.
        chunker: Made the chunks; needed where larger stretches are read than are searched (`merge_hits`).
        documents: Texts of those stretches, by id; `settings.neighbours` needs them too.
        transform: Says what to search for in place of a question; None searches for the question.
        vectors: Of the chunks, shape (chunks, dimension); `settings.mmr` needs them.
        metadata: Of the documents, by id, for filters; None takes that of `documents`.

    Raises:
        ConfigError: The settings need a part that is not there.
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
    transform: LLMTransform | None = None
    vectors: np.ndarray | None = None
    metadata: Mapping[str, Mapping[str, str]] | None = None

    def __post_init__(self) -> None:
        """Checks that the parts fit the settings."""
        dense, words = self.settings.channels
        if dense and (self.embedder is None or self.index is None):
            raise ConfigError(f"retrieve.mode is '{self.settings.mode}', which needs an embedder and an index")
        if words and self.bm25 is None:
            raise ConfigError(f"retrieve.mode is '{self.settings.mode}', which needs a BM25 index")
        if self.settings.mmr is not None and self.vectors is None:
            raise ConfigError("retrieve.mmr needs the chunks' vectors")
        if needs_documents(self.settings, self.chunker) and not self.documents and len(self.chunks):
            raise ConfigError("larger stretches are read than are searched, which needs the documents")

    @cached_property
    def corpus(self) -> Corpus:
        """The chunks with what is looked up about them."""
        return Corpus(self.chunks, self.documents, self.metadata)

    def candidates(
        self, queries: Sequence[str] | Sequence[Expansion], fetch_k: int | None = None, filter: Filter | None = None
    ) -> Candidates:
        """One search of the channels that the mode uses, for `fuse` with this or other settings.

        Args:
            queries: Questions, or what the transform made of them.
            fetch_k: Chunks a channel that are to be fused; the settings' by default.
            filter: See `retrieve`.
        """
        dense, words = self.settings.channels
        return search(
            queries,
            search_depth(fetch_k or self.settings.fetch_k),
            self.embedder if dense else None,
            self.index if dense else None,
            self.bm25 if words else None,
            self._allowed(filter),
            self.transform.combine if self.transform is not None else "rrf",
        )

    def retrieve(self, queries: Sequence[str], filter: Filter | None = None) -> list[list[Hit]]:
        """The hits of each question, best first, at most `top_k`.

        Args:
            queries: The questions.
            filter: Which chunks may be found, beside the settings' own filter and in the same form, for instance
                `{"path": ["guides/*"]}`; where nothing passes, nothing is found.

        Raises:
            ConfigError: A key of the filter that no document has.
            StageError: The query transform or the reranker failed on a question.
        """
        return whole(self.attempt(queries, filter))

    def attempt(self, queries: Sequence[str], filter: Filter | None = None) -> Reranked:
        """As `retrieve`; a question that the query transform or the reranker fails on has no hits, and its reason."""
        if not queries:
            return Reranked([])
        asked = self.transform.expand(queries) if self.transform is not None else as_asked(queries)
        failures = {place: Failure(one.status, one.detail) for place, one in enumerate(asked) if one.status != "ok"}
        found = self.candidates(asked, filter=filter)
        codes = self.corpus.codes if self.settings.per_document is not None else None
        hits = to_hits(*fuse(found, self.settings, codes, self.settings.fetch_k), self.chunks)
        if self.reranker is not None:
            reranked = rerank_with(self.reranker, queries, hits)
            hits, failures = reranked.hits, {**failures, **reranked.failures}
        done = finish(hits, self.settings, self.corpus, self.chunker, self.vectors)
        return Reranked([row[: self.settings.top_k] for row in done], failures)

    def answer(self, questions: Sequence[Question], filter: Filter | None = None) -> list[Answer]:
        """Retrieves for each question and answers it, one answer a question, in order; failures are a status.

        Args:
            questions: What is asked.
            filter: See `retrieve`.

        Raises:
            ConfigError: There is no generator.
        """
        if self.generator is None:
            raise ConfigError("this pipeline has no generator, so it can retrieve but not answer")
        if not questions:
            return []
        found = self.attempt([question.text for question in questions], filter)
        known = [place for place in range(len(questions)) if place not in found.failures]
        contexts = [[hit.chunk for hit in found.hits[place]] for place in known]
        made = dict(zip(known, self.generator.generate([questions[p] for p in known], contexts), strict=True))
        for place, why in found.failures.items():
            made[place] = Answer(questions[place].id, "", status=why.status, detail=why.detail)
        return [made[place] for place in range(len(questions))]

    def ask(self, text: str, filter: Filter | None = None) -> Answer:
        """Answers one question."""
        return self.answer([Question(id="ask", text=text, answer="")], filter)[0]

    def as_retriever(self) -> Any:
        """A LlamaIndex retriever over this pipeline."""
        from .llama_index import make_retriever

        return make_retriever(self)

    def as_query_engine(self) -> Any:
        """A LlamaIndex query engine over this pipeline; an answer that failed raises StageError."""
        from .llama_index import make_query_engine

        return make_query_engine(self)

    def _allowed(self, filter: Filter | None) -> np.ndarray | None:
        own = self.corpus.allowed(self.settings.filter)
        if not filter:
            return own
        patterns = {key: [value] if isinstance(value, str) else list(value) for key, value in filter.items()}
        given = self.corpus.allowed(patterns, may_be_empty=True)
        return given if own is None or given is None else own & given
