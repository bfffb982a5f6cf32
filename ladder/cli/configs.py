"""`ragladder configs`: the config files that come with the package."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ._show import print_json
from .options import Json

__all__ = ["app"]

app = typer.Typer(
    help="List, show and copy the configs that come with ragladder.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="As `ragladder configs ls` prints it.", show_default=False)]


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the shipped configs, each with what it is for."""
    from ..templates import shipped_configs

    found = shipped_configs()
    if json:
        print_json([{"name": one.name, "purpose": one.purpose} for one in found])
        return
    width = max(len(one.name) for one in found)
    for one in found:
        print(f"{one.name:{width}}  {one.purpose}")
    print("next: ragladder configs show NAME, or: ragladder configs copy NAME FILE")


@app.command("show")
def show(name: Name, json: Json = False) -> None:
    """Print a shipped config."""
    from ..templates import find_config

    found = find_config(name)
    if json:
        print_json({"name": found.name, "purpose": found.purpose, "text": found.text})
        return
    print(found.text, end="")


@app.command("copy")
def copy(
    name: Name,
    file: Annotated[Path | None, typer.Argument(help="Where to. Default: NAME.yaml here.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Copy a shipped config to a new file, to be edited."""
    from ..templates import copy_config

    target = file or Path(f"{name}.yaml")
    copy_config(name, target)
    if json:
        print_json({"config": str(target)})
        return
    print(f"{target}: edit its data section, then: ragladder check {shlex.quote(str(target))}")
