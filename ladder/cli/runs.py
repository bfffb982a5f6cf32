"""`ragladder runs`: what was climbed before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ._show import print_json
from .options import CacheDir, Json, RunName, cache_dir_option

__all__ = ["app"]

app = typer.Typer(help="List runs, show one, or log one to a tracker.", no_args_is_help=True, rich_markup_mode=None)


@app.command("ls")
def ls(cache_dir: CacheDir = Path(".ragladder"), json: Json = False) -> None:
    """List runs, newest first."""
    from ..runs import list_runs

    runs = list_runs(cache_dir)
    if json:
        rows = [
            {"run_id": r.run_id, "status": r.status, "name": r.name, "created": r.created, "summary": r.summary}
            for r in runs
        ]
        print_json(rows)
        return
    if not runs:
        print(f"no runs in {cache_dir / 'runs'}; make one: ragladder climb CONFIG")
    for run in runs:
        print(f"{run.run_id}  {run.status:8}  {run.summary}")
    if runs:
        print("next: ragladder runs show RUN" + cache_dir_option(cache_dir))


@app.command("show")
def show(run: RunName = "latest", cache_dir: CacheDir = Path(".ragladder"), json: Json = False) -> None:
    """Show the ladder of a run."""
    from ..runs import find_run, load_ladder

    folder = find_run(run, cache_dir)
    record = load_ladder(folder)
    if json:
        print(record.model_dump_json(indent=1))
        return
    from rich.console import Console

    from ..report.terminal import ladder_table

    ladder_table(record, Console())
    print(f"\nrun:    {folder}\nreport: {folder / 'report.html'}")
    print(f'next:   ragladder ask {record.run_id} "your question"' + cache_dir_option(cache_dir))


@app.command("track")
def track(
    run: RunName = "latest",
    to: Annotated[Literal["mlflow", "wandb"], typer.Option(help="Which tracker.")] = "mlflow",
    project: Annotated[str, typer.Option(help="MLflow's experiment, W&B's project.")] = "ragladder",
    cache_dir: CacheDir = Path(".ragladder"),
    json: Json = False,
) -> None:
    """Log a finished run to a tracker, set by its own environment variables."""
    from ..runs import find_run
    from ..track import track_run

    places = track_run([to], project, find_run(run, cache_dir))
    if json:
        print_json({"logged": places})
        return
    for place in places:
        print(f"logged: {place}")
