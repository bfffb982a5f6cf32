"""What every rung gets and gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import BudgetError
from ..config import PipelineConfig
from ..records import EstimateRecord
from ..workbench import Evaluation, Workbench

__all__ = ["Proposal", "RungContext", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One configuration of a sweep, scored on dev.

    Attributes:
        axis: The setting that was varied, or `start`.
        value: Its value.
        changes: All settings that differ from the sweep's start.
        objective: The metric that was maximised.
        estimate: Its mean on dev; None where the trial failed.
        status: `ok`, or `failed`.
        error: Why it failed.
        seconds: What the trial computed anew, as first measured.
    """

    axis: str
    value: Any
    changes: dict[str, Any]
    objective: str
    estimate: EstimateRecord | None
    status: str = "ok"
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Proposal:
    """A rung's candidate.

    Attributes:
        candidate: None where nothing better than the incumbent was found on dev.
        metric: What the gate is to look at.
        reason: Why there is no candidate, or how it was chosen.
        trials: Of the sweep.
        details: What else the rung found out, as JSON values.
        tried: What was made and lost on dev, so that its answers can be looked at; only where `candidate` is None.
        after: Told incumbent and candidate as scored on test; what else belongs into the details. It decides nothing.
    """

    candidate: PipelineConfig | None
    metric: str
    reason: str
    trials: tuple[Trial, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    tried: PipelineConfig | None = None
    after: Callable[[Evaluation, Evaluation], dict[str, Any]] | None = None


@dataclass(frozen=True)
class RungContext:
    """What a rung works with.

    Attributes:
        bench: Scores pipelines.
        incumbent: The best pipeline so far.
        deadline: `time.monotonic()` value after which no new work starts; None for no budget.
        note: Told what the rung is doing.
    """

    bench: Workbench
    incumbent: PipelineConfig
    deadline: float | None = None
    note: Callable[[str], None] = lambda _: None

    def check_budget(self) -> None:
        """Stops when the time is used up.

        Raises:
            BudgetError: It is.
        """
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise BudgetError(
                "runtime.max_minutes is used up; what is finished is kept: raise it and run the same command again"
            )
