"""What retrieval looks up about the chunks: their documents, their places, and which of them a filter lets pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from ...core.errors import ConfigError, did_you_mean
from ...core.types import Chunk, Document
from .fuse import document_codes

__all__ = ["Corpus", "metadata_of"]

_OWN = ("path", "format", "title", "ref")


def metadata_of(documents: Sequence[Document]) -> dict[str, dict[str, str]]:
    """The documents' metadata by document id."""
    return {document.id: dict(document.metadata) for document in documents}


class Corpus:
    """Chunks, with tables that are made at their first use and kept.

    Attributes:
        chunks: What is searched; index positions are places in it.
        documents: By id, where larger stretches are read than are searched; may be empty.
        metadata: By document id, for filters.
    """

    def __init__(
        self,
        chunks: Sequence[Chunk],
        documents: Mapping[str, Document] | None = None,
        metadata: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Takes chunks and what is known of their documents.

        Args:
            chunks: What is searched.
            documents: By id; needed for `neighbours` and for chunkers whose chunks are read larger.
            metadata: By document id; taken from the documents where not given.
        """
        self.chunks = chunks
        self.documents: Mapping[str, Document] = documents or {}
        self.metadata: Mapping[str, Mapping[str, str]] = (
            metadata_of(list(self.documents.values())) if metadata is None else metadata
        )
        self._masks: dict[str, np.ndarray] = {}

    @cached_property
    def codes(self) -> np.ndarray:
        """A number for each chunk's document, int64 of shape (chunks,)."""
        return document_codes(self.chunks)

    @cached_property
    def of_document(self) -> dict[str, list[Chunk]]:
        """Each document's chunks, in order of start."""
        found: dict[str, list[Chunk]] = {}
        for chunk in self.chunks:
            found.setdefault(chunk.doc_id, []).append(chunk)
        return {doc_id: sorted(chunks, key=lambda chunk: (chunk.start, chunk.end)) for doc_id, chunks in found.items()}

    @cached_property
    def _places(self) -> dict[tuple[str, int, int], int]:
        return {(chunk.doc_id, chunk.start, chunk.end): place for place, chunk in enumerate(self.chunks)}

    def place(self, chunk: Chunk) -> int:
        """Where a chunk stands in `chunks`; KeyError for one that does not."""
        return self._places[chunk.doc_id, chunk.start, chunk.end]

    def allowed(self, patterns: Mapping[str, Sequence[str]], may_be_empty: bool = False) -> np.ndarray | None:
        """The chunks that a filter lets be found, as a mask of shape (chunks,); None where there is no filter.

        Args:
            patterns: See `RetrieveSettings.filter`.
            may_be_empty: Whether a filter that no document matches is right, as one given with a question may be.

        Raises:
            ConfigError: A key that no document has, or no document matches.
        """
        if not patterns:
            return None
        key = repr(sorted((name, tuple(values)) for name, values in patterns.items()))
        if key not in self._masks:
            self._check_keys(patterns)
            first = {chunk.doc_id: chunk for chunk in reversed(self.chunks)}
            passing = {doc_id for doc_id, chunk in first.items() if self._passes(chunk, patterns)}
            if not passing and first and not may_be_empty:
                shown = ", ".join(f"{name}: {' or '.join(values)}" for name, values in patterns.items())
                raise ConfigError(f"retrieve.filter: none of the {len(first)} documents matches {shown}")
            self._masks[key] = np.fromiter((chunk.doc_id in passing for chunk in self.chunks), bool, len(self.chunks))
        return self._masks[key]

    def _check_keys(self, patterns: Mapping[str, Sequence[str]]) -> None:
        known = {*_OWN, *(name for facts in self.metadata.values() for name in facts)}
        for name in patterns:
            if name not in known:
                hint = did_you_mean(name, known, "known: " + ", ".join(sorted(known)[:20]))
                raise ConfigError(f"retrieve.filter: no document has a '{name}' ({hint})")

    def _passes(self, chunk: Chunk, patterns: Mapping[str, Sequence[str]]) -> bool:
        facts = {
            **self.metadata.get(chunk.doc_id, {}),
            "path": chunk.doc_id,
            "format": PurePosixPath(chunk.doc_id).suffix.removeprefix(".").lower(),
            "title": chunk.title,
            "ref": chunk.ref,
        }
        return all(
            name in facts and any(fnmatchcase(facts[name], pattern) for pattern in values)
            for name, values in patterns.items()
        )
