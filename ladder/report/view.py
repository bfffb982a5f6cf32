"""What the template shows, worked out beforehand: the template only lays it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..gate import Comparison
from ..records import ArmRecord, EstimateRecord, LadderRecord, RungRecord
from .charts import Mark, Scale, scale_over
from .run_folder import RunFolder
from .slices import TagTable, slice_tables
from .words import arm_name, family, setting

__all__ = [
    "Cell",
    "Curve",
    "MetricTable",
    "Step",
    "Trial",
    "View",
    "comparisons",
    "curves",
    "facts",
    "gate_marks",
    "make_view",
    "test_gain",
    "warnings_of",
]

_SHOWN_DETAILS = ("history", "warnings", "trials")
_X_NAMES = ("step", "global_step", "epoch", "round")


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the ladder's picture: the baseline or a rung.

    Attributes:
        arm: Baseline or rung.
        title: In words.
        rung: None for the baseline.
        final: True where the climb ended with this arm.
        answer: The answer metric on test; None where test was not looked at.
        gate: What the gate compared on test; None where it did not.
        incumbent: The rung's metric of the incumbent on test.
        candidate: The rung's metric of the candidate on test.
    """

    arm: str
    title: str
    rung: RungRecord | None
    final: bool
    answer: EstimateRecord | None
    gate: Comparison | None
    incumbent: EstimateRecord | None
    candidate: EstimateRecord | None


