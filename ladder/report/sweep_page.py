"""The report of a sweep, made from its folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ...core.cache import write_atomic
from ...core.errors import DataError
from .exports import csv_bytes
from .render import write_page
from .run_folder import json_object, text_of
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
    record = _record(folder / "sweep.json")
    values = {
        "record": record,
        "shown": of_sweep(record),
        "most": MOST_ROWS,
        "env": json_object(folder / "env.json"),
        "config": text_of(folder / "config.yaml"),
    }
    path = write_page("sweep_report.html.j2", values, folder / "report.html")
    write_atomic(folder / "trials.csv", csv_bytes(_rows(record)))
    return path


def _record(path: Path) -> SweepRecord:
    from ..sweep.results import SweepRecord

    try:
        return SweepRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(top)"
        raise DataError(
            f"{path}: does not fit this version of ragladder: {where}: {first['msg']}; "
            "use the version that wrote it, or sweep again (what is cached is not computed again)"
        ) from None


def _rows(record: SweepRecord) -> Iterable[list[Any]]:
    axes = [axis.axis for axis in record.axes]
    yield ["rank", "trial", "status", "error", *record.objectives, "behind", "same_as_best", "pareto", "seconds", *axes]
    for t in record.trials:
        scores = [t.objectives.get(name) for name in record.objectives]
        point = [compact(t.point[axis]) if axis in t.point else "" for axis in axes]
        yield [t.rank, t.trial, t.status, t.error, *scores, t.behind, t.same_as_best, t.pareto, t.seconds, *point]
