"""Compares what two runs ended with, question by question, and refuses runs whose scores are not of one kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.components import Model
from ..core.errors import DataError
from ..core.types import Score
from ..eval.calibrate import require_same_judge
from ..eval.multiple import holm
from .comparison import Comparison, compare_metric
from .measures import lower_is_better
from .records import LadderRecord
from .runs import load_ladder

__all__ = ["Compared", "Regression", "RunComparison", "TagComparison", "compare_runs"]

ALPHA = 0.05
"""Of all metrics together, and of all slices together, two-sided."""
SHOWN = 10
MAX_MISSING = 0.02
_TESTED = 2  # groups that a slice needs for a test


class Compared(Comparison):
    """One metric: the second run as candidate, the first as incumbent."""

    holm_p: float | None
    """Two-sided p-value, adjusted by Holm for the metrics (or slices) that were compared."""


class TagComparison(Model):
    """The first metric on the questions of one tag."""

    tag: str
    """Its name."""
    value: str
    """Its value."""
    comparison: Compared
    """On these questions; p-values adjusted for the number of slices."""


class Regression(Model):
    """A question on which the second run is worse."""

    question_id: str
    """Which."""
    question: str
    """Its text."""
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
    alpha: float
    """Chance of one or more false finds among the metrics; likewise among the slices."""
    comparisons: tuple[Compared, ...]
    """One a metric; the first leads."""
    tags: tuple[TagComparison, ...]
    """Slices by tag, the largest loss first."""
    regressions: tuple[Regression, ...]
    """The ten largest of the first metric."""
    verdict: str
    """In words."""

    def lines(self) -> list[str]:
        """As text."""
        rows = [f"{self.run_b} minus {self.run_a}, test questions"]
        rows += [f"  {c.metric}: {_figures(c)}" for c in self.comparisons]
        rows.append(self.verdict)
        if self.tags:
            rows.append(f"{self.comparisons[0].metric} by tag, the largest loss first:")
            rows += [f"  {t.tag}={t.value}: {_figures(t.comparison)}" for t in self.tags]
        if self.regressions:
            rows.append("largest regressions:")
            rows += [f"  {r.question_id}: {r.before:.3f} -> {r.after:.3f}  {r.question}" for r in self.regressions]
        return rows


def compare_runs(a: Path, b: Path, metrics: Sequence[str] | None = None) -> RunComparison:
    """Compares the final pipelines of two runs on test.

    Args:
        a: Folder of the first run.
        b: Folder of the second.
        metrics: Which, the leading one first; the answer metric and those that the rungs' gates looked at where not
            given.

    Raises:
        DataError: The runs have other questions, documents or test splits; other versions or settings of a metric; or a
            metric is not in both.
        ConfigError: Different judges gave the scores of a metric.
    """
    first, second = load_ladder(a), load_ladder(b)
    _require_same_data(first, second)
    names = list(
        metrics or dict.fromkeys([first.answer_metric, *(r.metric for r in (*first.rungs, *second.rungs) if r.metric)])
    )
    scores = _final_scores(a, first), _final_scores(b, second)
    for name in dict.fromkeys(names):
        _require_same_metric(name, (first, second), scores)
    questions = _questions(a)
    groups = {q: row["evidence"][0]["doc_id"] if row["evidence"] else f"question:{q}" for q, row in questions.items()}
    plain = [_compare(name, scores, groups, first.seed) for name in dict.fromkeys(names)]
    comparisons = _adjusted(plain)
    lead = comparisons[0]
    return RunComparison(
        run_a=first.run_id,
        run_b=second.run_id,
        alpha=ALPHA,
        comparisons=comparisons,
        tags=_by_tag(lead.metric, scores, questions, groups, first.seed),
        regressions=_regressions(lead.metric, scores, questions),
        verdict=_verdict(comparisons, first.run_id, second.run_id),
    )


# --- what must be alike ---


def _require_same_data(first: LadderRecord, second: LadderRecord) -> None:
    pair = f"{first.run_id} and {second.run_id}"
    if first.data.questions_sha256 != second.data.questions_sha256:
        raise DataError(
            f"{pair} were scored on different questions; scores of different questions cannot be compared: "
            "climb both with one file of questions"
        )
    if first.data.documents_sha256 != second.data.documents_sha256:
        raise DataError(
            f"{pair} were scored on different documents ({first.data.documents} and {second.data.documents}), so the "
            "pipelines are not what differs: climb both on the same documents"
        )


def _require_same_metric(
    name: str, runs: tuple[LadderRecord, LadderRecord], scores: tuple[Sequence[Score], Sequence[Score]]
) -> None:
    asked = [{s.question_id for s in side if s.metric == name} for side in scores]
    if not asked[0] or not asked[1]:
        known = sorted({s.metric for s in scores[0]} & {s.metric for s in scores[1]})
        raise DataError(f"metric '{name}' was not scored in both runs; in both: {', '.join(known)}")
    if asked[0] != asked[1]:
        differ = sorted(asked[0] ^ asked[1])
        raise DataError(
            f"{runs[0].run_id} and {runs[1].run_id} have different test questions: {len(differ)} are in one only, for "
            f"instance '{differ[0]}'; climb both with the same split"
        )
    require_same_judge(runs[0].judges.get(name, ""), runs[1].judges.get(name, ""), f"compared in {name}")
    versions = [run.metrics.get(name) or f"that of ragladder {run.ragladder}" for run in runs]
    if name not in runs[0].judges and versions[0] != versions[1]:
        raise DataError(
            f"metric '{name}' is not the same in both runs: {versions[0]} in {runs[0].run_id}, {versions[1]} in "
            f"{runs[1].run_id}; climb the older one again with this version and these settings (the cache is reused)"
        )


# --- comparisons ---


def _compare(
    name: str, scores: tuple[Sequence[Score], Sequence[Score]], groups: Mapping[str, str], seed: int
) -> Comparison:
    found = compare_metric(name, scores[1], scores[0], groups, "test", ALPHA / 2, seed)
    return found.model_copy(update={"wins": found.losses, "losses": found.wins}) if lower_is_better(name) else found


def _adjusted(comparisons: Sequence[Comparison]) -> tuple[Compared, ...]:
    """With Holm's p-values; what cannot be tested is no hypothesis."""
    tested = [c for c in comparisons if c.p_two_sided is not None and c.clusters >= _TESTED]
    adjusted = iter(holm([c.p_two_sided or 0.0 for c in tested]))
    return tuple(
        Compared.model_validate(c.model_dump() | {"holm_p": next(adjusted) if any(c is t for t in tested) else None})
        for c in comparisons
    )


