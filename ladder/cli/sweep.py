"""`ragladder sweep`: many configurations, ranked on dev."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Config, Json, Quiet, Verbose, command

__all__ = ["sweep"]

Axes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=A,B,C",
        help="An axis, for instance chunk.size=128,256; with one value an ordinary override. Repeatable.",
    ),
]


def sweep(
    config: Config,
    set_: Axes = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be computed, and stop.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Configurations shown.")] = 10,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Try many configurations on the dev questions, computing once what they share, and rank them.

    Stopped or killed, the same command goes on where it was.
    """
    from ...core.errors import BudgetError
    from ...core.progress import Reporter
    from ..report import build_report
    from ..sweep.run import prepare_sweep
    from ..sweep.words import sweep_lines

    reporter = Reporter(quiet=quiet or json, verbose=verbose)
    ready = prepare_sweep(config, set_ or (), reporter)
    again = command("sweep", config, set_)
    try:
        planned = ready.plan()
        lines = planned.lines(ready.guided)
        if plan:
            _print_plan(lines, json)
            return
        for line in lines:
            reporter.line(line)
        record = ready.run(planned)
    except KeyboardInterrupt:
        import sys

        print(f"\n{len(ready.log.rows)} trials are recorded; go on with: {again}", file=sys.stderr)
        raise
    page = build_report(ready.folder)
    if json:
        print(record.model_dump_json(indent=1))
    else:
        print("\n".join(sweep_lines(record, top)))
        print(f"\nsweep:  {_short(ready.folder)}\nreport: {_short(page)}")
        if record.best_yaml:
            print(f"best:   {_short(record.best_yaml)}")
            if record.split == "dev":  # else test is used up, and a climb would flatter
                print(f"next:   {command('climb', Path(_short(record.best_yaml)), None)}")
    if record.status == "budget" and not ready.planned_end:
        raise BudgetError(f"the sweep was ended by its budget; raise it and go on with: {again}")


def _print_plan(lines: list[str], as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps({"plan": lines}, indent=1))
    else:
        print("\n".join(lines))


def _short(path: object) -> str:
    import os

    relative = os.path.relpath(str(path))
    return str(path) if relative.startswith("..") else relative
