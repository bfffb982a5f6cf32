"""Every configuration of a sweep against the pipeline as configured, corrected for their number.

The correction (max-T; Westfall and Young, "Resampling-based multiple testing", 1993) is for the configurations that
were looked at, so these must not depend on scores: a grid, or a random draw. Then the questions that chose the winner
can also say what it gained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...core.components import Model
from ...eval.multiple import MaxT, max_t
from ..measures import lower_is_better
from ..records import EstimateRecord
from .evaluate import Outcome

__all__ = ["BaselineRecord", "Basis", "GainRecord", "gains"]

_POWER = 0.8416
"""Quantile of the normal distribution at 0.8."""


class GainRecord(Model):
    """The first objective, one configuration against the pipeline as configured, on the same questions."""

    difference: float
    """Mean of the configuration minus mean of the pipeline as configured."""
    low: float | None
    """Lower end of the 95% interval; the intervals of all configurations hold together. Null where it has none."""
    high: float | None
    """Upper end."""
    p_value: float
    """Two-sided, adjusted for the number of configurations; at most 0.05 just where the interval leaves out 0."""
    verdict: Literal["better", "worse", "unclear"]
    """By the interval, in the objective's own direction."""
    wins: int
    """Questions on which the configuration is better."""
    ties: int
    """Equal ones."""
    losses: int
    """Questions on which it is worse."""
    questions_needed: int | None
    """Questions like these with which a gain of this size would be found four times out of five; null where it is none,
    or nothing varies."""


class BaselineRecord(Model):
    """The pipeline as configured, and what the comparison with it rests on."""

    trial: int
    """Its number in trials.jsonl."""
    in_space: bool
    """Whether it is one of the sweep's own configurations; if not, it is neither ranked nor counted."""
    status: Literal["ok", "infeasible", "dropped", "timeout", "failed"]
    """Of its trial."""
    error: str
    """Why it is not `ok`."""
    objectives: dict[str, float | None]
    """As of a trial."""
    estimates: dict[str, EstimateRecord]
    """As of a trial."""
    metric: str
    """What is compared: the first objective."""
    configurations: int
    """That were compared with it, for whose number everything is adjusted."""
    questions: int
    """On which they were."""
    clusters: int
    """Groups of these that share a document."""
    left_out: int
    """Questions that it or any configuration has no score of."""
    note: str
    """Why nothing was compared; empty where it was."""


@dataclass(frozen=True)
class Basis:
    """What gains rest on; see the fields of `BaselineRecord`."""

    configurations: int
    questions: int = 0
    clusters: int = 0
    left_out: int = 0
    note: str = ""


def gains(
    baseline: Outcome,
    others: Sequence[Outcome],
    metric: str,
    groups: Sequence[str],
    seed: int,
    most_missing: float,
) -> tuple[dict[str, GainRecord], Basis]:
    """Compares all configurations with the baseline.

    Args:
        baseline: Of the pipeline as configured.
        others: Of the configurations; failed ones were never a choice, and are left out.
        metric: The first objective.
        groups: Cluster of each question.
        seed: Of the resampling.
        most_missing: Share of the questions without a score from which nothing is compared.

    Returns:
        By key of the configuration its gain, and what the gains rest on.
    """
    tried = [one for one in others if one.status == "ok" and one.key != baseline.key]
    nothing = Basis(configurations=len(tried))
    if baseline.status != "ok":
        why = f"the pipeline as configured has no score ({baseline.status}: {baseline.error})"
        return {}, replace(nothing, note=why)
    if not tried:
        return {}, replace(nothing, note="no other configuration has a score")
    values = np.stack([_row(one, metric, len(groups)) for one in (baseline, *tried)])
    whole = np.asarray(~np.isnan(values).any(axis=0))
    asked, kept = len(baseline.applies[metric]), int(whole.sum())
    clusters = [group for group, known in zip(groups, whole, strict=True) if known]
    basis = Basis(len(tried), kept, len(set(clusters)), asked - kept)
    if not kept or asked - kept > most_missing * asked:
        why = f"{asked - kept} of {asked} questions lack a score in some configuration, more than {most_missing:.0%}"
        return {}, replace(basis, note=why)
    if basis.clusters < 2:
        return {}, replace(basis, note="all questions are on one document, and a test needs two or more")
    differences = values[1:, whole] - values[0, whole]
    result = max_t(differences, clusters, seed=seed)
    sign = -1 if lower_is_better(metric) else 1
    records = [_record(result, place, differences[place], sign) for place in range(len(tried))]
    return {one.key: record for one, record in zip(tried, records, strict=True)}, basis


def _row(outcome: Outcome, metric: str, count: int) -> np.ndarray:
    """Value of each question; NaN where there is none."""
    row = np.full(count, np.nan)
    row[outcome.applies[metric]] = [np.nan if value is None else value for value in outcome.values[metric]]
    return row


def _record(result: MaxT, place: int, row: np.ndarray, sign: int) -> GainRecord:
    low, high = float(result.low[place]), float(result.high[place])
    better, worse = (low > 0, high < 0) if sign > 0 else (high < 0, low > 0)
    difference, error = float(result.difference[place]), float(result.standard_error[place])
    reach = (difference - low if sign > 0 else high - difference) + _POWER * error
    found = sign * difference > 0 and math.isfinite(reach)
    signed = sign * row
    return GainRecord(
        difference=difference,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        p_value=float(result.p_two_sided[place]),
        verdict="better" if better else "worse" if worse else "unclear",
        wins=int((signed > 1e-12).sum()),
        ties=int((np.abs(row) <= 1e-12).sum()),
        losses=int((signed < -1e-12).sum()),
        questions_needed=math.ceil(len(row) * (reach / difference) ** 2) if found else None,
    )
