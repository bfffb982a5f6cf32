"""The gate: each verdict, its reasons, and what it refuses."""

from __future__ import annotations

import random

import pytest
from ragladder.core.types import Score
from ragladder.ladder.gate import (
    Comparison,
    Decision,
    GateSettings,
    best_of_family,
    compare_family,
    compare_metric,
    decide,
    decide_max_t,
    no_candidate,
    skip,
    spend,
)


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
    for seed in range(150):
        generator = random.Random(seed)
        a = [float(generator.random() < 0.5) for _ in range(60)]
        b = [float(generator.random() < 0.5) for _ in range(60)]
        comparison = compare_metric("m", scores(list(a)), scores(list(b)), {}, "test", alpha, seed)
        adopted += decide(comparison, (), GateSettings()).verdict == "adopt"
    # Three standard errors of a share of 150.
    assert adopted / 150 <= alpha + 3 * (alpha * (1 - alpha) / 150) ** 0.5


def test_the_p_value_says_what_the_lower_bound_says() -> None:
    for seed in range(40):
        comparison = compare(noisy(0.55, 40, seed, 0.4), noisy(0.5, 40, seed + 100, 0.4))
        assert comparison.p_value is not None and comparison.lower_bound is not None
        assert (comparison.p_value <= comparison.alpha) == (comparison.lower_bound > 0)


def test_needed_questions_count_from_the_least_gain() -> None:
    gains = [0.5, -0.4] * 24 + [0.5] * 4  # mean 0.085, not significant
    arms: tuple[list[float | None], list[float | None]] = [0.5 + gain for gain in gains], [0.5] * 52
    plain, strict = verdict(*arms), verdict(*arms, min_gain=0.03)
    assert plain.verdict == strict.verdict == "inconclusive"
    needed = [d.primary.questions_needed for d in (plain, strict) if d.primary]
    assert needed[0] is not None and needed[1] is not None
    assert needed[1] == pytest.approx(needed[0] * (0.0846 / 0.0546) ** 2, rel=0.02)


def test_a_gain_surely_below_the_least_gain_is_rejected() -> None:
    decision = verdict(noisy(0.53, 200, 1, 0.05), noisy(0.5, 200, 2, 0.05), min_gain=0.2)
    assert decision.verdict == "reject" and "0.2 or more" in decision.reasons[0]


# --- guardrails ---


def guarded(guard: Comparison, margin: float) -> Decision:
    return decide(compare(noisy(0.7, 60, 1), noisy(0.5, 60, 2)), [guard], GateSettings(guardrails={"other": margin}))


def test_a_guardrail_that_too_few_questions_can_check_is_inconclusive_and_says_how_many_would_do() -> None:
    guard = compare(noisy(0.5, 20, 5, 0.5), noisy(0.5, 20, 6, 0.5), "other")
    assert guard.difference is not None and guard.difference > -0.1
    decision = guarded(guard, 0.1)
    assert decision.verdict == "inconclusive"
    assert "guardrail other" in decision.reasons[0] and "test questions would settle it" in decision.reasons[0]


def test_a_guardrail_within_its_margin_lets_a_gain_through() -> None:
    guard = compare(noisy(0.499, 400, 5, 0.02), noisy(0.5, 400, 6, 0.02), "other")
    assert guarded(guard, 0.05).verdict == "adopt"


def test_a_guardrail_with_missing_scores_is_not_taken_as_kept() -> None:
    values = noisy(0.9, 60, 5)
    values[:10] = [None] * 10
    decision = guarded(compare(values, noisy(0.5, 60, 6), "other"), 0.05)
    assert decision.verdict == "inconclusive" and "10 (candidate)" in decision.reasons[0]


def test_a_loss_beyond_the_margin_is_let_through_at_most_alpha_of_the_time() -> None:
    through, primary = 0, compare(noisy(0.7, 60, 1), noisy(0.5, 60, 2))
    for seed in range(120):
        loss = [v - 0.1 if v is not None else v for v in noisy(0.5, 40, seed, 0.3)]
        guard = compare(loss, noisy(0.5, 40, seed + 1000, 0.3), "other")
        through += decide(primary, [guard], GateSettings(guardrails={"other": 0.1})).verdict == "adopt"
    assert through / 120 <= 0.05 + 3 * (0.05 * 0.95 / 120) ** 0.5


# --- alpha over rungs ---


