"""Time, memory and money of a training, estimated from a few steps that are really made."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from ..core.components import Model, Resources
from ..core.errors import DataError
from ..core.quiet import quiet_libraries
from ._run import memory_errors
from .examples import Example
from .model import add_adapter, check_device, compute_dtype, load_base
from .settings import LoraSettings
from .tokens import Encoded, Encoder

__all__ = ["CostEstimate", "EstimateSettings", "estimate_training"]


class EstimateSettings(Model):
    """How training cost is estimated."""

    probe_steps: int = Field(default=3, ge=1)
    """Steps that are measured, after one that warms up. More are steadier, and cost a step's time each."""
    price_per_hour: float = Field(default=0.0, ge=0)
    """Price of an hour of the machine, in any currency; the budget counts in the same one."""


class CostEstimate(Model):
    """What a training will take."""

    seconds: float
    """Wall-clock time of all epochs and dev evaluations."""
    steps: int
    """Updates of the weights, without early stopping."""
    examples_per_second: float
    """Train examples a second."""
    tokens: int
    """Tokens that go through the model in training, padding not counted."""
    peak_memory: int
    """Most bytes in use while the longest examples were trained on: of the device, or of this process on a CPU."""
    trainable_parameters: int
    """Parameters of the adapter."""
    money: float
    """`seconds / 3600 * price_per_hour`."""


def estimate_training(
    base_folder: Path,
    train_examples: Sequence[Example],
    dev_examples: Sequence[Example],
    settings: LoraSettings,
    estimate: EstimateSettings,
    resources: Resources,
) -> CostEstimate:
    """Makes a few training steps on a model that is thrown away, and scales their time up by tokens.

    The warm-up step takes the longest examples, so that memory is measured at its worst; the measured ones take
    examples spread over all lengths. A dev example counts as the forward third of a training step.

    Args:
        base_folder: The base model.
        train_examples: What will be trained on.
        dev_examples: What will be evaluated after each epoch.
        settings: The settings of training.
        estimate: Length of the probe, and the price.
        resources: The device.

    Raises:
        ConfigError: `target_modules` names layers that the model does not have.
        DataError: The base model cannot be used, or no example fits `max_length`.
        StageError: The longest examples do not fit into memory.
    """
    check_device(settings, resources.device)
    encoder = Encoder.from_folder(Path(base_folder))
    train, dev = (_fitting(encoder, examples, settings) for examples in (train_examples, dev_examples))
    if not train:
        limit = encoder.limit_words(settings.max_length)
        raise DataError(f"LoRA: none of {len(train_examples)} train examples fits {limit}")
    model = add_adapter(load_base(Path(base_folder), settings, resources.device), settings)
    if settings.quantize == "none":  # 4-bit weights are on the device already, and do not move
        model = model.to(resources.device)
    pad = encoder.tokenizer.pad_token_id
    seconds, measured, peak = _probed(model, pad, train, settings, estimate.probe_steps, resources.device)
    tokens, dev_tokens = (sum(len(row.input_ids) for row in rows) for rows in (train, dev))
    # dev examples are evaluated before the first epoch too
    total = seconds / measured * (tokens * settings.epochs + dev_tokens * (settings.epochs + 1) / 3)
    batches = math.ceil(len(train) / settings.batch_size)
    return CostEstimate(
        seconds=total,
        steps=math.ceil(batches / settings.gradient_accumulation) * settings.epochs,
        examples_per_second=len(train) * measured / (seconds * tokens),
        tokens=tokens * settings.epochs,
        peak_memory=peak,
        trainable_parameters=model.get_nb_trainable_parameters()[0],
        money=total / 3600 * estimate.price_per_hour,
    )


def _fitting(encoder: Encoder, examples: Sequence[Example], settings: LoraSettings) -> list[Encoded]:
    """The examples that fit the window, by length."""
    most = encoder.limit(settings.max_length)
    rows = (row for row in encoder.encode_all(examples) if len(row.input_ids) <= most)
    return sorted(rows, key=lambda row: len(row.input_ids))


def _probed(
    model: Any, pad: int, train: Sequence[Encoded], settings: LoraSettings, steps: int, device: str
) -> tuple[float, int, int]:
    """Seconds and tokens of the measured steps, and the peak of memory in bytes.

    Raises:
        StageError: The longest examples do not fit into memory.
    """
    with quiet_libraries(), memory_errors(device), _peak_memory(device) as peak:
        step = _stepper(model, pad, settings, device)
        step(train[-settings.batch_size :])
        seconds, measured = _measure(step, train, settings.batch_size, steps)
    return seconds, measured, peak[0]


def _measure(
    step: Callable[[Sequence[Encoded]], None], train: Sequence[Encoded], size: int, steps: int
) -> tuple[float, int]:
    """Seconds and tokens of steps on batches of like length, spread over all lengths (`train` is sorted by length)."""
    started, tokens = time.perf_counter(), 0
    for number in range(steps):
        middle = (2 * number + 1) * len(train) // (2 * steps)
        start = max(0, min(middle - size // 2, len(train) - size))
        batch = train[start : start + size]
        step(batch)
        tokens += sum(len(row.input_ids) for row in batch)
    return time.perf_counter() - started, tokens


def _stepper(model: Any, pad: int, settings: LoraSettings, device: str) -> Callable[[Sequence[Encoded]], None]:
    """A function that trains on one batch and waits for the device."""
    import torch

    from .loss import completion_loss

    half = compute_dtype(settings, device) == "bfloat16"
    kind = device.partition(":")[0]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=settings.learning_rate)
    model.train()
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def step(batch: Sequence[Encoded]) -> None:
        inputs = _padded(batch, pad, device)
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            loss, _, count = completion_loss(model, inputs)
        (loss / max(count, 1)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if kind == "cuda":
            torch.cuda.synchronize(device)

    return step


def _padded(batch: Sequence[Encoded], pad: int, device: str) -> dict[str, Any]:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def stack(rows: list[list[int]], value: int) -> Any:
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value).to(device)

    return {
        "input_ids": stack([row.input_ids for row in batch], pad),
        "attention_mask": stack([[1] * len(row.input_ids) for row in batch], 0),
        "labels": stack([row.labels for row in batch], -100),
    }


@contextmanager
def _peak_memory(device: str) -> Iterator[list[int]]:
    """Fills a list's only entry with the peak of memory in use while the block runs, in bytes."""
    import torch

    peak = [0]
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak[0] = torch.cuda.max_memory_allocated(device)
        return
    import psutil

    process, stop = psutil.Process(), threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    peak[0] = process.memory_info().rss
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
