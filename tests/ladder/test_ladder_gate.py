"""The gate: each verdict, its reasons, and what it refuses."""

from __future__ import annotations

import random

import pytest
from ragladder.core.types import Score
from ragladder.ladder.gate import Comparison, Decision, GateSettings, compare_metric, decide


def scores(values: list[float | None], metric: str = "m") -> list[Score]:
    return [Score(f"q{i}", metric, v, "ok" if v is not None else "timeout") for i, v in enumerate(values)]


def compare(candidate: list[float | None], incumbent: list[float | None], metric: str = "m") -> Comparison:
    return compare_metric(metric, scores(candidate, metric), scores(incumbent, metric), {}, "test", 0.05, 0)


def noisy(mean: float, n: int, seed: int, spread: float = 0.1) -> list[float | None]:
    generator = random.Random(seed)
    return [mean + generator.uniform(-spread, spread) for _ in range(n)]


def verdict(candidate: list[float | None], incumbent: list[float | None], **settings: float) -> Decision:
    return decide(compare(candidate, incumbent), (), GateSettings(**settings))  # type: ignore[arg-type]


def test_a_clear_gain_is_adopted_and_counted() -> None:
    decision = verdict(noisy(0.7, 60, 1), noisy(0.5, 60, 2))
    assert decision.verdict == "adopt"
    primary = decision.primary
    assert primary is not None and primary.wins + primary.ties + primary.losses == 60
    assert primary.lower_bound is not None and 0.1 < primary.lower_bound < primary.difference < 0.3  # type: ignore[operator]
    assert "60 test questions" in decision.reasons[0]


def test_a_gain_below_the_least_gain_is_not_adopted() -> None:
    assert verdict(noisy(0.7, 60, 1), noisy(0.5, 60, 2), min_gain=0.25).verdict != "adopt"


def test_a_loss_is_rejected() -> None:
    assert verdict(noisy(0.5, 60, 1), noisy(0.7, 60, 2)).verdict == "reject"


def test_a_gain_too_small_to_matter_is_rejected() -> None:
    assert verdict(noisy(0.501, 100, 4, 0.01), noisy(0.5, 100, 3, 0.01)).verdict == "reject"


def test_too_few_questions_are_inconclusive_and_say_how_many_would_do() -> None:
    decision = verdict([0.9, 0.4, 0.8, 0.2, 0.9, 0.6], [0.5, 0.5, 0.4, 0.5, 0.4, 0.5])
    assert decision.verdict == "inconclusive"
    needed = decision.primary.questions_needed if decision.primary else None
    assert needed is not None and needed > 6 and f"about {needed} test questions" in decision.reasons[0]


def test_missing_scores_above_the_limit_are_refused_and_never_dropped() -> None:
    candidate = noisy(0.9, 60, 1)
    candidate[:5] = [None] * 5
    decision = verdict(candidate, noisy(0.5, 60, 2))
    assert decision.verdict == "inconclusive" and "5 (candidate) and 0 (incumbent) of 60" in decision.reasons[0]


def test_one_missing_score_in_a_hundred_is_let_through() -> None:
    candidate = noisy(0.9, 100, 1)
    candidate[0] = None
    decision = verdict(candidate, noisy(0.5, 100, 2))
    assert decision.verdict == "adopt" and decision.primary is not None and decision.primary.missing_candidate == 1


def test_a_broken_guardrail_turns_a_gain_down() -> None:
    guard = compare(noisy(0.3, 60, 5), noisy(0.6, 60, 6), "other")
    decision = decide(compare(noisy(0.7, 60, 1), noisy(0.5, 60, 2)), [guard], GateSettings(guardrails={"other": 0.05}))
    assert decision.verdict == "reject" and any("guardrail other" in reason for reason in decision.reasons)


def test_questions_of_one_document_count_as_one_group() -> None:
    """The same differences are worth less when they come from few documents."""
    candidate, incumbent = noisy(0.6, 40, 1, 0.4), noisy(0.5, 40, 2, 0.1)
    alone = compare_metric("m", scores(candidate), scores(incumbent), {}, "test", 0.05, 0)
    one_document = compare_metric(
        "m", scores(candidate), scores(incumbent), {f"q{i}": "d" for i in range(40)}, "test", 0.05, 0
    )
    assert (alone.clusters, one_document.clusters) == (40, 1)
    assert decide(one_document, (), GateSettings()).verdict == "inconclusive"


def test_questions_to_which_a_metric_does_not_apply_are_not_missing() -> None:
    rows = [*scores(noisy(0.7, 30, 1)), Score("x", "m", None, "not_applicable")]
    result = compare_metric(
        "m", rows, [*scores(noisy(0.5, 30, 2)), Score("x", "m", None, "not_applicable")], {}, "test", 0.05, 0
    )
    assert (result.n, result.missing_candidate, result.missing_incumbent) == (30, 0, 0)


def test_nothing_to_compare_is_inconclusive() -> None:
    assert verdict([None, None], [None, None]).verdict == "inconclusive"


@pytest.mark.parametrize("alpha", [0.05, 0.0167])
def test_no_true_gain_is_adopted_at_most_alpha_of_the_time(alpha: float) -> None:
    adopted = 0
    for seed in range(400):
        generator = random.Random(seed)
        a = [float(generator.random() < 0.5) for _ in range(60)]
        b = [float(generator.random() < 0.5) for _ in range(60)]
        comparison = compare_metric("m", scores(list(a)), scores(list(b)), {}, "test", alpha, seed)
        adopted += decide(comparison, (), GateSettings()).verdict == "adopt"
    # Three standard errors of a share of 400.
    assert adopted / 400 <= alpha + 3 * (alpha * (1 - alpha) / 400) ** 0.5
