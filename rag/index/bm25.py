"""BM25 over words (Robertson & Zaragoza 2009), by bm25s, in Lucene's variant (Kamphuis et al. 2020)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ...core.components import Model
from ...core.errors import DataError
from ...core.files import write_atomic
from .topk import top_k
from .words import Compounds, StopWords, stop_words, words

__all__ = ["BM25Index", "BM25Settings"]


class BM25Settings(Model):
    """Search by words."""

    k1: float = Field(default=1.5, ge=0)
    """How much a word's repetition counts; 0 counts it once."""
    b: float = Field(default=0.75, ge=0, le=1)
    """How much long chunks are marked down; 0 not at all."""
    stemmer: Literal["english", "german", "dutch", "french", "spanish", "italian", "portuguese"] | None = "english"
    """Language of the Snowball stemmer, by which `lockers` finds `locker`; None matches words as written."""
    stop_words: StopWords | tuple[str, ...] | None = "english"
    """Common words left out: a language, or words of your own; None keeps all, which makes the index larger."""
    compounds: Compounds = "both"
    """Joined words such as `E-417` or `door.retry_max`: `split` indexes their parts, `both` the whole as well."""

    def build(self, texts: Sequence[str]) -> BM25Index:
        """Indexes texts; positions are theirs."""
        return BM25Index.build(texts, self)


class BM25Index:
    """An index of texts by words; made by `build` or `load`."""

    def __init__(self, settings: BM25Settings, engine: Any, vocabulary: dict[str, int], size: int) -> None:
        """Use `build` or `load`."""
        self.settings = settings
        self._engine = engine
        self._vocabulary = vocabulary
        self._size = size
        self._stops = stop_words(settings.stop_words)

    @classmethod
    def build(cls, texts: Sequence[str], settings: BM25Settings) -> BM25Index:
        """Indexes texts.

        Args:
            texts: What is searched; positions in results are places in this list.
            settings: How.
        """
        import bm25s

        vocabulary: dict[str, int] = {}
        stops = stop_words(settings.stop_words)
        # numbered in order of appearance: bm25s itself goes through a set, whose order differs between processes
        ids = [
            [vocabulary.setdefault(word, len(vocabulary)) for word in text]
            for text in words(texts, settings.stemmer, stops, settings.compounds)
        ]
        engine = None
        if vocabulary:
            engine = bm25s.BM25(k1=settings.k1, b=settings.b, method="lucene", backend="numpy")
            engine.index((ids, dict(vocabulary)), create_empty_token=False, show_progress=False)
        return cls(settings, engine, vocabulary, len(texts))

    def search(
        self, queries: Sequence[str], k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best texts for each query; a text that shares no word with it is no result.

        Args:
            queries: The questions.
            k: How many.
            allowed: Mask of the texts that may be found, shape (texts,); None for all. It leaves scores as they are.

        Returns:
            (scores, positions), float32 and int64 of shape (queries, k), best first, equal scores by position;
            -inf and -1 where fewer than k.
        """
        best = np.full((len(queries), k), -np.inf, dtype=np.float32)
        where = np.full((len(queries), k), -1, dtype=np.int64)
        asked = words(queries, self.settings.stemmer, self._stops, self.settings.compounds)
        for row, query in enumerate(asked):
            known = [self._vocabulary[word] for word in query if word in self._vocabulary]
            if known:
                found = np.asarray(self._engine.get_scores_from_ids(known), dtype=np.float32)
                counts = found > 0 if allowed is None else (found > 0) & allowed
                places = np.flatnonzero(counts)
                best[row : row + 1], local = top_k(found[None, places], k)
                where[row] = np.where(local[0] < 0, -1, places[local[0]]) if len(places) else -1
        return best, where

    def save(self, folder: Path) -> None:
        """Writes the index to a folder, as arrays and JSON."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self._engine is not None:
            self._engine.save(folder, allow_pickle=False, show_progress=False)
        meta = {"kind": "bm25", "size": self._size, "settings": self.settings.model_dump(mode="json")}
        write_atomic(folder / "bm25.json", json.dumps(meta, indent=2).encode())

    @classmethod
    def load(cls, folder: Path) -> BM25Index:
        """Reads what `save` wrote.

        Raises:
            DataError: No BM25 index is there.
        """
        import bm25s

        path = Path(folder) / "bm25.json"
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise DataError(f"no BM25 index in {folder}: {path.name} is missing or cannot be read; build it") from None
        settings = BM25Settings.model_validate(meta["settings"])
        if not (Path(folder) / "params.index.json").is_file():
            return cls(settings, None, {}, meta["size"])
        engine = bm25s.BM25.load(folder, show_progress=False)
        return cls(settings, engine, dict(engine.vocab_dict), meta["size"])
