"""Intervals, effect sizes and tests that the experiments share (docs/SCIENCE.md, "Statistics, everywhere").

Intervals are percentiles of a bootstrap unless a function says otherwise. What depends on each other, such as tokens
of one text, is resampled together. Every random number comes from a generator that the caller hands in, so the same
seed gives the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from scipy.special import stdtrit

from atlas.checks import whole
from atlas.errors import UsageError

RESAMPLES_AT_ONCE = 64  # rows of a bootstrap and of permutations; 64 × 4,000 pairs take 2 MB

RESAMPLES = 1000
"""Resamples of an interval unless asked otherwise: its ends then vary by a twentieth of its width."""

CONFIDENCE = 0.95
"""Confidence of every interval unless asked otherwise."""


def least_units(confidence: float) -> int:
    """Independent units below which a bootstrap gives no interval: 6 at 95 %.

    Its percentiles lie between the least and the greatest sample, and with 2^(1−n) all n lie on one side of the
    median: an interval of fewer would miss it more often than it says, and be the surer the fewer there are.
    """
    return 1 + math.ceil(-math.log2(1 - confidence))


class Interval(NamedTuple):
    """A number, the ends of its confidence interval (NaN where too few samples give none), and n behind it."""

    value: float
    low: float
    high: float
    n: int

    def columns(self, name: str) -> dict[str, float]:
        """As columns of a table: ``name``, ``name_low``, ``name_high``."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


Units = Shaped[np.ndarray, "samples *several"]
"""The independent unit that each sample belongs to, such as the text of a token; of a pair, a row of two."""

Statistic = Callable[[Float64[np.ndarray, "resamples samples"]], Float64[np.ndarray, " resamples"]]
"""The statistic under weights: row r says how often resample r drew each sample."""


