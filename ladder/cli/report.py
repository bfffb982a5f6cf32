"""`ragladder report`: the HTML page of a run or a sweep."""

from __future__ import annotations

from pathlib import Path

from .options import CacheDir, RunName, cache_dir_option

__all__ = ["report"]


def report(run: RunName = "latest", cache_dir: CacheDir = Path(".ragladder")) -> None:
    """Write report.html of a run again, from its folder alone, with its tables as CSV and JSON beside it.

    The folder of a sweep gets a report of its trials.
    """
    from ..report import build_report
    from ..runs import find_run

    folder = find_run(run, cache_dir)
    print(f"report: {build_report(folder)}")
    if (folder / "sweep.json").is_file():
        print(f"tables: {folder / 'trials.csv'}")
        return
    print(f"tables: {folder / 'scores.csv'}, {folder / 'questions.csv'}, {folder / 'report.json'}")
    print(f"next:   ragladder runs show {folder.name}" + cache_dir_option(cache_dir))
