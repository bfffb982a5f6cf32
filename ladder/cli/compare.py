"""`ragladder compare`: runs on the same questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import CacheDir, Json

__all__ = ["compare"]


def compare(
    run_a: Annotated[str, typer.Argument(help="A run: id, start of it, folder, or 'latest'.", show_default=False)],
    run_b: Annotated[str, typer.Argument(help="Another run.", show_default=False)],
    more: Annotated[list[str] | None, typer.Argument(help="Further runs; each is compared with the first.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metrics to compare; repeatable. Default: answer metric and the rungs'.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with the runs side by side to this file.", show_default=False)
    ] = None,
    cache_dir: CacheDir = Path(".ragladder"),
    json: Json = False,
) -> None:
    """Compare what two runs ended with, question by question (B minus A).

    Prints each metric with its 95% interval, Holm's p-value over the metrics, wins, ties and losses; the verdict; the
    slices by tag and the questions that lost most. Runs with other questions, documents, judges or metric versions are
    refused.
    """
    from ..compare import compare_runs
    from ..runs import find_run

    first, *others = [find_run(run, cache_dir) for run in (run_a, run_b, *(more or ()))]
    results = [compare_runs(first, other, metric) for other in others]
    if json:
        texts = [result.model_dump_json(indent=1) for result in results]
        print(texts[0] if len(texts) == 1 else "[" + ",\n".join(texts) + "]")
    else:
        print("\n\n".join("\n".join(result.lines()) for result in results))
    if html is not None:
        from ..report import build_comparison

        page = build_comparison([first, *others], results, html)
        if not json:
            print(f"page: {page}")
