"""Intervals and tests of experiments, against formulas and simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr

from atlas.errors import UsageError
from query.statistics import (
    Interval,
    bootstrap,
    bootstraps,
    mean_interval,
    paired_p,
    share_interval,
    spearman_interval,
    weighted_mean,
)


def test_a_bootstrap_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    found = mean_interval(values, np.random.default_rng(1), resamples=4000)
    error = values.std(ddof=1) / np.sqrt(400)
    assert found.value == pytest.approx(values.mean()) and found.n == 400
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    truth, hits = 1.0, 0
    for trial in range(300):
        values = np.random.default_rng(trial).normal(truth, 1, size=60)
        found = mean_interval(values, np.random.default_rng(1000 + trial), resamples=200, confidence=0.9)
        hits += found.low <= truth <= found.high
    assert 0.83 <= hits / 300 <= 0.95


def test_unknown_values_are_left_out_and_not_counted():
    found = mean_interval(np.array([1.0, np.nan, 3.0, np.nan]), np.random.default_rng(0), resamples=50)
    assert (found.value, found.n) == (2.0, 2) and (found.low, found.high) == (1.0, 3.0)


def test_one_sample_has_a_value_and_no_interval_and_none_has_neither():
    one = mean_interval(np.array([4.0]), np.random.default_rng(0))
    none = mean_interval(np.array([np.nan]), np.random.default_rng(0))
    assert one.value == 4 and np.isnan([one.low, one.high]).all() and one.n == 1
    assert np.isnan([none.value, none.low, none.high]).all() and none.n == 0


def test_values_of_one_unit_are_resampled_together():
    """Twenty copies of each of 40 values tell no more of the mean than the 40 do."""
    values = np.random.default_rng(0).normal(size=40)
    plain = mean_interval(values, np.random.default_rng(1))
    units = np.repeat(np.arange(40), 20)
    copies = mean_interval(np.repeat(values, 20), np.random.default_rng(1), units=units)
    assert copies.n == 800 and (copies.low, copies.high) == pytest.approx((plain.low, plain.high))
    naive = mean_interval(np.repeat(values, 20), np.random.default_rng(1))
    assert copies.high - copies.low > 4 * (naive.high - naive.low)


def test_units_of_one_sample_each_change_nothing_and_one_unit_gives_no_interval():
    values, names = np.random.default_rng(0).normal(size=30), np.array([f"text {i:02}" for i in range(30)])
    assert mean_interval(values, np.random.default_rng(1)) == mean_interval(
        values, np.random.default_rng(1), units=names
    )
    alone = mean_interval(values, np.random.default_rng(1), units=np.zeros(30, int))
    assert alone.value == pytest.approx(values.mean()) and np.isnan([alone.low, alone.high]).all()


def test_unknown_values_take_their_units_with_them():
    values, units = np.array([1.0, np.nan, 3.0, np.nan]), np.array([0, 1, 2, 3])
    found = mean_interval(values, np.random.default_rng(0), resamples=50, units=units)
    assert (found.value, found.low, found.high, found.n) == (2.0, 1.0, 3.0, 2)


def test_a_pair_weighs_the_product_of_how_often_its_units_were_drawn():
    seen = []

    def keep(weights):
        seen.append(weights)
        return weights.sum(axis=1)

    bootstrap(2, keep, np.random.default_rng(0), resamples=50, units=np.array([[7, 8], [8, 9]]))
    times = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, size=50)
    np.testing.assert_array_equal(seen[1], np.column_stack([times[:, 0] * times[:, 1], times[:, 1] * times[:, 2]]))


def test_a_unit_that_a_pair_has_twice_counts_once():
    seen = []

    def keep(weights):
        seen.append(weights)
        return weights.sum(axis=1)

    bootstrap(2, keep, np.random.default_rng(0), resamples=50, units=np.array([[7, 7], [8, 7]]))
    times = np.random.default_rng(0).multinomial(2, [1 / 2] * 2, size=50)
    np.testing.assert_array_equal(seen[1], np.column_stack([times[:, 0], times[:, 0] * times[:, 1]]))


def test_several_statistics_come_from_the_same_resamples():
    values = np.random.default_rng(0).normal(5, 1, size=50)

    def mean(weights):
        return weighted_mean(weights, values)

    both = bootstraps(50, [mean, lambda weights: 2 * mean(weights)], np.random.default_rng(1), resamples=99)
    assert both[0] == bootstrap(50, mean, np.random.default_rng(1), resamples=99)
    assert both[1][:3] == tuple(2 * number for number in both[0][:3])


@pytest.mark.parametrize("paired", [False, True])
def test_a_rank_correlation_is_scipys_of_the_list_that_was_drawn(paired):
    """Value and interval, ties included, against scipy on every sample repeated as often as it was drawn."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, size=45).astype(float)
    y = x + rng.normal(0, 3, size=45)
    units = np.column_stack(np.triu_indices(10, 1)) if paired else None
    found = spearman_interval(x, y, np.random.default_rng(1), units=units, resamples=60)
    assert found.value == pytest.approx(spearmanr(x, y).statistic) and found.n == 45
    n = 10 if paired else 45
    times = np.random.default_rng(1).multinomial(n, [1 / n] * n, size=60)
    if paired:
        times = times[:, units[:, 0]] * times[:, units[:, 1]]
    drawn = [spearmanr(np.repeat(x, row), np.repeat(y, row)).statistic for row in times]
    assert (found.low, found.high) == (
        pytest.approx(np.quantile(drawn, 0.025, method="inverted_cdf")),
        pytest.approx(np.quantile(drawn, 0.975, method="inverted_cdf")),
    )