@dataclass(frozen=True, slots=True)
class Cell:
    """A metric of an arm: its estimate, and what is missing, in counts by status."""

    estimate: EstimateRecord | None
    missing: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MetricTable:
    """All metrics of all arms on a split: rows by family of metric, a cell an arm."""

    split: str
    arms: tuple[str, ...]
    families: tuple[tuple[str, tuple[tuple[str, tuple[Cell, ...]], ...]], ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One number along a training, as points (x, y) in order of time."""

    name: str
    x_name: str
    points: tuple[tuple[float, float], ...]

    @property
    def lowest(self) -> float:
        """Smallest value."""
        return min(y for _, y in self.points)

    @property
    def highest(self) -> float:
        """Largest value."""
        return max(y for _, y in self.points)


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of the sweep, as its row and a mark for the best one."""

    row: Mapping[str, Any]
    best: bool


@dataclass(frozen=True, slots=True)
class View:
    """Everything the template needs besides the run folder."""

    steps: tuple[Step, ...]
    answer_scale: Scale
    gate_scale: Scale
    difference_scale: Scale
    ceiling_scale: Scale
    tables: tuple[MetricTable, ...]
    causes: tuple[tuple[str, Mapping[str, int]], ...]
    slices: tuple[TagTable, ...]
    slice_split: str
    slice_scale: Scale
    trials: tuple[Trial, ...]
    trial_scale: Scale


def make_view(run: RunFolder) -> View:
    """Works out the view of a run."""
    record = run.record
    steps = _steps(record)
    gates = [step.gate for step in steps if step.gate]
    compared = [c for rung in record.rungs for c in comparisons(rung)]
    baseline_dev = record.baseline.scores.get("dev", {}).get(record.answer_metric)
    ceilings = [ceiling.estimate for ceiling in record.diagnosis.ceilings]
    final_dev = record.final.scores.get("dev", {}).get(record.answer_metric)
    split = "test" if record.answer_metric in record.final.scores.get("test", {}) else "dev"
    slices = tuple(slice_tables(run, record.answer_metric, split))
    return View(
        steps=steps,
        answer_scale=scale_over(_ends(step.answer for step in steps)),
        gate_scale=scale_over([*_ends(e for s in steps for e in (s.incumbent, s.candidate)), *_means(gates)]),
        difference_scale=scale_over([v for c in compared for v in (c.low, c.high, c.difference)], include=(0.0,)),
        ceiling_scale=scale_over(_ends([baseline_dev, final_dev, *ceilings])),
        tables=tuple(table for name in ("test", "dev") if (table := _metric_table(run, name)) is not None),
        causes=tuple((arm.arm, arm.causes) for arm in _arms(record) if arm.causes),
        slices=slices,
        slice_split=split,
        slice_scale=scale_over(
            [v for t in slices for s in t.slices for v in (s.low, s.high, s.difference)], include=(0.0,)
        ),
        trials=_trials(run.trials),
        trial_scale=scale_over([row.get(name) for row in run.trials for name in ("low", "mean", "high")]),
    )


def _steps(record: LadderRecord) -> tuple[Step, ...]:
    answer = record.answer_metric
    first = record.baseline.scores.get("test", {}).get(answer)
    steps = [
        Step(
            record.baseline.arm,
            arm_name(record.baseline.arm),
            None,
            record.final.arm == record.baseline.arm,
            first,
            None,
            None,
            None,
        )
    ]
    standing = record.baseline
    for rung in record.rungs:
        arm, gate = rung.candidate, rung.decision.primary
        test = arm.scores.get("test", {}) if arm else {}
        steps.append(
            Step(
                rung.name,
                arm_name(rung.name),
                rung,
                arm is not None and record.final.arm == arm.arm,
                test.get(answer),
                gate,
                standing.scores.get("test", {}).get(rung.metric) if gate else None,
                test.get(rung.metric) if gate else None,
            )
        )
        if arm and rung.decision.verdict == "adopt":
            standing = arm
    return tuple(steps)


def comparisons(rung: RungRecord) -> list[Comparison]:
    """The rung's comparisons: dev (where there is one), test, guardrails."""
    dev = [Comparison.model_validate(rung.dev)] if rung.dev else []
    primary = [rung.decision.primary] if rung.decision.primary else []
    return [*dev, *primary, *rung.decision.guardrails]


def curves(history: Any) -> list[Curve]:
    """The numbers of a training history (a list of rows) as lines; a number with fewer than two points is left out."""
    rows = [row for row in history if isinstance(row, Mapping)] if isinstance(history, Sequence) else []
    x_name = next((name for name in _X_NAMES if any(_is_number(row.get(name)) for row in rows)), "")
    lines: dict[str, list[tuple[float, float]]] = {}
    for position, row in enumerate(rows):
        x = row.get(x_name) if x_name else position
        for name, value in row.items():
            if name not in _X_NAMES and _is_number(value) and _is_number(x):
                lines.setdefault(name, []).append((float(x), float(value)))  # type: ignore[arg-type]
    return [Curve(name, x_name or "row", tuple(points)) for name, points in lines.items() if len(points) > 1]


def test_gain(rung: RungRecord) -> float | None:
    """What the rung gained on test; None where it gained nothing or was not looked at."""
    gain = rung.decision.primary.difference if rung.decision.primary else None
    return gain if gain and gain > 0 else None


def warnings_of(rung: RungRecord) -> list[str]:
    """The warnings among a rung's findings, also where it is one text."""
    found = rung.details.get("warnings") or []
    return [found] if isinstance(found, str) else [text if isinstance(text, str) else setting(text) for text in found]


def facts(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A rung's other findings as name and value; nested names are joined with a dot, long lists cut to 12."""
    found: list[tuple[str, str]] = []
    for name, value in details.items():
        if name in _SHOWN_DETAILS and not _is_number(value):
            continue
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", text) for inner, text in facts(value)]
        elif isinstance(value, (list, tuple)) and len(value) > 12:
            found.append((name, f"{setting(list(value[:12]))} … {len(value)} in all"))
        else:
            found.append((name, f"{value:.4g}" if isinstance(value, float) else setting(value)))
    return found


def _arms(record: LadderRecord) -> list[ArmRecord]:
    """Baseline and candidates in order; the final arm last where it is none of them."""
    arms = [record.baseline, *(rung.candidate for rung in record.rungs if rung.candidate)]
    return arms if record.final.arm in {arm.arm for arm in arms} else [*arms, record.final]


def _metric_table(run: RunFolder, split: Any) -> MetricTable | None:
    arms = [arm for arm in _arms(run.record) if arm.scores.get(split)]
    metrics = list(dict.fromkeys(metric for arm in arms for metric in arm.scores[split]))
    if not metrics:
        return None
    missing = _missing(run, split)
    families: dict[str, list[Any]] = {"Retrieval": [], "Answer": [], "RAGAS": []}
    for metric in metrics:
        cells = tuple(Cell(arm.scores[split].get(metric), missing.get((arm.arm, metric), {})) for arm in arms)
        families[family(metric)].append((metric, cells))
    return MetricTable(
        split, tuple(arm.arm for arm in arms), tuple((name, tuple(rows)) for name, rows in families.items() if rows)
    )


def _missing(run: RunFolder, split: str) -> dict[tuple[str, str], Counter[str]]:
    found: dict[tuple[str, str], Counter[str]] = {}
    if run.scores:
        names = ("arm", "split", "metric", "status")
        for arm, at, metric, status in zip(*(run.scores[name] for name in names), strict=True):
            if at == split and status not in ("ok", "not_applicable"):
                found.setdefault((arm, metric), Counter())[status] += 1
    return found


def _trials(rows: Sequence[Mapping[str, Any]]) -> tuple[Trial, ...]:
    means = [row["mean"] for row in rows if row.get("mean") is not None and row.get("status", "ok") == "ok"]
    # The first of equals: it is the cheaper one, tried earlier.
    best = next(
        (
            i
            for i, row in enumerate(rows)
            if means and row.get("mean") == max(means) and row.get("status", "ok") == "ok"
        ),
        -1,
    )
    return tuple(Trial(row, position == best) for position, row in enumerate(rows))


def _ends(estimates: Any) -> list[float | None]:
    return [value for e in estimates if e is not None for value in (e.low, e.mean, e.high)]


def _means(gates: Sequence[Comparison]) -> list[float | None]:
    return [value for gate in gates for value in (gate.incumbent, gate.candidate)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def gate_marks(step: Step) -> list[Mark]:
    """Incumbent and candidate of a rung's metric on test, over the questions that were compared."""
    if step.gate is None:
        return []
    before, after = step.incumbent, step.candidate
    return [
        Mark(
            step.gate.incumbent if before is None else before.mean,
            before.low if before else None,
            before.high if before else None,
            "old",
            True,
        ),
        Mark(
            step.gate.candidate if after is None else after.mean,
            after.low if after else None,
            after.high if after else None,
        ),
    ]
