"""Training pairs from outside: files of pairs and triplets, BEIR folders, logged clicks and feedback.

    pairs      JSONL or CSV: query, positive; also negative, negative_1 ..., score
    beir       the train judgements of a BEIR folder
    feedback   JSONL, a line a shown passage: query, and text or chunk_id; clicked, or rating (above 0 good, below bad)

What dev or test asks, or answers, is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ..core.components import Model
from ..core.errors import DataError
from ..embeddings.pair_files import load_feedback, load_pair_file
from ..embeddings.pairs import Pair, PairSet, filtered_pairs
from ..eval.load_beir import load_beir

__all__ = ["PairSource", "add_sources"]


class PairSource(Model):
    """A file or folder of training pairs."""

    path: str
    """A relative path starts from the config file's folder."""
    format: Literal["pairs", "beir", "feedback"] = "pairs"
    """pairs: JSONL or CSV with query and positive, perhaps negatives or a score; beir: the train judgements of a
    folder; feedback: JSONL of clicks or ratings of shown passages."""


def add_sources(
    pairs: PairSet,
    sources: Sequence[tuple[Path, PairSource]],
    texts_by_id: Mapping[str, str],
    held_out_queries: Iterable[str],
    held_out_texts: Iterable[str],
) -> PairSet:
    """The pairs of the train questions and those of the sources, without leaks, duplicates and contradictions.

    Args:
        pairs: Of the train questions; may be empty.
        sources: Where each source lies, and its settings.
        texts_by_id: Embedding text by chunk id, for feedback that names chunks.
        held_out_queries: What dev and test ask.
        held_out_texts: Passages that answer dev and test questions: they are no positives of a source.

    Raises:
        DataError: A source cannot be read, or nothing is left of all.
    """
    found: list[Pair] = []
    counts: Counter[str] = Counter()
    for path, source in sources:
        if source.format == "beir":
            got, notes = _beir(path), {}
        elif source.format == "feedback":
            got, notes = load_feedback(path, texts_by_id)
        else:
            got, notes = load_pair_file(path), {}
        counts["source_pairs"] += len(got)
        counts.update(notes)
        found += got
    result = filtered_pairs(pairs, found, held_out_queries, held_out_texts, counts)
    if not result.pairs:
        raise DataError(f"no training pairs: {result.summary()}")
    return result


def _beir(path: Path) -> list[Pair]:
    questions = [q for q in load_beir(path).questions if q.split == "train"]
    if not questions:
        raise DataError(f"{path}: no query is judged in qrels/train.tsv")
    return [Pair(q.id, q.text, evidence.text, evidence.doc_id) for q in questions for evidence in q.evidence]
