"""Which model is kept: the base, the best epoch, or a mixture (WiSE-FT, Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._merge import mix
from ._run import Run

__all__ = ["Choice", "choose"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was compared, and what was taken.

    Attributes:
        alpha: Share of the finetuned weights in what was taken.
        candidates: Dev score of each share.
        general: Scores on the general set of those that were looked at, the base first.
    """

    alpha: float
    candidates: dict[float, float]
    general: dict[float, float]

    @property
    def score(self) -> float:
        """Dev score of what was taken."""
        return self.candidates[self.alpha]


def choose(
    run: Run,
    best: dict[str, Any],
    ends: tuple[float, float],
    general: Callable[[Any], float] | None = None,
    max_loss: float | None = None,
) -> Choice:
    """Finds the share with the best dev score that forgets little enough; the run's model has its weights afterwards.

    Args:
        run: With the base's weights.
        best: Weights of the best epoch.
        ends: Dev scores of the base and of the best epoch.
        general: Score on a set that was not trained for; None looks at none.
        max_loss: What may be lost there; None only measures.
    """
    candidates = {0.0: ends[0], 1.0: ends[1]}
    for alpha in run.settings.wise_ft:
        mix(run.model, run.base, best, alpha)
        candidates[alpha] = run.score()
    # Of equals the one nearer to the base, which has forgotten less.
    ranked = sorted(sorted(candidates), key=lambda share: -candidates[share])
    measured: dict[float, float] = {}
    if general is not None and ranked[0] > 0:
        measured = {0.0: _measured(run, best, 0.0, general)}
        # The base ends the search at the latest: it loses nothing against itself.
        for alpha in ranked:
            if alpha not in measured:
                measured[alpha] = _measured(run, best, alpha, general)
            if max_loss is None or measured[alpha] >= measured[0.0] - max_loss:
                ranked = [alpha]
                break
    mix(run.model, run.base, best, ranked[0])
    return Choice(ranked[0], candidates, measured)


def _measured(run: Run, best: dict[str, Any], alpha: float, general: Callable[[Any], float]) -> float:
    mix(run.model, run.base, best, alpha)
    value = run.score(general)
    run.reporter.line(f"train embedder: general set, alpha {alpha:g}: {value:.4f}")
    return value
