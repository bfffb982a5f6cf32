"""Training steps whose result is thrown away: how long one takes, and how many pairs fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.distributed import world_size
from ..core.memory import out_of_memory
from ..core.quiet import quiet_libraries
from ._ready import make_trainable, reading, separate_columns, training_length
from .losses import LABEL, build_loss, training_rows
from .models import load_model
from .pairs import Pair
from .train_settings import EmbedTrainSettings

__all__ = ["Batches", "Recipe", "Trial", "auto_batch_size"]

_CPU_BATCH = 32
_LARGEST = 256
_BYTES_A_WEIGHT = 12
"""Of a step, beyond what forward and backward take: two moments of AdamW, and a copy for exchanging gradients."""
_SPARE = 0.1
"""Share of a GPU's memory that `auto` leaves free."""


class Batches:
    """Batches of what the loss is trained on; each has rows with one number of negatives, as in the training."""

    def __init__(self, pairs: Sequence[Pair], settings: EmbedTrainSettings) -> None:
        """Makes the rows.

        Args:
            pairs: Usable ones.
            settings: Whose loss.
        """
        self._groups = list(training_rows(pairs, settings).values())

    def count(self, size: int) -> int:
        """Batches of an epoch."""
        return sum(-(-len(group) // size) for group in self._groups)

    def rows(self) -> int:
        """Rows of an epoch."""
        return sum(len(group) for group in self._groups)

    def longest(self, size: int) -> dict[str, list[Any]]:
        """The one that takes the most memory: the longest texts, repeated where there are too few, most columns."""
        group = max(self._groups, key=lambda one: len(one.column_names))
        texts = [name for name in group.column_names if name != LABEL]
        lengths = [sum(len(row[name]) for name in texts) for row in group]
        order = sorted(range(len(group)), key=lambda place: -lengths[place])
        return group[[order[place % len(order)] for place in range(size)]]

    def spread(self, size: int, count: int) -> list[dict[str, list[Any]]]:
        """So many typical ones, each group in its turn by its share of the rows."""
        found = []
        for number in range(count):
            place, group = int((number + 0.5) / count * self.rows()), self._groups[0]
            for group in self._groups:
                if place < len(group):
                    break
                place -= len(group)
            step = max(1, len(group) // size)
            found.append(group[[(number + n * step) % len(group) for n in range(min(size, len(group)))]])
        return found


@dataclass(frozen=True, slots=True)
class Recipe:
    """What determines a step, but for its size.

    Attributes:
        base: Folder of the base model.
        guide: Folder of the guide of gist; None for other losses.
        settings: How to train.
        precision: `bf16` or `fp32`.
        prefixes: Put before queries and before chunks.
        device: Resolved.
    """

    base: Path
    guide: Path | None
    settings: EmbedTrainSettings
    precision: str
    prefixes: tuple[str, str]
    device: str


class Trial:
    """A training in small.

    Attributes:
        model: A `SentenceTransformer`; nothing here changes its weights.
    """

    def __init__(self, recipe: Recipe, model: Any = None) -> None:
        """Loads the base and its guide.

        Args:
            recipe: How to train.
            model: One that was made trainable, in place of a fresh base.
        """
        if model is None:
            model = load_model(recipe.base, recipe.device)
            make_trainable(model, recipe.settings)
        if recipe.settings.gradient_checkpointing:
            with quiet_libraries():
                model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model = model
        self._recipe, self._settings, self._device = recipe, recipe.settings, recipe.device
        guide = load_model(recipe.guide, self._device) if recipe.guide else None
        self._loss = build_loss(model, self._settings, guide).to(self._device)

    @property
    def parameters(self) -> list[Any]:
        """Weights that are free to change."""
        return [weights for weights in self.model.parameters() if weights.requires_grad]

    def backward(self, batch: dict[str, list[Any]]) -> None:
        """Computes the gradients of a batch."""
        import torch

        self.model.train()
        labels = torch.tensor(batch[LABEL], device=self._device) if LABEL in batch else None
        kind, narrow = self._device.split(":")[0], self._recipe.precision == "bf16"
        with separate_columns(), reading(self.model, training_length(self.model, self._settings)):
            features = [self._features(name, texts) for name, texts in batch.items() if name != LABEL]
            with torch.autocast(kind, dtype=torch.bfloat16, enabled=narrow):
                value = self._loss(features, labels)
            value.backward()

    def _features(self, name: str, texts: list[str]) -> dict[str, Any]:
        prefix = self._recipe.prefixes[0 if name == "anchor" else 1]
        made = self.model.preprocess([prefix + text for text in texts])
        return {key: value.to(self._device) if hasattr(value, "to") else value for key, value in made.items()}

    def fits(self, batch: dict[str, list[Any]], spare: float = 0.0) -> bool:
        """Whether a training step of the batch fits into memory.

        Args:
            batch: From `Batches.longest`.
            spare: Share of a GPU's memory that has to stay free.
        """
        import torch

        try:
            self.backward(batch)
            if not self._device.startswith("cuda"):
                return True
            free, total = torch.cuda.mem_get_info(self._device)
            return free > spare * total + _BYTES_A_WEIGHT * sum(weights.numel() for weights in self.parameters)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return False
        finally:
            self.model.zero_grad(set_to_none=True)
            if self._device.startswith("cuda"):
                torch.cuda.empty_cache()


def auto_batch_size(recipe: Recipe, batches: Batches) -> int:
    """Pairs a step that fit: 32 on a CPU; on a GPU the largest power of two up to 256 whose longest rows fit.

    Several processes share these out, so the number is for all of them together, and a multiple of theirs.

    Args:
        recipe: How to train.
        batches: Of what is trained on.
    """
    count = world_size()
    size = _CPU_BATCH
    if recipe.device.startswith("cuda"):
        trial, size = Trial(recipe), _LARGEST
        while size > 2 and not trial.fits(batches.longest(max(size // count, 1)), _SPARE):
            size //= 2
    return max(size // count, 1) * count
