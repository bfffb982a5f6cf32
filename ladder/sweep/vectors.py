"""Span metrics of whole rankings as array arithmetic: equal to `eval.retrieval`, hundreds of times as fast.

What a metric needs of a chunking (which chunks touch which evidence, and where) is worked out once; a ranking is then a
look-up of ranks. Chunks that overlap are handled by cutting the evidence at every chunk boundary into segments: a
segment is covered at k where any chunk that holds it ranks within k.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

from ...core.types import Chunk, Question
from ...eval.gold import Gold, GoldSpan, spans_of
from ...eval.retrieval import COVER

__all__ = ["SpanScorer", "is_vectorised"]

_NAME = re.compile(
    r"(?P<metric>hit|evidence_recall|ndcg|token_recall|token_precision|token_iou|context_chars)@(?P<k>\d+)(?P<unit>c?)"
)
_FAR = np.inf


def is_vectorised(metric: str) -> bool:
    """Whether `SpanScorer` computes a metric."""
    match = _NAME.fullmatch(metric)
    if match is None:
        return metric == "mrr"
    return not match["unit"] or match["metric"] == "evidence_recall"


class SpanScorer:
    """Scores rankings over one chunking."""

    def __init__(self, questions: Sequence[Question], gold: Gold, chunks: Sequence[Chunk], largest_k: int) -> None:
        """Works out which chunks touch the evidence of which question.

        Args:
            questions: Q questions, in the order of the rankings' rows.
            gold: Spans in the text that the chunks were cut from.
            chunks: The chunking; rankings hold places in this list.
            largest_k: Cut-off of `mrr`.
        """
        self._largest_k = largest_k
        self._count = len(questions)
        self.lengths = np.asarray([chunk.end - chunk.start for chunk in chunks], dtype=np.int64)
        self._starts = np.asarray([chunk.start for chunk in chunks], dtype=np.int64)
        spans = [spans_of(gold, question) for question in questions]
        self._spans = np.asarray([len(of_one) for of_one in spans], dtype=np.int64)
        self._gold_length = np.zeros(self._count)
        self._collect(spans, _ByDocument(chunks))

    def _collect(self, spans: Sequence[Sequence[GoldSpan]], index: _ByDocument) -> None:
        pairs: dict[tuple[int, int], int] = {}
        holding: list[tuple[int, int, int, int]] = []  # pair, span number, start and end of the span
        segments: list[tuple[int, int]] = []  # question, length
        covering: list[tuple[int, int]] = []  # segment, pair
        span_question: list[int] = []
        for q, of_one in enumerate(spans):
            for span in of_one:
                number = len(span_question)
                span_question.append(q)
                if not span.found:
                    self._gold_length[q] += max(1, span.length)
                    continue
                for at, start, end in index.touching(span.doc_id, span.start, span.end):
                    overlap = min(end, span.end) - max(start, span.start)
                    if overlap >= COVER * (span.end - span.start):
                        pair = pairs.setdefault((q, at), len(pairs))
                        holding.append((pair, number, span.start, span.end))
            for doc_id, start, end in _united(of_one):
                self._gold_length[q] += end - start
                touching = list(index.touching(doc_id, start, end))
                cuts = sorted({start, end, *(min(max(c, start), end) for _, a, b in touching for c in (a, b))})
                for left, right in zip(cuts, cuts[1:], strict=False):
                    inside = [at for at, a, b in touching if a <= left and b >= right]
                    if inside:
                        covering += [(len(segments), pairs.setdefault((q, at), len(pairs))) for at in inside]
                        segments.append((q, right - left))
        self._span_question = np.asarray(span_question, dtype=np.int64)
        self._pair = _columns(list(pairs), 2)
        self._holding = _columns(holding, 4)
        self._segments = _columns(segments, 2)
        self._covering = _columns(covering, 2)

    def scores(self, positions: np.ndarray, metrics: Iterable[str]) -> dict[str, np.ndarray]:
        """Metrics of one ranking.

        Args:
            positions: Chunk places, best first, -1 where fewer; shape (Q, width).
            metrics: Names for which `is_vectorised` is true.

        Returns:
            By metric float64 of shape (Q,), NaN for a question without evidence.
        """
        found = positions >= 0
        lengths = np.where(found, self.lengths[np.where(found, positions, 0)], 0)
        ends = np.concatenate([np.zeros((len(positions), 1), dtype=np.int64), np.cumsum(lengths, axis=1)], axis=1)
        rank = self._ranks(positions)
        span_rank = self._least(rank[self._holding[0]], self._holding[1], len(self._span_question))
        segment_rank = self._least(rank[self._covering[1]], self._covering[0], len(self._segments[0]))
        values = {}
        for name in metrics:
            values[name] = self._value(name, rank, span_rank, segment_rank, ends)
        return values

    def _value(
        self, name: str, rank: np.ndarray, span_rank: np.ndarray, segment_rank: np.ndarray, ends: np.ndarray
    ) -> np.ndarray:
        match = _NAME.fullmatch(name)
        if match is None:
            best = self._least(span_rank, self._span_question, self._count)
            return self._known(np.where(best <= self._largest_k, 1.0 / best, 0.0))
        k, metric = int(match["k"]), match["metric"]
        length = ends[:, min(k, ends.shape[1] - 1)].astype(float)
        if metric == "context_chars":
            return length
        if match["unit"]:
            within = self._within_budget(k, rank, ends)
            return self._known(self._per_question(within) / np.maximum(self._spans, 1))
        inside = span_rank <= k
        if metric == "hit":
            return self._known((self._per_question(inside) > 0).astype(float))
        if metric == "evidence_recall":
            return self._known(self._per_question(inside) / np.maximum(self._spans, 1))
        if metric == "ndcg":
            gain = self._per_question(np.where(inside, 1.0 / np.log2(1.0 + span_rank), 0.0))
            ideal = np.concatenate([[1.0], np.cumsum(1.0 / np.log2(1.0 + np.arange(1, k + 1)))])
            return self._known(np.minimum(1.0, gain / ideal[np.minimum(self._spans, k)]))
        covered = np.where(segment_rank <= k, self._segments[1], 0).astype(float)
        common = np.bincount(self._segments[0], weights=covered, minlength=self._count)
        whole = {
            "token_recall": self._gold_length,
            "token_precision": length,
            "token_iou": length + self._gold_length - common,
        }[metric]
        return self._known(np.divide(common, whole, out=np.zeros(self._count), where=whole > 0))

    def _ranks(self, positions: np.ndarray) -> np.ndarray:
        """Rank from 1 of each pair's chunk in its question's row; inf where it is not there."""
        question, chunk = self._pair
        if not len(question) or not positions.shape[1]:
            return np.full(len(question), _FAR)
        match = positions[question] == chunk[:, None]
        return np.where(match.any(axis=1), match.argmax(axis=1) + 1.0, _FAR)

    def _within_budget(self, budget: int, rank: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """For each span whether a chunk within the first `budget` characters, the last one cut, holds it."""
        pair, span, start, end = self._holding
        of = rank[pair]
        column = np.where(np.isfinite(of), of, 1).astype(np.int64) - 1
        question, chunk = self._pair[0][pair], self._pair[1][pair]
        if not ends.shape[1] > 1:
            return np.zeros(len(self._span_question), dtype=bool)
        allowed = np.clip(budget - ends[question, column], 0, self.lengths[chunk])
        first = self._starts[chunk]
        overlap = np.minimum(first + allowed, end) - np.maximum(first, start)
        holds = np.isfinite(of) & (overlap > 0) & (overlap >= COVER * (end - start))
        return self._least(np.where(holds, 0.0, _FAR), span, len(self._span_question)) == 0

    def _per_question(self, of_spans: np.ndarray) -> np.ndarray:
        return np.bincount(self._span_question, weights=of_spans.astype(float), minlength=self._count)

    def _known(self, values: np.ndarray) -> np.ndarray:
        return np.where(self._spans > 0, values, np.nan)

    @staticmethod
    def _least(values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
        least = np.full(count, _FAR)
        np.minimum.at(least, groups, values)
        return least


class _ByDocument:
    """Chunks of each document by start."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._members: dict[str, list[tuple[int, int, int]]] = {}
        for at, chunk in enumerate(chunks):
            self._members.setdefault(chunk.doc_id, []).append((chunk.start, chunk.end, at))
        self._longest: dict[str, int] = {}
        for doc_id, members in self._members.items():
            members.sort()
            self._longest[doc_id] = max(end - start for start, end, _ in members)

    def touching(self, doc_id: str, start: int, end: int) -> Iterable[tuple[int, int, int]]:
        """Place, start and end of the chunks that share a character with a stretch."""
        members = self._members.get(doc_id, [])
        first = bisect_left(members, (start - self._longest.get(doc_id, 0), -1, -1))
        for a, b, at in members[first:]:
            if a >= end:
                return
            if b > start:
                yield at, a, b


def _united(spans: Sequence[GoldSpan]) -> list[tuple[str, int, int]]:
    """The evidence of one question, overlapping spans joined."""
    merged: list[tuple[str, int, int]] = []
    for doc_id, start, end in sorted((s.doc_id, s.start, s.end) for s in spans if s.found):
        if merged and merged[-1][0] == doc_id and start <= merged[-1][2]:
            merged[-1] = (doc_id, merged[-1][1], max(merged[-1][2], end))
        else:
            merged.append((doc_id, start, end))
    return merged


def _columns(rows: Sequence[tuple[int, ...]], width: int) -> np.ndarray:
    return np.asarray(rows, dtype=np.int64).reshape(-1, width).T
