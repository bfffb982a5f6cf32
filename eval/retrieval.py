"""Retrieval metrics over spans: how much of the gold evidence the retrieved chunks hold, how high, at what cost.

Token-level recall, precision, precision-omega and IoU follow Smith and Troynikov, "Evaluating Chunking Strategies for
Retrieval" (Chroma, 2024), counted in characters as their code does. nDCG: Järvelin and Kekäläinen (2002), binary gains.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..core.types import Chunk, Question, Score
from .gold import Gold, GoldSpan, spans_of

__all__ = ["COVER", "evidence_ranks", "retrieval_metrics", "retrieval_scores"]

COVER = 0.5
"""Share of an evidence span that one chunk must hold to count as holding it."""
Interval = tuple[int, int]
"""Start and end (excluded) in a document, in characters."""
_AT_K = ("hit", "evidence_recall", "ndcg", "token_recall", "token_precision", "token_iou")


def retrieval_metrics(ks: Iterable[int], budgets: Iterable[int], precision_omega: bool) -> list[str]:
    """Names of the metrics of evidence that `retrieval_scores` gives; those of cost left out.

    Args:
        ks: Ranks at which is cut.
        budgets: Characters of context at which is cut.
        precision_omega: Whether it was given all chunks, and so has that metric.
    """
    names = [f"{name}@{k}" for k in ks for name in _AT_K]
    names += ["mrr", *(f"evidence_recall@{budget}c" for budget in budgets)]
    return [*names, "precision_omega"] if precision_omega else names


def retrieval_scores(
    questions: Sequence[Question],
    retrieved: Sequence[Sequence[Chunk]],
    gold: Gold,
    ks: Sequence[int],
    chunks: Sequence[Chunk] | None = None,
    budgets: Sequence[int] = (),
    count_tokens: Callable[[str], int] | None = None,
) -> list[Score]:
    """Scores every question at each cut-off.

    Args:
        questions: N questions; one without evidence gets the status `not_applicable`.
        retrieved: For each its chunks, best first.
        gold: Spans in the text that the chunks were cut from. A lost span counts as not retrieved.
        ks: Cut-offs, for instance (1, 5, 10).
        chunks: The whole chunking; adds `precision_omega`.
        budgets: Lengths in characters; adds `evidence_recall@<budget>c`, the share of the evidence within that much
            retrieved text. It compares chunkings fairly: at a fixed k, larger chunks win by being larger.
        count_tokens: Tokens of a text; adds `context_tokens@k`. Each chunk is counted once.

    Returns:
        For each question `hit@k`, `evidence_recall@k`, `ndcg@k`, `token_recall@k`, `token_precision@k`, `token_iou@k`,
        `mrr` (at the largest k) and `context_chars@k`.

    Raises:
        ValueError: No cut-off, or a question with evidence that `gold` does not have.
    """
    if not ks:
        raise ValueError("retrieval_scores needs at least one cut-off in ks")
    names = retrieval_metrics(ks, budgets, chunks is not None)
    touched = _Chunking(chunks) if chunks is not None else None
    tokens = _Lengths(count_tokens) if count_tokens is not None else None
    scores: list[Score] = []
    for question, hits in zip(questions, retrieved, strict=True):
        spans = spans_of(gold, question)
        lengths = [chunk.end - chunk.start for chunk in hits]
        if spans:
            values = _evidence_values(spans, hits, lengths, ks, budgets)
            if touched is not None:
                values.append(touched.precision(spans))
            scores += [Score(question.id, name, value) for name, value in zip(names, values, strict=True)]
        else:
            why = "the question has no gold evidence"
            scores += [Score(question.id, name, None, "not_applicable", why) for name in names]
        scores += _costs(question.id, "context_chars", lengths, ks)
        if tokens is not None:
            scores += _costs(question.id, "context_tokens", [tokens.of(chunk) for chunk in hits[: max(ks)]], ks)
    return scores


def evidence_ranks(spans: Sequence[GoldSpan], hits: Sequence[Chunk]) -> list[int | None]:
    """For each evidence span the rank (from 1) of the first chunk that holds it, None where none does.

    Args:
        spans: Of one question.
        hits: Its chunks, best first.
    """
    near = _near(spans, hits)
    return [_first_holder(span, [(n + 1, chunk, chunk.end) for n, chunk in near]) for span in spans]


def _near(spans: Sequence[GoldSpan], hits: Sequence[Chunk]) -> list[tuple[int, Chunk]]:
    """The hits in documents with evidence, and their places; most are elsewhere."""
    documents = {span.doc_id for span in spans if span.found}
    return [(place, chunk) for place, chunk in enumerate(hits) if chunk.doc_id in documents]


def _first_holder(span: GoldSpan, ranked: Iterable[tuple[int, Chunk, int]]) -> int | None:
    """The first rank whose chunk, up to the end that stands beside it, holds the span."""
    if not span.found:
        return None
    doc_id, start, stop = span.doc_id, span.start, span.end
    needed = COVER * (stop - start)
    for rank, chunk, end in ranked:
        if chunk.doc_id == doc_id:
            overlap = min(end, stop) - max(chunk.start, start)
            if overlap >= needed and overlap > 0:
                return rank
    return None


def _evidence_values(
    spans: Sequence[GoldSpan], hits: Sequence[Chunk], lengths: Sequence[int], ks: Sequence[int], budgets: Sequence[int]
) -> list[float]:
    """Values of a question with evidence, in the order of `retrieval_metrics`, without precision-omega."""
    ranks = [rank for rank in evidence_ranks(spans, hits) if rank is not None]
    wanted, found = _overlaps(spans, hits, max(ks))
    sizes = [0, *accumulate(lengths)]
    values: list[float] = []
    for k in ks:
        reached = [rank for rank in ranks if rank <= k]
        common, retrieved = found[min(k, len(found) - 1)], sizes[min(k, len(hits))]
        values += [
            float(bool(reached)),
            len(reached) / len(spans),
            _ndcg(reached, len(spans), k),
            common / wanted,
            common / retrieved if retrieved else 0.0,
            common / (retrieved + wanted - common),
        ]
    first = min(ranks, default=max(ks) + 1)
    values.append(1.0 / first if first <= max(ks) else 0.0)
    near = _near(spans, hits) if budgets else []
    for budget in budgets:
        cut = [(n + 1, hit, min(hit.end, hit.start + budget - sizes[n])) for n, hit in near if sizes[n] < budget]
        values.append(sum(_first_holder(span, cut) is not None for span in spans) / len(spans))
    return values


def _ndcg(ranks: Sequence[int], total: int, k: int) -> float:
    """Each span gains at the first chunk that holds it; the ideal has one span a rank, from the top."""
    gain = sum(1.0 / math.log2(1 + rank) for rank in ranks)
    ideal = sum(1.0 / math.log2(1 + rank) for rank in range(1, min(total, k) + 1))
    return min(1.0, gain / ideal)


def _overlaps(spans: Sequence[GoldSpan], hits: Sequence[Chunk], depth: int) -> tuple[int, list[int]]:
    """Characters of evidence, and how many of them the first 0, 1, 2 ... hits hold, up to a depth."""
    # A lost span has no place, but still counts in the total, in its full length, as one of its own.
    wanted = sum(max(1, span.length) for span in spans if not span.found)
    gold = _by_document((span.doc_id, span.start, span.end) for span in spans if span.found)
    wanted += _length(gold)
    covered: dict[str, list[Interval]] = defaultdict(list)
    found = [0]
    for chunk in hits[:depth]:
        common = found[-1]
        for start, end in gold.get(chunk.doc_id, ()):
            if min(chunk.end, end) > max(chunk.start, start):
                covered[chunk.doc_id].append((max(chunk.start, start), min(chunk.end, end)))
                common = -1
        found.append(common if common >= 0 else _length(covered))
    return wanted, found


def _costs(question_id: str, name: str, lengths: Sequence[int], ks: Sequence[int]) -> list[Score]:
    return [Score(question_id, f"{name}@{k}", float(sum(lengths[:k]))) for k in ks]


class _Lengths:
    """Tokens of chunks, each counted once."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._known: dict[str, int] = {}

    def of(self, chunk: Chunk) -> int:
        """Tokens of one chunk."""
        known = self._known.get(chunk.text)
        if known is None:
            known = self._known[chunk.text] = self._count(chunk.text)
        return known


