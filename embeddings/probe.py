"""Time, memory and money of an embedding finetuning, from a few steps that are really made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.components import Model, Resources
from ..core.errors import DataError
from ..core.memory import out_of_memory
from ._memory import peak_memory_mb, reset_peak
from ._ready import own_randomness, resolve_precision
from ._trial import Batches, Recipe, Trial, auto_batch_size
from .models import model_folder
from .pairs import Pair
from .train_settings import NEEDS_NEGATIVES, EmbedTrainSettings

__all__ = ["EmbedEstimate", "estimate_embedding"]

STEPS = 3


class EmbedEstimate(Model):
    """What a training will take. Mining and dev evaluations come on top."""

    steps: int
    """Updates of the weights, without early stopping."""
    seconds_per_step: float
    """Median of the measured steps."""
    seconds: float
    """Of all steps."""
    pairs_per_second: float
    """Pairs trained on a second."""
    peak_memory_mb: float | None
    """Most memory while the longest pairs were trained on: of the GPU, or of this process on a CPU."""
    trained_parameters: int
    """Weights that are free to change."""
    batch_size: int
    """Pairs a step; smaller than asked for where those do not fit."""
    money: float
    """`seconds / 3600` times the price of an hour."""


def estimate_embedding(
    base_folder: str | Path,
    pairs: Sequence[Pair],
    settings: EmbedTrainSettings,
    resources: Resources,
    price_per_hour: float = 0.0,
    prefixes: tuple[str, str] = ("", ""),
) -> EmbedEstimate:
    """Makes a warm-up step on the longest pairs and three on typical ones, with a model that is thrown away.

    Mined negatives are stood in for by other positives, so that nothing is mined.

    Args:
        base_folder: The base model, as for `train_embedder`.
        pairs: What will be trained on.
        settings: How.
        resources: The device.
        price_per_hour: Of the machine, in any currency.
        prefixes: Put before queries and before chunks.

    Raises:
        DataError: There are fewer than two pairs, two do not fit into memory, or the model gives no text vectors.
        ConfigError: The settings do not fit the model or the device.
    """
    if len(pairs) < 2:
        raise DataError(f"embed estimate: {len(pairs)} training pairs; two are needed at the least")
    batches = Batches(_with_stand_ins(pairs, settings), settings)
    folder = model_folder(str(base_folder), resources)
    guide = None
    if settings.loss == "gist":
        guide = model_folder(settings.guide, resources) if settings.guide else folder
    precision = resolve_precision(settings.dtype, resources.device)
    recipe = Recipe(folder, guide, settings, precision, prefixes, resources.device)
    with own_randomness(resources.device):
        size, measured = _largest(recipe, batches)
    steps = batches.count(size) * settings.epochs
    return EmbedEstimate(
        steps=steps,
        seconds_per_step=round(measured.seconds, 3),
        seconds=round(measured.seconds * steps, 3),
        pairs_per_second=round(size / measured.seconds, 2),
        peak_memory_mb=measured.memory,
        trained_parameters=measured.parameters,
        batch_size=size,
        money=measured.seconds * steps / 3600 * price_per_hour,
    )


def _with_stand_ins(pairs: Sequence[Pair], settings: EmbedTrainSettings) -> list[Pair]:
    count = settings.hard_negatives.num_negatives if settings.hard_negatives else int(settings.loss in NEEDS_NEGATIVES)
    texts = [pair.positive for pair in pairs]
    filled = []
    for place, pair in enumerate(pairs):
        negatives = pair.negatives or tuple(texts[(place + n + 1) % len(texts)] for n in range(count))
        filled.append(replace(pair, negatives=negatives, scores=tuple(1.0 - n for n in range(len(negatives) + 1))))
    if settings.loss not in NEEDS_NEGATIVES:
        filled = [replace(pair, scores=()) for pair in filled]
    return filled


def _largest(recipe: Recipe, batches: Batches) -> tuple[int, _Measured]:
    """The batch size asked for, or the largest half of it that fits, and what its steps take."""
    asked = recipe.settings.batch_size
    size = min(auto_batch_size(recipe, batches) if asked == "auto" else asked, batches.rows())
    while True:
        try:
            return size, _measured(recipe, batches, size)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if size < 4:
                raise DataError("embed estimate: two pairs do not fit into memory; lower train.max_length") from error
            size //= 2


@dataclass(frozen=True, slots=True)
class _Measured:
    """Seconds a step, peak memory in MB, trained weights."""

    seconds: float
    memory: float | None
    parameters: int


def _measured(recipe: Recipe, batches: Batches, size: int) -> _Measured:
    import torch

    reset_peak(recipe.device)
    trial = Trial(recipe)
    optimizer = torch.optim.AdamW(trial.parameters, lr=1e-9)
    times = []
    for batch in (batches.longest(size), *batches.spread(size, STEPS)):
        started = time.perf_counter()
        trial.backward(batch)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if recipe.device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    typical = sorted(times[1:])[STEPS // 2]
    return _Measured(typical, peak_memory_mb(recipe.device), sum(weights.numel() for weights in trial.parameters))
