"""What a search over the settings of embedding finetuning tries."""

from __future__ import annotations

from pydantic import Field, field_validator

from ..core.components import Model
from ..embeddings.train_settings import LossName

__all__ = ["EmbeddingSearchSettings"]


class EmbeddingSearchSettings(Model):
    """The space and the effort of `ragladder embed search`; a list of one value leaves that setting alone."""

    trials: int = Field(default=12, ge=2)
    """Trainings, the config's own settings first. Poor ones are pruned after an epoch."""
    learning_rate: tuple[float, float] = (2e-5, 4e-4)
    """Least and most, searched on a logarithmic scale."""
    epochs: tuple[int, int] = (1, 4)
    """Fewest and most; time grows with them."""
    loss: tuple[LossName, ...] = ("multiple_negatives", "symmetric")
    """Losses that need pairs only; gist loads a second model."""
    batch_size: tuple[int, ...] = (16, 32, 64)
    """More negatives a query, for memory."""
    num_negatives: tuple[int, ...] = (0,)
    """Mined negatives a pair; each adds about half of the time of a step. 0: none."""
    seed: int = 0
    """Of the sampler: the same seed tries the same settings, so that a search killed goes on."""

    @field_validator("learning_rate", "epochs")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("give the least and the most, both above 0")
        return value

    @field_validator("loss", "batch_size", "num_negatives")
    @classmethod
    def _some(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if not value:
            raise ValueError("give one value or more")
        return value
