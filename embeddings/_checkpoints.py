"""How far a training is, kept in its checkpoints, so that a killed one goes on."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.files import write_atomic

__all__ = ["Progress", "last_good", "latest", "mark", "remove_stale"]

MARK = "ragladder.json"
"""Written into a checkpoint last: one without it is not whole."""


@dataclass(slots=True)
class Progress:
    """How far a training is; what a checkpoint keeps beside weights and optimizer.

    Attributes:
        identity: Digest of all that determines the training: checkpoints of another one are not resumed.
        rows: (step, epoch, loss, dev score or None) of each step.
        best_score: Best dev score of an epoch.
        best_step: Its step; 0 before the first epoch's end.
        stale: Epochs since then.
        stopped: True where early stopping ended it.
    """

    identity: str
    rows: list[list[Any]] = field(default_factory=list)
    best_score: float = -math.inf
    best_step: int = 0
    stale: int = 0
    stopped: bool = False

    def epochs(self) -> int:
        """Finished epochs."""
        return sum(row[3] is not None for row in self.rows)


def latest(folder: Path, identity: str) -> tuple[Path | None, Progress]:
    """The newest whole checkpoint of a training, and how far it was; (None, a fresh start) without one."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step, reverse=True):
        note = checkpoint / MARK
        if note.is_file():
            progress = Progress(**json.loads(note.read_text()))
            if progress.identity == identity:
                return checkpoint, progress
    return None, Progress(identity)


def mark(checkpoint: Path, progress: Progress) -> None:
    """Marks a checkpoint as whole, and removes those that are not needed any more."""
    write_atomic(checkpoint / MARK, json.dumps(asdict(progress)).encode())
    remove_stale(checkpoint.parent, progress, checkpoint)


def remove_stale(folder: Path, progress: Progress, newest: Path | None) -> int:
    """Removes checkpoints that are neither the newest nor the best (killed writes, other trainings); says how many."""
    keep = {newest.name if newest else "", f"checkpoint-{progress.best_step}" if newest else ""}
    stale = [path for path in folder.glob("checkpoint-*") if path.name not in keep]
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    return len(stale)


def last_good(folder: Path) -> Path | None:
    """The newest whole checkpoint, None where no epoch was finished."""
    whole = [path for path in folder.glob("checkpoint-*") if (path / MARK).is_file()]
    return max(whole, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1
