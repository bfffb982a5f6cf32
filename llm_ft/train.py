"""LoRA training by TRL's SFTTrainer: loss on the completion only, a checkpoint each epoch, the best epoch kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.cache import digest
from ..core.components import Model, Resources
from ..core.devices import fingerprint
from ..core.distributed import together
from ..core.errors import DataError
from ..core.files import write_atomic
from ..core.progress import Reporter, Task
from ._run import resume_point, run_trainer, save_adapter
from .examples import Example
from .model import add_adapter, check_device, compute_dtype, load_base
from .settings import LoraSettings
from .tokens import Encoded, Encoder

__all__ = ["HistoryRow", "LoraResult", "LoraSettings", "train_lora"]

VERSION = 1  # part of the checkpoints' name: raised when the same settings give another adapter


class HistoryRow(Model):
    """What was measured at one step."""

    step: int
    """Updates of the weights so far."""
    epoch: float
    """Passes over the examples so far."""
    loss: float | None = None
    """Mean loss of a completion token on the train examples since the row before."""
    token_accuracy: float | None = None
    """Share of these tokens that were the most likely one."""
    dev_loss: float | None = None
    """Mean loss of a completion token on the dev examples."""
    dev_token_accuracy: float | None = None
    """Share of the dev tokens that were the most likely one."""


class LoraResult(Model):
    """A trained adapter and how it came about."""

    adapter: Path
    """Folder of the adapter; `peft.PeftModel.from_pretrained` loads it."""
    history: tuple[HistoryRow, ...]
    """Losses in order of step; step 0 is the untrained base."""
    base_dev_loss: float | None
    """Dev loss of the base model, None without dev examples."""
    best_dev_loss: float | None
    """Dev loss of the adapter, None without dev examples."""
    best_step: int
    """The step that the adapter is from."""
    steps: int
    """Steps that were trained; more than `best_step` where later epochs were worse."""
    stopped_early: bool
    """Whether early stopping ended training before the last epoch."""
    seconds: float
    """Wall-clock time of training and dev evaluation, earlier runs that this one resumed included."""
    examples: int
    """Train examples used."""
    too_long: int
    """Train and dev examples left out because they exceed `max_length`."""
    tokens: int
    """Tokens that went through the model in training, padding not counted."""
    trainable_parameters: int
    """Parameters of the adapter."""
    total_parameters: int
    """Parameters of base and adapter."""
    device: str
    """Where it was trained."""
    dtype: str
    """Number type of the computation."""
    notes: tuple[str, ...]
    """What had to be decided for this model or data, as sentences."""


def train_lora(
    base_folder: Path,
    train_examples: Sequence[Example],
    dev_examples: Sequence[Example],
    settings: LoraSettings,
    out_dir: Path,
    resources: Resources,
    reporter: Reporter,
) -> LoraResult:
    """Trains an adapter; started again after a kill it goes on from the last epoch, to the same result.

    Where several processes were started (`torchrun`), all of them train, and this one alone reads, writes and reports.
    An update of the weights then sees as many examples as with one process, in the same order.

    Args:
        base_folder: The base model; its files are not changed.
        train_examples: What to learn.
        dev_examples: What early stopping and the choice of the epoch look at; with none the last epoch is kept.
        settings: See `LoraSettings`.
        out_dir: Gets `adapter/` and `result.json`, and `checkpoints-…/` while training runs.
        resources: The device.
        reporter: Where progress goes.

    Returns:
        The result, also in `out_dir/result.json`.

    Raises:
        ConfigError: `target_modules` names layers that the model does not have, the device is `cuda:1` or higher, or
            4-bit weights are asked for on a device without them.
        MissingExtra: 4-bit weights are asked for without bitsandbytes.
        DataError: The base model cannot be used, there are no train examples, or none fits `max_length`.
        StageError: The loss is not a number, or memory ran out.
    """
    check_device(settings, resources.device)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    job = _prepare(Path(base_folder), train_examples, dev_examples, settings, resources)
    for note in job.notes:
        reporter.line(f"LoRA: {note}")
    checkpoints, last = resume_point(Path(out_dir), job.key, "LoRA", reporter)
    here = Resources(device=resources.device, env={})  # no credentials between processes
    trainer = together(_run, Path(base_folder), job, settings, checkpoints, last, here, reporter)
    save_adapter(trainer.model, Path(out_dir) / "adapter", Path(base_folder))
    result = _result(trainer, Path(out_dir) / "adapter", settings, resources, job)
    write_atomic(Path(out_dir) / "result.json", result.model_dump_json(indent=1).encode())
    shutil.rmtree(checkpoints, ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Job:
    """Examples as tokens, and what was noticed: `key` is of all that determines the adapter."""

    encoder: Encoder
    train: list[Encoded]
    dev: list[Encoded]
    too_long: int
    notes: tuple[str, ...]
    key: str


def _prepare(
    base: Path,
    train_examples: Sequence[Example],
    dev_examples: Sequence[Example],
    settings: LoraSettings,
    resources: Resources,
) -> _Job:
    if not train_examples:
        raise DataError("LoRA: there are no train examples: give the train split questions with answers and evidence")
    encoder = Encoder.from_folder(base)
    train, train_long = _encode(encoder, train_examples, settings)
    dev, dev_long = _encode(encoder, dev_examples, settings)
    if not train:
        limit = encoder.limit_words(settings.max_length)
        raise DataError(f"LoRA: none of {len(train_examples)} train examples fits {limit}")
    key = digest(
        {
            "version": VERSION,
            "base": fingerprint(base),
            "settings": settings.model_dump(mode="json"),
            "dtype": compute_dtype(settings, resources.device),
            "train": [[row.input_ids, row.labels] for row in train],
            "dev": [[row.input_ids, row.labels] for row in dev],
        }
    )
    notes = _notes(encoder, train_examples, dev_examples, train_long, dev_long, settings)
    return _Job(encoder, train, dev, train_long + dev_long, notes, key)


def _encode(encoder: Encoder, examples: Sequence[Example], settings: LoraSettings) -> tuple[list[Encoded], int]:
    """The examples that fit the window, and how many do not."""
    rows = encoder.encode_all(examples)
    most = encoder.limit(settings.max_length)
    fitting = [row for row in rows if len(row.input_ids) <= most]
    return fitting, len(rows) - len(fitting)


def _notes(
    encoder: Encoder,
    train: Sequence[Example],
    dev: Sequence[Example],
    train_long: int,
    dev_long: int,
    settings: LoraSettings,
) -> tuple[str, ...]:
    notes = list(encoder.notes)
    for name, count, total in (("train", train_long, len(train)), ("dev", dev_long, len(dev))):
        if count:
            limit = encoder.limit_words(settings.max_length)
            notes.append(f"{count} of {total} {name} examples exceed {limit} and are left out")
    if len(dev) - dev_long == 0:
        notes.append("there are no dev examples: nothing stops training early, and the last epoch is kept")
    return tuple(notes)


def _run(
    base: Path,
    job: _Job,
    settings: LoraSettings,
    checkpoints: Path,
    last: Path | None,
    resources: Resources,
    reporter: Reporter,
) -> Any:
    """Trains, from the last whole checkpoint where there is one; the trainer's model is then the best one."""
    from .trainer import build_trainer

    def build() -> Any:
        model = add_adapter(load_base(base, settings, resources.device), settings)
        tokenizer, resumes = job.encoder.tokenizer, last is not None
        return build_trainer(model, tokenizer, job.train, job.dev, settings, checkpoints, resources, resumes)

    def watch(trainer: Any, task: Task, reporter: Reporter) -> None:
        trainer.follow(task, reporter, 0.0 if last is None else _seconds(last))

    return run_trainer(build, watch, "LoRA", checkpoints, last, resources.device, reporter)


