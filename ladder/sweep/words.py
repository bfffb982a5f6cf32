"""A sweep's result in lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..words import compact
from .baseline import BaselineRecord, GainRecord
from .results import SweepRecord, TrialRecord

__all__ = ["gain_text", "number", "point_text", "sweep_lines"]

_WIDTH = 100


def point_text(point: dict[str, Any]) -> str:
    """A point in words."""
    said = [f"{axis}={_value(value)}" for axis, value in point.items()]
    return ", ".join(said) or "the starting pipeline"


def _value(value: Any) -> str:
    """In brackets where it is of several words: other axes follow."""
    return f"({compact(value)})" if isinstance(value, dict) and len(value) > 1 else compact(value)


def number(value: float | None) -> str:
    """A score, or a measure."""
    return "no value" if value is None else f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"


def gain_text(gain: GainRecord) -> str:
    """A gain with its interval; without one where the questions are too few for it."""
    interval = "" if gain.low is None or gain.high is None else f" [{gain.low:+.4f}, {gain.high:+.4f}]"
    return f"{gain.difference:+.4f}{interval}"


def sweep_lines(record: SweepRecord, top: int) -> list[str]:
    """The ranking, the knobs, the Pareto front, and the summary.

    Args:
        record: What to show.
        top: Configurations of the ranking.
    """
    counts = ", ".join(f"{count} {status}" for status, count in sorted(record.counts.items(), key=lambda c: -c[1]))
    total = sum(record.counts.values())
    lines = [f"{record.name}: {total} configurations ({counts}), {record.questions} {record.split} questions"]
    good = [trial for trial in record.trials if trial.rank is not None]
    lines += _table(good[:top], record.objectives)
    if len(good) > top:
        lines.append(f"  … {len(good) - top} more in sweep.json")
    if record.baseline is not None:
        lines.append(_baseline(record.baseline, record.objectives))
    lines += _knobs(record)
    if record.pareto:
        on_front = [trial for trial in good if trial.pareto]
        lines += ["", f"Pareto front of {', '.join(record.objectives)}: {len(on_front)} configurations"]
        lines += _table(on_front[:top], record.objectives)
    bad = [trial for trial in record.trials if trial.rank is None]
    if bad:
        lines += ["", "not ranked:"]
        lines += [f"  {t.status:10}  {_cut(point_text(t.point))}: {_cut(t.error)}" for t in bad[:5]]
        lines += [f"  … {len(bad) - 5} more in sweep.json"] if len(bad) > 5 else []
    return [*lines, "", record.summary]


def _table(trials: Sequence[TrialRecord], objectives: Sequence[str]) -> list[str]:
    rows = []
    compared = any(trial.gain is not None for trial in trials)
    for trial in trials:
        cells = [_score(trial, name) for name in objectives]
        if compared:
            marks = {"better": "+", "worse": "-", "unclear": " "}
            cells.append(f"{gain_text(trial.gain)} {marks[trial.gain.verdict]}" if trial.gain else "")
        mark = "=" if trial.same_as_best and trial.rank != 1 else " "
        rows.append([f"{trial.rank}{mark}", *cells, _cut(point_text(trial.point))])
    head = ["rank", *objectives, *(["against as configured"] if compared else []), "configuration"]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head) - 1)] if rows else []
    padded = [[*(f"{c:{w}}" for c, w in zip(row, widths, strict=False)), row[-1]] for row in [head, *rows]]
    return ["  " + "  ".join(cells) for cells in padded]


def _score(trial: TrialRecord | BaselineRecord, name: str) -> str:
    known = trial.estimates.get(name)
    interval = f" [{known.low:.4f}, {known.high:.4f}]" if known and known.low is not None else ""
    missing = f" {known.n_ok}/{known.n}" if known and known.n_ok < known.n else ""
    return f"{number(trial.objectives[name])}{interval}{missing}"


def _baseline(baseline: BaselineRecord, objectives: Sequence[str]) -> str:
    scores = ", ".join(f"{name} {_score(baseline, name)}" for name in objectives)
    return f"  as configured: {scores if baseline.status == 'ok' else f'{baseline.status}: {_cut(baseline.error)}'}"


def _knobs(record: SweepRecord) -> list[str]:
    if not record.axes:
        return []
    lines = ["", f"which knobs mattered (share of the variance of {record.objectives[0]}; means by value):"]
    for axis in record.axes:
        share = "      " if axis.importance is None else f"{axis.importance:6.1%}"
        means = "  ".join(f"{_value(row.value)}: {number(row.mean)}" for row in axis.values)
        lines.append(f"  {share}  {axis.axis}  {_cut(means)}")
    return lines


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
