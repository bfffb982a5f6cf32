"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["CacheDir", "Config", "Json", "Overrides", "Quiet", "RunName", "Verbose"]

Config = Annotated[Path, typer.Argument(help="YAML file of the experiment.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key, for instance pipeline.chunk.size=256. Repeatable."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More about each step.")]
RunName = Annotated[str, typer.Argument(help="A run's id, the start of it, its folder, or 'latest'.")]
CacheDir = Annotated[Path, typer.Option("--cache-dir", help="Where runs and stages are kept.")]
