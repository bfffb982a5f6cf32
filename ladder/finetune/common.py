"""What the commands that finetune by themselves share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from ...core.errors import DataError
from ...core.files import whole_folder
from ...core.progress import Reporter
from ...core.store import Stage
from ...eval.questions import load_questions
from ..config import load_experiment
from ..workbench import Workbench

__all__ = ["check_new", "delivered", "finetuning_bench", "spread", "trained"]

T = TypeVar("T")


def finetuning_bench(
    path: Path, overrides: Sequence[str], rung: Literal["embedding", "llm"], reporter: Reporter
) -> Workbench:
    """The workbench of a config; a rung that is not configured is taken with its defaults, which is said."""
    config = load_experiment(path, overrides)
    if getattr(config.rungs, rung) is None:
        # As an override, so that the defaults are checked against the rest of the config.
        config = load_experiment(path, [*overrides, f"rungs.{rung}={{}}"])
        reporter.line(f"note: rungs.{rung} is not in the config; its defaults are used")
    base = path.absolute().parent
    questions = load_questions(config.resources(base).path(config.data.questions))
    return Workbench(config, base, questions, reporter)


def trained(bench: Workbench, stage: Stage[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The training's result, and whether it was there already."""
    reused = bench.store.has(stage)
    return bench.get(stage), reused


def check_new(out: Path | None) -> None:
    """Before anything is computed: a training that cannot be delivered is time lost."""
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out: {out} is there already and not empty; name a new folder")


def delivered(folder: Path, out: Path | None) -> Path:
    """The folder, or its copy where one is asked for, which is there whole or not at all."""
    if out is None:
        return folder
    target = out.absolute()
    with whole_folder(target) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
    return target


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most so many items, evenly spread, the first among them."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]