def looked(verdict: str) -> Decision:
    return Decision(verdict=verdict, reasons=("",), primary=compare([1.0, 1.0], [0.0, 0.0]))  # type: ignore[arg-type]


def test_alpha_is_shared_and_what_was_not_used_is_handed_on() -> None:
    assert spend(0.06, 3) == pytest.approx(0.02)
    assert spend(0.06, 3, [looked("reject")]) == pytest.approx(0.02)
    assert spend(0.06, 3, [looked("inconclusive"), looked("reject")]) == pytest.approx(0.02)
    assert spend(0.06, 3, [skip("cannot pay")]) == pytest.approx(0.04)
    assert spend(0.06, 3, [no_candidate("none on dev"), looked("adopt")]) == pytest.approx(0.06)
    assert spend(0.06, 3, [looked("adopt"), looked("reject")]) == pytest.approx(0.02)


def test_all_false_adoptions_together_have_probability_alpha_at_most() -> None:
    """Three rungs without a true gain, each p uniform: the union bound of the fallback procedure."""
    generator, false = random.Random(0), 0
    for _ in range(5_000):
        earlier: list[Decision] = []
        for _ in range(3):
            if generator.random() < 0.3:
                earlier.append(skip(""))
                continue
            adopts = generator.random() <= spend(0.06, 3, earlier)
            earlier.append(looked_adopt if adopts else looked_reject)
        false += any(d.verdict == "adopt" for d in earlier)
    assert false / 5_000 <= 0.06 + 3 * (0.06 * 0.94 / 5_000) ** 0.5


looked_adopt, looked_reject = looked("adopt"), looked("reject")


# --- max-T ---


def family(candidates: list[list[float | None]], incumbent: list[float | None]) -> tuple[Comparison, ...]:
    return compare_family("m", [scores(c) for c in candidates], scores(incumbent), {}, "dev+test", 0.05, 0)


def test_the_best_of_a_family_is_adopted_where_it_beats_the_correction() -> None:
    arms = [noisy(0.5, 80, seed, 0.3) for seed in range(9)] + [noisy(0.75, 80, 9, 0.3)]
    found = family(arms, noisy(0.5, 80, 50, 0.3))
    place, decision = decide_max_t(found, (), GateSettings())
    assert (place, best_of_family(found), decision.verdict) == (9, 9, "adopt")
    assert "dev and test questions, best of 10 configurations (max-T)" in decision.reasons[0]
    assert {c.family for c in found} == {10} and {c.n for c in found} == {80}


def test_a_family_asks_more_of_its_best_than_a_single_comparison() -> None:
    arms, incumbent = [noisy(0.5, 60, seed, 0.4) for seed in range(30)], noisy(0.5, 60, 99, 0.4)
    found = family(arms, incumbent)
    best = best_of_family(found)
    alone = compare(arms[best], incumbent)
    assert alone.p_value is not None and alone.lower_bound is not None and alone.detectable is not None
    assert (found[best].p_value or 0) > alone.p_value
    assert (found[best].lower_bound or 0) < alone.lower_bound
    assert (found[best].detectable or 0) > alone.detectable
    assert decide_max_t(found, (), GateSettings())[1].verdict != "adopt"


def test_a_guardrail_turns_the_best_of_a_family_down() -> None:
    found = family([noisy(0.8, 60, 1), noisy(0.5, 60, 2)], noisy(0.5, 60, 3))
    guard = compare(noisy(0.3, 60, 5), noisy(0.6, 60, 6), "other")
    assert decide_max_t(found, [guard], GateSettings(guardrails={"other": 0.05}))[1].verdict == "reject"


def test_a_family_counts_what_any_of_its_configurations_misses() -> None:
    broken = noisy(0.5, 60, 2)
    broken[:5] = [None] * 5
    found = family([noisy(0.9, 60, 1), broken], noisy(0.5, 60, 3))
    assert {(c.n, c.missing_candidate) for c in found} == {(55, 5)}
    assert decide_max_t(found, (), GateSettings())[1].verdict == "inconclusive"


def test_a_family_without_scores_is_inconclusive_and_an_empty_one_refused() -> None:
    found = family([[None, None]], [None, None])
    assert decide_max_t(found, (), GateSettings())[1].verdict == "inconclusive"
    with pytest.raises(ValueError, match="one configuration"):
        best_of_family(())
