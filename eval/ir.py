"""Document-level retrieval metrics from relevance judgements (qrels), equal to trec_eval's.

A question's judgements are the documents of its evidence: relevance 1 each, or the grades in its tag `relevance` (whole
numbers in the order of the evidence, blanks between them: `2 1 1`). A document is ranked where its first chunk is.

Definitions are trec_eval's: nDCG with linear gain and log2(rank + 1) discount over all judged documents (Järvelin and
Kekäläinen, 2002), precision over k also where fewer were retrieved, average precision over all relevant documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..core.errors import DataError
from ..core.types import Chunk, Question, Score

__all__ = [
    "RELEVANCE_TAG",
    "document_metrics",
    "document_ranking",
    "document_scores",
    "qrels_of",
    "ranking_metrics",
    "ranking_of",
    "relevance_tag",
]

RELEVANCE_TAG = "relevance"
"""Tag that holds the grades of a question's evidence."""


def relevance_tag(grades: Sequence[int]) -> dict[str, str]:
    """The tag for grades in the order of the evidence; none where all are 1, which is what no tag means."""
    return {} if all(grade == 1 for grade in grades) else {RELEVANCE_TAG: " ".join(map(str, grades))}


def qrels_of(question: Question) -> dict[str, int]:
    """Relevance by document id; the highest grade where several passages of a document are evidence.

    Raises:
        DataError: The tag `relevance` does not give one whole number a piece of evidence.
    """
    tag = question.tags.get(RELEVANCE_TAG)
    words = tag.split() if tag is not None else ["1"] * len(question.evidence)
    try:
        grades = [int(word) for word in words]
    except ValueError:
        grades = []
    if len(grades) != len(question.evidence):
        raise DataError(
            f"question '{question.id}': the tag '{RELEVANCE_TAG}' is '{tag}', but must hold "
            f"{len(question.evidence)} whole numbers, one a piece of evidence"
        )
    qrels: dict[str, int] = {}
    for evidence, grade in zip(question.evidence, grades, strict=True):
        qrels[evidence.doc_id] = max(grade, qrels.get(evidence.doc_id, grade))
    return qrels


def document_ranking(chunks: Iterable[Chunk]) -> list[str]:
    """Documents in the order of their first chunk, each once."""
    return list(dict.fromkeys(chunk.doc_id for chunk in chunks))


def ranking_of(run: Mapping[str, float]) -> list[str]:
    """Documents by falling score as trec_eval ranks them: scores in single precision, ties by falling document id."""
    by_id = sorted(run, reverse=True)
    scores = np.array([run[doc] for doc in by_id], dtype=np.float32)
    return [by_id[place] for place in np.argsort(-scores, kind="stable")]


def ranking_metrics(qrels: Mapping[str, int], ranking: Sequence[str], ks: Sequence[int]) -> dict[str, float]:
    """Metrics of one ranking.

    Args:
        qrels: Relevance by document id; 0 and below is not relevant.
        ranking: Document ids, best first, each once.
        ks: Cut-offs.

    Returns:
        `ndcg@k`, `recall@k`, `precision@k`, `mrr@k` at each cut-off, and `map` over the whole ranking; 0 where nothing
        is relevant.

    Raises:
        ValueError: A document stands twice, or a cut-off is below 1.
    """
    if len(set(ranking)) != len(ranking):
        raise ValueError("a document stands twice in the ranking")
    if any(k < 1 for k in ks):
        raise ValueError("cut-offs must be at least 1")
    gains = [max(0, qrels.get(doc, 0)) for doc in ranking]
    ideal = sorted((grade for grade in qrels.values() if grade > 0), reverse=True)
    hits = [rank for rank, gain in enumerate(gains, 1) if gain]
    values: dict[str, float] = {}
    for k in ks:
        found = sum(rank <= k for rank in hits)
        values[f"ndcg@{k}"] = _dcg(gains[:k]) / _dcg(ideal[:k]) if ideal else 0.0
        values[f"recall@{k}"] = found / len(ideal) if ideal else 0.0
        values[f"precision@{k}"] = found / k
        values[f"mrr@{k}"] = 1.0 / hits[0] if found else 0.0
    precisions = sum(place / rank for place, rank in enumerate(hits, 1))
    values["map"] = precisions / len(ideal) if ideal else 0.0
    return values


def document_metrics(ks: Iterable[int]) -> list[str]:
    """Names of the metrics that `document_scores` gives at these cut-offs."""
    return [*(f"doc_{name}@{k}" for k in ks for name in ("ndcg", "recall", "precision", "mrr")), "doc_map"]


def document_scores(
    questions: Sequence[Question], retrieved: Sequence[Sequence[Chunk]], ks: Sequence[int]
) -> list[Score]:
    """Scores every question by its judged documents, whatever the chunking.

    Args:
        questions: N questions; one without a relevant document gets the status `not_applicable`.
        retrieved: For each its chunks, best first. Cut-offs count documents, so retrieve more chunks than the largest.
        ks: Cut-offs.

    Returns:
        For each question the metrics of `ranking_metrics`, their names begun with `doc_`: `doc_ndcg@10`, `doc_map`.

    Raises:
        DataError: A question's grades do not fit its evidence.
        ValueError: No cut-off, or unequal lengths.
    """
    if not ks:
        raise ValueError("document_scores needs at least one cut-off in ks")
    scores: list[Score] = []
    for question, chunks in zip(questions, retrieved, strict=True):
        qrels = qrels_of(question)
        known = any(grade > 0 for grade in qrels.values())
        for name, value in ranking_metrics(qrels, document_ranking(chunks), ks).items():
            if known:
                scores.append(Score(question.id, f"doc_{name}", value))
            else:
                why = "no document is judged relevant to the question"
                scores.append(Score(question.id, f"doc_{name}", None, "not_applicable", why))
    return scores


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1) if gain)
