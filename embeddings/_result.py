"""What a training of an embedding model gives."""

from __future__ import annotations

from typing import Literal

from ..core.components import Model

__all__ = ["HistoryRow", "TrainResult"]


class HistoryRow(Model):
    """One training step."""

    step: int
    """From 1 on."""
    epoch: float
    """Passes over the pairs done by then."""
    loss: float
    """Of this batch."""
    dev: float | None
    """Dev score, at the end of an epoch."""


class TrainResult(Model):
    """What a training gave."""

    folder: str
    """The model that is best on dev, as a SentenceTransformer folder."""
    base_score: float
    """Dev score of the untrained base."""
    best_score: float
    """Dev score of the model in `folder`: chosen on dev, so a little too good to be true."""
    alpha: float
    """Share of the finetuned weights in it: 0 is the base itself, 1 the best epoch."""
    candidates: tuple[tuple[float, float], ...]
    """(alpha, dev score) of all that were compared."""
    best_epoch: int
    """The epoch whose weights were mixed."""
    stopped_early: bool
    """True where patience ended the training."""
    history: tuple[HistoryRow, ...]
    """Every step."""
    seconds: float
    """Wall-clock time of this call; a resumed training counts what it still had to do."""
    pairs: int
    """Pairs trained on."""
    with_negatives: int
    """Those with at least one hard negative."""
    precision: Literal["fp32", "bf16"]
    """What `dtype` came to."""
    trained_parameters: int
    """Weights that were free to change."""
    unused: int = 0
    """Pairs that the loss cannot learn from, as no negative was found for them; not among `pairs`."""
    batch_size: int = 0
    """Pairs a step, after `auto` and after halving for memory."""
    learning_rate: float = 0.0
    """What `learning_rate: null` came to."""
    peak_memory_mb: float | None = None
    """Most memory of the device (on a CPU: of the process) up to the training's end; null where it cannot be told."""
    processes: int = 1
    """Processes, one a device, that shared each batch out among themselves."""
    general: tuple[tuple[float, float], ...] = ()
    """(alpha, score) on the general set of those models that were scored there, the base first; empty without one."""
    max_loss: float | None = None
    """What might be lost on the general set; null where nothing was set."""
    max_share: float = 1.0
    """The largest share that might be kept."""

    def kept(self) -> str:
        """What `folder` holds and why, in words."""
        base = "the base itself"
        mixed = f"{self.alpha:.3g} of the weights of epoch {self.best_epoch}, the rest of the base's"
        what = {0.0: base, 1.0: f"the weights of epoch {self.best_epoch}"}.get(self.alpha, mixed)
        best, score = max(self.candidates, key=lambda one: (one[1], -one[0]))
        general = dict(self.general)
        if best > self.max_share:
            gives_up = f"a share of {best:.3g} is better on dev by {score - self.best_score:.4f}"
            return f"{what}; {gives_up}, but at most {self.max_share:g} may be kept (max_share)"
        if best not in general or best == self.alpha or self.max_loss is None:
            return f"{what}, best on dev" if self.alpha else f"{what}, as no trained model beats it on dev"
        return (
            f"{what}; a share of {best:.3g} is better on dev by {score - self.best_score:.4f}, but loses "
            f"{general[0.0] - general[best]:.4f} on the general set, where at most {self.max_loss:g} may be lost"
        )
