"""All metrics of all arms: those that the ladder decided by first, the others by what they measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..records import ArmRecord, EstimateRecord
from .run_folder import RunFolder
from .words import family

__all__ = ["Cell", "MetricRow", "MetricTable", "metric_table"]

DECIDING = "The ladder decided by"


@dataclass(frozen=True, slots=True)
class Cell:
    """A metric of an arm: its estimate, and what is missing, in counts by status."""

    estimate: EstimateRecord | None
    missing: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A metric of every arm.

    Attributes:
        metric: Its name.
        cells: An arm each.
        scored: `162/162`: questions scored of those that the metric applies to; empty where the arms differ in it, so
            that it has to stand in each cell.
    """

    metric: str
    cells: tuple[Cell, ...]
    scored: str


@dataclass(frozen=True, slots=True)
class MetricTable:
    """All metrics of all arms on a split: rows by family of metric, a cell an arm."""

    split: str
    arms: tuple[str, ...]
    families: tuple[tuple[str, tuple[MetricRow, ...]], ...]


def metric_table(run: RunFolder, arms: Sequence[ArmRecord], split: Any, deciding: Sequence[str]) -> MetricTable | None:
    """The table of a split.

    Args:
        run: For what is missing, and why.
        arms: In order; those without scores on the split are left out.
        split: `dev` or `test`.
        deciding: The answer metric and the rungs' own.

    Returns:
        None where there is no score.
    """
    scored = [arm for arm in arms if arm.scores.get(split)]
    metrics = list(dict.fromkeys(metric for arm in scored for metric in arm.scores[split]))
    if not metrics:
        return None
    missing = _missing(run, split)
    families: dict[str, list[MetricRow]] = {DECIDING: [], "Answer": [], "RAGAS": [], "Retrieval": []}
    for metric in [*(m for m in dict.fromkeys(deciding) if m in metrics), *(m for m in metrics if m not in deciding)]:
        cells = tuple(Cell(arm.scores[split].get(metric), missing.get((arm.arm, metric), {})) for arm in scored)
        row = MetricRow(metric, cells, _scored(cells))
        families[DECIDING if metric in deciding else family(metric)].append(row)
    shown = tuple((name, tuple(rows)) for name, rows in families.items() if rows)
    return MetricTable(split, tuple(arm.arm for arm in scored), shown)


def _scored(cells: Sequence[Cell]) -> str:
    counts = {f"{cell.estimate.n_ok}/{cell.estimate.n}" for cell in cells if cell.estimate is not None}
    return counts.pop() if len(counts) == 1 else ""


def _missing(run: RunFolder, split: str) -> dict[tuple[str, str], Counter[str]]:
    found: dict[tuple[str, str], Counter[str]] = {}
    if run.scores:
        names = ("arm", "split", "metric", "status")
        for arm, at, metric, status in zip(*(run.scores[name] for name in names), strict=True):
            if at == split and status not in ("ok", "not_applicable"):
                found.setdefault((arm, metric), Counter())[status] += 1
    return found
