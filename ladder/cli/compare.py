"""`ragladder compare`: two runs on the same questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import CacheDir, Json

__all__ = ["compare"]


def compare(
    run_a: Annotated[str, typer.Argument(help="A run: id, start of it, folder, or 'latest'.", show_default=False)],
    run_b: Annotated[str, typer.Argument(help="Another run.", show_default=False)],
    metric: Annotated[
        list[str] | None, typer.Option(help="Metrics to compare; repeatable. Default: answer metric and the rungs'.")
    ] = None,
    cache_dir: CacheDir = Path(".ragladder"),
    json: Json = False,
) -> None:
    """Compare what two runs ended with, question by question (B minus A)."""
    from ..compare import compare_runs
    from ..runs import find_run

    result = compare_runs(find_run(run_a, cache_dir), find_run(run_b, cache_dir), metric)
    if json:
        print(result.model_dump_json(indent=1))
        return
    for line in result.lines():
        print(line)
