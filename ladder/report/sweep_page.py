"""The report of a sweep, made from its folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.files import write_atomic
from .exports import csv_bytes
from .render import write_page
from .run_folder import json_object, parsed_record, text_of
from .sweep_views import compact, of_sweep

if TYPE_CHECKING:
    from ..sweep.results import SweepRecord

__all__ = ["build_sweep_report"]

MOST_ROWS = 50
"""Trials in the page's table."""


def build_sweep_report(folder: Path) -> Path:
    """Writes report.html, and trials.csv beside it.

    Args:
        folder: That `ragladder sweep` wrote, with `sweep.json` in it.

    Returns:
        The path of the page.

    Raises:
        DataError: `sweep.json` does not fit this version.
    """
    from ..sweep.results import SweepRecord

    record = parsed_record(folder / "sweep.json", SweepRecord, "sweep again")
    values = {
        "record": record,
        "shown": of_sweep(record),
        "most": MOST_ROWS,
        "zoomable": True,
        "env": json_object(folder / "env.json"),
        "config": text_of(folder / "config.yaml"),
    }
    path = write_page("sweep_report.html.j2", values, folder / "report.html")
    write_atomic(folder / "trials.csv", csv_bytes(_rows(record)))
    return path


def _rows(record: SweepRecord) -> Iterable[list[Any]]:
    axes = [axis.axis for axis in record.axes]
    gains = ["gain", "gain_low", "gain_high", "gain_p", "gain_verdict"]
    compared = ["behind", "same_as_best", *gains, "pareto"]
    yield ["rank", "trial", "status", "error", *record.objectives, *compared, "seconds", *axes]
    for t in record.trials:
        scores = [t.objectives.get(name) for name in record.objectives]
        point = [compact(t.point[axis]) if axis in t.point else "" for axis in axes]
        g = t.gain
        gain = [g.difference, g.low, g.high, g.p_value, g.verdict] if g is not None else [None] * len(gains)
        shown = [t.behind, t.same_as_best, *gain, t.pareto]
        yield [t.rank, t.trial, t.status, t.error, *scores, *shown, t.seconds, *point]
