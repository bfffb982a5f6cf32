"""Holm and max-T: by hand, against each other, and their level where many configurations are tried."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragladder.eval.multiple import holm, max_t, max_t_rows
from ragladder.eval.statistics import paired_comparison
from scipy import stats


def sweep(generator: np.random.Generator, candidates: int, n: int, gain: float = 0.0) -> np.ndarray:
    """Differences of candidates that share an incumbent; the first has the gain."""
    values = generator.normal(0, 1, (candidates, n)) - generator.normal(0, 1, n)
    values[0] += gain
    return values


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04: times 4, 3, 2, 1, never falling
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.4]) == [0.4]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=20))
def test_property_holm_is_between_the_plain_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= min(1.0, len(p_values) * p) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    assert [a for _, a in sorted(zip(p_values, adjusted, strict=True))] == sorted(adjusted)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_p_value(bad: float) -> None:
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, bad])


@pytest.mark.parametrize("bad", [np.zeros((0, 5)), np.zeros((2, 0)), np.zeros(3)])
def test_max_t_refuses_what_is_no_matrix(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="matrix"):
        max_t(bad)


def test_max_t_refuses_missing_values() -> None:
    with pytest.raises(ValueError, match="finite"):
        max_t(np.array([[0.1, math.nan], [0.2, 0.3]]))


def test_one_candidate_is_a_plain_test() -> None:
    values = sweep(np.random.default_rng(0), 1, 60, 0.5)
    alone, result = paired_comparison(values[0], np.zeros(60)), max_t(values)
    assert result.difference[0] == pytest.approx(alone.difference)
    assert result.statistic[0] == pytest.approx(stats.ttest_1samp(values[0], 0).statistic)
    assert result.p_value[0] == pytest.approx(alone.p_value, abs=0.01)
    assert result.lower_bound[0] == pytest.approx(alone.lower_bound, abs=0.03)


def test_copies_of_a_candidate_cost_nothing_and_others_do() -> None:
    values = sweep(np.random.default_rng(1), 20, 80, 0.45)
    alone, copied, many = max_t(values[:1]), max_t(np.repeat(values[:1], 20, axis=0)), max_t(values)
    assert copied.p_value[0] == pytest.approx(alone.p_value[0])
    assert many.p_value[0] > 2 * alone.p_value[0]
    assert many.p_value[0] < 20 * alone.p_value[0], "what candidates share is used: less than Bonferroni"
    assert many.lower_bound[0] < alone.lower_bound[0]


def test_max_t_by_all_flips_counted_by_hand() -> None:
    values = np.array([[3.0, 2.0, 1.0, 2.0], [-3.0, 1.0, 0.5, -2.0]])
    signs = np.array(list(itertools.product([1, -1], repeat=4)))
    flipped = stats.ttest_1samp(values[:, None, :] * signs, 0, axis=2).statistic.max(0)
    seen = stats.ttest_1samp(values, 0, axis=1).statistic
    result = max_t(values)
    assert result.statistic == pytest.approx(seen)
    # the bootstrap may ask for more, never for less
    assert (result.p_value >= [np.mean(flipped >= t - 1e-9) for t in seen]).all()
    assert result.p_value[0] < result.p_value[1]


def test_no_true_gain_among_thirty_is_found_at_most_alpha_of_the_time() -> None:
    generator = np.random.default_rng(4)
    draws = np.stack([sweep(generator, 30, 60) for _ in range(400)])
    p = max_t_rows(draws, resamples=199).p_value
    assert 0.01 <= np.mean(p <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
    best = stats.ttest_1samp(draws, 0, axis=2, alternative="greater").pvalue.min(1)
    assert np.mean(best <= 0.05) > 0.3, "the best of thirty without a correction"


def test_a_true_gain_among_thirty_is_found() -> None:
    generator = np.random.default_rng(5)
    found = max_t_rows(np.stack([sweep(generator, 30, 100, 0.7) for _ in range(100)]), resamples=199)
    which, p = found.best, found.p_value
    assert np.mean((p <= 0.05) & (which == 0)) > 0.8


def test_questions_of_one_document_flip_together() -> None:
    generator = np.random.default_rng(6)
    groups = np.repeat(np.arange(15), 4)
    draws = generator.normal(0, 1, (300, 10, 15))[:, :, groups] + 0.3 * generator.normal(0, 1, (300, 10, 60))
    p = max_t_rows(draws, groups.tolist(), resamples=199).p_value
    blind = max_t_rows(draws, resamples=199).p_value
    assert np.mean(p <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5 < np.mean(blind <= 0.05)


def test_intervals_of_ten_hold_together() -> None:
    generator = np.random.default_rng(8)
    draws = np.stack([sweep(generator, 10, 60, 0.3) for _ in range(400)])
    found = max_t_rows(draws, resamples=399)
    truth = np.array([0.3] + [0.0] * 9)
    held = ((found.low <= truth) & (truth <= found.high)).all(1)
    assert abs(held.mean() - 0.95) <= 3 * (0.05 * 0.95 / 400) ** 0.5 + 0.01
    single = np.abs(draws.mean(2) - truth) <= 1.96 * draws.std(2, ddof=1) / 60**0.5
    assert single.all(1).mean() < 0.85, "ten single intervals do not"


def test_one_group_shows_nothing() -> None:
    result = max_t(np.ones((2, 4)), ["a"] * 4)
    assert result.clusters == 1 and result.p_value.tolist() == [1.0, 1.0] and np.isnan(result.lower_bound).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), candidates=st.integers(1, 6), n=st.integers(3, 30), ties=st.booleans())
def test_property_bounds_p_values_and_rows_agree(seed: int, candidates: int, n: int, ties: bool) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(-1, 2, (candidates, n)) if ties else sweep(generator, candidates, n, 0.5)
    groups = generator.integers(0, max(2, n // 2), n).tolist()
    groups[:2] = [0, 1]
    result = max_t(values.astype(float), groups, resamples=199)
    assert ((result.p_value <= 0.05) == (result.lower_bound > 0)).all()
    assert ((result.p_two_sided <= 0.05) == ((result.low > 0) | (result.high < 0))).all()
    assert (result.low <= result.lower_bound).all()
    negated = max_t(-values.astype(float), groups, resamples=199)
    np.testing.assert_allclose(result.high, -negated.low, atol=1e-9)
    np.testing.assert_allclose(result.p_two_sided, negated.p_two_sided)
    rows = max_t_rows(np.stack([values, -values]).astype(float), groups, resamples=199)
    assert rows.best[0] == result.statistic.argmax()
    assert rows.p_value[0] == pytest.approx(result.p_value[rows.best[0]])
    np.testing.assert_allclose(rows.low, [result.low, negated.low], atol=1e-9)
    np.testing.assert_allclose(rows.high, [result.high, negated.high], atol=1e-9)