def bootstrap(
    n: int,
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    units: Units | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """A statistic of ``n`` samples with its percentile bootstrap interval (Efron 1979), expanded for few units as
    Student's t is (Hesterberg 2015, arXiv 1411.5279): by two fifths for 6, a twentieth for 40.

    ``statistic`` maps weights (resamples × n, each row how often every sample was drawn) to numbers; under weights
    of 1 it is the value itself. ``units``: where samples are not independent of each other, what is; units are then
    resampled in place of samples, and a sample of several units weighs the product of how often they were drawn.
    With fewer units than `least_units` the ends are NaN.
    """
    [found] = bootstraps(n, [statistic], rng, units=units, resamples=resamples, confidence=confidence)
    return found


def bootstraps(
    n: int,
    statistics: Sequence[Statistic],
    rng: np.random.Generator,
    *,
    units: Units | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> list[Interval]:
    """`bootstrap` of several statistics of the same samples, from the same resamples."""
    check_interval(resamples, confidence)
    values = [float(statistic(np.ones((1, n)))[0]) if n else math.nan for statistic in statistics]
    place, independent = _places(n, units)
    if independent < least_units(confidence):
        return [Interval(value, math.nan, math.nan, n) for value in values]
    drawn = np.empty((len(statistics), resamples))
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        rows = min(RESAMPLES_AT_ONCE, resamples - start)
        times = rng.multinomial(independent, np.full(independent, 1 / independent), size=rows).astype(np.float64)
        weights = _weights(times, place)
        for statistic, found in zip(statistics, drawn, strict=True):
            found[start : start + rows] = statistic(weights)
    # stdtrit: quantile of Student's t. The root: resamples spread by what the sample does, its mean known.
    freedom = independent - 1
    tail = NormalDist().cdf(-math.sqrt(independent / freedom) * float(stdtrit(freedom, (1 + confidence) / 2)))
    return [
        Interval(value, quantile(found, tail), quantile(found, 1 - tail), n)
        for value, found in zip(values, drawn, strict=True)
    ]


def mean_interval(
    values: Float[np.ndarray, " samples"],
    rng: np.random.Generator,
    *,
    units: Units | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The mean of values with its bootstrap interval; NaNs are left out, and not counted in n. For ``units`` see
    `bootstrap`."""
    held = ~np.isnan(np.asarray(values, dtype=np.float64))
    known = np.asarray(values, dtype=np.float64)[held]
    return bootstrap(
        len(known),
        lambda weights: weighted_mean(weights, known),
        rng,
        units=None if units is None else units[held],
        resamples=resamples,
        confidence=confidence,
    )


def weighted_mean(
    weights: Float64[np.ndarray, "resamples samples"], values: Float64[np.ndarray, " samples"]
) -> Float64[np.ndarray, " resamples"]:
    """Σ wᵢ xᵢ / Σ wᵢ of every resample; NaN of one that drew none of the samples."""
    return ratio(weights @ values, weights.sum(axis=1))


def ratio(
    above: Float64[np.ndarray, " resamples"], below: Float64[np.ndarray, " resamples"]
) -> Float64[np.ndarray, " resamples"]:
    """above / below: NaN for 0 / 0, infinite for any other number over 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(above, below)


def spearman_interval(
    x: Float[np.ndarray, " samples"],
    y: Float[np.ndarray, " samples"],
    rng: np.random.Generator,
    *,
    units: Units | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Spearman's rank correlation with its bootstrap interval; NaN where x or y is constant.

    Every resample is ranked anew, equal values by the mean of their ranks: the correlation is that of the list in
    which each sample stands as often as it was drawn. For ``units`` see `bootstrap`.
    """
    ranks_x, ranks_y = _ranks_of(np.asarray(x, np.float64)), _ranks_of(np.asarray(y, np.float64))

    def correlation(weights: Float64[np.ndarray, "resamples samples"]) -> Float64[np.ndarray, " resamples"]:
        a, b = ranks_x(weights), ranks_y(weights)
        # Of n ranks the mean is (n + 1)/2, however many are equal.
        middle = (weights.sum(axis=1, keepdims=True) + 1) / 2
        a, b = a - middle, b - middle
        spread = (weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1)
        return np.where(spread > 0, ratio((weights * a * b).sum(axis=1), np.sqrt(spread)), np.nan)

    return bootstrap(len(x), correlation, rng, units=units, resamples=resamples, confidence=confidence)


def _ranks_of(
    values: Float64[np.ndarray, " samples"],
) -> Callable[[Float64[np.ndarray, "resamples samples"]], Float64[np.ndarray, "resamples samples"]]:
    """From weights to the rank of each sample, from 1, in the list that holds sample i as often as wᵢ says."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    order, last = np.argsort(place, kind="stable"), np.cumsum(counts) - 1

    def ranks(weights: Float64[np.ndarray, "resamples samples"]) -> Float64[np.ndarray, "resamples samples"]:
        up_to = np.cumsum(weights[:, order], axis=1)[:, last]  # copies of this value and of all below
        copies = np.diff(up_to, axis=1, prepend=0)
        found: Float64[np.ndarray, "resamples samples"] = (up_to - (copies - 1) / 2)[:, place]
        return found

    return ranks


def auc_interval(
    values: Float[np.ndarray, " samples"],
    positive: Bool[np.ndarray, " samples"],
    rng: np.random.Generator,
    *,
    units: Units | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """P(value of a positive > value of another) + ½ P(equal), with its bootstrap interval.

    NaN where one of the two kinds has no sample, and its ends where one has fewer units than `least_units`: however
    many the other has, its values would be resampled too few ways. For ``units`` see `bootstrap`.
    """
    x = np.asarray(values, np.float64)
    above = (x[positive, None] > x[~positive]) + 0.5 * (x[positive, None] == x[~positive])

    def area(weights: Float64[np.ndarray, "resamples samples"]) -> Float64[np.ndarray, " resamples"]:
        mine, others = weights[:, positive], weights[:, ~positive]
        return ratio((mine @ above * others).sum(axis=1), mine.sum(axis=1) * others.sum(axis=1))

    found = bootstrap(len(x), area, rng, units=units, resamples=resamples, confidence=confidence)
    place, _ = _places(len(x), units)
    fewest = min(len(np.unique(place[kind])) for kind in (positive, ~positive))
    if fewest < least_units(confidence):
        return found._replace(low=math.nan, high=math.nan)
    return found


def share_interval(
    successes: int, n: int, *, independent: int | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """A share of ``n`` trials with Wilson's score interval (1927), which is right at 0 and 1 as well.

    (p + z²/2m ± z √(p(1 − p)/m + z²/4m²)) / (1 + z²/m), m = n for independent trials. ``independent``: how many units
    the trials belong to, where those of one unit depend on each other; m is then their number, as if the trials of a
    unit all came out alike: the interval is rather too wide than too narrow.
    """
    check_interval(1, confidence)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    m = n if independent is None else independent
    p, z = successes / n, NormalDist().inv_cdf((1 + confidence) / 2)
    middle, spread = p + z * z / (2 * m), z * math.sqrt(p * (1 - p) / m + z * z / (4 * m * m))
    low, high = (middle - spread) / (1 + z * z / m), (middle + spread) / (1 + z * z / m)
    # Rounding may put an end a hair beyond the share, or beyond 0 or 1.
    return Interval(p, max(0.0, min(low, p)), min(1.0, max(high, p)), n)


def check_interval(resamples: int, confidence: float) -> None:
    """`UsageError` for a number of resamples or a confidence that gives no interval."""
    whole("resamples", resamples)
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence!r}; expected a share between 0 and 1, such as 0.95")


def quantile(values: Float64[np.ndarray, " resamples"], q: float) -> float:
    """The q-quantile of those values that are known, always one of them; NaN where none is."""
    known = values[~np.isnan(values)]
    # One of the values, never a number between two of them: a ratio may be infinite.
    return float(np.quantile(known, q, method="inverted_cdf")) if len(known) else np.nan


def cohens_d(intra: Float64[np.ndarray, " intra"], inter: Float64[np.ndarray, " inter"]) -> float:
    """(mean of inter − mean of intra) / pooled standard deviation; NaN where that is 0 or a kind has one pair."""
    if len(intra) < 2 or len(inter) < 2:
        return np.nan
    squares = (len(intra) - 1) * intra.var(ddof=1) + (len(inter) - 1) * inter.var(ddof=1)
    pooled = np.sqrt(squares / (len(intra) + len(inter) - 2))
    return float((inter.mean() - intra.mean()) / pooled) if pooled > 0 else np.nan


def auc(intra: Float64[np.ndarray, " intra"], inter: Float64[np.ndarray, " inter"]) -> float:
    """P(inter > intra) + ½ P(inter = intra), over all combinations of one of each."""
    ordered = np.sort(intra)
    below = np.searchsorted(ordered, inter, side="left")
    not_above = np.searchsorted(ordered, inter, side="right")
    return float((below + not_above).sum() / (2 * len(intra) * len(inter)))


def disjoint_pairs(
    units: Shaped[np.ndarray, "pairs 2"], same: Bool[np.ndarray, " pairs"], rng: np.random.Generator
) -> Int64[np.ndarray, " chosen"]:
    """Places of pairs no two of which share a unit: a matching, found greedily.

    Pairs are taken in random order, one of each kind by turns, so that neither kind uses up the units; where one kind
    has no more, the rest are of the other. Which pairs are chosen depends on units and kinds alone.
    """
    place, independent = _places(len(units), units)
    used, chosen = np.zeros(independent, bool), []
    waiting = [iter(rng.permutation(np.flatnonzero(same == kind))) for kind in (True, False)]
    while waiting:
        kind = waiting.pop(0)
        for pair in kind:
            if not used[place[pair]].any():
                used[place[pair]] = True
                chosen.append(int(pair))
                waiting.append(kind)
                break
    return np.sort(np.array(chosen, dtype=np.int64))


def permutation_p(
    intra: Float64[np.ndarray, " intra"],
    inter: Float64[np.ndarray, " inter"],
    permutations: int,
    rng: np.random.Generator,
) -> float:
    """(1 + count) / (1 + permutations), counting shuffles whose difference of means is at least as far from 0.

    The samples must be independent of each other: pairs that share an input are not, and the p of them would be too
    small (`disjoint_pairs`). NaN without a sample of both kinds.
    """
    if not len(intra) or not len(inter):
        return math.nan
    together = np.concatenate([intra, inter])
    observed = abs(inter.mean() - intra.mean())
    count = 0
    for start in range(0, permutations, RESAMPLES_AT_ONCE):
        rows = min(RESAMPLES_AT_ONCE, permutations - start)
        shuffled = rng.permuted(np.broadcast_to(together, (rows, len(together))), axis=1)
        difference = shuffled[:, len(intra) :].mean(axis=1) - shuffled[:, : len(intra)].mean(axis=1)
        # Rounding: the same numbers summed in another order count as the same difference.
        count += int((np.abs(difference) >= observed * (1 - 1e-12)).sum())
    return (1 + count) / (1 + permutations)


def paired_p(
    differences: Float64[np.ndarray, " pairs"],
    rng: np.random.Generator,
    permutations: int = 999,
    *,
    units: Units | None = None,
) -> float:
    """Whether paired differences have mean 0, by flipping their signs (Fisher's randomisation test), two-sided.

    (1 + count) / (1 + permutations), counting flips whose mean is at least as far from 0. NaN without a pair.
    ``units``: the unit of each difference, where those of one unit depend on each other; they flip together.
    """
    if not len(differences):
        return math.nan
    place, independent = _places(len(differences), units)
    totals = np.bincount(place[:, 0], weights=differences, minlength=independent)
    observed, count = abs(totals.sum()), 0
    for start in range(0, permutations, RESAMPLES_AT_ONCE):
        rows = min(RESAMPLES_AT_ONCE, permutations - start)
        signs = rng.integers(0, 2, size=(rows, independent)) * 2 - 1
        # Rounding: the same numbers summed in another order count as the same sum.
        count += int((np.abs(signs @ totals) >= observed * (1 - 1e-12)).sum())
    return (1 + count) / (1 + permutations)


def _places(n: int, units: Units | None) -> tuple[Int64[np.ndarray, "samples per"], int]:
    """Each sample's units, numbered from 0, and how many there are; by default each sample is its own."""
    if units is None or n == 0:
        return np.arange(n)[:, None], n
    if len(units) != n:
        raise ValueError(f"units of {len(units)} samples, of {n}")
    known, place = np.unique(units, return_inverse=True)
    return place.reshape(n, -1).astype(np.int64), len(known)


def _weights(
    times: Float64[np.ndarray, "resamples units"], place: Int64[np.ndarray, "samples per"]
) -> Float64[np.ndarray, "resamples samples"]:
    """The product of how often a sample's units were drawn, a unit that it has twice counted once."""
    ordered = np.sort(place, axis=1)
    weights = times[:, ordered[:, 0]]
    for before, unit in zip(ordered.T, ordered.T[1:], strict=False):
        weights = weights * np.where(unit == before, 1.0, times[:, unit])
    return weights
