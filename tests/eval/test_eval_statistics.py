"""Intervals cover, tests keep their level, and both agree with scipy where t is right."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragladder.eval.statistics import (
    EXACT_BELOW,
    detectable_effect,
    mean_interval,
    paired_comparison,
    paired_rows,
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


def lopsided(generator: np.random.Generator, rows: int, n: int) -> np.ndarray:
    """Small gains on most questions, large losses on a few; mean 0, skewness -2."""
    return 1 - generator.exponential(1.0, (rows, n))


@pytest.mark.parametrize("n", [5, 30, 120])
def test_interval_is_never_narrower_than_students_t(n: int) -> None:
    values = np.random.default_rng(n).normal(3, 2, n)
    estimate = mean_interval(values.tolist(), level=0.9)
    low, high = stats.t.interval(0.9, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert estimate.low <= low + 1e-9 and estimate.high >= high - 1e-9
    assert (estimate.mean, estimate.n_ok, estimate.n) == (pytest.approx(values.mean()), n, n)


@pytest.mark.parametrize("n", [30, 200])
def test_of_symmetric_values_the_paired_comparison_agrees_with_the_paired_t_test(n: int) -> None:
    generator = np.random.default_rng(n)
    half = generator.normal(0, 1, n // 2)
    difference = np.concatenate([0.2 + half, 0.2 - half])
    result = paired_comparison(difference, np.zeros(n), alpha=0.05)
    one_sided = stats.ttest_1samp(difference, 0, alternative="greater")
    interval = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert result.difference == pytest.approx(0.2)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), abs=0.05)
    assert result.lower_bound == pytest.approx(one_sided.confidence_interval(0.95).low, abs=0.05)
    assert result.standard_error == pytest.approx(stats.sem(difference))
    assert result.degrees == pytest.approx(n - 1)
    assert result.p_value == pytest.approx(one_sided.pvalue, abs=0.02)
    assert result.p_value >= one_sided.pvalue - 1e-9
    assert result.permutation_p == pytest.approx(one_sided.pvalue, abs=0.02)
    assert (result.n, result.clusters, result.wins + result.losses, result.ties) == (n, n, n, 0)


def test_lopsided_differences_are_adopted_less_often_than_by_t() -> None:
    rows = lopsided(np.random.default_rng(2), 1500, 60)
    ours = paired_rows(rows, resamples=499)
    t = stats.ttest_1samp(rows, 0, axis=1, alternative="greater").pvalue
    assert np.mean(t <= 0.05) > 0.07
    assert np.mean(ours.p_value <= 0.05) < 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5
    assert 0.93 <= np.mean((ours.low <= 0) & (ours.high >= 0)) <= 0.98


def test_rare_differences_keep_the_level_and_are_covered() -> None:
    generator = np.random.default_rng(3)
    rows = generator.choice([-1.0, 0.0, 1.0], p=[0.03, 0.94, 0.03], size=(1500, 100))
    ours = paired_rows(rows, resamples=499)
    assert np.mean(ours.p_value <= 0.05) < 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5
    assert np.mean((ours.low <= 0) & (ours.high >= 0)) > 0.93


@pytest.mark.parametrize("wins", [3, 4, 5, 6])
def test_few_wins_need_the_exact_test_too(wins: int) -> None:
    """t alone would adopt on three wins of 60; the exact p is 1 / 2 ** wins."""
    result = paired_comparison([1.0] * wins + [0.0] * (60 - wins), [0.0] * 60)
    assert wins < EXACT_BELOW
    assert result.permutation_p == pytest.approx(0.5**wins, rel=0.2)
    assert (result.lower_bound > 0) == (wins >= 5) == (result.p_value <= 0.05)


def test_with_two_groups_nothing_is_significant() -> None:
    result = paired_comparison([1.0, 1.0, 1.0, 1.0], [0.0] * 4, ["a", "a", "b", "b"])
    assert result.lower_bound == -math.inf and result.p_value == pytest.approx(1 / 4)


def test_a_large_group_takes_degrees_of_freedom_away() -> None:
    values = np.random.default_rng(0).normal(0, 1, 40)
    even = paired_comparison(values, np.zeros(40), np.repeat(np.arange(10), 4).tolist(), resamples=99)
    uneven = paired_comparison(values, np.zeros(40), [0] * 31 + list(range(1, 10)), resamples=99)
    assert even.degrees == pytest.approx(9) and uneven.degrees < 3


def test_uneven_groups_are_covered() -> None:
    generator = np.random.default_rng(4)
    groups = np.repeat(np.arange(20), [30, 12, 12, 8, *[2] * 16])
    shared = generator.normal(0, 0.7, (800, 20))[:, groups]
    ours = paired_rows(shared + generator.normal(0, 1, (800, len(groups))), groups.tolist(), resamples=299)
    assert np.mean((ours.low <= 0) & (ours.high >= 0)) > 0.91


def test_many_rows_at_once_are_what_each_is_alone() -> None:
    generator = np.random.default_rng(6)
    for clusters in (2, 7, 40):
        groups = generator.integers(0, clusters, 60).tolist()
        rows = np.concatenate(
            [generator.normal(0.2, 1, (3, 60)), generator.integers(-1, 2, (3, 60)), lopsided(generator, 3, 60)]
        )
        many = paired_rows(rows, groups, resamples=299, seed=5)
        for place, row in enumerate(rows):
            one = paired_comparison(row, np.zeros(60), groups, resamples=299, seed=5)
            for name in ("difference", "low", "high", "lower_bound", "p_value", "p_two_sided", "permutation_p"):
                assert getattr(many, name)[place] == pytest.approx(getattr(one, name), abs=1e-9), name


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), st.integers(0, 14)), min_size=2, max_size=40
    ),
    alpha=st.sampled_from([0.05, 0.1, 1 / 60]),
)
def test_property_p_value_and_lower_bound_say_the_same(pairs: list[tuple[float, int]], alpha: float) -> None:
    values, groups = [p[0] for p in pairs], [p[1] for p in pairs]
    result = paired_comparison(values, [0.0] * len(values), groups, alpha=alpha, resamples=199)
    assert (result.p_value <= alpha) == (result.lower_bound > 0)
    assert result.p_two_sided <= 2 * result.p_value + 1e-12


def test_bootstrap_is_close_to_t_for_many_normal_values() -> None:
    values = np.random.default_rng(1).normal(0, 1, 400)
    estimate = mean_interval(values.tolist())
    low, high = stats.t.interval(0.95, 399, loc=values.mean(), scale=stats.sem(values))
    assert estimate.low == pytest.approx(low, abs=0.02)
    assert estimate.high == pytest.approx(high, abs=0.02)


@pytest.mark.parametrize(("clusters", "runs", "resamples"), [(25, 400, 199), (100, 200, 399)])
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
    assert np.mean(np.array(p_values) <= 0.5) == pytest.approx(0.5, abs=0.08)
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
    assert paired_comparison(difference, [0.0] * 3).permutation_p == 2 / 8
    drawn = paired_comparison(difference * 6, [0.0] * 18, list(range(18)), resamples=20_000)  # too many to count
    sums = (np.array(difference * 6) * (1 - 2 * (np.arange(2**18)[:, None] >> np.arange(18) & 1))).sum(1)
    assert drawn.permutation_p == pytest.approx(np.mean(sums >= 24), abs=0.01)


def test_clusters_flip_together() -> None:
    # two clusters of two questions: flips of wholes give sums 4, 0, 0, -4
    result = paired_comparison([1.0, 1.0, 1.0, 1.0], [0.0] * 4, ["a", "a", "b", "b"])
    assert result.permutation_p == 1 / 4
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
    assert detectable_effect(0.1, degrees=5) > detectable_effect(0.1, degrees=500) > detectable_effect(0.1)


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


def test_too_few_resamples_for_alpha_show_nothing() -> None:
    values = np.random.default_rng(0).normal(5, 1, 50)
    result = paired_comparison(values, np.zeros(50), alpha=0.001, resamples=99)
    assert result.lower_bound == -math.inf and result.p_value == pytest.approx(1 / 100)
