"""`ragladder climb`: the whole ladder."""

from __future__ import annotations

from pathlib import Path

from .options import Config, Json, Overrides, Quiet, Verbose, cache_dir_option

__all__ = ["climb"]


def climb(
    config: Config, set_: Overrides = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Climb the ladder: baseline and diagnosis, retrieval knobs, embedding finetuning, LoRA, a gate after each.

    Killed or stopped, the same command goes on where it was.
    """
    from ...core.progress import Reporter
    from ..climb import prepare
    from ..plan import describe
    from ..report import build_report
    from ..track import track_run

    reporter = Reporter(quiet=quiet or json, verbose=verbose)
    ready = prepare(config, set_ or (), reporter)
    for line in describe(ready.bench):
        reporter.line(line)
    record = ready.run()
    folder = ready.bench.resources.cache_dir / "runs" / record.run_id
    page = build_report(folder)
    logged = track_run(ready.config.runtime.track, ready.config.runtime.track_project, folder)
    if json:
        print(record.model_dump_json(indent=1))
        return
    from rich.console import Console

    from ..report.terminal import ladder_table

    ladder_table(record, Console())
    print(f"\nrun:    {_short(folder)}\nreport: {_short(page)}")
    for line in logged:
        print(f"logged: {line}")
    where = cache_dir_option(Path(_short(folder.parent.parent)))
    print(f'next:   ragladder ask {record.run_id} "your question"{where}')
    print(f"        ragladder export {record.run_id} FOLDER{where}")


def _short(path: object) -> str:
    import os

    relative = os.path.relpath(str(path))
    return str(path) if relative.startswith("..") else relative
