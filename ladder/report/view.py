"""What the template shows, worked out beforehand: the template only lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..gate import Comparison
from ..measures import lower_is_better
from ..records import ArmRecord, EstimateRecord, LadderRecord, RungRecord
from .charts import Mark, Scale, scale_over
from .costs import ArmCost, arm_costs
from .findings import compared
from .flow import Flow, causes_of, climb_flow, rung_flow, standing_before
from .metric_table import MetricTable, metric_table
from .run_folder import RunFolder
from .slices import TagTable, slice_tables
from .sweep_views import SweepView, of_trials
from .words import arm_name

__all__ = ["Step", "Trial", "View", "gate_marks", "make_view", "test_gain"]


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
    trials: Mapping[str, tuple[Trial, ...]]
    trial_scale: Scale
    sweeps: Mapping[str, tuple[SweepView, ...]]
    flow: Flow | None
    rung_flows: Mapping[str, Flow]
    costs: tuple[ArmCost, ...]
    cost_scale: Scale
    answer_all_scale: Scale
    share_scale: Scale


def make_view(run: RunFolder) -> View:
    """Works out the view of a run."""
    record = run.record
    steps = _steps(record)
    gates = [step.gate for step in steps if step.gate]
    rows = [c for rung in record.rungs for _, c in compared(rung)]
    baseline_dev = record.baseline.scores.get("dev", {}).get(record.answer_metric)
    ceilings = [ceiling.estimate for ceiling in record.diagnosis.ceilings]
    ceilings += record.diagnosis.reach.values()
    final_dev = record.final.scores.get("dev", {}).get(record.answer_metric)
    split = "test" if record.answer_metric in record.final.scores.get("test", {}) else "dev"
    causes, costs, trials = causes_of(run), arm_costs(run), _trials(run.trials)
    slices = tuple(slice_tables(run, record.answer_metric, split))
    return View(
        steps=steps,
        answer_scale=scale_over(_ends(step.answer for step in steps)),
        gate_scale=scale_over([*_ends(e for s in steps for e in (s.incumbent, s.candidate)), *_means(gates)]),
        difference_scale=scale_over([v for c in rows for v in (c.low, c.high, c.difference)], include=(0.0,)),
        ceiling_scale=scale_over(_ends([baseline_dev, final_dev, *ceilings])),
        tables=_tables(run),
        causes=tuple((arm.arm, arm.causes) for arm in _arms(record) if arm.causes),
        slices=slices,
        slice_split=split,
        slice_scale=scale_over(
            [v for t in slices for s in t.slices for v in (s.low, s.high, s.difference)], include=(0.0,)
        ),
        trials=trials,
        sweeps=_sweeps(run, trials),
        flow=climb_flow(causes, record),
        rung_flows=_rung_flows(record, causes),
        costs=costs,
        cost_scale=scale_over([cost.seconds for cost in costs], include=(0.0,)),
        answer_all_scale=scale_over([cost.score.mean for cost in costs if cost.score]),
        share_scale=scale_over(_ends(fault.share for fault in record.diagnosis.faults.values()), include=(0.0,)),
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


def test_gain(rung: RungRecord) -> float | None:
    """What the rung gained on test; None where it gained nothing or was not looked at."""
    gain = rung.decision.primary.difference if rung.decision.primary else None
    return gain if gain and gain > 0 else None


def _tables(run: RunFolder) -> tuple[MetricTable, ...]:
    deciding = [run.record.answer_metric, *(rung.metric for rung in run.record.rungs)]
    found = (metric_table(run, _arms(run.record), split, deciding) for split in ("test", "dev"))
    return tuple(table for table in found if table is not None)


def _arms(record: LadderRecord) -> list[ArmRecord]:
    """Baseline and candidates in order; the final arm last where it is none of them."""
    arms = [record.baseline, *(rung.candidate for rung in record.rungs if rung.candidate)]
    return arms if record.final.arm in {arm.arm for arm in arms} else [*arms, record.final]


def _rung_flows(record: LadderRecord, causes: Mapping[str, Mapping[str, str]]) -> dict[str, Flow]:
    before = standing_before(record)
    found = {
        rung.name: rung_flow(causes, before[rung.name], rung.candidate.arm) for rung in record.rungs if rung.candidate
    }
    return {name: flow for name, flow in found.items() if flow is not None}


def _sweeps(run: RunFolder, trials: Mapping[str, Sequence[Trial]]) -> dict[str, tuple[SweepView, ...]]:
    """Views of the trials by rung; what a knob was before is read from the arm that the rung set out from."""
    pipelines = {arm.arm: arm.pipeline for arm in _arms(run.record)}
    before = standing_before(run.record)
    return {
        rung.name: tuple(
            of_trials(
                [trial.row for trial in trials.get(rung.name, ())],
                pipelines[before[rung.name]],
                str(rung.details.get("search", "")),
            )
        )
        for rung in run.record.rungs
    }


def _trials(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Trial, ...]]:
    """Trials by rung; the older run folders hold those of retrieval alone."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get("rung") or "retrieval", []).append(row)
    return {rung: _marked(members) for rung, members in groups.items()}


def _marked(rows: Sequence[Mapping[str, Any]]) -> tuple[Trial, ...]:
    """The best of each objective is marked: of equals the first, which is the cheaper one, tried earlier."""
    best: dict[Any, int] = {}
    for position, row in enumerate(rows):
        if row.get("status", "ok") != "ok" or row.get("mean") is None:
            continue
        objective = row.get("objective")
        sign = -1 if lower_is_better(objective or "") else 1
        leader = best.get(objective)
        if leader is None or sign * row["mean"] > sign * rows[leader]["mean"]:
            best[objective] = position
    return tuple(Trial(row, best.get(row.get("objective")) == position) for position, row in enumerate(rows))


def _ends(estimates: Any) -> list[float | None]:
    return [value for e in estimates if e is not None for value in (e.low, e.mean, e.high)]


def _means(gates: Sequence[Comparison]) -> list[float | None]:
    return [value for gate in gates for value in (gate.incumbent, gate.candidate)]


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
