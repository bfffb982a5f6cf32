"""Intervals cover, tests keep their level, and both agree with scipy where questions are independent."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragladder.eval.statistics import (
    BOOTSTRAP_FROM,
    detectable_effect,
    mean_interval,
    paired_comparison,
    questions_needed,
)
from scipy import stats

UNIT = st.floats(0, 1, allow_nan=False)


def clustered(generator: np.random.Generator, clusters: int, mean: float = 0.0) -> tuple[np.ndarray, list[int]]:
    """Values that share half their variance within clusters of unequal size."""
    sizes = generator.integers(1, 6, clusters)
    groups = np.repeat(np.arange(clusters), sizes)
    shared = generator.normal(0, 1, clusters)[groups]
    return mean + shared + generator.normal(0, 1, len(groups)), groups.tolist()


@pytest.mark.parametrize("n", [5, 30, BOOTSTRAP_FROM - 1])
def test_interval_of_independent_values_is_students_t(n: int) -> None:
    values = np.random.default_rng(n).normal(3, 2, n)
    estimate = mean_interval(values.tolist(), level=0.9)
    low, high = stats.t.interval(0.9, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((values.mean(), low, high))
    assert (estimate.n_ok, estimate.n) == (n, n)


@pytest.mark.parametrize("n", [8, 60])
def test_paired_comparison_agrees_with_the_paired_t_test(n: int) -> None:
    generator = np.random.default_rng(n)
    a, b = generator.normal(0.3, 1, n), generator.normal(0, 1, n)
    result = paired_comparison(a.tolist(), b.tolist(), alpha=0.05)
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    assert (result.difference, result.low, result.high) == pytest.approx(((a - b).mean(), interval.low, interval.high))
    one_sided = stats.ttest_rel(a, b, alternative="greater")
    assert result.lower_bound == pytest.approx(one_sided.confidence_interval(0.95).low)
    assert result.standard_error == pytest.approx(stats.sem(a - b))
    assert result.p_value == pytest.approx(one_sided.pvalue, abs=0.03)
    assert (result.n, result.clusters, result.wins + result.losses, result.ties) == (n, n, n, 0)


def test_bootstrap_is_close_to_t_for_many_normal_values() -> None:
    values = np.random.default_rng(1).normal(0, 1, 400)
    estimate = mean_interval(values.tolist())
    low, high = stats.t.interval(0.95, 399, loc=values.mean(), scale=stats.sem(values))
    assert estimate.low == pytest.approx(low, abs=0.02)
    assert estimate.high == pytest.approx(high, abs=0.02)


@pytest.mark.parametrize(("clusters", "runs", "resamples"), [(25, 400, 10), (BOOTSTRAP_FROM, 200, 400)])
def test_interval_covers_the_mean_of_clustered_values(clusters: int, runs: int, resamples: int) -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for seed in range(runs):
        values, groups = clustered(generator, clusters, mean=2.0)
        estimate = mean_interval(values.tolist(), groups, seed=seed, resamples=resamples)
        covered += estimate.low <= 2.0 <= estimate.high
    assert 0.91 <= covered / runs <= 0.985


def test_ignoring_the_clusters_covers_less() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        values, _ = clustered(generator, 25, mean=2.0)
        estimate = mean_interval(values.tolist())
        covered += estimate.low <= 2.0 <= estimate.high
    assert covered / 400 < 0.9


def test_lower_bound_and_permutation_keep_their_level_under_the_null() -> None:
    generator = np.random.default_rng(11)
    above, p_values = 0, []
    for seed in range(400):
        difference, groups = clustered(generator, 30)
        result = paired_comparison(difference.tolist(), [0.0] * len(difference), groups, seed=seed, resamples=499)
        above += result.lower_bound > 0
        p_values.append(result.p_value)
    assert 0.02 <= above / 400 <= 0.085
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.085


def test_a_real_gain_is_found() -> None:
    generator = np.random.default_rng(5)
    base = generator.uniform(0, 0.5, 80)
    result = paired_comparison((base + generator.uniform(0.02, 0.3, 80)).tolist(), base.tolist(), resamples=999)
    assert result.lower_bound > 0
    assert result.p_value == pytest.approx(1 / 1000)
    assert (result.wins, result.ties, result.losses) == (80, 0, 0)


def test_permutation_is_never_zero_and_one_sided() -> None:
    worse = paired_comparison([0.0] * 40, [1.0] * 40, resamples=99)
    assert worse.p_value == 1.0
    better = paired_comparison([1.0] * 40, [0.0] * 40, resamples=99)
    assert better.p_value == pytest.approx(1 / 100)


def test_permutation_matches_all_sign_flips_counted_by_hand() -> None:
    difference = [3.0, 2.0, -1.0]  # sum 4; of 8 flips only +++ (6) and ++- (4) reach it
    result = paired_comparison(difference, [0.0] * 3, resamples=20_000)
    assert result.p_value == pytest.approx(2 / 8, abs=0.01)


def test_clusters_flip_together() -> None:
    # two clusters of two questions: flips of wholes give sums 4, 0, 0, -4
    result = paired_comparison([1.0, 1.0, 1.0, 1.0], [0.0] * 4, ["a", "a", "b", "b"], resamples=20_000)
    assert result.p_value == pytest.approx(1 / 4, abs=0.01)
    assert (result.n, result.clusters) == (4, 2)


def test_missing_values_are_counted_not_averaged() -> None:
    estimate = mean_interval([1.0, None, 0.0, None], ["a", "b", "c", "a"])
    assert (estimate.mean, estimate.n_ok, estimate.n) == (0.5, 2, 4)
    nothing = mean_interval([None, None])
    assert math.isnan(nothing.mean) and (nothing.n_ok, nothing.n) == (0, 2)


def test_one_cluster_has_a_mean_but_no_interval() -> None:
    estimate = mean_interval([0.2, 0.4], ["a", "a"])
    assert estimate.mean == pytest.approx(0.3)
    assert math.isnan(estimate.low) and math.isnan(estimate.high)
    result = paired_comparison([1.0, 1.0], [0.0, 0.0], ["a", "a"], resamples=99)
    assert math.isnan(result.lower_bound)
    assert questions_needed(result, 0.1) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval([0.5, bad])
    with pytest.raises(ValueError, match="finite"):
        paired_comparison([0.5, bad], [0.5, 0.5])


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0])])
def test_rows_that_cannot_be_paired_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="equal length"):
        paired_comparison(a, b)


def test_the_same_seed_gives_the_same_result() -> None:
    values = np.random.default_rng(0).normal(0, 1, 150)
    one, two, other = (paired_comparison(values, np.zeros(150), seed=seed, resamples=500) for seed in (1, 1, 2))
    assert one == two
    assert one.low != other.low


def test_detectable_effect_and_questions_needed_by_hand() -> None:
    # z(0.95) + z(0.8) = 1.6449 + 0.8416
    assert detectable_effect(0.1) == pytest.approx(0.24865, abs=1e-4)
    values = np.random.default_rng(0).normal(0, 1, 50)
    result = paired_comparison(values, np.zeros(50), resamples=99)
    effect = detectable_effect(result.standard_error)
    assert questions_needed(result, effect) in (50, 51)
    assert questions_needed(result, effect / 2) == pytest.approx(200, abs=1)
    assert questions_needed(result, 0.0) == 50
    flat = paired_comparison([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], resamples=99)
    assert questions_needed(flat, 0.1) == 3


def test_a_run_with_the_questions_needed_finds_the_effect_four_times_out_of_five() -> None:
    generator = np.random.default_rng(3)
    pilot = paired_comparison(generator.normal(0.2, 1, 2000), np.zeros(2000), resamples=99)
    needed = questions_needed(pilot, 0.2)
    assert needed is not None and 130 <= needed <= 180  # (2.4865 / 0.2) ** 2 = 155
    tests = [stats.ttest_1samp(generator.normal(0.2, 1, needed), 0, alternative="greater") for _ in range(400)]
    assert 0.74 <= np.mean([test.pvalue < 0.05 for test in tests]) <= 0.86


@given(values=st.lists(UNIT, min_size=2, max_size=40))
def test_property_interval_holds_the_mean_and_stays_in_range(values: list[float]) -> None:
    estimate = mean_interval(values, resamples=50)
    assert 0 <= estimate.low <= estimate.mean + 1e-12
    assert estimate.mean - 1e-12 <= estimate.high <= 1


@settings(max_examples=50)
@given(pairs=st.lists(st.tuples(UNIT, UNIT), min_size=2, max_size=30))
def test_property_swapping_the_arms_turns_the_result_over(pairs: list[tuple[float, float]]) -> None:
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    one, two = paired_comparison(a, b, resamples=50), paired_comparison(b, a, resamples=50)
    assert (one.difference, one.low, one.high) == pytest.approx((-two.difference, -two.high, -two.low))
    assert (one.wins, one.ties, one.losses) == (two.losses, two.ties, two.wins)


@settings(max_examples=50)
@given(values=st.lists(UNIT, min_size=2, max_size=15), copies=st.integers(2, 4))
def test_property_copies_of_a_question_in_its_cluster_add_no_certainty(values: list[float], copies: int) -> None:
    groups = list(range(len(values)))
    once = mean_interval([v * 2 - 1 for v in values], groups)
    often = mean_interval([v * 2 - 1 for v in values] * copies, groups * copies)
    assert (once.low, once.high) == pytest.approx((often.low, often.high), abs=1e-9)
