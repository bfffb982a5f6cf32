"""What each arm costs: the rung that made it, and every question that it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..records import ArmRecord, CostRecord, EstimateRecord, LadderRecord
from .run_folder import RunFolder
from .sweep_charts import ScatterDot
from .words import arm_name

__all__ = ["ArmCost", "arm_costs", "cost_dots"]


@dataclass(frozen=True, slots=True)
class ArmCost:
    """An arm and its costs.

    Attributes:
        arm: Its name in words.
        score: The answer metric, on test where it was looked at there, else on dev.
        split: `test` or `dev`: where the score is from.
        seconds: A dev question, mean: retrieval, reranking and generation.
        median: Seconds to generate the answer of a question, the median; None where the answers are not known.
        slow: Likewise, the 95th percentile.
        prompt_tokens: A question, mean.
        completion_tokens: A question, mean; None where the answers are not known.
        rung: What making it cost; None for the baseline.
        final: True where the climb ended with it.
    """

    arm: str
    score: EstimateRecord | None
    split: str
    seconds: float
    median: float | None
    slow: float | None
    prompt_tokens: float
    completion_tokens: float | None
    rung: CostRecord | None
    final: bool


def arm_costs(run: RunFolder) -> tuple[ArmCost, ...]:
    """The arms in climbing order."""
    record = run.record
    made = [(rung.candidate, rung.cost) for rung in record.rungs if rung.candidate is not None]
    return tuple(_of(run, record, arm, cost) for arm, cost in [(record.baseline, None), *made])


def cost_dots(costs: Sequence[ArmCost]) -> list[ScatterDot]:
    """The arms by seconds a question and answer metric; the final one last, so on top."""
    there = [(cost, cost.score.mean) for cost in costs if cost.score is not None and cost.score.mean is not None]
    return [
        ScatterDot(cost.seconds, mean, cost.arm, "final" if cost.final else "new" if cost.rung else "old", named=True)
        for cost, mean in sorted(there, key=lambda pair: pair[0].final)
    ]


def _of(run: RunFolder, record: LadderRecord, arm: ArmRecord, cost: CostRecord | None) -> ArmCost:
    rows = [row for row in run.answers if row["arm"] == arm.arm and row.get("status", "ok") == "ok"]
    times = sorted(float(row.get("seconds") or 0.0) for row in rows)
    written = [row.get("completion_tokens") or 0 for row in rows]
    on_test = arm.scores.get("test", {}).get(record.answer_metric)
    return ArmCost(
        arm=arm_name(arm.arm),
        score=on_test or arm.scores.get("dev", {}).get(record.answer_metric),
        split="test" if on_test else "dev",
        seconds=arm.seconds_per_question,
        median=_quantile(times, 0.5),
        slow=_quantile(times, 0.95),
        prompt_tokens=arm.context_tokens,
        completion_tokens=sum(written) / len(written) if written else None,
        rung=cost,
        final=arm.arm == record.final.arm,
    )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value with at least the share of all at or below it."""
    return ordered[max(0, -(-len(ordered) * int(share * 100) // 100) - 1)] if ordered else None
