"""The training loop: sentence-transformers' trainer, with checkpoints that resume and a dev score after each epoch."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..core.cache import write_atomic
from ..core.errors import ConfigError, MissingExtra, StageError
from ..core.progress import Reporter, Task
from ..core.quiet import quiet_libraries
from .losses import LABEL
from .train_settings import IN_BATCH, EmbedTrainSettings

__all__ = ["Progress", "Setup", "fit", "freeze_lower", "latest", "own_randomness", "remove_stale", "resolve_precision"]

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
        mark = checkpoint / MARK
        if mark.is_file():
            progress = Progress(**json.loads(mark.read_text()))
            if progress.identity == identity:
                return checkpoint, progress
    return None, Progress(identity)


def remove_stale(folder: Path, progress: Progress, newest: Path | None) -> int:
    """Removes checkpoints that are neither the newest nor the best (killed writes, other trainings); says how many."""
    keep = {newest.name if newest else "", f"checkpoint-{progress.best_step}" if newest else ""}
    stale = [path for path in folder.glob("checkpoint-*") if path.name not in keep]
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    return len(stale)


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def resolve_precision(dtype: str, device: str) -> str:
    """`auto` becomes bf16 where the device computes in it, else fp32.

    Raises:
        ConfigError: bf16 is asked for on a GPU that lacks it.
    """
    import torch

    kind = device.split(":")[0]
    if kind == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        if dtype == "bf16" and not able:
            raise ConfigError("dtype bf16: this GPU does not compute in bfloat16; use dtype: auto or fp32")
    elif kind == "cpu":
        # Without these instructions bf16 is emulated, and slower than fp32.
        features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        able = any(bool(features.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    else:
        able = False
    return ("bf16" if able else "fp32") if dtype == "auto" else dtype


def freeze_lower(model: Any, layers: int | Literal["half"]) -> None:
    """Stops the token embeddings and the lowest layers of a SentenceTransformer from being trained; 0 freezes nothing.

    Raises:
        ConfigError: The model has fewer layers, or its layers cannot be told.
    """
    if layers == 0:
        return
    import torch

    transformer = model.transformers_model
    modules = [] if transformer is None else list(transformer.modules())
    stack = max((m for m in modules if isinstance(m, torch.nn.ModuleList)), key=len, default=None)
    if stack is not None and layers == "half":
        layers = len(stack) // 2
    if transformer is None or stack is None or layers == "half" or len(stack) < layers:
        there = "no layers that can be told apart" if stack is None else f"{len(stack)} layers"
        raise ConfigError(f"freeze_layers is {layers}, but the model has {there}")
    embeddings = getattr(transformer, "embeddings", None) or transformer.get_input_embeddings()
    for module in [embeddings, *list(stack)[:layers]]:
        module.requires_grad_(False)


@contextmanager
def own_randomness(device: str) -> Iterator[None]:
    """Gives the block's random draws back: the caller's generators stand afterwards where they stood before."""
    import numpy as np
    import torch

    devices = [torch.device(device).index or 0] if device.startswith("cuda") else []
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a fit needs beside the model, its rows and its loss.

    Attributes:
        settings: `EmbedTrainSettings`.
        batch_size: Resolved.
        learning_rate: Resolved.
        precision: `bf16` or `fp32`.
        prefixes: Put before queries and before chunks.
        device: Resolved.
        folder: Of the checkpoints.
        logs: Where loggers that write files put them.
    """

    settings: EmbedTrainSettings
    batch_size: int
    learning_rate: float
    precision: str
    prefixes: tuple[str, str]
    device: str
    folder: Path
    logs: Path


