"""TRL's SFTTrainer, watched, stopped at a loss that is no number, and cheap on a CPU.

Imports torch and TRL, which take seconds: only `trainer.build_trainer` imports this module.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.trainer.sft_trainer import SFTTrainer

from ..core.errors import StageError
from ..core.progress import Reporter, Task
from . import loss

__all__ = ["Follower", "LoraTrainer"]


class Follower(TrainerCallback):
    """Counts steps and tells dev losses to the reporter."""

    def __init__(self, task: Task, reporter: Reporter) -> None:
        self.task, self.reporter = task, reporter

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each update of the weights."""
        self.task.advance(state.global_step - self.task.done)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        """After dev was looked at."""
        if "eval_loss" not in metrics:
            return
        if not math.isfinite(metrics["eval_loss"]) and state.global_step == 0:
            raise StageError(
                f"LoRA: the base model's own dev loss is {metrics['eval_loss']}: its weights hold what is no number, "
                "or dtype is too narrow for them: set dtype to float32, or take another base."
            )
        accuracy = metrics.get("eval_mean_token_accuracy")
        shown = "" if accuracy is None else f", {accuracy:.1%} of its tokens right"
        self.reporter.line(f"LoRA: epoch {state.epoch or 0:.0f}: dev loss {metrics['eval_loss']:.3f}{shown}")


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
        """Adds the time so far, so that a resumed training knows it."""
        logs["elapsed"] = time.monotonic() - self.started
        super().log(logs, start_time)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss on CUDA; elsewhere the same loss with the output layer run on completions alone."""
        if return_outputs or self.aux_loss_enabled or self.args.device.type == "cuda":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # off CUDA, TRL's fused head scores every prompt token too: a third of the time for a small model
        total, right, own = loss.completion_loss(model, inputs)
        mask = inputs.get("attention_mask")
        tokens = int(inputs["input_ids"].numel() if mask is None else mask.sum())
        right, count, tokens = self._of_all(right, own, tokens)
        metrics = self._metrics["train" if model.training else "eval"]
        metrics["mean_token_accuracy"].append(right / max(count, 1))
        if model.training:
            self._total_train_tokens += tokens
        metrics["num_tokens"] = [self._total_train_tokens]
        if num_items_in_batch is None:
            return total / max(own, 1)
        # it counts the tokens of all processes, and gradients are averaged over processes
        return total * self.accelerator.num_processes / num_items_in_batch

    def _of_all(self, *counts: int) -> Sequence[int]:
        """Counts of this process, added up over all processes."""
        if self.accelerator.num_processes == 1:
            return counts
        mine = torch.tensor([counts], device=self.accelerator.device)
        return cast("torch.Tensor", self.accelerator.gather(mine)).sum(0).tolist()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """The order of one process, also where several share its batches."""
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            sampler.batch_size *= self.accelerator.num_processes
        return sampler

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the adapter gets its card at the end."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """One step; a loss that is no number ends training."""
        found = super().training_step(*args, **kwargs)
        several = self.accelerator.num_processes > 1  # then all processes stop, not the one alone
        seen = cast("torch.Tensor", self.accelerator.gather(found.reshape(1))) if several else found
        if not torch.isfinite(seen).all():
            raise StageError(
                f"LoRA: the loss is {seen.sum().item()} at step {self.state.global_step + 1}: lower learning_rate, or "
                "set dtype to float32."
            )
        return found
