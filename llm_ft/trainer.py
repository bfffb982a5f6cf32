"""TRL's SFTTrainer, made quiet, watched and cheap on a CPU."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.components import Resources
from ..core.errors import StageError
from ..core.progress import Reporter, Task
from .model import compute_dtype
from .settings import LoraSettings
from .tokens import IGNORED, Encoded

__all__ = ["build_trainer", "completion_loss"]


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

    def table(rows: Sequence[Encoded]) -> Any:
        columns = {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]}
        return Dataset.from_dict(columns)

    args = _arguments(settings, checkpoints, resources, len(train), bool(dev), resumes)
    callbacks = [EarlyStoppingCallback(settings.patience)] if dev and settings.patience else []
    trainer = _trainer_class()(
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
    settings: LoraSettings, checkpoints: Path, resources: Resources, examples: int, with_dev: bool, resumes: bool
) -> Any:
    from trl.trainer.sft_config import SFTConfig

    batches = -(-examples // settings.batch_size)
    steps = max(1, batches // settings.gradient_accumulation)
    args = SFTConfig(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup_ratio,  # below 1 it is a share of the steps
        max_grad_norm=settings.max_grad_norm,
        weight_decay=0.0,
        train_sampling_strategy="random" if settings.packing else "group_by_length",
        max_length=settings.max_length if settings.packing else None,  # lengths are checked before: never cut here
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
    if args.n_gpu > 1:
        args._n_gpu = 1  # one adapter, one device
    return args


def completion_loss(model: Any, inputs: Any) -> tuple[Any, int, int]:
    """Loss of a batch, with the output layer run only where some row of the batch has a label.

    Args:
        model: A causal language model, with or without an adapter.
        inputs: `input_ids`, `labels` (-100 where there is none) and what else `forward` takes, shape (rows, tokens).

    Returns:
        The summed cross entropy of the labels; how many of them were the most likely token; how many there are.
    """
    from torch.nn.functional import cross_entropy

    following = inputs["labels"][:, 1:]
    places = (following != IGNORED).any(0).nonzero()[:, 0]
    fields = {name: value for name, value in inputs.items() if name != "labels"}
    mask = fields.get("attention_mask")
    if mask is not None and bool(mask[:, 0].all()):
        # padded on the right: no token sees the padding behind it, and attention without a mask is a quarter faster
        del fields["attention_mask"]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "logits_to_keep" in inspect.signature(base.forward).parameters:
        logits = model(**fields, use_cache=False, logits_to_keep=places).logits.float()
    else:
        logits = model(**fields, use_cache=False).logits[:, places].float()
    wanted = following[:, places]
    loss = cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
    right = (logits.argmax(-1) == wanted).sum()  # an ignored label equals no token
    return loss, int(right), int((wanted != IGNORED).sum())


def _trainer_class() -> type:
    """The subclass; made on call because TRL takes seconds to import."""
    import torch
    from transformers import TrainerCallback
    from trl.trainer.sft_trainer import SFTTrainer

    class Follower(TrainerCallback):
        """Counts steps for the reporter."""

        def __init__(self, task: Task, reporter: Reporter) -> None:
            self.task, self.reporter = task, reporter

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.task.advance(state.global_step - self.task.done)

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
            loss, accuracy = metrics["eval_loss"], metrics.get("eval_mean_token_accuracy")
            shown = "" if accuracy is None else f", {accuracy:.1%} of its tokens right"
            self.reporter.line(f"LoRA: epoch {state.epoch or 0:.0f}: dev loss {loss:.3f}{shown}")

    class LoraTrainer(SFTTrainer):
        """SFTTrainer without a model card a checkpoint, with a stop at a loss that is no number."""

        started = 0.0

        def planned_steps(self) -> int:
            """Updates of the weights in all epochs."""
            batches = len(self.get_train_dataloader())
            return math.ceil(batches / self.args.gradient_accumulation_steps) * int(self.args.num_train_epochs)

        def follow(self, task: Task, reporter: Reporter, before: float) -> None:
            """Reports steps to a task and dev losses as lines; `before` is seconds spent in earlier runs."""
            self.started = time.monotonic() - before
            self.add_callback(Follower(task, reporter))

        def elapsed(self) -> float:
            """Seconds of training so far, those before a resume included."""
            return max((entry.get("elapsed", 0.0) for entry in self.state.log_history), default=0.0)

        def tokens_seen(self) -> int:
            """Tokens of the train batches so far, padding not counted."""
            return int(max((entry.get("num_tokens", 0) for entry in self.state.log_history), default=0))

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            logs["elapsed"] = time.monotonic() - self.started
            super().log(logs, start_time)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if return_outputs or self.aux_loss_enabled or self.args.device.type == "cuda":
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            # off CUDA, TRL's fused head scores every prompt token too: a third of the time for a small model
            loss, right, count = completion_loss(model, inputs)
            metrics = self._metrics["train" if model.training else "eval"]
            metrics["mean_token_accuracy"].append(right / max(count, 1))
            if model.training:
                mask = inputs.get("attention_mask")
                self._total_train_tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())
            metrics["num_tokens"] = [self._total_train_tokens]
            return loss / (max(count, 1) if num_items_in_batch is None else num_items_in_batch)

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Nothing: the adapter gets its card at the end."""

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            if not torch.isfinite(loss):
                raise StageError(
                    f"LoRA: the loss is {loss.item()} at step {self.state.global_step + 1}: lower learning_rate, or "
                    "set dtype to float32."
                )
            return loss

    return LoraTrainer
