"""`ragladder report`: the HTML page of a run or a sweep."""

from __future__ import annotations

from pathlib import Path

from ._show import print_json
from .options import CacheDir, Json, RunName, cache_dir_option

__all__ = ["report"]


def report(run: RunName = "latest", cache_dir: CacheDir = Path(".ragladder"), json: Json = False) -> None:
    """Write report.html of a run again, from its folder alone, with its tables as CSV and JSON beside it.

    The folder of a sweep gets a report of its trials.
    """
    from ..report import build_report
    from ..runs import find_run

    folder = find_run(run, cache_dir)
    page = build_report(folder)
    is_sweep = (folder / "sweep.json").is_file()
    names = ("trials.csv",) if is_sweep else ("scores.csv", "questions.csv", "report.json")
    tables = [folder / name for name in names]
    if json:
        print_json({"report": str(page), "tables": [str(table) for table in tables]})
        return
    print(f"report: {page}")
    print(f"tables: {', '.join(str(table) for table in tables)}")
    if not is_sweep:
        here = folder.parent == cache_dir / "runs"
        print(f"next:   ragladder runs show {folder.name}{cache_dir_option(cache_dir)}" if here else _elsewhere(folder))


def _elsewhere(folder: Path) -> str:
    """A run that was named by its folder is named so again."""
    import shlex

    return f"next:   ragladder runs show {shlex.quote(str(folder))}"
