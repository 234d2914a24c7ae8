"""Intervals and tests of experiments, against formulas, listing and simulation."""

from itertools import combinations
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest, norm, spearmanr
from scipy.stats import t as student

from atlas.errors import UsageError
from query.statistics import (
    Interval,
    auc,
    auc_interval,
    bootstrap,
    bootstraps,
    cohens_d,
    disjoint_pairs,
    mean_interval,
    paired_p,
    permutation_p,
    share_interval,
    spearman_interval,
    weighted_mean,
)


def weights_drawn(n, resamples, units=None):
    """The weights of every resample that `bootstrap` hands to a statistic, and its answer about their sum."""
    handed = []

    def total(weights):
        handed.append(weights)
        return weights.sum(axis=1)

    interval = bootstrap(n, total, np.random.default_rng(0), resamples=resamples, units=units, confidence=0.5)
    return handed, interval


@pytest.mark.parametrize("confidence", [0.95, 0.7])
def test_interval_of_a_mean_is_normal(confidence):
    """A bootstrap interval of a mean is that of its standard error."""
    values = np.random.default_rng(0).normal(3, 2, size=400)
    interval = mean_interval(values, np.random.default_rng(1), resamples=4000, confidence=confidence)
    error = values.std(ddof=1) / np.sqrt(400)
    beside = NormalDist().inv_cdf((1 + confidence) / 2) * error
    assert interval.value == pytest.approx(values.mean()) and interval.n == 400
    assert interval.low == pytest.approx(values.mean() - beside, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + beside, abs=0.15 * error)


@pytest.mark.parametrize("units", [None, np.arange(24)])
def test_unknown_values_are_left_out(units):
    """They are not counted, and take their units with them."""
    values = np.tile([1.0, np.nan, 3.0, np.nan], 6)
    known = np.tile([1.0, 3.0], 6)
    found = mean_interval(values, np.random.default_rng(0), resamples=50, units=units)
    assert found == mean_interval(known, np.random.default_rng(0), resamples=50) and found.value == 2


def test_what_too_few_samples_can_not_say():
    """A few samples have a value and no interval; none has neither; a constant has no rank correlation."""
    rng = np.random.default_rng(0)
    few, none = mean_interval(np.arange(5.0), rng), mean_interval(np.array([np.nan]), rng)
    assert few.value == 2 and np.isnan([few.low, few.high]).all() and few.n == 5
    six, sure = mean_interval(np.arange(6.0), rng), mean_interval(np.arange(6.0), rng, confidence=0.99)
    assert np.isfinite(six).all() and np.isnan(sure.low)
    assert np.isnan(none[:3]).all() and none.n == 0
    assert np.isnan(share_interval(0, 0).value)
    assert np.isnan(spearman_interval(np.ones(9), np.arange(9.0), rng)[:3]).all()
    assert np.isnan(cohens_d(np.arange(3.0), np.ones(1))) and np.isnan(cohens_d(np.ones(3), np.ones(3)))
    assert np.isnan(permutation_p(np.ones(3), np.empty(0), 9, rng))


def test_values_of_a_unit_are_drawn_together():
    """Twenty copies of each of 40 values tell no more of the mean than the 40 do."""
    values, names = np.random.default_rng(0).normal(size=40), np.array([f"text {i:02}" for i in range(40)])

    def interval(values, units=None):
        return mean_interval(values, np.random.default_rng(1), units=units)

    plain, copies = interval(values), interval(np.repeat(values, 20), np.repeat(names, 20))
    assert copies.n == 800 and (copies.low, copies.high) == pytest.approx((plain.low, plain.high))
    naive = interval(np.repeat(values, 20))
    assert copies.high - copies.low > 4 * (naive.high - naive.low)
    assert interval(values, names) == plain
    alone = interval(values, np.zeros(40, int))
    assert alone.value == pytest.approx(values.mean()) and np.isnan([alone.low, alone.high]).all()


def test_weights_count_how_often_drawn():
    weights, interval = weights_drawn(5, 130)
    assert interval == Interval(5.0, 5.0, 5.0, 5)
    assert sum(map(len, weights)) == 131 and len(np.unique(np.concatenate(weights), axis=0)) > 50


@pytest.mark.parametrize("pairs", [[[7, 8], [8, 9]], [[7, 7], [8, 7]]])
def test_a_pair_weighs_as_its_units(pairs):
    """The product of how often its units were drawn, of which one that it has twice counts once."""
    names = np.unique(pairs)
    times = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=50)
    expected = [times[:, np.isin(names, pair)].prod(axis=1) for pair in pairs]
    np.testing.assert_array_equal(weights_drawn(2, 50, np.array(pairs))[0][1], np.column_stack(expected))


def test_statistics_share_their_resamples():
    values = np.random.default_rng(0).normal(5, 1, size=50)

    def mean(weights):
        return weighted_mean(weights, values)

    both = bootstraps(50, [mean, lambda weights: 2 * mean(weights)], np.random.default_rng(1), resamples=99)
    assert both[0] == bootstrap(50, mean, np.random.default_rng(1), resamples=99)
    assert both[1][:3] == tuple(2 * number for number in both[0][:3])


