"""How commands print what they found: lines for people, or JSON; and where their progress goes."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import command

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ...core.progress import Reporter

__all__ = ["next_line", "print_json", "print_result", "reporter"]


def reporter(quiet: bool, json: bool, verbose: bool) -> Reporter:
    """Where a command's progress goes: nowhere with `--quiet` or `--json`."""
    from ...core.progress import Reporter

    return Reporter(quiet=quiet or json, verbose=verbose)


def print_result(result: BaseModel, json: bool, lines: Callable[[], Iterable[str]]) -> None:
    """Prints a result: as JSON where that is wanted, else as lines for people.

    Args:
        result: What was found.
        json: Whether `--json` was given.
        lines: Makes the lines; not called for JSON.
    """
    print(result.model_dump_json(indent=1) if json else "\n".join(lines()))


def print_json(value: Any) -> None:
    """Prints what `--json` asked for: lists, dicts, texts and numbers."""
    print(json_module.dumps(value, indent=1, ensure_ascii=False))


def next_line(name: str, config: Path, overrides: list[str] | None) -> str:
    """The line that suggests a command (`embed train`) on the same config, with the same overrides."""
    return f"next: {command(name, config, overrides)}"
