"""Two arms on the same questions, paired: one candidate, or all configurations of a sweep at once (max-T)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from ..core.components import Model
from ..core.types import Score
from ..eval.multiple import MaxT, max_t
from ..eval.statistics import detectable_effect, paired_comparison, questions_needed

__all__ = ["Comparison", "compare_family", "compare_metric"]

_POWER = 0.8


class Comparison(Model):
    """One metric, candidate against incumbent, on the same questions."""

    metric: str
    """Its name."""
    split: str
    """Which questions; `dev+test` where both."""
    incumbent: float | None
    """Mean of the incumbent over the paired questions."""
    candidate: float | None
    """Mean of the candidate."""
    difference: float | None
    """Candidate minus incumbent."""
    low: float | None
    """Lower end of the 95% interval of the difference; of a family: simultaneous over it."""
    high: float | None
    """Upper end."""
    lower_bound: float | None
    """One-sided lower bound at alpha; of a family: simultaneous over it."""
    p_value: float | None
    """One-sided: at most alpha just where the lower bound is above 0. Of a family: adjusted by max-T."""
    p_two_sided: float | None = None
    """Either arm better; None of a family."""
    permutation_p: float | None = None
    """Sign-flip permutation alone, one-sided; a check that assumes symmetric differences. None of a family."""
    alpha: float
    """Spent on this comparison."""
    family: int = 1
    """Configurations that were looked at on these questions, for whose number p-value and bounds are adjusted."""
    wins: int
    """Questions on which the candidate is better."""
    ties: int
    """Equal ones."""
    losses: int
    """Questions on which it is worse."""
    n: int
    """Paired questions."""
    clusters: int
    """Groups of questions that share a document."""
    missing_incumbent: int
    """Questions whose score the incumbent lacks (failures, not those to which the metric does not apply)."""
    missing_candidate: int
    """Likewise; of a family: questions whose score any of its configurations lacks."""
    detectable: float | None
    """Smallest true gain that this comparison would find four times out of five."""
    questions_needed: int | None
    """Questions at which a gain of the size seen would be significant four times out of five."""


def compare_metric(
    metric: str,
    candidate: Sequence[Score],
    incumbent: Sequence[Score],
    clusters: Mapping[str, Hashable],
    split: str,
    alpha: float,
    seed: int,
) -> Comparison:
    """Pairs the two arms' scores of one metric by question and compares them.

    Args:
        metric: Which one.
        candidate: Scores of the candidate, any metrics.
        incumbent: Scores of the incumbent.
        clusters: Group by question id; a question that is not named is its own.
        split: For the record.
        alpha: One-sided.
        seed: Of bootstrap and permutation.
    """
    arms = [_by_question(metric, scores) for scores in (candidate, incumbent)]
    missing = [_missing(arm) for arm in arms]
    paired = [q for q, s in arms[0].items() if s.value is not None and q in arms[1] and arms[1][q].value is not None]
    base = {
        "metric": metric,
        "split": split,
        "alpha": alpha,
        "missing_candidate": missing[0],
        "missing_incumbent": missing[1],
    }
    if not paired:
        return _nothing(base)
    a, b = [_values(arm, paired) for arm in arms]
    result = paired_comparison(a, b, [clusters.get(q, q) for q in paired], alpha=alpha, seed=seed)
    return Comparison.model_validate(
        base
        | {
            "incumbent": sum(b) / len(b),
            "candidate": sum(a) / len(a),
            "difference": result.difference,
            "low": _finite(result.low),
            "high": _finite(result.high),
            "lower_bound": _finite(result.lower_bound),
            "p_value": result.p_value,
            "p_two_sided": result.p_two_sided,
            "permutation_p": result.permutation_p,
            "wins": result.wins,
            "ties": result.ties,
            "losses": result.losses,
            "n": result.n,
            "clusters": result.clusters,
            "detectable": _finite(detectable_effect(result.standard_error, alpha, _POWER, result.degrees)),
            "questions_needed": questions_needed(result, result.difference, _POWER) if result.difference > 0 else None,
        }
    )


def compare_family(
    metric: str,
    candidates: Sequence[Sequence[Score]],
    incumbent: Sequence[Score],
    clusters: Mapping[str, Hashable],
    split: str,
    alpha: float,
    seed: int,
) -> tuple[Comparison, ...]:
    """Compares every configuration of a sweep with the incumbent, adjusted for their number by max-T.

    Questions that any arm lacks a score of are left out of all comparisons and counted as missing.

    Args:
        metric: Which one.
        candidates: Scores of each configuration, any metrics. All that were looked at: leaving out those that did badly
            makes the rest look better than they are.
        incumbent: Scores of the incumbent.
        clusters: Group by question id; a question that is not named is its own.
        split: For the record.
        alpha: That any configuration without a true gain has a lower bound above 0.
        seed: Of flips and bootstrap.

    Returns:
        One comparison a configuration, in their order.
    """
    base_arm = _by_question(metric, incumbent)
    arms = [_by_question(metric, scores) for scores in candidates]
    asked = [q for q, s in base_arm.items() if s.status != "not_applicable"]
    paired = [q for q in asked if all(q in arm and arm[q].value is not None for arm in (base_arm, *arms))]
    base = {
        "metric": metric,
        "split": split,
        "alpha": alpha,
        "missing_incumbent": _missing(base_arm),
        "missing_candidate": sum(any(q not in arm or arm[q].value is None for arm in arms) for q in asked),
        "family": len(arms),
    }
    if not paired:
        return tuple(_nothing(base) for _ in arms)
    before = _values(base_arm, paired)
    after = np.array([_values(arm, paired) for arm in arms])
    differences, groups = after - np.array(before), [clusters.get(q, q) for q in paired]
    result = max_t(differences, groups, alpha, seed=seed)
    return tuple(
        Comparison.model_validate(
            base
            | _of_family(result, place, differences[place])
            | {
                "incumbent": sum(before) / len(before),
                "candidate": float(after[place].mean()),
                "low": _finite(float(result.low[place])),
                "high": _finite(float(result.high[place])),
            }
        )
        for place in range(len(arms))
    )


def _of_family(result: MaxT, place: int, row: np.ndarray) -> dict[str, float | int | None]:
    from scipy.stats import norm

    gain, bound = float(result.difference[place]), _finite(float(result.lower_bound[place]))
    error = float(result.standard_error[place])
    reach = None if bound is None else gain - bound + float(norm.ppf(_POWER)) * error
    needed = None if reach is None or gain <= 0 else math.ceil(len(row) * (reach / gain) ** 2)
    return {
        "difference": gain,
        "lower_bound": bound,
        "p_value": float(result.p_value[place]),
        "wins": int((row > 1e-12).sum()),
        "ties": int((np.abs(row) <= 1e-12).sum()),
        "losses": int((row < -1e-12).sum()),
        "n": len(row),
        "clusters": result.clusters,
        "detectable": reach,
        "questions_needed": needed,
    }


def _by_question(metric: str, scores: Sequence[Score]) -> dict[str, Score]:
    return {s.question_id: s for s in scores if s.metric == metric}


def _missing(arm: Mapping[str, Score]) -> int:
    return sum(s.status not in ("ok", "not_applicable") for s in arm.values())


def _values(arm: Mapping[str, Score], questions: Sequence[str]) -> list[float]:
    return [arm[q].value or 0.0 for q in questions]


def _nothing(base: Mapping[str, object]) -> Comparison:
    names = ("incumbent", "candidate", "difference", "low", "high", "lower_bound", "p_value", "detectable")
    empty = dict.fromkeys((*names, "questions_needed"))
    return Comparison.model_validate({**base, **empty, "wins": 0, "ties": 0, "losses": 0, "n": 0, "clusters": 0})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
