"""The gate: adopt a candidate only when the test questions say so, and say why in words.

The test split is looked at once a rung. The error rate `alpha` is divided evenly over the rungs that the config plans,
and what a rung did not use goes to the next one (`spend`), so a false adoption anywhere on the ladder has probability
alpha at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ..core.components import Model
from .comparison import Comparison, compare_family, compare_metric

__all__ = [
    "Comparison",
    "Decision",
    "GateSettings",
    "Verdict",
    "beats_both",
    "best_of_family",
    "compare_family",
    "compare_metric",
    "decide",
    "decide_max_t",
    "no_candidate",
    "skip",
    "spend",
    "stop",
]

Verdict = Literal["adopt", "reject", "inconclusive", "skip", "stop"]


class GateSettings(Model):
    """When a candidate is adopted. Stricter settings need more test questions."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Probability of one or more false adoptions on the whole ladder; divided over its rungs."""
    selection: Literal["auto", "split", "max-t"] = "auto"
    """How the best of a sweep is found. split: chosen on dev, tested on test alone. max-t: every configuration is
    tested on dev and test together, adjusted for their number; it needs a search whose points do not depend on scores
    (grid, random), scores every configuration on test as well, and is honest only where dev was not looked at before.
    auto: max-t where such a search has ten points or fewer, else split (docs/gate.md has the figures); say split where
    dev has been looked at. Rungs that train always use the split."""
    min_gain: float = Field(default=0.0, ge=0)
    """The lower bound of the gain must exceed this."""
    worthwhile: float = Field(default=0.02, gt=0)
    """Gain that is worth having: below it for certain means reject, possibly above it means inconclusive."""
    guardrails: dict[str, float] = {}
    """Metric: margin. The candidate must not be worse by more than it (non-inferiority, one-sided, same alpha). All
    must hold, so they need no share of alpha; narrow margins need many questions."""
    max_missing: float = Field(default=0.02, ge=0, le=1)
    """Share of missing scores, of the candidate or the incumbent, above which the gate refuses to decide."""
    target: float | None = None
    """Stop climbing when the answer metric's lower bound on test reaches this."""

    def too_many_missing(self, missing: int, asked: int) -> bool:
        """Whether so many scores are missing that the mean of the others is no ground for a choice."""
        return missing > self.max_missing * asked


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
    prompt: Comparison | None = None
    """On test, an adapter against the best prompt of dev where that is not the incumbent: it has to beat both."""


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
    gain, bound = primary.difference or 0.0, primary.lower_bound
    primary = primary.model_copy(update={"questions_needed": _needed(primary, gain - settings.min_gain)})
    lead = f"{_where(primary)}: {_seen(primary)}"
    verdict: Verdict
    if bound is not None and bound > settings.min_gain:
        failed = [_broken(guard, settings.guardrails[guard.metric], settings) for guard in guardrails]
        broken = [reason for reason in failed if reason]
        reasons = [f"{lead}; the lower bound {bound:+.3f} exceeds {settings.min_gain:g}", *(why for _, why in broken)]
        verdict = "adopt" if not broken else "reject" if any(surely for surely, _ in broken) else "inconclusive"
        if verdict == "inconclusive":
            reasons = [*reasons[1:], reasons[0]]
    elif gain <= 0 or (primary.high is not None and primary.high < max(settings.worthwhile, settings.min_gain)):
        verdict = "reject"
        reasons = [f"{lead}; no gain worth having ({max(settings.worthwhile, settings.min_gain):g} or more)"]
    else:
        verdict = "inconclusive"
        needed = primary.questions_needed or 0
        # Questions of one document are no independent evidence: with few documents, more of them change little.
        more = (
            f"; about {needed} {primary.split} questions would settle a gain of this size"
            if needed > primary.n
            else f"; they ask about {primary.clusters} documents only: ask about more documents"
        )
        reasons = [f"{lead}; too few questions to tell{more}"]
    return Decision(verdict=verdict, reasons=tuple(reasons), primary=primary, guardrails=tuple(guardrails))


