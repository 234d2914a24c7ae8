"""Intervals and tests of experiments, against formulas and simulation."""

import numpy as np
import pytest
from scipy.stats import binomtest

from atlas.errors import UsageError
from query.experiments.statistics import Interval, bootstrap, mean_interval, share_interval


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


def test_a_share_of_nothing_is_unknown():
    assert np.isnan(share_interval(0, 0).value)


def test_columns_of_an_interval():
    assert Interval(2.0, 1.0, 3.0, 9).columns("a") == {"a": 2.0, "a_low": 1.0, "a_high": 3.0}


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_impossible_intervals_are_refused(wrong):
    with pytest.raises(UsageError, match="expected"):
        mean_interval(np.ones(3), np.random.default_rng(0), **wrong)
