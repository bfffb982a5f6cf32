"""`ragladder init`: a folder to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["init"]


def init(folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)]) -> None:
    """Make a folder with the quickstart: its config, documents, questions and small model."""
    from ..templates import write_quickstart

    write_quickstart(folder)
    print(f"{folder} holds quickstart.yaml, its documents, questions and model")
    print(f"next: cd {shlex.quote(str(folder))} && ragladder climb quickstart.yaml")