def beats_both(incumbent: Decision, prompt: Decision) -> Decision:
    """The verdict on an adapter that has to beat the incumbent and the best prompt of dev, which test did not adopt.

    Each look may spend the whole alpha: adopting takes both (an intersection-union test, Berger 1982).

    Args:
        incumbent: The verdict against the incumbent.
        prompt: That against the prompt.

    Returns:
        The less favourable verdict; its reasons come first.
    """
    order = ("adopt", "inconclusive", "reject")
    reasons = [incumbent.reasons, tuple(f"against the best prompt: {reason}" for reason in prompt.reasons)]
    verdict = incumbent.verdict
    if order.index(prompt.verdict) > order.index(verdict):
        verdict = prompt.verdict
        reasons.reverse()
    return incumbent.model_copy(
        update={"verdict": verdict, "reasons": reasons[0] + reasons[1], "prompt": prompt.primary}
    )


def best_of_family(family: Sequence[Comparison]) -> int:
    """The position of the configuration with the highest simultaneous lower bound; the first of equal ones.

    Raises:
        ValueError: An empty family.
    """
    if not family:
        raise ValueError("a family needs one configuration or more")
    return max(range(len(family)), key=lambda i: (_or(family[i].lower_bound), _or(family[i].difference)))


def decide_max_t(
    family: Sequence[Comparison], guardrails: Sequence[Comparison], settings: GateSettings
) -> tuple[int, Decision]:
    """The verdict on the best configuration of a sweep that was scored on all questions.

    Args:
        family: From `compare_family`, every configuration that was looked at.
        guardrails: The metrics of `settings.guardrails` of the configuration that `best_of_family` gives, by
            `compare_metric` at alpha divided by the size of the family: the choice is made on the same questions.
        settings: The rules.

    Returns:
        The position of the configuration, and the verdict on it.
    """
    best = best_of_family(family)
    return best, decide(family[best], guardrails, settings)


def spend(alpha: float, rungs: int, earlier: Sequence[Decision] = ()) -> float:
    """The alpha of the next look at test: an even share, and what the rung before did not use.

    A rung that never looked at test has used nothing, and one that adopted gives its share back, for an error there is
    an error already counted (the fallback procedure: Wiens, "A fixed sequence Bonferroni procedure", 2003). A look that
    did not end in an adoption has used all that it had.

    Args:
        alpha: Of the whole ladder.
        rungs: That the config plans.
        earlier: What the planned rungs before this one ended with, in order.
    """
    share = alpha / max(1, rungs)
    level = share
    for decision in earlier:
        level = share + (level if decision.primary is None or decision.verdict == "adopt" else 0.0)
    return level


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
    missing = max(primary.missing_candidate, primary.missing_incumbent)
    if settings.too_many_missing(missing, asked):
        return (
            f"{primary.metric}: {primary.missing_candidate} (candidate) and {primary.missing_incumbent} (incumbent) of "
            f"{asked} scores are missing, more than {settings.max_missing:.0%}: "
            "the gate does not decide on what is left"
        )
    return None


def _broken(guard: Comparison, margin: float, settings: GateSettings) -> tuple[bool, str] | None:
    """Whether a guardrail is surely broken, and why it does not hold; None where it holds."""
    refusal = _refusal(guard, settings)
    if refusal:
        return False, f"guardrail {refusal}"
    loss, bound = guard.difference or 0.0, guard.lower_bound
    if bound is not None and bound >= -margin:
        return None
    why = (
        f"guardrail {guard.metric}: {loss:+.3f}, lower bound {_number(bound)}: "
        f"a loss of more than {margin:g} cannot be ruled out"
    )
    if loss < -margin:
        return True, why
    needed = _needed(guard, loss + margin)
    return False, why + (f"; about {needed} {guard.split} questions would settle it" if needed else "")


def _needed(c: Comparison, effect: float) -> int | None:
    """Questions at which a true difference of `effect` would be found four times out of five."""
    if effect <= 0 or c.detectable is None:
        return None
    return c.n if c.detectable == 0 else math.ceil(c.n * (c.detectable / effect) ** 2)


def _where(c: Comparison) -> str:
    questions = f"{c.metric} on {c.n} {c.split.replace('+', ' and ')} questions"
    return questions if c.family == 1 else f"{questions}, best of {c.family} configurations (max-T)"


def _seen(c: Comparison) -> str:
    p = 1.0 if c.p_value is None else c.p_value
    return f"{c.difference or 0.0:+.3f} (95% interval {_number(c.low)} to {_number(c.high)}, p = {p:.2g})"


def _or(value: float | None) -> float:
    return -math.inf if value is None else value


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.3f}"