def _by_tag(
    metric: str,
    scores: tuple[Sequence[Score], Sequence[Score]],
    questions: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, str],
    seed: int,
) -> tuple[TagComparison, ...]:
    """Slices of the questions that the metric applies to; one that holds them all is left out."""
    asked = {s.question_id for s in scores[0] if s.metric == metric and s.status != "not_applicable"}
    slices: dict[tuple[str, str], set[str]] = {}
    for question in asked:
        for tag, value in questions.get(question, {}).get("tags", {}).items():
            slices.setdefault((tag, str(value)), set()).add(question)
    slices = {key: members for key, members in sorted(slices.items()) if members != asked}
    plain = [
        _compare(metric, (_only(scores[0], members), _only(scores[1], members)), groups, seed)
        for members in slices.values()
    ]
    rows = [
        TagComparison(tag=tag, value=value, comparison=comparison)
        for (tag, value), comparison in zip(slices, _adjusted(plain), strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: (row.comparison.difference is None, _gain(row.comparison))))


def _only(scores: Sequence[Score], questions: set[str]) -> list[Score]:
    return [s for s in scores if s.question_id in questions]


def _gain(c: Comparison) -> float:
    """The difference, positive where the second run is better."""
    return (c.difference or 0.0) * (-1 if lower_is_better(c.metric) else 1)


