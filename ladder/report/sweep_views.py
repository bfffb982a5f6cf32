"""Trials of a sweep as pictures: what each knob's values reached, which knobs mattered, lines through all trials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..measures import lower_is_better
from ..words import compact
from .charts import Scale, scale_over

if TYPE_CHECKING:
    from ..sweep.results import SweepRecord

__all__ = ["Knob", "KnobValue", "SweepView", "Tried", "compact", "of_sweep", "of_trials", "unset"]

MOST_LINES = 300
"""Trials drawn as lines: the best ones; more cannot be told apart."""
MOST_KNOBS = 12
_UNSET = "as it was"


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial with a score.

    Attributes:
        point: Value of every knob, in words.
        score: Of the first objective.
        best: True for the winner.
        other: Of the second objective, None where there is none.
        front: True where no other trial is at least as good in all objectives and better in one.
    """

    point: Mapping[str, str]
    score: float
    best: bool = False
    other: float | None = None
    front: bool = False


@dataclass(frozen=True, slots=True)
class KnobValue:
    """The trials with one value of a knob: how many, their mean score, the worst and the best."""

    label: str
    trials: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Knob:
    """A knob and its values.

    Attributes:
        name: Key path below `pipeline`.
        importance: Share of the variance of the scores between its values; None where it cannot be told, as after a
            guided search, which did not try the knobs evenly.
        alone: The largest difference between two trials that differ in this knob alone; None where there are none.
        values: In the order tried, but for numbers, which stand last and ascend.
    """

    name: str
    importance: float | None
    alone: float | None
    values: tuple[KnobValue, ...]


@dataclass(frozen=True, slots=True)
class SweepView:
    """What is drawn of the trials of one objective.

    Attributes:
        objective: The first one.
        second: The second one, empty where there is none.
        least: True where less of the first objective is better.
        guided: True where the search chose later trials by earlier ones, so that knobs were not tried evenly.
        method: How importance was worked out; empty where it was not.
        tried: Trials with a score, the best last, so that it is drawn on top.
        knobs: The most important first.
        scale: Of the scores.
        second_scale: Of the second objective.
        failed: Trials without a score.
    """

    objective: str
    second: str
    least: bool
    guided: bool
    method: str
    tried: tuple[Tried, ...]
    knobs: tuple[Knob, ...]
    scale: Scale
    second_scale: Scale
    failed: int

    @property
    def lines(self) -> tuple[Tried, ...]:
        """The trials that are drawn as lines."""
        return self.tried[-MOST_LINES:]


def of_trials(rows: Sequence[Mapping[str, Any]], pipeline: Mapping[str, Any], search: str) -> list[SweepView]:
    """Views of the trials of one rung, one an objective; an objective with fewer than three scored trials has none.

    Args:
        rows: Rows of `trials.parquet`.
        pipeline: The settings that a knob has where a trial does not change it.
        search: The kind of search; `coordinate` is guided.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get("objective") or "score", []).append(row)
    found = []
    for objective, members in groups.items():
        changes = [_changes(row) for row in members]
        # A knob that all trials of an objective share was settled before them.
        named = dict.fromkeys(name for one in changes for name in one)
        names = [name for name in named if len({_key(one.get(name)) for one in changes}) > 1]
        values = [{n: c[n] if n in c else _start(pipeline, n, changes) for n in names} for c in changes]
        points = _labelled(values, names)
        scored = [
            (point, float(row["mean"]))
            for row, point in zip(members, points, strict=True)
            if row.get("status", "ok") == "ok" and row.get("mean") is not None
        ]
        least = lower_is_better(objective)
        top = (min if least else max)((score for _, score in scored), default=0.0)
        # The first of equals: it is the cheaper one, tried earlier.
        first = next((i for i, (_, score) in enumerate(scored) if score == top), -1)
        tried = [Tried(point, score, i == first) for i, (point, score) in enumerate(scored)]
        if len(tried) > 2 and names:
            guided = search not in ("grid", "random")
            found.append(_view(objective, "", tried, names, {}, guided, len(members) - len(scored)))
    return found


def of_sweep(record: SweepRecord) -> SweepView | None:
    """View of a sweep; None with fewer than three scored trials."""
    objective, second = record.objectives[0], (*record.objectives, "", "")[1]
    names = [axis.axis for axis in record.axes]
    points = _labelled([{n: t.point.get(n, unset(record)) for n in names} for t in record.trials], names)
    tried = [
        Tried(point, score, t.rank == 1, t.objectives.get(second) if second else None, t.pareto)
        for t, point in zip(record.trials, points, strict=True)
        if t.status in ("ok", "infeasible") and (score := t.objectives.get(objective)) is not None
    ]
    if len(tried) < 3:
        return None
    given = {axis.axis: axis.importance for axis in record.axes if axis.importance is not None}
    guided = record.search not in ("grid", "random")
    return _view(objective, second, tried, names, given, guided, len(record.trials) - len(tried))


def unset(record: SweepRecord) -> str:
    """What a trial has that does not name an axis: a search axis by axis leaves the others as configured; else the axis
    hangs on another one's value."""
    return "as configured" if record.search == "coordinate" else "off"


