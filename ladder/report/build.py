"""Writes report.html of a climb or a sweep: one file that needs no network, made from the run folder alone."""

from __future__ import annotations

from pathlib import Path

from . import view
from .explorer import explorer_data, packed
from .exports import write_exports
from .render import write_page
from .run_folder import read_run
from .sweep_page import build_sweep_report

__all__ = ["build_report"]


def build_report(run_dir: Path) -> Path:
    """Makes the report of a run anew from its files, and report.json, scores.csv and questions.csv beside it.

    Args:
        run_dir: A folder that `ragladder climb` or `ragladder sweep` wrote. All but `ladder.json` (or `sweep.json`) may
            be missing; the report says what is.

    Returns:
        The path of `report.html` in the run folder.

    Raises:
        DataError: No such folder, no `ladder.json` in it, or a file that does not fit the contract.
    """
    folder = Path(run_dir)
    if (folder / "sweep.json").is_file():
        return build_sweep_report(folder)
    run = read_run(folder)
    index, details = explorer_data(run)
    shown = view.make_view(run)
    values = {"run": run, "record": run.record, "view": shown, "zoomable": True}
    values |= {"index": packed(index), "details": packed(details)}
    path = write_page("report.html.j2", values, folder / "report.html")
    write_exports(run, shown, folder)
    return path