def _regressions(
    metric: str, scores: tuple[Sequence[Score], Sequence[Score]], questions: Mapping[str, Mapping[str, Any]]
) -> tuple[Regression, ...]:
    before, after = (
        {s.question_id: s.value for s in side if s.metric == metric and s.value is not None} for side in scores
    )
    sign = -1 if lower_is_better(metric) else 1
    worse = sorted((sign * (after[q] - before[q]), q) for q in before if q in after)
    return tuple(
        Regression(question_id=q, question=questions.get(q, {}).get("question", ""), before=before[q], after=after[q])
        for change, q in worse[:SHOWN]
        if change < 0
    )


# --- words ---


def _figures(c: Compared) -> str:
    if c.difference is None:
        return "nothing to compare"
    adjusted = "not tested" if c.holm_p is None else f"p {c.holm_p:.2g} (Holm)"
    missing = f", missing {c.missing_incumbent}/{c.missing_candidate}" if _lacks(c) else ""
    return (
        f"{c.incumbent:.4f} -> {c.candidate:.4f}, {c.difference:+.4f} {_interval(c)}, {adjusted}, "
        f"win/tie/loss {c.wins}/{c.ties}/{c.losses}, n {c.n}{missing}"
    )


def _interval(c: Comparison) -> str:
    return "[unknown]" if c.low is None or c.high is None else f"[{c.low:+.4f}, {c.high:+.4f}]"


def _lacks(c: Comparison) -> int:
    return max(c.missing_candidate, c.missing_incumbent)


def _found(c: Compared) -> int:
    """1 where the second run is better, -1 where the first is, 0 where they cannot be told apart."""
    if c.holm_p is None or c.holm_p > ALPHA or _lacks(c) > MAX_MISSING * (c.n + _lacks(c)):
        return 0
    return 1 if _gain(c) > 0 else -1


def _verdict(comparisons: Sequence[Compared], a: str, b: str) -> str:
    """The leading metric in full, the others by name."""
    sentences = [_sentence(comparisons[0], a, b)]
    for found, words in ((1, f"{b} is better in"), (-1, f"{a} is better in"), (0, "not told apart in")):
        names = [c.metric for c in comparisons[1:] if _found(c) == found]
        sentences += [f"{words} {', '.join(names)}"] if names else []
    return "; ".join(sentences)


def _sentence(c: Compared, a: str, b: str) -> str:
    if c.difference is None or c.holm_p is None:
        return f"{c.metric}: nothing to compare"
    if _lacks(c) > MAX_MISSING * (c.n + _lacks(c)):
        return (
            f"no verdict in {c.metric}: {c.missing_incumbent} scores of {a} and {c.missing_candidate} of {b} are "
            f"missing ({c.n} questions have both), and what is left may be the easy ones"
        )
    found = _found(c)
    if found:
        return (
            f"{b if found > 0 else a} is better in {c.metric}: {c.difference:+.4f} {_interval(c)}, "
            f"p {c.holm_p:.2g} after Holm's correction"
        )
    more = ""
    if c.detectable is not None and c.difference:
        more = f"; a difference of {c.detectable:.3f} would have been found four times out of five"
    return f"the two cannot be told apart in {c.metric}: {c.difference:+.4f} {_interval(c)}, p {c.holm_p:.2g}{more}"


# --- files ---


def _final_scores(folder: Path, record: LadderRecord) -> list[Score]:
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "scores.parquet").to_pylist()
    return [
        Score(r["question_id"], r["metric"], r["value"], r["status"], r["detail"])
        for r in rows
        if r["arm"] == record.final.arm and r["split"] == "test"
    ]


def _questions(folder: Path) -> dict[str, dict[str, Any]]:
    with open(folder / "questions.jsonl", encoding="utf-8") as handle:
        return {row["id"]: row for row in (json.loads(line) for line in handle)}
