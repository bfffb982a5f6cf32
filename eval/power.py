"""What a number of questions can show: the smallest difference that the gate's test would find."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ..core.components import Model
from ..core.types import SPLITS, Question
from ..core.words import counted
from .statistics import detectable_effect

__all__ = ["PowerRow", "design_effect", "power_rows"]


class PowerRow(Model):
    """The power of one split."""

    split: str
    """Which; `all` where no question has a split."""
    questions: int
    """How many."""
    clusters: int
    """Groups of questions on one document."""
    sd: float
    """Standard deviation of the paired difference a question."""
    measured: bool
    """Whether a run gave it, or it is assumed."""
    detectable: float
    """Smallest true difference found in 8 of 10 cases by a one-sided test at `alpha`."""
    alpha: float = 0.05
    """Of the test; the gate divides its own over the rungs."""
    gain: float = 0.02
    """A difference that is worth finding."""
    needed: int = 0
    """Questions at which `gain` would be found in 8 of 10 cases, spread over documents as these are."""

    def sentence(self) -> str:
        """In words."""
        source = "measured" if self.measured else "assumed"
        kind = "question" if self.split == "all" else f"{self.split} question"
        return (
            f"with {counted(self.questions, kind)} in {counted(self.clusters, 'group')} "
            f"(by document) you can detect a gain of {100 * self.detectable:.1f} points of 100 or more; "
            f"{100 * self.gain:g} points need about {self.needed:,} questions "
            f"(standard deviation of the difference {self.sd:.2f}, {source})"
        )


def design_effect(sizes: Sequence[int], icc: float) -> float:
    """How many times clusters widen the variance of a mean: 1 + (m - 1) icc (Kish, 1965), m the mean size met.

    Args:
        sizes: Questions in each cluster, one or more.
        icc: Intraclass correlation, 0 to 1.
    """
    total = sum(sizes)
    met = sum(size**2 for size in sizes) / total
    return 1 + (met - 1) * icc


def power_rows(
    questions: Sequence[Question],
    sd: float,
    icc: float,
    measured_sd: float | None = None,
    alpha: float = 0.05,
    gain: float = 0.02,
) -> tuple[PowerRow, ...]:
    """The power of dev and test, or of all questions where none has a split.

    Args:
        questions: All splits.
        sd: Assumed standard deviation of the paired difference.
        icc: Assumed intraclass correlation of questions on one document.
        measured_sd: Taken instead of `sd` where given.
        alpha: Of the one-sided test.
        gain: Whose number of questions is wanted, above 0.
    """
    parts = [(split, [q for q in questions if q.split == split]) for split in SPLITS if split != "train"]
    if not any(q.split for q in questions):
        parts = [("all", list(questions))]
    spread = sd if measured_sd is None else measured_sd
    rows = []
    for name, members in parts:
        if not members:
            continue
        sizes = Counter(q.evidence[0].doc_id if q.evidence else f"question:{q.id}" for q in members)
        error = spread * math.sqrt(design_effect(list(sizes.values()), icc) / len(members))
        rows.append(
            PowerRow(
                split=name,
                questions=len(members),
                clusters=len(sizes),
                sd=spread,
                measured=measured_sd is not None,
                detectable=detectable_effect(error, alpha),
                alpha=alpha,
                gain=gain,
                needed=math.ceil(len(members) * (detectable_effect(error, alpha) / gain) ** 2),
            )
        )
    return tuple(rows)
