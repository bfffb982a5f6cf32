"""The training loop: sentence-transformers' trainer, with checkpoints that resume and a dev score after each epoch."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..core.cache import write_atomic
from ..core.errors import ConfigError, StageError
from ..core.progress import Reporter, Task
from ..core.quiet import quiet_libraries
from .pairs import Pair

__all__ = ["Progress", "fit", "freeze_lower", "latest", "own_randomness", "remove_stale", "resolve_precision"]

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


def fit(
    model: Any,
    pairs: Sequence[Pair],
    settings: Any,
    precision: str,
    prefixes: tuple[str, str],
    score: Callable[[], float],
    folder: Path,
    progress: Progress,
    checkpoint: Path | None,
    device: str,
    reporter: Reporter,
) -> Progress:
    """Trains a model in place, from a checkpoint on where one is given.

    Args:
        model: A `SentenceTransformer`.
        pairs: Training pairs, with or without negatives.
        settings: `EmbedTrainSettings`.
        precision: `bf16` or `fp32`.
        prefixes: Put before queries and before chunks.
        score: Dev score of the model as it is.
        folder: Of the checkpoints.
        progress: How far it is; changed in place.
        checkpoint: Where to go on from.
        device: Resolved.
        reporter: Where progress goes.

    Returns:
        `progress`.

    Raises:
        StageError: The loss is not a finite number.
    """
    with quiet_libraries(), _separate_columns(), reporter.task("train embedder", None, "steps") as task:
        trainer = _trainer(model, pairs, settings, precision, prefixes, folder, device)
        trainer.add_callback(_callback(settings, score, folder, progress, reporter, task))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return progress


def _separate_columns() -> Any:
    """Keeps short queries from being padded to the length of chunks (new releases join both into one forward pass)."""
    try:
        from sentence_transformers.base.losses.merged_forward import column_merging_disabled
    except ImportError:  # older releases never join them
        return nullcontext()
    return column_merging_disabled()


def _trainer(
    model: Any,
    pairs: Sequence[Pair],
    settings: Any,
    precision: str,
    prefixes: tuple[str, str],
    folder: Path,
    device: str,
) -> Any:
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers
    from transformers import PrinterCallback

    class Trainer(SentenceTransformerTrainer):
        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """Ours is written by `train_embedder`."""

    datasets = _datasets(pairs)
    columns = sorted({name for dataset in datasets.values() for name in dataset.column_names})
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_ratio,
        bf16=precision == "bf16",
        use_cpu=device == "cpu",
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        prompts={name: prefixes[0] if name == "anchor" else prefixes[1] for name in columns},
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="epoch",
        logging_strategy="steps",
        logging_steps=1,
        # Otherwise a NaN would be logged as 0 and trained on.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=device != "cpu",
    )
    # One device whatever is there: with more the trainer would multiply the batch size, and so change the result.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=next(iter(datasets.values())) if len(datasets) == 1 else datasets,
        loss=MultipleNegativesRankingLoss(model, scale=settings.scale),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _datasets(pairs: Sequence[Pair]) -> dict[str, Any]:
    """A dataset for each number of negatives, as the rows of one must have the same columns."""
    from datasets import Dataset

    groups: dict[int, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(len(pair.negatives), []).append(pair)
    datasets = {}
    for count, group in sorted(groups.items()):
        columns = {"anchor": [pair.query for pair in group], "positive": [pair.positive for pair in group]}
        columns |= {f"negative_{n + 1}": [pair.negatives[n] for pair in group] for n in range(count)}
        datasets[f"negatives_{count}"] = Dataset.from_dict(columns)
    return datasets


def _callback(
    settings: Any, score: Callable[[], float], folder: Path, progress: Progress, reporter: Reporter, task: Task
) -> Any:
    from transformers import TrainerCallback

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
                raise StageError(_diverged(state.global_step, logs["loss"], settings, folder, progress))
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
            reporter.line(f"{epoch}: loss {mean:.3f}, dev {value:.4f}{' (best so far)' if better else ''}")
            if settings.patience is not None and progress.stale >= settings.patience:
                progress.stopped = True
                control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            newest = folder / f"checkpoint-{state.global_step}"
            write_atomic(newest / MARK, json.dumps(asdict(progress)).encode())
            remove_stale(folder, progress, newest)

    return Watch()


def _diverged(step: int, loss: float, settings: Any, folder: Path, progress: Progress) -> str:
    kept = sorted(folder.glob("checkpoint-*"), key=_step)
    where = f"the last good checkpoint is {kept[-1]} (epoch {progress.epochs()})" if kept else "no epoch was finished"
    return (
        f"train embedder: the loss is {loss} at step {step}; {where}. Lower learning_rate "
        f"(now {settings.learning_rate:g}) or set dtype: fp32; a base model with damaged weights does this too"
    )
