"""Which model is kept: the base, the best epoch, or a mixture (WiSE-FT, Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ._merge import mix
from ._run import Run

__all__ = ["Choice", "GeneralCheck", "choose"]

_AIM = 0.9
"""Share of what may be lost that a further mixture is aimed at."""
_EDGE = 0.1
"""A further mixture keeps this share of the gap away from both its neighbours."""


@dataclass(frozen=True)
class GeneralCheck:
    """A set that is not trained for, and how much of it may be lost.

    Attributes:
        evaluate: Score of a model there, higher being better.
        max_loss: A model that loses more is not taken; None only measures.
        tries: Further shares that are tried where the best on dev loses too much.
    """

    evaluate: Callable[[Any], float]
    max_loss: float | None = None
    tries: int = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """What was compared, and what was taken.

    Attributes:
        alpha: Share of the finetuned weights in what was taken.
        candidates: Dev score of each share.
        general: Scores on the general set of those that were looked at, the base first.
        max_loss: What might be lost there; None where nothing was set.
    """

    alpha: float
    candidates: dict[float, float]
    general: dict[float, float]
    max_loss: float | None

    @property
    def score(self) -> float:
        """Dev score of what was taken."""
        return self.candidates[self.alpha]


def choose(run: Run, best: dict[str, Any], ends: tuple[float, float], general: GeneralCheck | None = None) -> Choice:
    """Finds the share with the best dev score that forgets little enough; the run's model has its weights afterwards.

    Args:
        run: With the base's weights.
        best: Weights of the best epoch.
        ends: Dev scores of the base and of the best epoch.
        general: A set that was not trained for; None looks at none.
    """
    most = run.settings.max_share
    shares = _Shares(run, best, general, most, {0.0: ends[0], 1.0: ends[1]})
    for alpha in sorted({*run.settings.wise_ft, most} - {1.0}):
        shares.score(alpha)
    alpha = shares.best()
    if general is not None and alpha > 0:
        shares.forgets(0.0)
        alpha = shares.guarded(general.tries)
    mix(run.model, run.base, best, alpha)
    return Choice(alpha, shares.candidates, shares.general, general.max_loss if general else None)


@dataclass(slots=True)
class _Shares:
    """Mixtures with their scores, each computed once."""

    run: Run
    weights: dict[str, Any]
    check: GeneralCheck | None
    most: float
    candidates: dict[float, float]
    general: dict[float, float] = field(default_factory=dict)

    def score(self, alpha: float) -> None:
        """Scores a share on dev."""
        mix(self.run.model, self.run.base, self.weights, alpha)
        self.candidates[alpha] = self.run.score()

    def best(self) -> float:
        """The best on dev of those not known to forget too much; of equals the one nearer to the base."""
        may_be = [alpha for alpha in sorted(self.candidates) if alpha <= self.most]
        taken = [alpha for alpha in may_be if alpha not in self.general or not self.forgets(alpha)]
        return max(taken, key=lambda alpha: self.candidates[alpha])

    def forgets(self, alpha: float) -> bool:
        """Whether a share loses more on the general set than it may; the base never does."""
        if self.check is None:
            return False
        if alpha not in self.general:
            mix(self.run.model, self.run.base, self.weights, alpha)
            self.general[alpha] = self.run.score(self.check.evaluate)
            self.run.reporter.line(f"train embedder: general set, share {alpha:.3g}: {self.general[alpha]:.4f}")
        may_lose = self.check.max_loss
        return may_lose is not None and self.general[alpha] < self.general[0.0] - may_lose

    def guarded(self, tries: int) -> float:
        """The best on dev that forgets little enough; looks for it between the given shares too."""
        while self.forgets(low := self.best()):
            pass
        refused = [alpha for alpha in self.general if alpha > low and self.forgets(alpha)]
        if not refused:
            return low
        high = min(refused)
        for _ in range(tries):
            between = low + self._place(low, high) * (high - low)
            self.score(between)
            low, high = (low, between) if self.forgets(between) else (between, high)
        return self.best()

    def _place(self, low: float, high: float) -> float:
        """Where between a share that may be taken and one that may not nearly as much is lost as may be, by a line
        through both."""
        aim = _AIM * (self.check.max_loss or 0.0) if self.check else 0.0
        lost = [self.general[0.0] - self.general[alpha] for alpha in (low, high)]
        return min(max((aim - lost[0]) / max(lost[1] - lost[0], 1e-12), _EDGE), 1 - _EDGE)
