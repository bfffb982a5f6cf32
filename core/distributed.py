"""Several processes for one training, as `torchrun` or `accelerate launch` starts them: one leads, the others help.

Rank 0, the leader, runs the command as ever: it alone prints, computes stages, scores and writes. The other processes
wait in `help_leader`. Where the leader calls `together(function, ...)`, every process calls that function, which trains
jointly (accelerate shares out the batches and adds up the gradients); then they wait again, until `leading` lets them
go. So no helper ever waits for a lock that the leader holds, and a command with several trainings needs no more than
one with a single training. Started plainly, without a launcher, all of this does nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from .errors import ConfigError, RagladderError, StageError

__all__ = [
    "help_leader",
    "hold_to_config",
    "is_main",
    "leading",
    "local_rank",
    "rank",
    "share_of_batch",
    "together",
    "world_size",
]

T = TypeVar("T")
_PATIENCE = timedelta(days=7)  # the leader may score for hours before it trains; a process that dies is noticed at once
_FAREWELL = 20.0  # seconds that a word between processes may take at the end; one that crashed never answers


def rank() -> int:
    """Number of this process, 0 for the leader (environment variable RANK)."""
    return _number("RANK") if world_size() > 1 else 0


def local_rank() -> int:
    """Number of this process on its machine, which is the number of its GPU (environment variable LOCAL_RANK)."""
    return _number("LOCAL_RANK") if world_size() > 1 else 0


def world_size() -> int:
    """How many processes were started together, 1 without a launcher (environment variable WORLD_SIZE)."""
    return max(1, _number("WORLD_SIZE"))


def hold_to_config(arguments: Any, bf16: bool) -> None:
    """Takes out of a transformers trainer's arguments what the machine or a launcher put in.

    One device a process: with more the trainer would multiply the batch size. The precision that the config names,
    which is in the stage's key, not that of `accelerate launch` or its config file.

    Args:
        arguments: `TrainingArguments`, changed in place.
        bf16: Whether bfloat16 is computed with.
    """
    arguments._n_gpu = min(arguments.n_gpu, 1)
    arguments.mixed_precision = "bf16" if bf16 else "no"


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def is_main() -> bool:
    """Whether this process prints, scores and writes: the leader, or the only one."""
    return rank() == 0


def share_of_batch(batch_size: int, accumulation: int, key: str) -> tuple[int, int]:
    """Splits a batch over the processes so that an update of the weights still sees as many examples.

    Args:
        batch_size: Examples of a forward pass, as for one process.
        accumulation: Batches added up before an update, as for one process.
        key: What the setting is called, for messages.

    Returns:
        Both for each process.

    Raises:
        ConfigError: Neither number can be divided by the number of processes.
    """
    count = world_size()
    if batch_size % count == 0:
        return batch_size // count, accumulation
    if accumulation % count == 0:
        return batch_size, accumulation // count
    raise ConfigError(
        f"{key} of {batch_size} cannot be split over {count} processes: set it to a multiple of {count} (an update of "
        "the weights sees as many examples as with one process)"
    )


def together(function: Callable[..., T], *arguments: Any) -> T:
    """Called by the leader: all processes call the function, each with a copy of the arguments.

    Args:
        function: At the top level of a module.
        arguments: Plain data; they travel between the processes, so no credentials.

    Returns:
        What it returned here.

    Raises:
        StageError: This process does not lead the others.
    """
    if world_size() == 1:
        return function(*arguments)
    if not is_main():
        raise StageError("internal: only the leading process may start joint work")
    _tell(_Work(function, arguments))
    try:
        return function(*arguments)
    except Exception:
        _limited(lambda: _tell(_Failed()), _FAREWELL)
        raise


@contextmanager
def leading() -> Iterator[None]:
    """In the leader: lets the helpers go when the block ends, however it ends."""
    try:
        yield
    finally:
        if world_size() > 1:
            _limited(_dismiss, _FAREWELL)


def help_leader() -> int:
    """In the other processes: does what the leader starts by `together`, until it lets them go.

    Returns:
        The exit code: 0, or that of an error which this process met alone.
    """
    while True:
        work = _told()
        if work is None:
            return 0
        try:
            work.run()
        except RagladderError as error:
            # Where every process met it, the leader tells the user and lets this one go.
            if not _limited(_told, _FAREWELL):
                print(f"error in process {rank()}: {error}", file=sys.stderr, flush=True)
                return error.exit_code
        except RuntimeError as error:  # torch's, where another process has ended
            reason = str(error).strip().split("\n")[0]
            print(f"process {rank()} stops, as a process has failed: {reason}", file=sys.stderr, flush=True)
            return StageError.exit_code


@dataclass(frozen=True)
class _Work:
    """A call that every process makes."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def run(self) -> None:
        self.function(*self.arguments)


@dataclass(frozen=True)
class _Failed:
    """Follows work that failed in the leader."""

    def run(self) -> None:
        pass


def _limited(function: Callable[[], Any], seconds: float) -> bool:
    """Whether a function ended in time; in a thread, since waiting for a process that crashed has no end."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _tell(work: _Work | _Failed | None) -> None:
    """Tells the helpers what to do next; None lets them go."""
    import torch.distributed as dist

    try:
        _connect()
        dist.broadcast_object_list([work], src=0, device=_cpu())
    except RuntimeError:  # a helper is gone; its launcher says so, and ends this process too
        return


def _told() -> Any:
    """What the leader tells; None where it is gone, which it has explained itself."""
    import torch.distributed as dist

    box: list[Any] = [None]
    try:
        _connect()
        dist.broadcast_object_list(box, src=0, device=_cpu())
    except RuntimeError:
        return None
    return box[0]


def _connect() -> None:
    """Words go over gloo between CPUs, so that no GPU is busy with waiting; gradients over NCCL between GPUs."""
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        gpus = torch.cuda.is_available() and dist.is_nccl_available()
        if gpus:
            torch.cuda.set_device(local_rank() % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_PATIENCE)


def _cpu() -> Any:
    import torch

    return torch.device("cpu")


def _dismiss() -> None:
    import torch.distributed as dist

    _tell(None)
    with suppress(RuntimeError):
        dist.destroy_process_group()
