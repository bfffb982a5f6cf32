"""What goes on beside the steps of a training: losses noted, dev scored, early stopping, checkpoints marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ..core.distributed import world_size
from ..core.errors import StageError
from ..core.progress import Reporter, Task
from ._checkpoints import Progress, last_good, mark
from .train_settings import EmbedTrainSettings

__all__ = ["Follower", "Parted", "Watch", "Watcher", "everywhere"]

EVERY = 10
"""Steps whose losses are fetched at a time: fetching one makes a GPU wait."""
_ON, _STOP, _PART = 0, 1, 2


class Parted(Exception):
    """The leader ended a training between two steps, and says why; a helper goes back to waiting."""


class Watcher(Protocol):
    """Told what a training does."""

    loggers: tuple[Any, ...]

    def begun(self, total: int, done: int) -> None:
        """The training starts at step `done` of `total`."""

    def stepped(self, step: int, epoch: float, loss: Any) -> None:
        """A step was made; its loss is still a tensor on the device."""

    def epoch_ended(self, epoch: float, step: int) -> bool:
        """An epoch ended; True stops the training."""
        ...

    def saved(self, checkpoint: Path) -> None:
        """A checkpoint was written."""


class _Losses:
    """Losses of steps as tensors, fetched a few at a time; the mean over all processes where there are several."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, float, Any]] = []

    def add(self, step: int, epoch: float, loss: Any) -> list[tuple[int, float, float]]:
        """Notes a step; every now and then gives those noted since, with their losses as numbers."""
        self._waiting.append((step, round(epoch, 4), loss))
        return self.take() if len(self._waiting) >= EVERY else []

    def take(self) -> list[tuple[int, float, float]]:
        """All that were noted since."""
        if not self._waiting:
            return []
        import torch

        values = _mean_over_processes(torch.stack([loss.float() for *_, loss in self._waiting])).tolist()
        found = [(step, epoch, value) for (step, epoch, _), value in zip(self._waiting, values, strict=True)]
        self._waiting = []
        return found


class Watch:
    """Of the leader, or the only process."""

    def __init__(
        self,
        settings: EmbedTrainSettings,
        learning_rate: float,
        progress: Progress,
        score: Callable[[], float],
        reporter: Reporter,
        on_epoch: Callable[[int, float], None] | None = None,
    ) -> None:
        """Makes a watch.

        Args:
            settings: Of the training.
            learning_rate: Resolved, for messages.
            progress: How far the training is; changed in place.
            score: Dev score of the model as it is.
            reporter: Where progress goes.
            on_epoch: Told of each epoch and its dev score; what it raises ends the training.
        """
        self.progress = progress
        self.until: int | None = None
        """Pauses after this epoch."""
        self.loggers: tuple[Any, ...] = ()
        """The trainer's own, of `report_to`."""
        self.task: Task | None = None
        self.folder = Path()
        """Of the checkpoints."""
        self._settings, self._rate = settings, learning_rate
        self._score, self._reporter, self._on_epoch = score, reporter, on_epoch
        self._losses = _Losses()

    @contextmanager
    def shown(self, name: str, unit: str, loggers: Sequence[Any] = ()) -> Iterator[None]:
        """Shows the steps of the block as progress, and to the trainer's loggers."""
        self.loggers = tuple(loggers)
        with self._reporter.task(name, None, unit) as self.task:
            yield

    def begun(self, total: int, done: int) -> None:
        """Knows the number of steps now."""
        if self.task is not None:
            self.task.total, self.task.done = total, done

    def stepped(self, step: int, epoch: float, loss: Any) -> None:
        """Notes the loss.

        Raises:
            StageError: A loss is not a finite number.
        """
        if self.task is not None:
            self.task.advance()
        self._note(self._losses.add(step, epoch, loss))

    def _note(self, rows: list[tuple[int, float, float]]) -> None:
        for step, epoch, loss in rows:
            if not math.isfinite(loss):
                raise StageError(self._diverged(step, loss))
            self.progress.rows.append([step, epoch, loss, None])

    def _diverged(self, step: int, loss: float) -> str:
        kept = last_good(self.folder)
        where = (
            f"the last good checkpoint is {kept} (epoch {self.progress.epochs()})" if kept else "no epoch was finished"
        )
        return (
            f"train embedder: the loss is {loss} at step {step}; {where}. Lower learning_rate "
            f"(now {self._rate:g}) or set dtype: fp32; a base model with damaged weights does this too"
        )

    def epoch_ended(self, epoch: float, step: int) -> bool:
        """Scores dev, and tells the helpers whether the training goes on."""
        self._note(self._losses.take())
        try:
            stop = self._judged(round(epoch), step)
        except BaseException:
            _verdict(_PART)
            raise
        return _verdict(_STOP if stop else _ON) == _STOP

    def _judged(self, epoch: int, step: int) -> bool:
        progress, patience = self.progress, self._settings.patience
        value = self._score()
        progress.rows[-1][3] = value
        better = value > progress.best_score
        if better:
            progress.best_score, progress.best_step, progress.stale = value, step, 0
        else:
            progress.stale += 1
        losses = [row[2] for row in progress.rows if row[1] > epoch - 1]
        mean = sum(losses) / max(len(losses), 1)
        best = " (best epoch so far)" if better else ""
        self._reporter.line(f"epoch {epoch}/{self._settings.epochs}: loss {mean:.3f}, dev {value:.4f}{best}")
        progress.stopped = patience is not None and progress.stale >= patience
        if self._on_epoch is not None:
            self._on_epoch(epoch, value)
        return progress.stopped or progress.epochs() == self.until

    def saved(self, checkpoint: Path) -> None:
        """Marks the checkpoint as whole, once each process has written its part of it."""
        _all_here()
        mark(checkpoint, self.progress)


class Follower:
    """Of a helper: keeps in step with the leader's `Watch`."""

    def __init__(self) -> None:
        """Makes a follower."""
        self.loggers: tuple[Any, ...] = ()
        self._losses = _Losses()

    def begun(self, total: int, done: int) -> None:
        """Nothing to do."""

    def stepped(self, step: int, epoch: float, loss: Any) -> None:
        """Adds the loss to those of the others.

        Raises:
            Parted: It is no finite number, which the leader tells.
        """
        self._check(self._losses.add(step, epoch, loss))

    @staticmethod
    def _check(rows: list[tuple[int, float, float]]) -> None:
        if not all(math.isfinite(loss) for *_, loss in rows):
            raise Parted

    def epoch_ended(self, epoch: float, step: int) -> bool:
        """Waits for the leader's verdict.

        Raises:
            Parted: The leader ended the training.
        """
        self._check(self._losses.take())
        verdict = _verdict(_ON)
        if verdict == _PART:
            raise Parted
        return verdict == _STOP

    def saved(self, checkpoint: Path) -> None:
        """Says that this process's part is written."""
        _all_here()


def _verdict(value: int) -> int:
    """The leader's value, in every process; waits for it as long as it takes."""
    if world_size() == 1:
        return value
    import torch
    import torch.distributed as dist

    told = torch.tensor([value])
    dist.broadcast(told, src=0)
    return int(told)


def _all_here() -> None:
    """Waits until every process is here."""
    everywhere(True)


def everywhere(yes: bool) -> bool:
    """Whether every process says yes."""
    if world_size() == 1:
        return yes
    import torch

    return float(_mean_over_processes(torch.tensor([float(yes)]))) == 1.0


def _mean_over_processes(values: Any) -> Any:
    """The mean of a tensor over all processes, in each of them; alone: the tensor itself."""
    if world_size() == 1:
        return values
    import torch.distributed as dist

    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()