@pytest.mark.parametrize("paired", [False, True])
def test_rank_correlation_equals_scipys(paired):
    """Value and interval, ties included, against scipy on every sample repeated as often as it was drawn."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, size=45).astype(float)
    y = x + rng.normal(0, 3, size=45)
    units = np.column_stack(np.triu_indices(10, 1)) if paired else None
    interval = spearman_interval(x, y, np.random.default_rng(1), units=units, resamples=60)
    assert interval.value == pytest.approx(spearmanr(x, y).statistic) and interval.n == 45
    n = 10 if paired else 45
    times = np.random.default_rng(1).multinomial(n, [1 / n] * n, size=60)
    if paired:
        times = times[:, units[:, 0]] * times[:, units[:, 1]]
    drawn = [spearmanr(np.repeat(x, row), np.repeat(y, row)).statistic for row in times]
    tail = norm.cdf(-np.sqrt(n / (n - 1)) * student.ppf(0.975, n - 1))
    ends = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    assert (interval.low, interval.high) == pytest.approx(tuple(ends))


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (61, 200)])
def test_a_share_has_wilsons_interval(successes, n):
    """Trials that come alike in tens are as sure as a tenth of them."""
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    for interval in (share_interval(successes, n), share_interval(10 * successes, 10 * n, independent=n)):
        assert interval.value == successes / n
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (share_interval(successes, n).n, interval.n) == (n, 10 * n)


def test_signs_of_one_unit_flip_together():
    """Eight differences of 1, all positive, give p near 2/2⁸; as one unit they give no evidence at all."""
    differences = np.ones(8)
    assert paired_p(differences, np.random.default_rng(0)) < 0.03
    assert paired_p(differences, np.random.default_rng(0), units=np.zeros(8, int)) == 1
    halves = paired_p(differences, np.random.default_rng(0), units=np.repeat([0, 1], 4))
    assert halves == pytest.approx(0.5, abs=0.06)


def test_an_auc_is_that_of_resampled_lists():
    """Of weights, the area of the list in which each sample stands as often; too few of a kind have no interval."""
    rng = np.random.default_rng(4)
    values, positive = rng.integers(6, size=30).astype(float), np.arange(30) < 12
    found = auc_interval(values, positive, np.random.default_rng(5), resamples=200)
    assert found.value == auc(values[~positive], values[positive])
    drawn = [np.random.default_rng([6, i]).integers(30, size=30) for i in range(4000)]
    areas = [auc(values[i][~positive[i]], values[i][positive[i]]) for i in drawn]
    wide = np.quantile(areas, 0.975) - np.quantile(areas, 0.025)
    assert found.low < found.value < found.high and 0.8 * wide < found.high - found.low < 1.3 * wide
    few = np.arange(30) < 5
    assert np.isnan(auc_interval(values, few, rng).low) and np.isnan(auc_interval(values, ~few, rng).high)
    assert np.isnan(auc_interval(values, positive, rng, units=np.where(positive, 0, np.arange(30))).low)
    assert np.isnan(auc_interval(values, np.ones(30, bool), rng).value)


def test_permutation_p_counts_every_split():
    """Against all 20 ways to choose 3 of 6; and uniform where the two kinds are alike."""
    intra, inter = np.array([1.0, 2, 3]), np.array([2.0, 4, 6])
    together, n_far = np.concatenate([intra, inter]), 0
    for chosen in combinations(range(6), 3):
        mask = np.isin(np.arange(6), chosen)
        n_far += abs(together[mask].mean() - together[~mask].mean()) >= 2 - 1e-9
    p = permutation_p(intra, inter, 20_000, np.random.default_rng(0))
    assert p == pytest.approx(n_far / 20, abs=0.01)
    null = [
        permutation_p(*np.random.default_rng(i).normal(size=(2, 40)), 99, np.random.default_rng(i + 1000))
        for i in range(200)
    ]
    assert 0.4 < np.mean(null) < 0.6 and np.mean(np.array(null) <= 0.05) < 0.1


def test_effect_sizes_of_known_numbers():
    intra, inter = np.array([1.0, 2, 3]), np.array([2.0, 4, 6])
    assert cohens_d(intra, inter) == pytest.approx(2 / np.sqrt((2 * 1 + 2 * 4) / 4))
    assert auc(intra, inter) == (0.5 + 1 + 3 + 3) / 9


def test_disjoint_pairs_are_of_both_kinds():
    """A star: every pair but one holds input 0; and pairs of which each kind could use up all inputs."""
    rng = np.random.default_rng(0)
    star = np.array([[0, 1], [0, 2], [0, 3], [4, 5]])
    for _ in range(20):
        chosen = disjoint_pairs(star, np.array([True, True, True, False]), rng)
        assert len(chosen) == 2 and 3 in chosen
    i, j = np.triu_indices(40, 1)
    same = rng.random(len(i)) < 0.7
    chosen = disjoint_pairs(np.column_stack([i, j]), same, rng)
    assert 18 <= len(chosen) <= 20 and abs(2 * same[chosen].sum() - len(chosen)) <= 2
    assert len(disjoint_pairs(np.empty((0, 2), int), np.empty(0, bool), rng)) == 0


def test_columns_of_an_interval():
    assert Interval(2.0, 1.0, 3.0, 9).columns("a") == {"a": 2.0, "a_low": 1.0, "a_high": 3.0}


def test_impossible_intervals_are_refused():
    for wrong, said in (
        ({"resamples": 0}, "resamples is 0; expected a whole number of at least 1"),
        ({"confidence": 1.0}, "confidence is 1.0; expected a share between 0 and 1"),
        ({"confidence": 0.0}, "confidence is 0.0; expected a share between 0 and 1"),
    ):
        with pytest.raises(UsageError, match=said):
            mean_interval(np.ones(3), np.random.default_rng(0), **wrong)
    with pytest.raises(ValueError, match="units of 2 samples, of 3"):
        weights_drawn(3, 9, np.zeros(2, int))
