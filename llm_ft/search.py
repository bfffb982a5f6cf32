"""A small search over epochs and learning rate that follows the usual advice, one change at a time.

A model that does not converge gets a higher rate, one that converges but does not yet follow the data more epochs, one
whose dev loss rises after the first epoch a lower rate. So three or four trainings do what a grid of nine would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from ..core.components import Model
from .settings import LoraSettings

__all__ = ["SearchSettings", "SearchTrial", "advise_next", "best_trial"]


class SearchSettings(Model):
    """How far the search over epochs and learning rate goes. Each trial is a training of its own."""

    trials: int = Field(default=4, ge=1)
    """Most trainings, the one with the settings of `train` among them."""
    max_epochs: int = Field(default=8, ge=1)
    """Epochs are doubled up to this."""
    max_learning_rate: float = Field(default=1e-2, gt=0, lt=1)
    """The learning rate is raised up to this; above, training of most models breaks down."""
    min_fall: float = Field(default=0.1, gt=0, lt=1)
    """A train loss that falls by a smaller share of its first value has not converged."""
    still_falling: float = Field(default=0.01, gt=0, lt=1)
    """A dev loss that falls by this share or more in the last epoch would fall further."""


@dataclass(frozen=True, slots=True)
class SearchTrial:
    """One training of the search.

    Attributes:
        settings: What it was trained with.
        why: Why these were tried.
        result: The `LoraResult` as JSON values.
    """

    settings: LoraSettings
    why: str
    result: dict[str, Any]

    @property
    def dev_loss(self) -> float:
        """Dev loss of the adapter that was kept; infinite where dev was not measured."""
        loss = self.result["best_dev_loss"]
        return float("inf") if loss is None else float(loss)


def best_trial(trials: Sequence[SearchTrial]) -> SearchTrial:
    """The trial with the lowest dev loss; of equal ones the earlier, and so the cheaper."""
    return min(trials, key=lambda trial: trial.dev_loss)


def advise_next(trials: Sequence[SearchTrial], search: SearchSettings) -> tuple[LoraSettings, str] | None:
    """What to train next.

    Args:
        trials: All so far, one or more; the advice looks at the best of them.
        search: Limits.

    Returns:
        Settings that were not tried yet and the reason; None where the search ends.
    """
    if len(trials) >= search.trials:
        return None
    best = best_trial(trials)
    tried = [trial.settings for trial in trials]
    for change, why in _advice(best, search):
        settings = best.settings.model_copy(update=change)
        if settings not in tried:
            return settings, why
    return None


def _advice(trial: SearchTrial, search: SearchSettings) -> list[tuple[dict[str, Any], str]]:
    """Changes in the order in which they are worth trying."""
    history, settings = trial.result["history"], trial.settings
    losses = [row["loss"] for row in history if row["loss"] is not None]
    dev = [row["dev_loss"] for row in history if row["dev_loss"] is not None]
    faster = min(settings.learning_rate * 3, search.max_learning_rate)
    longer = min(settings.epochs * 2, search.max_epochs)
    changes: list[tuple[dict[str, Any], str]] = []
    if len(losses) >= 2 and min(losses[1:]) > losses[0] * (1 - search.min_fall):
        changes.append(
            ({"learning_rate": faster}, "the train loss hardly fell: it does not converge, so a higher rate")
        )
    if len(dev) >= 2 and dev[-1] <= min(dev[:-1]) * (1 - search.still_falling):
        changes.append(({"epochs": longer}, "the dev loss still fell in the last epoch: more epochs"))
    if len(dev) >= 3 and dev[-1] > min(dev[1:]):
        slower = settings.learning_rate / 3
        changes.append(({"learning_rate": slower}, "the dev loss rose before the end: a lower rate"))
    return changes
