"""`ragladder report`: the HTML page of a run."""

from __future__ import annotations

from pathlib import Path

from .options import CacheDir, RunName

__all__ = ["report"]


def report(run: RunName = "latest", cache_dir: CacheDir = Path(".ragladder")) -> None:
    """Write report.html of a run again, from its folder alone."""
    from ..report import build_report
    from ..runs import find_run

    print(build_report(find_run(run, cache_dir)))
