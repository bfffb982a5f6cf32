"""Makes the trainer: which of our settings is which of TRL's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.components import Resources
from ..core.distributed import hold_to_config, share_of_batch
from .model import compute_dtype
from .settings import LoraSettings
from .tokens import Encoded

__all__ = ["build_trainer"]


def build_trainer(
    model: Any,
    tokenizer: Any,
    train: Sequence[Encoded],
    dev: Sequence[Encoded],
    settings: LoraSettings,
    checkpoints: Path,
    resources: Resources,
    resumes: bool,
) -> Any:
    """Makes the trainer; it takes tokenised rows, so TRL changes nothing about prompts and labels.

    Args:
        model: A `peft.PeftModel`.
        tokenizer: For the pad token.
        train: Train examples.
        dev: Dev examples, may be empty.
        settings: See `LoraSettings`.
        checkpoints: Where a checkpoint goes after each epoch.
        resources: The device.
        resumes: Whether training goes on from a checkpoint; the base was then evaluated before.
    """
    from datasets import Dataset
    from transformers import EarlyStoppingCallback, PrinterCallback

    from ._sft import LoraTrainer

    def table(rows: Sequence[Encoded]) -> Any:
        columns = {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]}
        return Dataset.from_dict(columns)

    own = getattr(model.config, "max_position_embeddings", None) or settings.max_length
    window = min(settings.max_length, own)
    args = _arguments(settings, checkpoints, resources, len(train), bool(dev), resumes, window)
    callbacks: list[Any] = [EarlyStoppingCallback(settings.patience)] if dev and settings.patience else []
    trainer = LoraTrainer(
        model=model,
        args=args,
        train_dataset=table(train),
        eval_dataset=table(dev) if dev else None,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(
    settings: LoraSettings,
    checkpoints: Path,
    resources: Resources,
    examples: int,
    with_dev: bool,
    resumes: bool,
    window: int,
) -> Any:
    from trl.trainer.sft_config import SFTConfig

    steps = max(1, -(-examples // settings.batch_size) // settings.gradient_accumulation)
    rows, accumulation = share_of_batch(settings.batch_size, settings.gradient_accumulation, "train.batch_size")
    args = SFTConfig(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=rows,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup_ratio,  # below 1 it is a share of the steps
        max_grad_norm=settings.max_grad_norm,
        weight_decay=0.0,
        train_sampling_strategy="random" if settings.packing else "group_by_length",
        max_length=window if settings.packing else None,  # lengths are checked before: never cut here
        packing=settings.packing,
        eval_packing=False,
        completion_only_loss=False,  # the labels are made already
        bf16=compute_dtype(settings, resources.device) == "bfloat16",
        gradient_checkpointing=settings.gradient_checkpointing,
        use_cpu=resources.device == "cpu",
        seed=settings.seed,
        eval_strategy="epoch" if with_dev else "no",
        eval_on_start=with_dev and not resumes,
        prediction_loss_only=True,
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=with_dev,
        metric_for_best_model="eval_loss" if with_dev else None,
        greater_is_better=False if with_dev else None,
        logging_steps=max(1, steps // 10),
        logging_nan_inf_filter=False,  # it would show a loss that is no number as 0
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=resources.device.startswith("cuda"),
    )
    hold_to_config(args, bool(args.bf16))
    return args