def _seconds(checkpoint: Path) -> float:
    """Seconds that training had taken at a checkpoint."""
    log = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return max((entry.get("elapsed", 0.0) for entry in log), default=0.0)


def _result(trainer: Any, adapter: Path, settings: LoraSettings, resources: Resources, job: _Job) -> LoraResult:
    notes = job.notes
    state = trainer.state
    history = _history(state.log_history)
    with_dev = [row for row in history if row.dev_loss is not None]
    base = next((row.dev_loss for row in with_dev if row.step == 0), None)
    best = state.best_metric
    if base is not None and best is not None and best >= base:
        notes = (*notes, f"the dev loss did not fall: {base:.3f} for the base, {best:.3f} for the adapter")
    trainable, total = trainer.model.get_nb_trainable_parameters()
    return LoraResult(
        adapter=adapter,
        history=history,
        base_dev_loss=base,
        best_dev_loss=best,
        best_step=state.best_global_step or state.global_step,
        steps=state.global_step,
        stopped_early=state.global_step < state.max_steps,
        seconds=trainer.elapsed(),
        examples=len(job.train),
        too_long=job.too_long,
        tokens=trainer.tokens_seen(),
        trainable_parameters=trainable,
        total_parameters=total,
        device=resources.device,
        dtype=compute_dtype(settings, resources.device),
        notes=notes,
    )


def _history(log: Sequence[dict[str, Any]]) -> tuple[HistoryRow, ...]:
    """The trainer's log, one row a step."""
    names = {
        "loss": "loss",
        "mean_token_accuracy": "token_accuracy",
        "eval_loss": "dev_loss",
        "eval_mean_token_accuracy": "dev_token_accuracy",
    }
    rows: dict[int, dict[str, Any]] = {}
    for entry in log:
        row = rows.setdefault(entry["step"], {"step": entry["step"], "epoch": round(entry.get("epoch", 0.0), 4)})
        row.update({names[key]: value for key, value in entry.items() if key in names})
    return tuple(HistoryRow(**row) for _, row in sorted(rows.items()) if len(row) > 2)
