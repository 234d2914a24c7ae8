"""Our trees against hdbscan's: the same merges, clusters, strengths and predictions."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import hdbscan
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, pairwise_distances

from atlas.clustering.distances import Activations, Codes, Points, TorchCodes
from atlas.clustering.hdbscan import cluster_activations, cluster_codes
from atlas.clustering.hierarchy import CondensedTree, Hierarchy, Metric, Selection
from atlas.clustering.medoids import medoids
from atlas.clustering.placement import approximate_predict
from atlas.clustering.rows import same_rows
from atlas.clustering.spanning_tree import spanning_tree
from atlas.codes import SplineCodes
from atlas.errors import NonFinite, TooManyPoints, UsageError, WidthError
from atlas.search.hamming_index import hamming_matrix

SEEDS = st.integers(0, 2**32 - 1)
METRICS: list[Metric] = ["hamming", "euclidean"]
SELECTIONS: list[Selection] = ["eom", "leaf"]


def blobs_of_gates(seed: int, n: int, bits: int, groups: int = 5) -> np.ndarray:
    """Groups around random codes; the flip rate differs from point to point, so some are outliers."""
    rng = np.random.default_rng(seed)
    centres = rng.random((groups, bits)) < 0.4
    return centres[rng.integers(0, groups, n)] ^ (rng.random((n, bits)) < 0.3 * rng.random((n, 1)))


def blobs(seed: int, n: int, units: int, groups: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(groups, units))
    spread = 2 * rng.random((n, 1)) * rng.normal(size=(n, units))
    return (centres[rng.integers(0, groups, n)] + spread).astype(np.float32)


def gate_distances(gates: np.ndarray, metric: Metric) -> np.ndarray:
    counts = (gates[:, None] != gates[None]).sum(axis=2)
    return counts / gates.shape[1] if metric == "hamming" else np.sqrt(counts)


def hdbscan_knows_the_clusters(ours: Hierarchy) -> bool:
    """hdbscan predicts with the wrong node for a cluster that no point leaves before it splits."""
    return bool(np.isin(ours.nodes, ours.tree.parent[ours.tree.child_size == 1]).all())


def assert_same(ours: Hierarchy, truth: Any, *, rtol: float = 0.0) -> None:
    """``truth``: what the function ``hdbscan.hdbscan`` returns."""
    labels, probabilities, persistence, tree = truth[:4]
    np.testing.assert_array_equal(ours.labels, labels)
    np.testing.assert_allclose(ours.probabilities, probabilities, rtol=rtol)
    np.testing.assert_allclose(ours.persistence, persistence, rtol=rtol)
    np.testing.assert_array_equal(ours.tree.parent, tree["parent"])
    np.testing.assert_array_equal(ours.tree.child, tree["child"])
    np.testing.assert_array_equal(ours.tree.child_size, tree["child_size"])
    np.testing.assert_allclose(ours.tree.lambda_value, tree["lambda_val"], rtol=rtol)


@pytest.mark.filterwarnings("ignore:invalid value")
@settings(max_examples=80, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(3, 90),
    bits=st.integers(1, 24),
    min_cluster_size=st.integers(2, 6),
    data=st.data(),
    metric=st.sampled_from(METRICS),
    selection=st.sampled_from(SELECTIONS),
)
def test_codes_with_ties_and_duplicates_cluster_bit_for_bit_as_in_hdbscan(
    seed: int, n: int, bits: int, min_cluster_size: int, data: st.DataObject, metric: Metric, selection: Selection
) -> None:
    gates = np.random.default_rng(seed).random((n, bits)) < 0.3
    samples = data.draw(st.integers(1, min(n - 1, 8)))
    ours = cluster_codes(
        SplineCodes.pack(gates),
        metric=metric,
        min_cluster_size=min_cluster_size,
        min_samples=samples,
        selection=selection,
    )
    distances = gate_distances(gates, metric)
    truth = hdbscan.hdbscan(
        distances,
        metric="precomputed",
        min_cluster_size=min_cluster_size,
        min_samples=samples,
        cluster_selection_method=selection,
    )
    assert_same(ours, truth)
    ordered = np.sort(distances, axis=1)  # the point itself is in column 0
    np.testing.assert_array_equal(ours.core_distances, ordered[:, samples])
    np.testing.assert_array_equal(ours.prediction_cores, ordered[:, samples - 1])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_codes_cluster_as_hdbscan_does_on_vectors_of_zeros_and_ones(metric: Metric, selection: Selection) -> None:
    gates = blobs_of_gates(0, 700, 203, groups=9)
    ours = cluster_codes(SplineCodes.pack(gates), metric=metric, min_samples=7, selection=selection)
    truth = hdbscan.HDBSCAN(metric=metric, min_samples=7, cluster_selection_method=selection).fit(
        gates.astype(np.float64)
    )
    assert ours.labels.max() >= 5
    assert adjusted_rand_score(ours.labels, truth.labels_) == 1
    np.testing.assert_allclose(ours.probabilities, truth.probabilities_)
    np.testing.assert_allclose(ours.persistence, truth.cluster_persistence_)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize(("n", "units", "min_samples"), [(60, 2, 1), (600, 40, 5), (900, 300, None)])
def test_activations_cluster_as_in_hdbscan(n: int, units: int, min_samples: int | None, selection: Selection) -> None:
    x = blobs(1, n, units)
    ours = cluster_activations(x, min_cluster_size=4, min_samples=min_samples, selection=selection)
    truth = hdbscan.hdbscan(
        x,
        metric="euclidean",
        min_cluster_size=4,
        min_samples=min_samples,
        cluster_selection_method=selection,
        algorithm="prims_kdtree",  # hdbscan's default below 60 units is approximate
    )
    assert ours.labels.max() >= 1
    assert_same(ours, truth, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:invalid value")
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, n=st.integers(4, 70), units=st.integers(1, 3), offset=st.sampled_from([0.0, 2.0**16]))
def test_activations_on_a_grid_keep_their_ties_and_duplicates(seed: int, n: int, units: int, offset: float) -> None:
    grid = np.random.default_rng(seed).integers(0, 6, (n, units)).astype(np.float32)
    ours = cluster_activations(grid + np.float32(offset), min_cluster_size=3)
    truth = hdbscan.hdbscan(pairwise_distances(grid.astype(np.float64)), metric="precomputed", min_cluster_size=3)
    np.testing.assert_array_equal(ours.labels, truth[0])
    np.testing.assert_allclose(ours.probabilities, truth[1])


def test_small_distances_survive_large_activations() -> None:
    rng = np.random.default_rng(0)
    x = 1000 * np.repeat(rng.normal(size=(8, 64)), 30, axis=0)  # eight tight groups, far from each other and from 0
    x += 1e-6 * rng.normal(size=x.shape)
    ours = cluster_activations(x)
    long = x.astype(np.longdouble)
    truth = np.sort([np.sqrt(((long - row) ** 2).sum(axis=1)) for row in long], axis=1)
    np.testing.assert_allclose(ours.core_distances, truth[:, 5].astype(np.float64), rtol=1e-12)
    assert ours.labels.max() == 7


def test_padding_between_the_sites_of_a_span_changes_nothing() -> None:
    gates = blobs_of_gates(2, 200, 90)
    whole = SplineCodes.pack(gates)
    parts = SplineCodes(
        np.concatenate([np.packbits(part, axis=1) for part in np.split(gates, [3, 40], axis=1)], axis=1), (3, 37, 50)
    )
    for metric in METRICS:
        a, b = cluster_codes(whole, metric=metric), cluster_codes(parts, metric=metric)
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.core_distances, b.core_distances)


def test_points_that_are_all_equal_are_noise_at_distance_zero() -> None:
    for found in (
        cluster_codes(SplineCodes.pack(np.ones((40, 9), dtype=bool)), metric="hamming"),
        cluster_activations(np.full((40, 9), 3.7, dtype=np.float32)),
    ):
        assert (found.labels == -1).all() and not found.probabilities.any()
        assert len(found.nodes) == len(found.persistence) == 0
        assert not found.core_distances.any() and np.isinf(found.tree.lambda_value).all()


def test_stable_ties_only_matter_where_there_are_ties() -> None:
    x = blobs(3, 300, 20)
    a, b = (cluster_activations(x, min_samples=1, ties=ties) for ties in ("hdbscan", "stable"))
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.tree.lambda_value, b.tree.lambda_value)


def test_stable_ties_keep_the_order_in_which_the_tree_grew() -> None:
    # Prim's algorithm starts at point 0 and meets the nine others, all one gate away, in their order. Merged in that
    # order they leave one by one; the first merge is the deepest, so points 0 and 1 leave last.
    gates = np.vstack([np.zeros((1, 9), dtype=bool), np.eye(9, dtype=bool)])
    found = cluster_codes(SplineCodes.pack(gates), metric="hamming", min_samples=1, min_cluster_size=2, ties="stable")
    assert found.tree.child.tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 0, 1]


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, selection=st.sampled_from(SELECTIONS))
def test_the_node_of_a_cluster_holds_its_points_and_no_other(seed: int, selection: Selection) -> None:
    found = cluster_codes(SplineCodes.pack(blobs_of_gates(seed, 80, 30)), metric="hamming", selection=selection)
    parent = dict(zip(found.tree.child.tolist(), found.tree.parent.tolist(), strict=True))
    for point, label in enumerate(found.labels):
        above, node = set(), point
        while node in parent:
            node = parent[node]
            above.add(node)
        assert [cluster for cluster, node in enumerate(found.nodes) if node in above] == (
            [label] if label >= 0 else []
        )


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(40, 200),
    units=st.integers(2, 40),
    samples=st.integers(1, 7),
    selection=st.sampled_from(SELECTIONS),
)
def test_activations_are_predicted_as_in_hdbscan(
    seed: int, n: int, units: int, samples: int, selection: Selection
) -> None:
    x, queries = np.split(blobs(seed, n + 30, units), [n])
    ours = cluster_activations(x, min_cluster_size=4, min_samples=samples, selection=selection)
    truth = hdbscan.HDBSCAN(
        min_cluster_size=4,
        min_samples=samples,
        cluster_selection_method=selection,
        algorithm="prims_kdtree",
        prediction_data=True,
    ).fit(x)
    assume(hdbscan_knows_the_clusters(ours))
    distances = np.sqrt(((queries[:, None].astype(np.float64) - x[None]) ** 2).sum(axis=2))
    labels, strengths = approximate_predict(ours, distances)
    true_labels, true_strengths = hdbscan.approximate_predict(truth, queries)
    np.testing.assert_array_equal(labels, true_labels)
    np.testing.assert_allclose(strengths, true_strengths, rtol=1e-7)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, samples=st.integers(1, 4), selection=st.sampled_from(SELECTIONS))
def test_codes_are_predicted_as_in_hdbscan_where_no_neighbours_are_equally_near(
    seed: int, samples: int, selection: Selection
) -> None:
    gates, asked = np.split(blobs_of_gates(seed, 190, 600), [150])
    codes, queries = SplineCodes.pack(gates), SplineCodes.pack(asked)
    ours = cluster_codes(codes, metric="hamming", min_samples=samples, selection=selection)
    truth = hdbscan.HDBSCAN(
        metric="hamming",
        min_cluster_size=5,
        min_samples=samples,
        cluster_selection_method=selection,
        algorithm="prims_balltree",
        prediction_data=True,
    ).fit(gates.astype(np.float64))
    assume(hdbscan_knows_the_clusters(ours))
    counts = hamming_matrix(queries, codes)
    # Of neighbours at the same distance hdbscan's ball tree takes any, we take the first: leave such queries out.
    nearest = np.sort(counts, axis=1)[:, : 2 * samples + 1]
    clear = (np.diff(nearest, axis=1) > 0).all(axis=1)
    labels, strengths = approximate_predict(ours, counts / 600)
    true_labels, true_strengths = hdbscan.approximate_predict(truth, asked.astype(np.float64))
    np.testing.assert_array_equal(labels[clear], true_labels[clear])
    np.testing.assert_allclose(strengths[clear], true_strengths[clear], rtol=1e-7)


def test_a_hierarchy_read_back_in_any_order_of_tree_rows_predicts_the_same() -> None:
    x, queries = np.split(blobs(5, 260, 8), [200])
    ours = cluster_activations(x)
    order = np.random.default_rng(0).permutation(len(ours.tree.child))
    tree = ours.tree
    shuffled = CondensedTree(tree.parent[order], tree.child[order], tree.lambda_value[order], tree.child_size[order])
    distances = pairwise_distances(queries.astype(np.float64), x.astype(np.float64))
    expected, found = (approximate_predict(each, distances) for each in (ours, replace(ours, tree=shuffled)))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_query_that_repeats_a_clustered_point_joins_it_however_its_distance_was_computed() -> None:
    x = blobs(394, 191, 5)
    ours = cluster_activations(x, min_samples=1, min_cluster_size=4)
    distances = pairwise_distances(x.astype(np.float64))
    for rounding in (1 - 1e-14, 1, 1 + 1e-14):
        labels, strengths = approximate_predict(ours, distances * rounding)
        np.testing.assert_array_equal(labels, ours.labels)
        assert (strengths >= ours.probabilities * (1 - 1e-9)).all()


def test_a_cluster_that_splits_before_any_point_leaves_it_is_still_predicted() -> None:
    # Far apart, two clusters of eight; each splits into fours at a gap of 1.5, a little more than those within.
    x = np.concatenate([start + np.array([0, 1, 2.1, 3.3]) for start in (0, 4.8, 100, 104.8)])[:, None]
    ours = cluster_activations(x, min_cluster_size=4, min_samples=1)
    assert not hdbscan_knows_the_clusters(ours)
    # With min_samples=1 a clustered point, asked about again, joins through itself.
    labels, _ = approximate_predict(ours, np.abs(x - x.T))
    assert labels.tolist() == ours.labels.tolist() == [0] * 8 + [1] * 8


def test_a_query_on_a_stack_of_duplicates_belongs_to_it_fully() -> None:
    x = np.repeat(np.array([[0.0], [10.0], [30.0]]), 8, axis=0) + np.repeat([[0.0], [0.5]], [20, 4], axis=0)
    ours = cluster_activations(x)
    stacks = ours.labels[[0, 8]]
    labels, strengths = approximate_predict(ours, np.abs(np.array([[0.0], [10.0]]) - x.T))
    assert labels.tolist() == stacks.tolist() and min(stacks) >= 0
    assert strengths.tolist() == ours.probabilities[[0, 8]].tolist() == [1, 1]


def test_fewer_points_than_twice_min_samples_can_be_predicted_with() -> None:
    x = np.array([[0.0], [1.0], [2.5], [50.0], [51.0], [52.5]])
    ours = cluster_activations(x, min_cluster_size=2, min_samples=4)
    labels, strengths = approximate_predict(ours, np.abs(np.array([[1.0], [1e6]]) - x.T))
    assert labels.shape == strengths.shape == (2,)


def test_where_nothing_clustered_every_query_is_noise() -> None:
    ours = cluster_activations(np.arange(12.0)[:, None] ** 3, min_cluster_size=8)
    assert (ours.labels == -1).all()
    labels, strengths = approximate_predict(ours, np.ones((3, 12)))
    assert labels.tolist() == [-1, -1, -1] and strengths.tolist() == [0, 0, 0]


def test_impossible_distances_are_errors() -> None:
    ours = cluster_activations(blobs(0, 20, 3))
    with pytest.raises(WidthError, match="each of the 20 clustered points, got 19"):
        approximate_predict(ours, np.ones((1, 19)))
    with pytest.raises(NonFinite, match="NaN"):
        approximate_predict(ours, np.full((1, 20), np.nan))
    with pytest.raises(UsageError, match="negative, got -1"):
        approximate_predict(ours, np.full((1, 20), -1.0))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 40), metric=st.sampled_from(METRICS), as_codes=st.booleans())
def test_a_medoid_has_the_least_mean_distance_and_the_first_of_equals_wins(
    seed: int, n: int, metric: Metric, as_codes: bool
) -> None:
    rng = np.random.default_rng(seed)
    gates = rng.random((n, 6)) < 0.4
    labels = np.unique(rng.integers(-1, 3, n), return_inverse=True)[1] - 1
    metric = metric if as_codes else "euclidean"
    found = medoids(SplineCodes.pack(gates) if as_codes else gates.astype(np.float32), labels, metric=metric)
    distances = gate_distances(gates, metric)
    assert len(found) == labels.max() + 1
    for cluster, medoid in enumerate(found):
        members = np.flatnonzero(labels == cluster)
        means = np.round(distances[np.ix_(members, members)].mean(axis=1), 12)
        assert medoid == members[means.argmin()]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("as_codes", [True, False])
def test_medoids_do_not_depend_on_the_budget_and_stay_within_it(metric: Metric, as_codes: bool) -> None:
    gates = blobs_of_gates(0, 3000, 1600)
    points = SplineCodes.pack(gates) if as_codes else blobs(0, 3000, 400)
    metric = metric if as_codes else "euclidean"
    labels = np.random.default_rng(0).permutation(np.repeat([-1, 0, 1], [100, 2700, 200]))
    seen: list[tuple[int, int]] = []
    expected = medoids(points, labels, metric=metric, progress=lambda done, of: seen.append((done, of)))
    assert seen == sorted(seen) and seen[-1] == (2700**2 + 200**2,) * 2
    budget = 6 << 20  # the points of both kinds take 14 MiB, all distances 56
    tracemalloc.start()
    try:
        found = medoids(points, labels, metric=metric, memory_budget=budget)
        assert tracemalloc.get_traced_memory()[1] <= budget + (4 << 20)  # blocks of a megabyte
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, expected)


def test_the_medoid_of_a_huge_cluster_is_central_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.clustering.medoids.MEDOID_POINTS", 500)
    monkeypatch.setattr("atlas.clustering.medoids.MEDOID_SAMPLE", 200)
    x = np.random.default_rng(0).normal(size=(2000, 6)) + 5
    labels = np.repeat([0, 1, 2], [1000, 500, 500])
    seen: list[tuple[int, int]] = []
    found = medoids(x, labels, metric="euclidean", progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (1000 * 200 + 2 * 500**2,) * 2
    assert found.tolist() == medoids(x, labels, metric="euclidean").tolist()
    for cluster, medoid in enumerate(found):
        means = pairwise_distances(x[labels == cluster]).mean(axis=1)
        own = means[medoid - int(np.argmax(labels == cluster))]
        assert (own <= np.quantile(means, 0.02)) if cluster == 0 else own == means.min()


def test_medoids_of_impossible_labels_are_errors() -> None:
    x = np.ones((3, 2))
    with pytest.raises(UsageError, match="3 points and 2 labels"):
        medoids(x, np.array([0, 0]), metric="euclidean")
    with pytest.raises(UsageError, match="cluster 1 has no member"):
        medoids(x, np.array([0, 2, 2]), metric="euclidean")
    with pytest.raises(UsageError, match="no Hamming distance"):
        medoids(x, np.array([0, 0, 0]), metric="hamming")
    with pytest.raises(NonFinite, match="row 1"):
        medoids(np.array([[0.0], [np.nan]]), np.array([0, 0]), metric="euclidean")
    assert medoids(x, np.array([-1, -1, -1]), metric="euclidean").shape == (0,)


def test_points_that_do_not_fit_are_refused_before_anything_is_allocated() -> None:
    huge = np.broadcast_to(np.float32(0), (150_000, 1 << 14))  # one number in memory
    tracemalloc.start()
    try:
        with pytest.raises(
            TooManyPoints, match=r"150000 points take 9,830,400,000 bytes.* 4,294,967,296 bytes, in which 65280 would"
        ):
            cluster_activations(huge)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_budget_too_small_for_one_block_is_an_error_that_says_how_much_it_takes() -> None:
    codes = SplineCodes.pack(np.random.default_rng(0).random((300, 64)) < 0.5)
    with pytest.raises(TooManyPoints, match=r"32 rows .* 300 points take 76,800 bytes .* budget is 76,799 bytes"):
        cluster_codes(codes, metric="hamming", memory_budget=76_799)
    assert len(cluster_codes(codes, metric="hamming", memory_budget=76_800).labels) == 300
    with pytest.raises(TooManyPoints, match="raise memory_budget"):
        cluster_activations(blobs(0, 300, 4), memory_budget=1000)


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(2, 150),
    bits=st.integers(1, 40),
    samples=st.integers(1, 6),
    spare_rows=st.integers(0, 200),
    prepare=st.sampled_from([None, Activations.of, Activations.bounded]),
)
def test_rows_computed_again_give_the_tree_of_stored_distances(
    seed: int, n: int, bits: int, samples: int, spare_rows: int, prepare: Callable[[np.ndarray], Activations] | None
) -> None:
    gates = np.random.default_rng(seed).random((n, bits)) < 0.3
    points: Points = (
        Codes.of(SplineCodes.pack(gates))
        if prepare is None
        else prepare(gates + np.float32(0.25) * blobs(seed, n, bits))
    )
    least = 4 * 32 * n * points.dtype.itemsize + points.n_bytes
    stored, again = (
        spanning_tree(points, np.arange(n), min(samples, n - 1), budget)
        for budget in (1 << 32, least + spare_rows * n * points.dtype.itemsize)
    )
    for name in ("source", "target", "cores", "prediction_cores", "length"):
        np.testing.assert_array_equal(getattr(again, name), getattr(stored, name))


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=st.integers(2, 120), distinct=st.integers(1, 12), samples=st.integers(1, 9))
def test_merging_equal_points_does_not_change_the_tree(seed: int, n: int, distinct: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    gates = (rng.random((distinct, 7)) < 0.5)[rng.integers(0, distinct, n)]
    first, kind = same_rows(np.packbits(gates, axis=1))
    assert (gates[first][kind] == gates).all() and (np.diff(first) > 0).all()
    merged = spanning_tree(Codes.of(SplineCodes.pack(gates[first])), kind, samples, budget=1 << 32)
    apart = spanning_tree(Codes.of(SplineCodes.pack(gates)), np.arange(n), min(samples, n - 1), budget=1 << 32)
    if samples < n:
        for name in ("source", "target", "length", "cores", "prediction_cores"):
            np.testing.assert_array_equal(getattr(merged, name), getattr(apart, name))


@pytest.mark.parametrize("bits", [5, 256, 300, 700])
def test_products_of_signs_are_hamming_distances(bits: int) -> None:
    codes = SplineCodes.pack(blobs_of_gates(0, 60, bits))
    signs, popcounts = TorchCodes.of(codes, "cpu"), Codes.of(codes)
    for rows in (slice(3, 40), np.array([7, 1, 59])):
        found = signs.between(rows, slice(5, 60))
        assert found.dtype == popcounts.dtype
        np.testing.assert_array_equal(found, popcounts.between(rows, slice(5, 60)))


def test_products_of_activations_taken_by_torch_are_those_of_numpy() -> None:
    x = blobs(0, 50, 30)
    ours, by_torch = (
        Activations.of(x),
        replace(Activations.of(x), centred=None, on_device=torch.from_numpy(Activations.of(x).centred)),
    )
    for rows in (slice(3, 40), np.array([7, 1, 49])):
        expected = ours.between(rows, slice(0, 50))
        np.testing.assert_allclose(by_torch.between(rows, slice(0, 50)), expected, rtol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("budget", [1 << 32, 1 << 21])
def test_a_gpu_finds_the_same_clusters(budget: int) -> None:
    codes = SplineCodes.pack(blobs_of_gates(0, 3000, 700))
    a, b = (cluster_codes(codes, metric="hamming", device=device, memory_budget=budget) for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.tree.lambda_value, b.tree.lambda_value)
    x = blobs(0, 3000, 30)
    c, d = (cluster_activations(x, device=device, memory_budget=budget << 3) for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(c.labels, d.labels)
    np.testing.assert_allclose(c.tree.lambda_value, d.tree.lambda_value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_gpu_that_is_not_there_is_an_error_only_where_it_was_asked_for() -> None:
    codes = SplineCodes.pack(blobs_of_gates(0, 30, 7))
    with pytest.raises(UsageError, match="no CUDA device"):
        cluster_codes(codes, metric="hamming", device="cuda")
    assert len(cluster_codes(codes, metric="hamming", device="auto").labels) == 30
    with pytest.raises(UsageError, match="device is 'tpu'; expected auto, cpu or cuda"):
        cluster_codes(codes, metric="hamming", device="tpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["repeated codes", "odd codes", "odd repeated codes", "repeated", "odd", "half"])
def test_copies_of_the_points_count_in_the_budget(what: str) -> None:
    """A budget just above what is needed for copies: they are all that is large."""
    n = 2000
    if "codes" in what:
        gates = np.random.default_rng(0).random((n, 8 * (4097 if "odd" in what else 4096))) < 0.5
        copies = 1
    else:
        x = blobs(0, n, 1025 if "odd" in what else 1024)
        x = x.astype(np.float16) if what == "half" else x
        copies = 1 + (what != "odd")
    points = gates if "codes" in what else x
    if "repeated" in what:
        points[1] = points[0]
    points = SplineCodes.pack(points) if "codes" in what else points
    budget = (copies * n * 4104) + 260 * n + (1 << 20)
    cluster = partial(cluster_codes, metric="hamming") if "codes" in what else cluster_activations
    cluster(points[:10])  # compiled before it is measured
    tracemalloc.start()
    try:
        assert len(cluster(points, memory_budget=budget).labels) == n
        assert tracemalloc.get_traced_memory()[1] <= budget + 600 * n + (4 << 20)  # the tree, hdbscan's, and blocks
        with pytest.raises(TooManyPoints, match=r"would fit.*--approximate.*--memory"):
            cluster(points, memory_budget=copies * n * 4096)
    finally:
        tracemalloc.stop()


def test_rows_that_differ_in_the_sign_of_zero_are_equal() -> None:
    signs = np.random.default_rng(0).choice(np.array([0.0, -0.0], np.float32), (100, 8))
    assert len(same_rows(signs)[0]) == 1 and len(same_rows(signs.view(np.uint32))[0]) > 50
    for neighbors in (None, 5):
        found = cluster_activations(signs, neighbors=neighbors)
        assert not found.core_distances.any() and (found.labels == -1).all()
    x = blobs(0, 60, 3)
    x[:40, 0] = 0
    np.testing.assert_array_equal(cluster_activations(x).labels, cluster_activations(-x).labels)


def test_equal_hashes_of_different_rows_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Zeros:
        def integers(self, low: int, high: int, size: int, dtype: type) -> np.ndarray:
            return np.zeros(size, dtype)

    wide = np.array(
        [[0.0, 3.0, 1.0, 2.0], [-0.0, 3.0, 1.0, 2.0], [1.0, 2.0, 0.0, 3.0], [0.0, 3.0, 1.0, 2.0]], np.float32
    )
    expected = same_rows(wide)
    # Factors of 1: the hash is the sum of a row's words.
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Zeros())
    first, kind = same_rows(wide)
    assert first.tolist() == expected[0].tolist() == [0, 2]
    assert kind.tolist() == expected[1].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("budget", [80 << 20, 300 << 20, 1 << 30])
def test_the_peak_stays_within_the_budget(budget: int) -> None:
    codes, x = SplineCodes.pack(blobs_of_gates(0, 9000, 128)), blobs(0, 4000, 16)
    cluster_codes(codes[:10], metric="hamming")  # compiled before it is measured
    for n, cluster in (
        (9000, partial(cluster_codes, codes, metric="hamming")),
        (4000, partial(cluster_activations, x)),
    ):
        tracemalloc.start()
        try:
            cluster(memory_budget=budget)
            assert tracemalloc.get_traced_memory()[1] <= budget + 600 * n  # the tree, and hdbscan's
        finally:
            tracemalloc.stop()


def test_more_points_than_the_limit_are_refused() -> None:
    codes = SplineCodes.pack(blobs_of_gates(0, 30, 8))
    with pytest.raises(TooManyPoints, match=r"30 points .* the limit is 29 points.* sample"):
        cluster_codes(codes, metric="hamming", max_points=29)
    with pytest.raises(TooManyPoints, match=r"30 points .* the limit is 29 points.* sample"):
        cluster_activations(blobs(0, 30, 3), max_points=29)


def test_an_interrupted_clustering_stops_at_once_and_leaves_the_threads_usable() -> None:
    codes = SplineCodes.pack(blobs_of_gates(0, 3000, 64))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster_codes(codes, metric="hamming", progress=interrupt)
    assert len(cluster_codes(codes[:100], metric="hamming").labels) == 100


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_activation_that_is_not_a_number_is_named(bad: float) -> None:
    x = blobs(0, 20, 3)
    x[7, 2] = bad
    for points in (x, x.astype(np.float64)):
        with pytest.raises(NonFinite, match="row 7"):
            cluster_activations(points)
    x[1] = x[0]
    for neighbors in (None, 5):
        with pytest.raises(NonFinite, match="row 7"):
            cluster_activations(x, neighbors=neighbors)


def test_activations_whose_distances_overflow_are_refused() -> None:
    with pytest.raises(NonFinite, match="overflow"):
        cluster_activations(1e200 * np.arange(20.0)[:, None])


@pytest.mark.parametrize("n", [2, 3, 5])
def test_with_fewer_points_than_min_samples_the_result_is_hdbscans_and_says_so(n: int) -> None:
    gates, x = blobs_of_gates(0, n, 8), blobs(0, n, 3)
    for ours, distances in (
        (cluster_codes(SplineCodes.pack(gates), metric="hamming"), gate_distances(gates, "hamming")),
        (cluster_activations(x), pairwise_distances(x.astype(np.float64))),
    ):
        assert ours.min_samples == n - 1
        assert_same(ours, hdbscan.hdbscan(distances, metric="precomputed"), rtol=1e-9)


def test_impossible_parameters_are_errors() -> None:
    codes = SplineCodes.pack(blobs_of_gates(0, 5, 8))
    for n in (0, 1):
        with pytest.raises(UsageError, match=f"at least two points, got {n}"):
            cluster_codes(codes[:n], metric="hamming")
    with pytest.raises(UsageError, match="at least 1, got 0"):
        cluster_codes(codes, metric="hamming", min_samples=0)
    with pytest.raises(UsageError, match="at least 2, got 1"):
        cluster_activations(blobs(0, 20, 3), min_cluster_size=1)
    with pytest.raises(UsageError, match="at least one unit"):
        cluster_activations(np.ones((20, 0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("cluster_activations(np.ones(20))", "one of shape (20,)"),
        ("cluster_activations(x, min_cluster_size=5.0)", "min_cluster_size is 5.0; expected a whole number"),
        ("cluster_activations(x, min_samples=2.5)", "min_samples is 2.5; expected a whole number"),
        ("cluster_activations(x, neighbors=7.0)", "neighbors (--approximate) is 7.0; expected a whole number"),
    ],
)
def test_arguments_of_another_kind_are_errors_without_a_type_checker(call: str, message: str) -> None:
    code = (
        "import numpy as np\nfrom atlas.clustering.hdbscan import cluster_activations\nx = np.ones((20, 2))\n" + call
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UsageError: " in ran.stderr and message in ran.stderr.splitlines()[-1]


def test_progress_rises_to_the_total() -> None:
    for cluster in (
        partial(cluster_codes, SplineCodes.pack(blobs_of_gates(0, 700, 16)), metric="hamming"),
        partial(cluster_activations, blobs(0, 700, 4)),
    ):
        seen: list[int] = []
        cluster(progress=lambda done, total, seen=seen: seen.append(done) if total == 1400 else None)
        assert seen == sorted(set(seen)) and seen[-1] == 1400
