"""The gate: adopt a candidate only when the test questions say so, and say why in words.

The test split is looked at once a rung; the error rate `alpha` is divided evenly over the looks that the config plans
(Bonferroni's alpha spending), so a false adoption anywhere on the ladder has probability alpha at most.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from ..core.components import Model
from ..core.types import Score
from ..eval.statistics import detectable_effect, paired_comparison, questions_needed

__all__ = [
    "Comparison",
    "Decision",
    "GateSettings",
    "Verdict",
    "compare_metric",
    "decide",
    "no_candidate",
    "skip",
    "stop",
]

Verdict = Literal["adopt", "reject", "inconclusive", "skip", "stop"]


class GateSettings(Model):
    """When a candidate is adopted. Costs nothing; stricter settings need more test questions."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Probability of one or more false adoptions on the whole ladder; divided over its rungs."""
    min_gain: float = Field(default=0.0, ge=0)
    """The lower bound of the gain must exceed this."""
    worthwhile: float = Field(default=0.02, gt=0)
    """Gain that is worth having: below it for certain means reject, possibly above it means inconclusive."""
    guardrails: dict[str, float] = {}
    """Metric: margin. The candidate must not be worse by more than it (non-inferiority, one-sided, same alpha)."""
    max_missing: float = Field(default=0.02, ge=0, le=1)
    """Share of missing scores above which the gate refuses to decide; it also refuses when the arms differ by more."""
    target: float | None = None
    """Stop climbing when the answer metric's lower bound on test reaches this."""


class Comparison(Model):
    """One metric, candidate against incumbent, on the same questions."""

    metric: str
    """Its name."""
    split: str
    """Which questions."""
    incumbent: float | None
    """Mean of the incumbent over the paired questions."""
    candidate: float | None
    """Mean of the candidate."""
    difference: float | None
    """Candidate minus incumbent."""
    low: float | None
    """Lower end of the 95% interval of the difference."""
    high: float | None
    """Upper end."""
    lower_bound: float | None
    """One-sided lower bound at alpha."""
    p_value: float | None
    """Sign-flip permutation, one-sided."""
    alpha: float
    """Spent on this comparison."""
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
    """Likewise."""
    detectable: float | None
    """Smallest true gain that this comparison would find four times out of five."""
    questions_needed: int | None
    """Test questions at which a gain of the size seen would be significant four times out of five."""


class Decision(Model):
    """What the gate said of a rung."""

    verdict: Verdict
    """adopt, reject, inconclusive; skip: the rung was not tried because it cannot pay; stop: the target is met."""
    reasons: tuple[str, ...]
    """In words, most important first."""
    primary: Comparison | None = None
    """On test; none where test was not looked at."""
    guardrails: tuple[Comparison, ...] = ()
    """On test."""


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
    arms = [{s.question_id: s for s in scores if s.metric == metric} for scores in (candidate, incumbent)]
    missing = [sum(s.status not in ("ok", "not_applicable") for s in arm.values()) for arm in arms]
    paired = [q for q, s in arms[0].items() if s.value is not None and q in arms[1] and arms[1][q].value is not None]
    base = {
        "metric": metric,
        "split": split,
        "alpha": alpha,
        "missing_candidate": missing[0],
        "missing_incumbent": missing[1],
    }
    if not paired:
        empty = dict.fromkeys(
            (
                "incumbent",
                "candidate",
                "difference",
                "low",
                "high",
                "lower_bound",
                "p_value",
                "detectable",
                "questions_needed",
            )
        )
        return Comparison.model_validate(base | empty | {"wins": 0, "ties": 0, "losses": 0, "n": 0, "clusters": 0})
    a = [arms[0][q].value or 0.0 for q in paired]
    b = [arms[1][q].value or 0.0 for q in paired]
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
            "wins": result.wins,
            "ties": result.ties,
            "losses": result.losses,
            "n": result.n,
            "clusters": result.clusters,
            "detectable": _finite(detectable_effect(result.standard_error, alpha)),
            "questions_needed": questions_needed(result, result.difference) if result.difference > 0 else None,
        }
    )


def decide(primary: Comparison, guardrails: Sequence[Comparison], settings: GateSettings) -> Decision:
    """The verdict on a candidate.

    Args:
        primary: The rung's metric on test.
        guardrails: The metrics of `settings.guardrails` on test.
        settings: The rules.
    """
    refusal = _refusal(primary, settings)
    if refusal:
        return Decision(verdict="inconclusive", reasons=(refusal,), primary=primary, guardrails=tuple(guardrails))
    broken = [_broken(guard, settings.guardrails[guard.metric]) for guard in guardrails]
    reasons = [reason for reason in broken if reason]
    gain, bound, p = primary.difference or 0.0, primary.lower_bound, primary.p_value or 1.0
    where = f"{primary.metric} on {primary.n} test questions"
    seen = f"{gain:+.3f} (95% interval {_number(primary.low)} to {_number(primary.high)}, p = {p:.2g})"
    verdict: Verdict
    if bound is not None and bound > settings.min_gain and p <= primary.alpha:
        verdict = "reject" if reasons else "adopt"
        reasons.insert(0, f"{where}: {seen}; the lower bound {bound:+.3f} exceeds {settings.min_gain:g}")
    elif gain <= 0 or (primary.high is not None and primary.high < settings.worthwhile):
        verdict = "reject"
        reasons.insert(0, f"{where}: {seen}; no gain worth having ({settings.worthwhile:g} or more)")
    else:
        verdict = "inconclusive"
        needed = primary.questions_needed or 0
        # Questions of one document are no independent evidence: with few documents, more of them change little.
        more = (
            f"; about {needed} test questions would settle a gain of this size"
            if needed > primary.n
            else f"; they ask about {primary.clusters} documents only: ask about more documents"
        )
        reasons.insert(0, f"{where}: {seen}; too few questions to tell{more}")
    return Decision(verdict=verdict, reasons=tuple(reasons), primary=primary, guardrails=tuple(guardrails))


def no_candidate(reason: str) -> Decision:
    """Nothing better than the incumbent was found on dev, so test was not looked at and no alpha was spent."""
    return Decision(verdict="reject", reasons=(reason,))


def skip(reason: str) -> Decision:
    """The rung was not tried: the diagnosis says that it cannot pay, or it is not configured."""
    return Decision(verdict="skip", reasons=(reason,))


def stop(reason: str) -> Decision:
    """The climb ended before this rung."""
    return Decision(verdict="stop", reasons=(reason,))


def _refusal(primary: Comparison, settings: GateSettings) -> str | None:
    if primary.n < 2 or primary.clusters < 2:
        return f"{primary.metric}: only {primary.n} questions can be compared; the gate needs two groups or more"
    asked = primary.n + max(primary.missing_candidate, primary.missing_incumbent)
    shares = [primary.missing_candidate / asked, primary.missing_incumbent / asked]
    if max(shares) > settings.max_missing or abs(shares[0] - shares[1]) > settings.max_missing:
        return (
            f"{primary.metric}: {primary.missing_candidate} (candidate) and {primary.missing_incumbent} (incumbent) of "
            f"{asked} scores are missing, more than {settings.max_missing:.0%}: "
            "the gate does not decide on what is left"
        )
    return None


def _broken(guard: Comparison, margin: float) -> str | None:
    if guard.lower_bound is None:
        return f"guardrail {guard.metric}: no questions to compare"
    if guard.lower_bound < -margin:
        return (
            f"guardrail {guard.metric}: {guard.difference:+.3f}, lower bound {guard.lower_bound:+.3f}: "
            f"a loss of more than {margin:g} cannot be ruled out"
        )
    return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.3f}"
