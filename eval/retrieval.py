"""Retrieval metrics over spans: how much of the gold evidence the retrieved chunks hold, how high, at what cost.

Token-level recall, precision, precision-omega and IoU follow Smith and Troynikov, "Evaluating Chunking Strategies for
Retrieval" (Chroma, 2024), counted in characters as their code does. nDCG: Järvelin and Kekäläinen (2002), binary gains.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..core.types import Chunk, Question, Score
from .gold import Gold, GoldSpan, spans_of

__all__ = ["COVER", "evidence_ranks", "retrieval_scores"]

COVER = 0.5
"""Share of an evidence span that one chunk must hold to count as holding it."""
Interval = tuple[int, int]


def retrieval_scores(
    questions: Sequence[Question],
    retrieved: Sequence[Sequence[Chunk]],
    gold: Gold,
    ks: Sequence[int],
    chunks: Sequence[Chunk] | None = None,
    budgets: Sequence[int] = (),
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

    Returns:
        For each question `hit@k`, `evidence_recall@k`, `ndcg@k`, `token_recall@k`, `token_precision@k`, `token_iou@k`,
        `mrr` (at the largest k) and `context_chars@k`.

    Raises:
        ValueError: No cut-off, or a question with evidence that `gold` does not have.
    """
    if not ks:
        raise ValueError("retrieval_scores needs at least one cut-off in ks")
    by_document = _chunk_index(chunks) if chunks is not None else None
    scores: list[Score] = []
    for question, hits in zip(questions, retrieved, strict=True):
        spans = spans_of(gold, question)
        values = _question_values(spans, hits, ks)
        for budget in budgets:
            values[f"evidence_recall@{budget}c"] = _budget_recall(spans, hits, budget)
        if by_document is not None:
            values["precision_omega"] = _precision_omega(spans, by_document)
        for name, value in values.items():
            status = "ok" if value is not None else "not_applicable"
            detail = "" if value is not None else "the question has no gold evidence"
            scores.append(Score(question.id, name, value, status, detail))
    return scores


def evidence_ranks(spans: Sequence[GoldSpan], hits: Sequence[Chunk]) -> list[int | None]:
    """For each evidence span the rank (from 1) of the first chunk that holds it, None where none does."""
    return [next((rank for rank, chunk in enumerate(hits, 1) if _holds(chunk, span)), None) for span in spans]


def _holds(chunk: Chunk, span: GoldSpan) -> bool:
    if not span.found or chunk.doc_id != span.doc_id:
        return False
    overlap = min(chunk.end, span.end) - max(chunk.start, span.start)
    return overlap >= COVER * (span.end - span.start) and overlap > 0


def _question_values(spans: Sequence[GoldSpan], hits: Sequence[Chunk], ks: Sequence[int]) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    ranks = evidence_ranks(spans, hits)
    for k in ks:
        names = ("hit", "evidence_recall", "ndcg", "token_recall", "token_precision", "token_iou")
        if not spans:
            values |= {f"{name}@{k}": None for name in names}
        else:
            found = [rank for rank in ranks if rank is not None and rank <= k]
            recall, precision, iou = _token_values(spans, hits[:k])
            numbers = (float(bool(found)), len(found) / len(spans), _ndcg(found, len(spans), k), recall, precision, iou)
            values |= {f"{name}@{k}": number for name, number in zip(names, numbers, strict=True)}
        values[f"context_chars@{k}"] = float(sum(chunk.end - chunk.start for chunk in hits[:k]))
    found = [rank for rank in ranks if rank is not None and rank <= max(ks)]
    values["mrr"] = (1.0 / min(found) if found else 0.0) if spans else None
    return values


def _budget_recall(spans: Sequence[GoldSpan], hits: Sequence[Chunk], budget: int) -> float | None:
    if not spans:
        return None
    kept: list[Chunk] = []
    for chunk in hits:
        if budget <= 0:
            break
        length = min(chunk.end - chunk.start, budget)
        budget -= length
        kept.append(replace(chunk, end=chunk.start + length, text=chunk.text[:length]))
    found = [rank for rank in evidence_ranks(spans, kept) if rank is not None]
    return len(found) / len(spans)


def _ndcg(ranks: Sequence[int], total: int, k: int) -> float:
    """Each span gains at the first chunk that holds it; the ideal has one span a rank, from the top."""
    gain = sum(1.0 / math.log2(1 + rank) for rank in ranks)
    ideal = sum(1.0 / math.log2(1 + rank) for rank in range(1, min(total, k) + 1))
    return min(1.0, gain / ideal)


def _token_values(spans: Sequence[GoldSpan], hits: Sequence[Chunk]) -> tuple[float, float, float]:
    gold: dict[str, list[Interval]] = defaultdict(list)
    for position, span in enumerate(spans):
        # A lost span has no place, but still counts in the denominator, in its full length, as one of its own.
        place = (span.start, span.end) if span.found else (0, max(1, span.length))
        gold[span.doc_id if span.found else f"lost:{position}"].append(place)
    gold_length = sum(e - s for intervals in gold.values() for s, e in _union(intervals))
    retrieved = sum(chunk.end - chunk.start for chunk in hits)
    covered: list[tuple[str, Interval]] = []
    for chunk in hits:
        for start, end in gold.get(chunk.doc_id, ()):
            if min(chunk.end, end) > max(chunk.start, start):
                covered.append((chunk.doc_id, (max(chunk.start, start), min(chunk.end, end))))
    by_document: dict[str, list[Interval]] = defaultdict(list)
    for doc_id, interval in covered:
        by_document[doc_id].append(interval)
    common = sum(e - s for intervals in by_document.values() for s, e in _union(intervals))
    missed = gold_length - common
    return common / gold_length, common / retrieved if retrieved else 0.0, common / (retrieved + missed)


def _union(intervals: Sequence[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _chunk_index(chunks: Sequence[Chunk]) -> Mapping[str, list[Chunk]]:
    by_document: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_document[chunk.doc_id].append(chunk)
    for members in by_document.values():
        members.sort(key=lambda c: (c.start, c.end))
    return by_document


def _precision_omega(spans: Sequence[GoldSpan], by_document: Mapping[str, list[Chunk]]) -> float | None:
    """Precision if exactly the chunks that touch the evidence were retrieved: the best that a chunking allows."""
    if not spans:
        return None
    touching: dict[str, Chunk] = {}
    for span in spans:
        members = by_document.get(span.doc_id, []) if span.found else []
        # Chunks are sorted by start; those that end before the span are skipped one by one, later ones not looked at.
        for chunk in members[: bisect_left(members, span.end, key=lambda c: c.start)]:
            if chunk.end > span.start:
                touching[chunk.id] = chunk
    # As in Chroma's code: text that two chunks share counts once, evidence outside of all chunks counts against it.
    taken: dict[str, list[Interval]] = defaultdict(list)
    for chunk in touching.values():
        taken[chunk.doc_id].append((chunk.start, chunk.end))
    gold: dict[str, list[Interval]] = defaultdict(list)
    for span in spans:
        if span.found:
            gold[span.doc_id].append((span.start, span.end))
    length = _length(gold)
    whole = _length({doc_id: [*taken[doc_id], *gold[doc_id]] for doc_id in {*taken, *gold}})
    common = _length(taken) + length - whole
    return common / (whole + sum(max(1, span.length) for span in spans if not span.found))


def _length(intervals: Mapping[str, Sequence[Interval]]) -> int:
    """Characters that intervals cover together, by document."""
    return sum(end - start for parts in intervals.values() for start, end in _union(parts))
