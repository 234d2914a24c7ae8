"""The tree by parts: the same however codes are cut, and as long at every edge as the tree of all at once."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hdbscan import HDBSCAN
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score

from atlas.clustering.hdbscan import cluster_activations, cluster_codes
from atlas.clustering.hierarchy import Metric
from atlas.clustering.spanning_tree import SpanningTree, spanning_tree
from atlas.clustering.tree_by_parts import DistinctCodes, block_forest, core_distances, least_forest, whole_tree
from atlas.codes import SplineCodes
from atlas.errors import TooManyPoints, UsageError
from tests.atlas.clustering.generated import METRICS, blobs, blobs_of_gates, gate_distances


def of_parts(codes: DistinctCodes, bounds: list[int], samples: int, seed: int = 0) -> SpanningTree:
    """By these parts, blocks in an order of the seed."""
    parts = [slice(start, stop) for start, stop in pairwise(bounds)]
    told: list[int] = []
    cores = np.concatenate([core_distances(codes, part, parts, samples, told.append) for part in parts], axis=1)
    blocks = [(a, b) for place, a in enumerate(parts) for b in parts[place:]]
    mixed = [blocks[at] for at in np.random.default_rng(seed).permutation(len(blocks))]
    forests = (block_forest(codes, a, b, cores[1], told.append) for a, b in mixed)
    tree = whole_tree(codes, least_forest(forests, len(codes)), cores)
    n = len(codes)
    assert n * n <= sum(told) - n * n / 2 <= n * n + n * n / 2 + n  # each distance for its core, and once more
    return tree


def partitions(tree: SpanningTree, n: int) -> list[list[int]]:
    """Of the points, by the edges up to each length: of each the first that hangs together with it."""
    found = []
    for longest in np.unique(tree.length):
        held = tree.length <= longest
        ends = tree.source[held], tree.target[held]
        edges = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(n, n))
        _, group = connected_components(edges, directed=False)
        found.append(np.unique(group, return_index=True)[1][group].tolist())
    return found


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 60),
    bits=st.integers(1, 40),
    samples=st.integers(1, 6),
    cuts=st.lists(st.integers(1, 59), max_size=4),
    metric=st.sampled_from(METRICS),
)
def test_parts_make_the_one_tree(seed: int, n: int, bits: int, samples: int, cuts: list[int], metric: Metric) -> None:
    """Ties and equal codes abound: the same edges by any parts, lengths and partitions of Prim's tree of all."""
    gates = np.random.default_rng(seed).random((n, bits)) < 0.3
    codes = DistinctCodes.of(SplineCodes.pack(gates), metric)
    samples, kinds = min(samples, n - 1), len(codes)
    whole = of_parts(codes, [0, kinds], samples)
    cut = of_parts(codes, sorted({0, kinds, *(at for at in cuts if at < kinds)}), samples, seed)
    one = spanning_tree(codes.points(slice(0, kinds)), codes.kind, samples, 1 << 30)
    for name in ("source", "target", "length", "cores", "prediction_cores"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))
    for name in ("cores", "prediction_cores"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(one, name))
    np.testing.assert_array_equal(cut.length, np.sort(one.length))
    assert partitions(cut, n) == partitions(one, n)


@pytest.mark.parametrize("metric", METRICS)
def test_one_tree_of_many_groups(metric: Metric) -> None:
    """As above, with more points than are one of the groups that Prim's algorithm remembers the best of."""
    gates = np.random.default_rng(1).random((700, 24)) < 0.4
    codes = DistinctCodes.of(SplineCodes.pack(gates), metric)
    kinds = len(codes)
    whole, cut = (of_parts(codes, bounds, 3) for bounds in ([0, kinds], [0, 290, kinds]))
    one = spanning_tree(codes.points(slice(0, kinds)), codes.kind, 3, 1 << 30)
    for name in ("source", "target", "length", "cores"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))
    np.testing.assert_array_equal(cut.length, np.sort(one.length))
    assert partitions(cut, 700) == partitions(one, 700)


@pytest.mark.parametrize("metric", METRICS)
def test_merging_by_ids_keeps_clusters(metric: Metric) -> None:
    """Those of `hdbscan` where clusters lie apart; only the order of equal edges may differ."""
    gates = blobs_of_gates(3, 400, 200)
    codes = SplineCodes.pack(gates)
    ours, again = (
        cluster_codes(codes, metric=metric, ties="ids", memory_budget=budget, device="cpu")
        for budget in (1 << 30, 1 << 19)
    )
    theirs = HDBSCAN(metric="precomputed").fit(gate_distances(gates, metric))
    assert ours.labels.max() >= 3 and adjusted_rand_score(theirs.labels_, ours.labels) == 1
    np.testing.assert_array_equal(ours.labels, again.labels)
    np.testing.assert_array_equal(ours.tree.lambda_value, again.tree.lambda_value)


def test_parts_stay_within_the_budget() -> None:
    codes = SplineCodes.pack(blobs_of_gates(0, 1600, 64))
    cluster_codes(codes, metric="hamming", ties="ids", device="cpu")  # compiled before it is measured
    budget = 1 << 20
    tracemalloc.start()
    try:
        cluster_codes(codes, metric="hamming", ties="ids", memory_budget=budget, device="cpu")
        assert tracemalloc.get_traced_memory()[1] <= budget + 600 * 1600  # the tree, and hdbscan's
    finally:
        tracemalloc.stop()
    with pytest.raises(TooManyPoints, match=r"a part of 16 codes takes .*--memory"):
        cluster_codes(codes, metric="hamming", ties="ids", memory_budget=1 << 11, device="cpu")


def test_ids_are_for_exact_codes() -> None:
    for refused in (
        lambda: cluster_activations(blobs(0, 30, 3), ties="ids"),
        lambda: cluster_codes(SplineCodes.pack(blobs_of_gates(0, 30, 8)), metric="hamming", ties="ids", neighbors=9),
    ):
        with pytest.raises(UsageError, match="leave --ties out"):
            refused()
