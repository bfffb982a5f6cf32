"""Compares what two runs ended with, question by question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..core.components import Model
from ..core.errors import DataError
from ..core.types import Score
from .gate import Comparison, compare_metric
from .records import LadderRecord
from .runs import load_ladder

__all__ = ["RunComparison", "compare_runs"]


class Regression(Model):
    """A question on which the second run is worse."""

    question_id: str
    """Which."""
    before: float
    """First run."""
    after: float
    """Second run."""


class RunComparison(Model):
    """Second run minus first, on test."""

    run_a: str
    """The first run."""
    run_b: str
    """The second."""
    comparisons: tuple[Comparison, ...]
    """One a metric."""
    regressions: tuple[Regression, ...]
    """The ten largest of the first metric."""
    verdict: str
    """In words, of the first metric."""

    def lines(self) -> list[str]:
        """As text."""
        rows = [f"{self.run_b} minus {self.run_a}, test questions"]
        for c in self.comparisons:
            if c.difference is None:
                rows.append(f"  {c.metric}: nothing to compare")
                continue
            low, high = (math.nan if bound is None else bound for bound in (c.low, c.high))
            rows.append(
                f"  {c.metric}: {c.incumbent:.4f} -> {c.candidate:.4f}, {c.difference:+.4f} [{low:+.4f}, {high:+.4f}], "
                f"win/tie/loss {c.wins}/{c.ties}/{c.losses}, n {c.n}"
            )
        rows.append(self.verdict)
        if self.regressions:
            rows.append("largest regressions:")
            rows += [f"  {r.question_id}: {r.before:.3f} -> {r.after:.3f}" for r in self.regressions]
        return rows


def compare_runs(a: Path, b: Path, metrics: Sequence[str] | None = None) -> RunComparison:
    """Compares the final pipelines of two runs on test.

    Args:
        a: Folder of the first run.
        b: Folder of the second.
        metrics: Which; the answer metric and those that the rungs' gates looked at where not given.

    Raises:
        DataError: The runs have other questions, or a metric is in neither.
    """
    first, second = load_ladder(a), load_ladder(b)
    if first.data.questions_sha256 != second.data.questions_sha256:
        raise DataError(
            f"{first.run_id} and {second.run_id} were scored on different questions; "
            "scores of different questions cannot be compared"
        )
    names = list(
        metrics or dict.fromkeys([first.answer_metric, *(r.metric for r in (*first.rungs, *second.rungs) if r.metric)])
    )
    scores_a, scores_b = _final_scores(a, first), _final_scores(b, second)
    for name in names:
        if not any(s.metric == name for s in scores_a) or not any(s.metric == name for s in scores_b):
            raise DataError(
                f"metric '{name}' was not scored in both runs; known: {', '.join(sorted({s.metric for s in scores_a}))}"
            )
    groups = _groups(a)
    comparisons = tuple(compare_metric(name, scores_b, scores_a, groups, "test", 0.05, first.seed) for name in names)
    lead = names[0]
    before = {s.question_id: s.value for s in scores_a if s.metric == lead and s.value is not None}
    after = {s.question_id: s.value for s in scores_b if s.metric == lead and s.value is not None}
    worse = sorted((after[q] - before[q], q) for q in before if q in after and after[q] < before[q])[:10]
    return RunComparison(
        run_a=first.run_id,
        run_b=second.run_id,
        comparisons=comparisons,
        regressions=tuple(Regression(question_id=q, before=before[q], after=after[q]) for _, q in worse),
        verdict=_verdict(comparisons[0], first.run_id, second.run_id),
    )


def _final_scores(folder: Path, record: LadderRecord) -> list[Score]:
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "scores.parquet").to_pylist()
    return [
        Score(r["question_id"], r["metric"], r["value"], r["status"], r["detail"])
        for r in rows
        if r["arm"] == record.final.arm and r["split"] == "test"
    ]


def _groups(folder: Path) -> dict[str, str]:
    import json

    with open(folder / "questions.jsonl", encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    return {r["id"]: r["evidence"][0]["doc_id"] if r["evidence"] else f"question:{r['id']}" for r in rows}


def _verdict(c: Comparison, a: str, b: str) -> str:
    if c.difference is None or c.low is None or c.high is None:
        return f"{c.metric}: nothing to compare"
    if c.low > 0:
        return f"{b} is better in {c.metric}: the 95% interval of the difference lies above 0"
    if c.high < 0:
        return f"{a} is better in {c.metric}: the 95% interval of the difference lies below 0"
    return f"the two cannot be told apart in {c.metric}: the 95% interval of the difference holds 0"
