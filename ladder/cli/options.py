"""Options that commands share."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .logs import third_party_logs

__all__ = ["CacheDir", "Config", "Json", "Overrides", "Quiet", "RunName", "Verbose", "cache_dir_option", "command"]

Config = Annotated[Path, typer.Argument(help="YAML file of the experiment.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key, for instance pipeline.chunk.size=256. Repeatable."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=third_party_logs, help="More about each step, and libraries' logs.")
]
RunName = Annotated[str, typer.Argument(help="A run's id, the start of it, its folder, or 'latest'.")]
CacheDir = Annotated[Path, typer.Option("--cache-dir", help="Where runs and stages are kept.")]


def cache_dir_option(folder: Path) -> str:
    """What a suggested command must add to find the same runs; nothing for the usual place."""
    return "" if folder == Path(".ragladder") else f" --cache-dir {shlex.quote(str(folder))}"


def command(name: str, config: Path, overrides: list[str] | None) -> str:
    """A command (`climb`, `embed train`) on a config, to be suggested: with the same overrides, quoted for a shell."""
    parts = ["ragladder", *name.split(), str(config)]
    for override in overrides or ():
        parts += ["--set", override]
    return shlex.join(parts)
