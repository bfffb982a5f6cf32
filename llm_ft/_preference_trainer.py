"""TRL's DPO and KTO trainers with checkpoints, progress, and a stop at a loss that is no number.

Imports torch and TRL, which take seconds: only `preference.train_preferences` imports this module.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from ..core.components import Resources
from ..core.distributed import hold_to_config, share_of_batch, world_size
from ..core.errors import ConfigError, StageError
from ..core.progress import Task
from .model import compute_dtype
from .preference_data import PreferenceSettings
from .settings import LoraSettings

__all__ = ["Watcher", "build_trainer"]

SAVES_AN_EPOCH = 4


class Watcher(TrainerCallback):
    """Counts steps, and ends the tuning at a loss that is no number."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each update of the weights."""
        self._task.advance(state.global_step - self._task.done)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """The logged loss is the mean over all processes, so all of them stop."""
        loss = logs.get("loss", 0.0)
        if not math.isfinite(loss):
            raise StageError(
                f"preference tuning: the loss is {loss} at step {state.global_step}: lower preference.learning_rate, "
                "or set train.dtype to float32."
            )


class _Plain(Trainer):
    """What both trainers here have in common."""

    def planned_steps(self) -> int:
        """Updates of the weights in all epochs."""
        return len(self.get_train_dataloader()) * int(self.args.num_train_epochs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: a checkpoint needs no card."""


class _Dpo(_Plain, DPOTrainer):
    pass


class _Kto(_Plain, KTOTrainer):
    pass


def build_trainer(
    method: str,
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    settings: PreferenceSettings,
    lora: LoraSettings,
    checkpoints: Path,
    resources: Resources,
) -> Any:
    """Makes the trainer.

    Args:
        method: `dpo` or `kto`.
        model: A `peft.PeftModel` whose adapter is trained; TRL keeps a copy of it as the reference.
        tokenizer: The base's.
        rows: Prompts and answers as TRL reads them.
        settings: See `PreferenceSettings`.
        lora: Number type, warm-up, clipping and seed.
        checkpoints: Where checkpoints go.
        resources: The device.

    Raises:
        ConfigError: The batch cannot be split over the processes.
    """
    size, _ = share_of_batch(settings.batch_size, 1, "preference.batch_size")
    if method == "kto" and size < 2:
        raise ConfigError(
            f"preference.batch_size: KTO compares rows of a batch, so {world_size()} processes need "
            f"{2 * world_size()} or more"
        )
    kind: Any = _Dpo if method == "dpo" else _Kto
    args = _arguments(method, size, len(rows), settings, lora, checkpoints, resources)
    hold_to_config(args, bool(args.bf16))
    trainer = kind(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(
    method: str,
    size: int,
    rows: int,
    settings: PreferenceSettings,
    lora: LoraSettings,
    checkpoints: Path,
    resources: Resources,
) -> Any:
    steps = -(-rows // settings.batch_size)
    config: Any = DPOConfig if method == "dpo" else KTOConfig
    return config(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=size,
        learning_rate=settings.learning_rate,
        beta=settings.beta,
        max_length=None,  # lengths are checked before: never cut here
        warmup_steps=lora.warmup_ratio,
        max_grad_norm=lora.max_grad_norm,
        bf16=compute_dtype(lora, resources.device) == "bfloat16",
        gradient_checkpointing=lora.gradient_checkpointing,
        use_cpu=resources.device == "cpu",
        seed=lora.seed,
        save_strategy="steps",
        save_steps=max(1, -(-steps // SAVES_AN_EPOCH)),
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would show a loss that is no number as 0
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=resources.device.startswith("cuda"),
    )
