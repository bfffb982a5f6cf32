"""Reads what commands print and leave: for the tests of the finetuning commands."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

TUNED = ("--set", "pipeline.retrieve.mode=hybrid")
"""What the retrieval rung of the three-rung climb adopts: with it a command works on the rungs' own incumbent."""


def parsed(ran: Any, code: int = 0) -> Any:
    """Standard output as JSON; nothing else may be on it, and nothing on standard error."""
    assert (ran.code, ran.err) == (code, ""), ran.err
    return json.loads(ran.out)


def suggested(ran: Any) -> list[str]:
    """The arguments of the command that the last line names."""
    assert ran.code == 0, ran.err
    last = ran.out.splitlines()[-1]
    assert last.startswith("next: ragladder ")
    return shlex.split(last.removeprefix("next: ragladder "))


def contents(folder: Path) -> dict[str, bytes]:
    """Files of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rung(space: Any, name: str) -> dict[str, Any]:
    """What the climb noted of a rung."""
    return next(r["details"] for r in space.ladder()["rungs"] if r["name"] == name)
