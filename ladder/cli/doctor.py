"""`ragladder doctor`: what is there, and what each missing piece would enable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._show import print_json
from .options import Json, command

__all__ = ["doctor"]


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="Also look at the models and endpoints of this config.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Print versions, devices, models found and endpoints reachable, and what each missing piece would enable."""
    from ..doctor import examine

    findings = examine(config)
    if json:
        from dataclasses import asdict

        print_json([asdict(finding) for finding in findings])
        return
    for finding in findings:
        mark = "ok     " if finding.ok else "missing"
        print(
            f"{mark}  {finding.name}: {finding.detail}"
            + (f"\n         {finding.enables}" if not finding.ok and finding.enables else "")
        )
    print("next: " + ("ragladder init FOLDER" if config is None else command("check", config, None)))
