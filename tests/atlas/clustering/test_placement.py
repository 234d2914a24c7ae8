"""New points in an old clustering, as hdbscan places them."""

from __future__ import annotations

from dataclasses import replace

import hdbscan
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances

from atlas.clustering.hdbscan import cluster_activations, cluster_codes
from atlas.clustering.hierarchy import CondensedTree, Selection
from atlas.clustering.placement import approximate_predict
from atlas.codes import SplineCodes
from atlas.errors import NonFinite, UsageError, WidthError
from atlas.search.hamming_index import hamming_matrix
from tests.atlas.clustering.generated import (
    blobs,
    blobs_of_gates,
    hdbscan_knows_the_clusters,
)

SEEDS = st.integers(0, 2**32 - 1)
SELECTIONS: list[Selection] = ["eom", "leaf"]


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(40, 200),
    units=st.integers(2, 40),
    samples=st.integers(1, 7),
    selection=st.sampled_from(SELECTIONS),
)
def test_activations_are_placed_as_hdbscans(
    seed: int, n: int, units: int, samples: int, selection: Selection
) -> None:
    """Activations are placed as in hdbscan."""
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
def test_codes_are_placed_as_in_hdbscan(seed: int, samples: int, selection: Selection) -> None:
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


def test_any_order_of_tree_rows_will_do() -> None:
    x, queries = np.split(blobs(5, 260, 8), [200])
    ours = cluster_activations(x)
    order = np.random.default_rng(0).permutation(len(ours.tree.child))
    tree = ours.tree
    shuffled = CondensedTree(tree.parent[order], tree.child[order], tree.lambda_value[order], tree.child_size[order])
    distances = pairwise_distances(queries.astype(np.float64), x.astype(np.float64))
    expected, found = (approximate_predict(each, distances) for each in (ours, replace(ours, tree=shuffled)))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_repeated_point_joins_itself() -> None:
    x = blobs(394, 191, 5)
    ours = cluster_activations(x, min_samples=1, min_cluster_size=4)
    distances = pairwise_distances(x.astype(np.float64))
    for rounding in (1 - 1e-14, 1, 1 + 1e-14):
        labels, strengths = approximate_predict(ours, distances * rounding)
        np.testing.assert_array_equal(labels, ours.labels)
        assert (strengths >= ours.probabilities * (1 - 1e-9)).all()


def test_a_cluster_that_splits_at_once() -> None:
    # Far apart, two clusters of eight; each splits into fours at a gap of 1.5, a little more than those within.
    x = np.concatenate([start + np.array([0, 1, 2.1, 3.3]) for start in (0, 4.8, 100, 104.8)])[:, None]
    ours = cluster_activations(x, min_cluster_size=4, min_samples=1)
    assert not hdbscan_knows_the_clusters(ours)
    # With min_samples=1 a clustered point, asked about again, joins through itself.
    labels, _ = approximate_predict(ours, np.abs(x - x.T))
    assert labels.tolist() == ours.labels.tolist() == [0] * 8 + [1] * 8


def test_a_query_on_duplicates_is_certain() -> None:
    x = np.repeat(np.array([[0.0], [10.0], [30.0]]), 8, axis=0) + np.repeat([[0.0], [0.5]], [20, 4], axis=0)
    ours = cluster_activations(x)
    stacks = ours.labels[[0, 8]]
    labels, strengths = approximate_predict(ours, np.abs(np.array([[0.0], [10.0]]) - x.T))
    assert labels.tolist() == stacks.tolist() and min(stacks) >= 0
    assert strengths.tolist() == ours.probabilities[[0, 8]].tolist() == [1, 1]


def test_few_points_can_be_placed_among() -> None:
    x = np.array([[0.0], [1.0], [2.5], [50.0], [51.0], [52.5]])
    ours = cluster_activations(x, min_cluster_size=2, min_samples=4)
    labels, strengths = approximate_predict(ours, np.abs(np.array([[1.0], [1e6]]) - x.T))
    assert labels.shape == strengths.shape == (2,)


def test_without_clusters_all_is_noise() -> None:
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
