"""Neighbour graphs against all pairwise distances, and approximate trees against exact ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from atlas.clustering.approximate_tree import approximate_tree
from atlas.clustering.distances import Activations, Codes, Points
from atlas.clustering.hdbscan import cluster_activations, cluster_codes
from atlas.clustering.neighbor_graph import neighbor_graph
from atlas.clustering.rows import same_rows
from atlas.clustering.spanning_tree import SpanningTree, spanning_tree
from atlas.codes import SplineCodes
from atlas.errors import TooManyPoints, UsageError

SEEDS = st.integers(0, 2**32 - 1)


def clustered_gates(seed: int, n: int, bits: int, groups: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.random((groups, bits)) < 0.5
    return centres[rng.integers(0, groups, n)] ^ (rng.random((n, bits)) < 0.1)


def some_points(seed: int, n: int, as_codes: bool) -> Points:
    """All different, as where equal ones have been merged."""
    gates = clustered_gates(seed, n, 40)
    if as_codes:
        return Codes.of(SplineCodes.pack(gates[same_rows(np.packbits(gates, axis=1))[0]]))
    return Activations.of(gates + np.random.default_rng(seed).normal(size=gates.shape) * 0.3)


def all_distances(points: Points) -> np.ndarray:
    return points.between(slice(0, len(points)), slice(0, len(points))).astype(np.float64)


def longest_on_path(tree: SpanningTree) -> np.ndarray:
    """For each pair the longest edge on the way between them: the single-linkage distance."""
    n = len(tree.cores)
    found = np.zeros((n, n))
    groups = {point: [point] for point in range(n)}
    for edge in np.argsort(tree.length, kind="stable"):
        a, b = groups[int(tree.source[edge])], groups[int(tree.target[edge])]
        found[np.ix_(a, b)] = tree.length[edge]
        found[np.ix_(b, a)] = tree.length[edge]
        a += b
        for point in b:
            groups[point] = a
    return found


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=st.integers(12, 150), k=st.integers(1, 5), probes=st.integers(1, 13), as_codes=st.booleans())
def test_unlisted_points_lie_above_the_bound(seed: int, n: int, k: int, probes: int, as_codes: bool) -> None:
    """No unlisted point is below the bound."""
    points = some_points(seed, n, as_codes)
    graph = neighbor_graph(points, k, probes, seed % 7)
    distances = all_distances(points)
    rows = np.arange(len(points))[:, None]
    np.testing.assert_allclose(graph.distances, distances[rows, graph.neighbors], rtol=1e-9)
    assert (np.diff(graph.distances, axis=1) >= 0).all() and (graph.neighbors != rows).all()
    assert all(len(set(row)) == k for row in graph.neighbors.tolist())
    unlisted = distances.copy()
    unlisted[rows, graph.neighbors] = unlisted[rows, rows] = np.inf
    assert (unlisted.min(axis=1) >= graph.bound * (1 - 1e-9)).all()
    if probes == 13:  # as many cells as there are points' square root: nothing is left out
        nearest = np.sort(distances, axis=1)[:, 1 : k + 1]
        np.testing.assert_allclose(graph.distances, nearest, rtol=1e-9)
        np.testing.assert_array_equal(graph.bound, graph.distances[:, -1])


@settings(max_examples=30, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(12, 120),
    samples=st.integers(1, 4),
    more=st.integers(0, 4),
    probes=st.integers(1, 11),
    as_codes=st.booleans(),
)
def test_proven_edges_are_minimal(seed: int, n: int, samples: int, more: int, probes: int, as_codes: bool) -> None:
    points = some_points(seed, n, as_codes)
    kind = np.arange(len(points))
    found = approximate_tree(points, kind, samples, samples + more, probes=probes)
    truth = spanning_tree(points, kind, samples, budget=1 << 32)
    way = longest_on_path(truth)
    needed = way[found.tree.source, found.tree.target]
    minimal = np.isclose(found.tree.length, needed, rtol=1e-9)
    assert (found.tree.length >= needed * (1 - 1e-9)).all()  # a tree can't do better
    assert found.proven <= minimal.mean()
    assert len(set(map(tuple, np.sort([found.tree.source, found.tree.target], axis=0).T.tolist()))) == len(kind) - 1
    if found.proven == 1:
        np.testing.assert_allclose(longest_on_path(found.tree), way, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, n=st.integers(20, 90), distinct=st.integers(1, 40), samples=st.integers(1, 6))
def test_equal_points_carry_their_weight(seed: int, n: int, distinct: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    gates = clustered_gates(seed, distinct, 12)[rng.integers(0, distinct, n)]
    first, kind = same_rows(np.packbits(gates, axis=1))
    points = Codes.of(SplineCodes.pack(gates[first]))
    truth = spanning_tree(points, kind, samples, budget=1 << 32)
    found = approximate_tree(points, kind, samples, max(samples, len(first) - 2), probes=100)
    np.testing.assert_array_equal(found.tree.cores, truth.cores)
    np.testing.assert_array_equal(found.tree.prediction_cores, truth.prediction_cores)
    np.testing.assert_array_equal(np.sort(found.tree.length), np.sort(truth.length))
    assert found.proven == 1


def test_clear_clusters_are_the_exact_ones() -> None:
    codes = SplineCodes.pack(clustered_gates(0, 1500, 300, groups=12))
    rng = np.random.default_rng(0)
    x = 3 * rng.normal(size=(12, 300))[rng.integers(0, 12, 1500)] + rng.normal(size=(1500, 300))
    for exact, approximate in (
        (cluster_codes(codes, metric="hamming"), cluster_codes(codes, metric="hamming", neighbors=10)),
        (cluster_activations(x), cluster_activations(x, neighbors=10)),
    ):
        assert exact.neighbors is None and exact.proven == 1 and exact.labels.max() == 11
        assert adjusted_rand_score(exact.labels, approximate.labels) == 1
        assert approximate.neighbors == 10 and 0.9 < approximate.proven < 1  # between clusters nothing is proven


def test_every_run_gives_the_same_clusters() -> None:
    codes = SplineCodes.pack(clustered_gates(1, 400, 60))
    a, b = (cluster_codes(codes, metric="hamming", neighbors=6, ties="stable") for _ in range(2))
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.tree.lambda_value, b.tree.lambda_value)
    assert a.proven == b.proven


def test_the_limit_binds_only_exact_trees() -> None:
    codes = SplineCodes.pack(clustered_gates(0, 60, 30))
    assert len(cluster_codes(codes, metric="hamming", neighbors=8, max_points=59).labels) == 60


def test_underflowing_distances_are_zero() -> None:
    tiny = 1e-200 * np.random.default_rng(0).normal(size=(100, 8))
    points = Activations.of(tiny, distinct=True)
    graph = neighbor_graph(points, 5)
    assert not graph.distances.any() and all(len(set(row)) == 5 for row in graph.neighbors.tolist())
    found = cluster_activations(tiny, neighbors=5)
    assert (found.labels == -1).all() and not found.core_distances.any()


def test_progress_rises_from_cells_to_forest() -> None:
    codes = SplineCodes.pack(clustered_gates(0, 12_000, 64, groups=100))
    seen: list[int] = []
    cluster_codes(codes, metric="hamming", neighbors=6, progress=lambda done, of: seen.append(done) if of else None)
    shares = np.array(seen) / 24_000
    assert (np.diff(shares) >= 0).all() and shares[-1] == 1
    assert (
        np.diff(shares, prepend=0).max() < 0.25 and (shares < 0.4).sum() > 1 and ((shares > 0.8) & (shares < 1)).any()
    )


def test_the_budget_bounds_what_joins_trees() -> None:
    points = Codes.of(SplineCodes.pack(np.random.default_rng(0).random((600, 64)) < 0.5))
    kind = np.arange(len(points))
    roomy = approximate_tree(points, kind, 1, 1, budget=1 << 32)
    tight = approximate_tree(points, kind, 1, 1, budget=256 * 300)
    np.testing.assert_array_equal(np.sort(tight.tree.length), np.sort(roomy.tree.length))
    with pytest.raises(TooManyPoints, match="budget is 1,000 bytes"):
        approximate_tree(points, kind, 1, 1, budget=1000)


def test_impossible_requests_are_errors() -> None:
    codes = SplineCodes.pack(clustered_gates(0, 60, 30))
    with pytest.raises(UsageError, match=r"neighbour 5 \(min_samples\): ask for at least as many, got 4"):
        cluster_codes(codes, metric="hamming", neighbors=4)
    points = Codes.of(codes)
    for k in (0, 60):
        with pytest.raises(UsageError, match=f"^{k} neighbours .* 60 different points have 1 to 59"):
            neighbor_graph(points, k)
    with pytest.raises(UsageError, match="got 0 probes"):
        neighbor_graph(points, 3, 0)