def _view(
    objective: str,
    second: str,
    tried: Sequence[Tried],
    names: Sequence[str],
    given: Mapping[str, float],
    guided: bool,
    failed: int,
) -> SweepView:
    least = lower_is_better(objective)
    shares = given if given or guided else {name: _share(_groups(tried, name)) for name in names}
    knobs = [knob for name in names if (knob := _knob(name, names, tried, shares.get(name))) is not None]
    knobs.sort(key=lambda k: (-(k.importance or 0.0), -(k.alone or 0.0)))
    ordered = sorted(tried, key=lambda t: (t.best, -t.score if least else t.score))
    method = "fANOVA" if given else "" if guided else "η²"
    scores, others = [t.score for t in tried], [t.other for t in tried]
    scales = scale_over(scores), scale_over(others)
    return SweepView(
        objective, second, least, guided, method, tuple(ordered), tuple(knobs[:MOST_KNOBS]), *scales, failed
    )


def _groups(tried: Sequence[Tried], *names: str) -> dict[Any, list[float]]:
    """Scores by the values of some knobs."""
    groups: dict[Any, list[float]] = {}
    for one in tried:
        key = tuple(one.point[name] for name in names)
        groups.setdefault(key[0] if len(names) == 1 else key, []).append(one.score)
    return groups


def _knob(name: str, names: Sequence[str], tried: Sequence[Tried], importance: float | None) -> Knob | None:
    groups = _groups(tried, name)
    if len(groups) < 2:
        return None
    values = [
        KnobValue(label, len(scores), sum(scores) / len(scores), min(scores), max(scores))
        for label, scores in groups.items()
    ]
    numbers = {value.label: number for value in values if (number := _number(value.label)) is not None}
    values.sort(key=lambda value: (value.label in numbers, numbers.get(value.label, 0.0)))  # words stay as tried
    # A trial that was run twice would count as a pair, too, but its scores are equal.
    others = [other for other in names if other != name]
    matched = _groups(tried, *others) if others else {"": [one.score for one in tried]}
    pairs = [max(scores) - min(scores) for scores in matched.values() if len(scores) > 1]
    return Knob(name, importance, max(pairs, default=None), tuple(values))


def _share(groups: Mapping[str, Sequence[float]]) -> float | None:
    """Eta squared: the sum of squares between the groups over that of all (Fisher 1925)."""
    scores = [score for group in groups.values() for score in group]
    mean = sum(scores) / len(scores)
    total = sum((score - mean) ** 2 for score in scores)
    if len(scores) < 4 or total < 1e-12:
        return None
    between = sum(len(group) * (sum(group) / len(group) - mean) ** 2 for group in groups.values())
    return between / total


def _changes(row: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a trial that differ from the incumbent; older rows have the axis alone."""
    text = row.get("changes")
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _labelled(points: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, str]]:
    """The points in words; of settings that are sections, what is equal in all of them is left out."""
    shared: dict[str, set[str]] = {}
    for name in names:
        sections = [point[name] for point in points if isinstance(point[name], Mapping)]
        keys = {key for section in sections for key in section} - {"kind", "mode"}
        alike = {key for key in keys if len({_key(section.get(key)) for section in sections}) == 1}
        shared[name] = alike if len({_key(section) for section in sections}) > 1 else set()
    return [{name: compact(_without(point[name], shared[name])) for name in names} for point in points]


def _without(value: Any, keys: set[str]) -> Any:
    return {k: v for k, v in value.items() if k not in keys} if isinstance(value, Mapping) else value


def _start(pipeline: Mapping[str, Any], name: str, changes: Sequence[Mapping[str, Any]]) -> Any:
    """The knob's value in the incumbent, as trials write it; in words where none of them has it."""
    value: Any = pipeline
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _UNSET
        value = value[part]
    if not isinstance(value, Mapping) or len(value) == 1:
        return compact(value) if isinstance(value, Mapping) else value
    for one in changes:
        given = one.get(name)
        if isinstance(given, Mapping) and all(k in value and value[k] == v for k, v in given.items()):
            return given
    kind = value.get("kind", value.get("mode"))
    return f"{kind} ({_UNSET})" if isinstance(kind, str) else _UNSET


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