def test_a_constant_has_no_rank_correlation():
    found = spearman_interval(np.ones(9), np.arange(9.0), np.random.default_rng(0))
    assert np.isnan(found[:3]).all()


def test_units_that_do_not_fit_the_samples_are_a_mistake():
    with pytest.raises(ValueError, match="units of 2 samples, of 3"):
        bootstrap(3, lambda weights: weights.sum(axis=1), np.random.default_rng(0), units=np.zeros(2, int))


def test_the_same_generator_seed_gives_the_same_interval():
    values = np.random.default_rng(5).normal(size=30)
    assert mean_interval(values, np.random.default_rng(7)) == mean_interval(values, np.random.default_rng(7))


def test_a_statistic_is_weighted_by_how_often_each_sample_was_drawn():
    seen = []

    def total(weights):
        seen.append(weights)
        return weights.sum(axis=1)

    found = bootstrap(5, total, np.random.default_rng(0), resamples=130)
    assert found == Interval(5.0, 5.0, 5.0, 5)
    assert sum(len(weights) for weights in seen) == 131 and len(np.unique(np.concatenate(seen), axis=0)) > 50


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (61, 200)])
def test_a_share_has_wilsons_interval(successes, n):
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    found = share_interval(successes, n)
    assert (found.value, found.n) == (successes / n, n)
    assert (found.low, found.high) == (
        pytest.approx(expected.low, abs=1e-12),
        pytest.approx(expected.high, abs=1e-12),
    )


def test_a_share_of_dependent_trials_is_as_sure_as_its_units_are_many():
    expected = share_interval(6, 10)
    found = share_interval(60, 100, independent=10)
    assert (found.value, found.n) == (0.6, 100) and (found.low, found.high) == (expected.low, expected.high)


def test_signs_of_one_unit_flip_together():
    """Eight differences of 1, all positive, give p near 2/2⁸; as one unit they give no evidence at all."""
    differences = np.ones(8)
    assert paired_p(differences, np.random.default_rng(0)) < 0.03
    assert paired_p(differences, np.random.default_rng(0), units=np.zeros(8, int)) == 1
    halves = paired_p(differences, np.random.default_rng(0), units=np.repeat([0, 1], 4))
    assert halves == pytest.approx(0.5, abs=0.06)


def test_a_share_of_nothing_is_unknown():
    assert np.isnan(share_interval(0, 0).value)


def test_columns_of_an_interval():
    assert Interval(2.0, 1.0, 3.0, 9).columns("a") == {"a": 2.0, "a_low": 1.0, "a_high": 3.0}


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_impossible_intervals_are_refused(wrong):
    with pytest.raises(UsageError, match="expected"):
        mean_interval(np.ones(3), np.random.default_rng(0), **wrong)