def fit(
    model: Any,
    rows: Mapping[str, Any],
    loss: Any,
    setup: Setup,
    score: Callable[[], float],
    progress: Progress,
    checkpoint: Path | None,
    reporter: Reporter,
    until: int | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Progress:
    """Trains a model in place, from a checkpoint on where one is given.

    Args:
        model: A `SentenceTransformer`.
        rows: Datasets by name, from `losses.training_rows`.
        loss: From `losses.build_loss`.
        setup: How to train.
        score: Dev score of the model as it is.
        progress: How far it is; changed in place.
        checkpoint: Where to go on from.
        reporter: Where progress goes.
        until: Pauses after this epoch, so that a next call with other rows goes on; None trains to the end.
        on_epoch: Told of each epoch and its dev score; what it raises ends the training.

    Returns:
        `progress`.

    Raises:
        StageError: The loss is not a finite number.
        ConfigError: A logger is unknown or not installed.
    """
    with quiet_libraries(), _separate_columns(), reporter.task("train embedder", None, "steps") as task:
        trainer = _trainer(model, rows, loss, setup)
        trainer.add_callback(_callback(setup, score, progress, reporter, task, until, on_epoch))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return progress


def _separate_columns() -> Any:
    """Keeps short queries from being padded to the length of chunks (new releases join both into one forward pass)."""
    try:
        from sentence_transformers.base.losses.merged_forward import column_merging_disabled
    except ImportError:  # older releases never join them
        return nullcontext()
    return column_merging_disabled()


def _trainer(model: Any, rows: Mapping[str, Any], loss: Any, setup: Setup) -> Any:
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers
    from transformers import PrinterCallback

    class Trainer(SentenceTransformerTrainer):
        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """Ours is written by `train_embedder`."""

    settings = setup.settings
    columns = sorted({name for dataset in rows.values() for name in dataset.column_names} - {LABEL})
    # Rows of other losses share queries on purpose.
    sampler = BatchSamplers.NO_DUPLICATES if settings.loss in IN_BATCH else BatchSamplers.BATCH_SAMPLER
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(setup.folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=setup.batch_size,
        learning_rate=setup.learning_rate,
        warmup_steps=settings.warmup_ratio,
        bf16=setup.precision == "bf16",
        use_cpu=setup.device == "cpu",
        batch_sampler=sampler,
        prompts={name: setup.prefixes[0] if name == "anchor" else setup.prefixes[1] for name in columns},
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="epoch",
        logging_strategy="steps",
        logging_steps=1,
        # Otherwise a NaN would be logged as 0 and trained on.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=setup.device != "cpu",
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
    )
    # One device whatever is there: with more the trainer would multiply the batch size, and so change the result.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    dataset = next(iter(rows.values())) if len(rows) == 1 else dict(rows)
    trainer = Trainer(model=model, args=arguments, train_dataset=dataset, loss=loss)
    trainer.remove_callback(PrinterCallback)
    for logger in _loggers(settings.report_to, setup.logs):
        trainer.add_callback(logger)
    return trainer


def _loggers(names: Sequence[str], logs: Path) -> list[Any]:
    """The trainer's own callbacks by name."""
    if not names:
        return []
    from transformers.integrations import integration_utils

    known = integration_utils.INTEGRATION_TO_CALLBACK
    made = []
    for name in names:
        if name not in known:
            raise ConfigError(f"report_to: '{name}' is no logger of the trainer; known: {', '.join(sorted(known))}")
        try:
            callback = known[name]()
        except (RuntimeError, ImportError) as error:
            raise MissingExtra(f"report_to: '{name}' is not installed ({error}); pip install {name}") from None
        # By default TensorBoard's would write among the checkpoints, which are removed.
        if getattr(callback, "logging_dir", "") is None:
            callback.logging_dir = str(logs)
        made.append(callback)
    return made


def _callback(
    setup: Setup,
    score: Callable[[], float],
    progress: Progress,
    reporter: Reporter,
    task: Task,
    until: int | None,
    on_epoch: Callable[[int, float], None] | None,
) -> Any:
    from transformers import TrainerCallback

    settings, folder = setup.settings, setup.folder

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            task.total = state.max_steps
            task.done = state.global_step

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            task.advance()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" not in logs:
                return
            if not math.isfinite(logs["loss"]):
                raise StageError(_diverged(state.global_step, logs["loss"], setup, progress))
            progress.rows.append([state.global_step, round(state.epoch, 4), logs["loss"], None])

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            value = score()
            progress.rows[-1][3] = value
            better = value > progress.best_score
            if better:
                progress.best_score, progress.best_step, progress.stale = value, state.global_step, 0
            else:
                progress.stale += 1
            losses = [row[2] for row in progress.rows if row[1] > round(state.epoch) - 1]
            mean = sum(losses) / max(len(losses), 1)
            epoch = f"epoch {round(state.epoch)}/{settings.epochs}"
            reporter.line(f"{epoch}: loss {mean:.3f}, dev {value:.4f}{' (best epoch so far)' if better else ''}")
            if settings.patience is not None and progress.stale >= settings.patience:
                progress.stopped = True
            if progress.stopped or progress.epochs() == until:
                control.should_training_stop = True
            if on_epoch is not None:
                on_epoch(round(state.epoch), value)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            newest = folder / f"checkpoint-{state.global_step}"
            write_atomic(newest / MARK, json.dumps(asdict(progress)).encode())
            remove_stale(folder, progress, newest)

    return Watch()


def _diverged(step: int, loss: float, setup: Setup, progress: Progress) -> str:
    kept = sorted(setup.folder.glob("checkpoint-*"), key=_step)
    where = f"the last good checkpoint is {kept[-1]} (epoch {progress.epochs()})" if kept else "no epoch was finished"
    return (
        f"train embedder: the loss is {loss} at step {step}; {where}. Lower learning_rate "
        f"(now {setup.learning_rate:g}) or set dtype: fp32; a base model with damaged weights does this too"
    )
