"""`ragladder export`: the pipeline that a run ended with, as a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._show import print_json
from .options import CacheDir, Json, RunName

__all__ = ["export"]


def export(
    run: RunName,
    folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    cache_dir: CacheDir = Path(".ragladder"),
    json: Json = False,
) -> None:
    """Write the pipeline that a run ended with, models and chunks included, as a folder that loads in Python."""
    from ..exported import export_run
    from ..runs import find_run

    found = find_run(run, cache_dir)
    export_run(found, folder)
    if json:
        print_json({"run_id": found.name, "folder": str(folder)})
        return
    code = f"import ragladder; print(ragladder.load({str(folder)!r}).ask('your question').text)"
    print(f'exported to {folder}\nnext: python -c "{code}"')
