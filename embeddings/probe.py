"""Time, memory and money of an embedding finetuning, from a few steps that are really made."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.components import Model, Resources
from ..core.errors import DataError
from ..core.progress import Reporter
from ._library import check_pooling, load_model, model_folder
from ._memory import out_of_memory, peak_memory_mb, reset_peak
from ._ready import make_trainable, own_randomness, reading, resolve_precision, training_length
from .losses import LABEL, build_loss, training_rows
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
    pairs = _with_stand_ins(pairs, settings)
    folder = model_folder(str(base_folder), resources)
    precision = resolve_precision(settings.dtype, resources.device)
    probe = _Probe(folder, settings, resources.device, precision, prefixes)
    with own_randomness(resources.device):
        size, seconds, memory, parameters = _largest(probe, pairs)
    steps = math.ceil(len(pairs) / size) * settings.epochs
    return EmbedEstimate(
        steps=steps,
        seconds_per_step=round(seconds, 3),
        seconds=round(seconds * steps, 3),
        pairs_per_second=round(size / seconds, 2),
        peak_memory_mb=memory,
        trained_parameters=parameters,
        batch_size=size,
        money=seconds * steps / 3600 * price_per_hour,
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


def _largest(probe: _Probe, pairs: Sequence[Pair]) -> tuple[int, float, float | None, int]:
    """Batch size asked for, or the largest half of it that fits, and what `_Probe.measured` says of it."""
    size = min(probe.settings.first_batch_size(), len(pairs))
    while True:
        try:
            return size, *probe.measured(pairs, size)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if size < 4:
                raise DataError("embed estimate: two pairs do not fit into memory; lower train.max_length") from error
            size //= 2


@dataclass(frozen=True, slots=True)
class _Probe:
    """A training in small."""

    folder: Path
    settings: EmbedTrainSettings
    device: str
    precision: str
    prefixes: tuple[str, str]

    def measured(self, pairs: Sequence[Pair], size: int) -> tuple[float, float | None, int]:
        """Seconds a step of so many pairs, peak memory in MB, trained weights."""
        import torch

        reset_peak(self.device)
        model = load_model(self.folder, self.device)
        check_pooling(model, self.folder, Reporter(quiet=True))
        count = make_trainable(model, self.settings)
        guide = load_model(self.folder, self.device) if self.settings.loss == "gist" else None
        loss = build_loss(model, self.settings, guide).to(self.device)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-9)
        longest = sorted(pairs, key=lambda pair: -len(pair.positive))[:size]
        spread = [pairs[place * len(pairs) // (size * STEPS)] for place in range(size * STEPS)]
        times = []
        model.train()
        with reading(model, training_length(model, self.settings)):
            for number in range(STEPS + 1):
                batch = longest if number == 0 else spread[number - 1 :: STEPS]
                started = time.perf_counter()
                self._step(model, loss, optimizer, batch)
                if self.device.startswith("cuda"):
                    torch.cuda.synchronize()
                if number:
                    times.append(time.perf_counter() - started)
        return sorted(times)[len(times) // 2], peak_memory_mb(self.device), count

    def _step(self, model: Any, loss: Any, optimizer: Any, batch: Sequence[Pair]) -> None:
        import torch

        rows = next(iter(training_rows(list(batch), self.settings).values()))
        features = []
        for name in rows.column_names:
            if name != LABEL:
                prefix = self.prefixes[0] if name == "anchor" else self.prefixes[1]
                made = model.preprocess([prefix + text for text in rows[name]])
                features.append({k: v.to(self.device) if hasattr(v, "to") else v for k, v in made.items()})
        labels = torch.tensor(rows[LABEL], device=self.device) if LABEL in rows.column_names else None
        with torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            value = loss(features, labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