@dataclass(frozen=True, slots=True)
class _Row:
    """A document's chunks in order of start."""

    chunks: list[Interval]
    starts: list[int]
    longest: int


class _Chunking:
    """A whole chunking, to find the chunks that touch a span."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        places = _by_document((chunk.doc_id, chunk.start, chunk.end) for chunk in chunks)
        self._rows = {
            doc_id: _Row(row := sorted(intervals), [start for start, _ in row], max(end - start for start, end in row))
            for doc_id, intervals in places.items()
        }

    def precision(self, spans: Sequence[GoldSpan]) -> float:
        """Precision if exactly the chunks that touch the evidence were retrieved: the best that a chunking allows."""
        gold = _by_document((span.doc_id, span.start, span.end) for span in spans if span.found)
        taken = {doc_id: self._touching(doc_id, places) for doc_id, places in gold.items()}
        # As in Chroma's code: text that two chunks share counts once, evidence outside of all chunks counts against it.
        whole = _length({doc_id: [*taken[doc_id], *places] for doc_id, places in gold.items()})
        common = _length(taken) + _length(gold) - whole
        return common / (whole + sum(max(1, span.length) for span in spans if not span.found))

    def _touching(self, doc_id: str, places: Sequence[Interval]) -> list[Interval]:
        row = self._rows.get(doc_id, _Row([], [], 0))
        found: list[Interval] = []
        for start, end in places:
            nearest = row.chunks[bisect_left(row.starts, start - row.longest) : bisect_left(row.starts, end)]
            found += [chunk for chunk in nearest if chunk[1] > start]
        return found


def _by_document(places: Iterable[tuple[str, int, int]]) -> dict[str, list[Interval]]:
    intervals: dict[str, list[Interval]] = defaultdict(list)
    for doc_id, start, end in places:
        intervals[doc_id].append((start, end))
    return intervals


def _length(intervals: Mapping[str, Sequence[Interval]]) -> int:
    """Characters that intervals cover together, by document."""
    total = 0
    for parts in intervals.values():
        reached = -1
        for start, end in sorted(parts):
            if end > reached:
                total += end - max(start, reached)
                reached = end
    return total
