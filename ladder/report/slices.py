"""Scores by tag: where the climb helped, and where it did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...eval.statistics import mean_interval
from .run_folder import RunFolder

__all__ = ["SMALL", "Slice", "TagTable", "slice_tables"]

SMALL = 20
"""Questions below which a slice is marked: its numbers say little."""
FIRST_TAGS = ("kind", "format", "difficulty")
MOST_VALUES = 30


@dataclass(frozen=True, slots=True)
class Slice:
    """The questions with one value of a tag.

    Attributes:
        value: Of the tag.
        n: Questions with a score in both arms.
        asked: Questions with that value to which the metric applies.
        baseline: Mean of the baseline over the n.
        final: Mean of the final pipeline over the n.
        difference: Final minus baseline.
        low: Lower end of the 95% interval of the difference, None where it is not known.
        high: Upper end.
    """

    value: str
    n: int
    asked: int
    baseline: float | None
    final: float | None
    difference: float | None
    low: float | None
    high: float | None

    @property
    def small(self) -> bool:
        """True where there are too few questions to say much."""
        return self.n < SMALL


@dataclass(frozen=True, slots=True)
class TagTable:
    """One tag and its slices, the largest first; `others` values beyond the first 30 are not shown."""

    tag: str
    slices: tuple[Slice, ...]
    others: int


def slice_tables(run: RunFolder, metric: str, split: str) -> list[TagTable]:
    """Compares the final pipeline with the baseline, by tag.

    Args:
        run: The run folder.
        metric: Which one.
        split: `dev` or `test`.

    Returns:
        A table a tag: kind, format and difficulty first. For the intervals, questions with the same first document
        are one group.
    """
    table = run.scores
    if not table:
        return []
    names = ("arm", "split", "question_id", "metric", "value", "status")
    arms: dict[str, dict[str, float | None]] = {run.record.baseline.arm: {}, run.record.final.arm: {}}
    for arm, at, question, name, value, status in zip(*(table[n] for n in names), strict=True):
        if name == metric and at == split and arm in arms and status != "not_applicable":
            arms[arm][question] = value if status == "ok" else None
    baseline, final = arms[run.record.baseline.arm], arms[run.record.final.arm]
    tags = dict.fromkeys(tag for row in run.questions for tag in row.get("tags") or {})
    ordered = [tag for tag in FIRST_TAGS if tag in tags] + sorted(tag for tag in tags if tag not in FIRST_TAGS)
    return [found for tag in ordered if (found := _tag_table(tag, run.questions, baseline, final)).slices]


def _tag_table(
    tag: str,
    questions: Sequence[Mapping[str, Any]],
    baseline: Mapping[str, float | None],
    final: Mapping[str, float | None],
) -> TagTable:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in questions:
        value = (row.get("tags") or {}).get(tag)
        if value is not None and (row["id"] in baseline or row["id"] in final):
            groups.setdefault(str(value), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    shown = ordered[:MOST_VALUES]
    return TagTable(
        tag, tuple(_slice(value, rows, baseline, final) for value, rows in shown), len(ordered) - len(shown)
    )


def _slice(
    value: str,
    rows: Sequence[Mapping[str, Any]],
    baseline: Mapping[str, float | None],
    final: Mapping[str, float | None],
) -> Slice:
    pairs = []
    for row in rows:
        before, after = baseline.get(row["id"]), final.get(row["id"])
        if before is not None and after is not None:
            evidence = row.get("evidence") or ()
            pairs.append((before, after, evidence[0]["doc_id"] if evidence else row["id"]))
    if not pairs:
        return Slice(value, 0, len(rows), None, None, None, None, None)
    n = len(pairs)
    before, after = sum(b for b, _, _ in pairs) / n, sum(a for _, a, _ in pairs) / n
    # Differences may all lie in [0, 1], where mean_interval clips; shifting by -2 keeps the interval as it is.
    estimate = mean_interval([a - b - 2 for b, a, _ in pairs], [group for _, _, group in pairs])
    known = estimate.low == estimate.low
    low, high = (estimate.low + 2, estimate.high + 2) if known else (None, None)
    return Slice(value, n, len(rows), before, after, after - before, low, high)
