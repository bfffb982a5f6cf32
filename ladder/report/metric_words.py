"""What the metrics that decide a climb mean, each in a few words: for readers who do not open docs/metrics.md."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..records import LadderRecord

__all__ = ["deciding_metrics", "meaning", "meanings"]

_MEANINGS = {
    "answer_recall": "share of the reference answer's words that stand in the answer",
    "answer_contained": "the reference answer stands in the answer, word for word",
    "token_f1": "how far the words of answer and reference are the same (F1): 1 where all are, 0 where none is",
    "exact_match": "the answer is the reference, but for case and punctuation",
    "abstention_correct": "declined just where the documents do not answer",
    "citation_correct": "cites the documents that the reference answer cites",
    "mrr": "1 over the rank of the first chunk with evidence",
    "ragas/faithfulness": "share of the answer's claims that the passages support, by the judge",
}
_AT = (
    (r"evidence_recall@(\d+)c", "share of a question's evidence in the first {} characters retrieved"),
    (r"evidence_recall@(\d+)", "share of a question's evidence in the first {} chunks retrieved"),
    (r"hit@(\d+)", "some evidence is in the first {} chunks retrieved"),
    (r"ndcg@(\d+)", "how far up the evidence stands in the first {} chunks retrieved: 1 is the top"),
)


def meaning(metric: str) -> str:
    """What a metric measures; empty where it is not one of the usual ones, as with your own."""
    for pattern, words in _AT:
        if found := re.fullmatch(pattern, metric):
            return words.format(f"{int(found[1]):,}")
    return _MEANINGS.get(metric, "")


def deciding_metrics(record: LadderRecord) -> list[str]:
    """The answer metric, and those of the rungs that were compared with the rung below."""
    compared = (rung.decision.primary.metric for rung in record.rungs if rung.decision.primary is not None)
    return list(dict.fromkeys([record.answer_metric, *compared]))


def meanings(metrics: Sequence[str]) -> list[tuple[str, str]]:
    """Metric and meaning, of those that have one."""
    return [(metric, words) for metric in metrics if (words := meaning(metric))]
