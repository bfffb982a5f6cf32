"""What LoRA training and preference tuning share: checkpoints that outlive a kill, and errors in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.chat.adapters import note_base
from ..core.distributed import is_main
from ..core.errors import StageError
from ..core.files import whole_folder
from ..core.memory import out_of_memory
from ..core.progress import Reporter, Task
from ..core.quiet import quiet_libraries

__all__ = ["last_checkpoint", "memory_errors", "resume_point", "run_trainer", "save_adapter"]

_LAST_FILE = "trainer_state.json"  # written last: a checkpoint without it was cut off


def resume_point(out_dir: Path, key: str, name: str, reporter: Reporter) -> tuple[Path, Path | None]:
    """The folder of a training's checkpoints, and the one to go on from, which is said; None at the start.

    Args:
        out_dir: Where the training works.
        key: Of all that determines its result.
        name: Of the training, for the line.
        reporter: Where the line goes.
    """
    checkpoints = out_dir / f"checkpoints-{key[:12]}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    last = last_checkpoint(checkpoints)
    if last is not None:
        reporter.line(f"{name}: training goes on from {last.name}")
    return checkpoints, last


def run_trainer(
    build: Callable[[], Any],
    watch: Callable[[Any, Task, Reporter], None],
    name: str,
    checkpoints: Path,
    last: Path | None,
    device: str,
    reporter: Reporter,
) -> Any:
    """Builds a trainer and runs it; the first of several processes alone reports.

    Args:
        build: Makes the trainer, which knows its `planned_steps`.
        watch: Told trainer, task and reporter before the first step.
        name: For progress and messages.
        checkpoints: Where the trainer's checkpoints go.
        last: The checkpoint to go on from.
        device: For messages.
        reporter: For progress.

    Raises:
        StageError: The loss is not a number, or memory ran out; with the checkpoint that is left.
    """
    reporter = reporter if is_main() else Reporter(quiet=True)
    try:
        with quiet_libraries(), memory_errors(device, name):
            trainer = build()
            with reporter.task(name, trainer.planned_steps(), "steps") as task:
                watch(trainer, task, reporter)
                trainer.train(resume_from_checkpoint=None if last is None else str(last))
    except StageError as error:
        kept = f" {_kept(checkpoints)}" if is_main() else ""
        raise StageError(f"{error}{kept}") from None
    return trainer


@contextmanager
def memory_errors(device: str, name: str = "LoRA") -> Iterator[None]:
    """Turns torch's errors for memory that ran out, on a GPU or a CPU, into a sentence that begins with a name.

    Raises:
        StageError: In place of them.
    """
    further = ", or train on 4-bit weights (quantize: 4bit)" if device.startswith("cuda") else ""
    said = f"{name}: out of memory on {device}: lower batch_size or max_length, or set gradient_checkpointing{further}."
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise StageError(said) from None


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a trainer that is whole; one that a kill cut off is removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    whole: list[Path] = []
    for path in found:
        try:
            json.loads((path / _LAST_FILE).read_text())
            whole.append(path)
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return whole[-1] if whole else None


def _kept(checkpoints: Path) -> str:
    last = last_checkpoint(checkpoints)
    return f"The last good adapter is in {last}." if last else "There was no checkpoint yet, so no adapter was kept."


def save_adapter(model: Any, adapter: Path, base: Path) -> None:
    """Writes a model's adapter, with a note of its base, so that the folder is there whole or not at all."""
    with whole_folder(adapter, "replace") as temporary:
        with quiet_libraries():
            model.save_pretrained(temporary, save_embedding_layers=False, selected_adapters=["default"])
        note_base(temporary, base)
