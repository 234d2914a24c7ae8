"""Our clusterings against hdbscan's: the same merges, clusters and strengths."""

from __future__ import annotations

import inspect
import tracemalloc
from functools import partial
from typing import Any

import hdbscan
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, pairwise_distances

from atlas.clustering.hdbscan import cluster_activations, cluster_codes
from atlas.clustering.hierarchy import Hierarchy, Metric, Selection
from atlas.clustering.limits import check_request
from atlas.codes import SplineCodes
from atlas.errors import NonFinite, TooManyPoints, UsageError
from tests.atlas.clustering.generated import (
    METRICS,
    blobs,
    blobs_of_gates,
    gate_distances,
)

SEEDS = st.integers(0, 2**32 - 1)
SELECTIONS: list[Selection] = ["eom", "leaf"]


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
@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(3, 90),
    bits=st.integers(1, 24),
    min_cluster_size=st.integers(2, 6),
    data=st.data(),
    metric=st.sampled_from(METRICS),
    selection=st.sampled_from(SELECTIONS),
)
def test_codes_cluster_bit_for_bit(
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
def test_codes_cluster_as_binary_vectors(metric: Metric, selection: Selection) -> None:
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
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, n=st.integers(4, 70), units=st.integers(1, 3), offset=st.sampled_from([0.0, 2.0**16]))
def test_a_grid_keeps_ties_and_duplicates(seed: int, n: int, units: int, offset: float) -> None:
    grid = np.random.default_rng(seed).integers(0, 6, (n, units)).astype(np.float32)
    ours = cluster_activations(grid + np.float32(offset), min_cluster_size=3)
    truth = hdbscan.hdbscan(pairwise_distances(grid.astype(np.float64)), metric="precomputed", min_cluster_size=3)
    np.testing.assert_array_equal(ours.labels, truth[0])
    np.testing.assert_allclose(ours.probabilities, truth[1])


def test_small_distances_survive() -> None:
    rng = np.random.default_rng(0)
    x = 1000 * np.repeat(rng.normal(size=(8, 64)), 30, axis=0)  # eight tight groups, far from each other and from 0
    x += 1e-6 * rng.normal(size=x.shape)
    ours = cluster_activations(x)
    long = x.astype(np.longdouble)
    truth = np.sort([np.sqrt(((long - row) ** 2).sum(axis=1)) for row in long], axis=1)
    np.testing.assert_allclose(ours.core_distances, truth[:, 5].astype(np.float64), rtol=1e-12)
    assert ours.labels.max() == 7


def test_padding_changes_nothing() -> None:
    gates = blobs_of_gates(2, 200, 90)
    whole = SplineCodes.pack(gates)
    parts = SplineCodes(
        np.concatenate([np.packbits(part, axis=1) for part in np.split(gates, [3, 40], axis=1)], axis=1), (3, 37, 50)
    )
    for metric in METRICS:
        a, b = cluster_codes(whole, metric=metric), cluster_codes(parts, metric=metric)
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.core_distances, b.core_distances)


def test_equal_points_are_noise() -> None:
    for found in (
        cluster_codes(SplineCodes.pack(np.ones((40, 9), dtype=bool)), metric="hamming"),
        cluster_activations(np.full((40, 9), 3.7, dtype=np.float32)),
    ):
        assert (found.labels == -1).all() and not found.probabilities.any()
        assert len(found.nodes) == len(found.persistence) == 0
        assert not found.core_distances.any() and np.isinf(found.tree.lambda_value).all()


def test_stable_ties_without_ties() -> None:
    x = blobs(3, 300, 20)
    a, b = (cluster_activations(x, min_samples=1, ties=ties) for ties in ("hdbscan", "stable"))
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.tree.lambda_value, b.tree.lambda_value)


def test_stable_ties_keep_the_order() -> None:
    # Prim's algorithm starts at point 0 and meets the nine others, all one gate away, in their order. Merged in that
    # order they leave one by one; the first merge is the deepest, so points 0 and 1 leave last.
    gates = np.vstack([np.zeros((1, 9), dtype=bool), np.eye(9, dtype=bool)])
    found = cluster_codes(SplineCodes.pack(gates), metric="hamming", min_samples=1, min_cluster_size=2, ties="stable")
    assert found.tree.child.tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 0, 1]


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, selection=st.sampled_from(SELECTIONS))
def test_nodes_hold_their_clusters(seed: int, selection: Selection) -> None:
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


def test_too_many_points_allocate_nothing() -> None:
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


def test_a_budget_below_one_block() -> None:
    codes = SplineCodes.pack(np.random.default_rng(0).random((300, 64)) < 0.5)
    with pytest.raises(TooManyPoints, match=r"32 rows .* 300 points take 76,800 bytes .* budget is 76,799 bytes"):
        cluster_codes(codes, metric="hamming", memory_budget=76_799)
    assert len(cluster_codes(codes, metric="hamming", memory_budget=76_800).labels) == 300
    with pytest.raises(TooManyPoints, match="raise memory_budget"):
        cluster_activations(blobs(0, 300, 4), memory_budget=1000)


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


@pytest.mark.parametrize("budget", [2 << 20, 1 << 30])
def test_the_peak_stays_within_the_budget(budget: int) -> None:
    """Of distances that are computed again, and of those that are stored."""
    codes, x = SplineCodes.pack(blobs_of_gates(0, 1200, 64)), blobs(0, 1200, 16)
    for cluster in (partial(cluster_codes, codes, metric="hamming"), partial(cluster_activations, x)):
        tracemalloc.start()
        try:
            n = len(cluster(memory_budget=budget).labels)
            assert tracemalloc.get_traced_memory()[1] <= budget + 600 * n  # the tree, and hdbscan's
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("what", ["odd repeated codes", "repeated", "odd", "half"])
def test_copies_count_in_the_budget(what: str) -> None:
    """A budget just above what is needed for copies of the points: they are all that is large."""
    n, is_odd, repeats = 1000, "odd" in what, "repeated" in what
    packed = np.random.default_rng(0).integers(0, 256, (n, 4097 if is_odd else 4096), dtype=np.uint8)
    x = blobs(0, n, 1025 if is_odd else 1024)
    x = x.astype(np.float16) if what == "half" else x
    for rows in (packed, x):
        rows[1] = rows[0] if repeats else rows[1]
    is_codes = "codes" in what
    points = SplineCodes(packed, (8 * packed.shape[1],)) if is_codes else x
    cluster = partial(cluster_codes, metric="hamming") if is_codes else cluster_activations
    copies = 1 if is_codes or what == "odd" else 2
    budget = (copies * n * 4104) + 260 * n + (1 << 20)
    cluster(points[:10])  # compiled before it is measured
    tracemalloc.start()
    try:
        assert len(cluster(points, memory_budget=budget).labels) == n
        assert tracemalloc.get_traced_memory()[1] <= budget + 600 * n + (2 << 20)  # the tree, hdbscan's, and blocks
        with pytest.raises(TooManyPoints, match=r"would fit.*--approximate.*--memory"):
            cluster(points, memory_budget=copies * n * 4096)
    finally:
        tracemalloc.stop()


def test_more_points_than_the_limit() -> None:
    codes = SplineCodes.pack(blobs_of_gates(0, 30, 8))
    with pytest.raises(TooManyPoints, match=r"30 points .* the limit is 29 points.* sample"):
        cluster_codes(codes, metric="hamming", max_points=29)
    with pytest.raises(TooManyPoints, match=r"30 points .* the limit is 29 points.* sample"):
        cluster_activations(blobs(0, 30, 3), max_points=29)


def test_an_interrupt_leaves_threads_usable() -> None:
    codes = SplineCodes.pack(blobs_of_gates(0, 3000, 64))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster_codes(codes, metric="hamming", progress=interrupt)
    assert len(cluster_codes(codes[:100], metric="hamming").labels) == 100


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_infinite_activation_is_named(bad: float) -> None:
    x = blobs(0, 20, 3)
    x[7, 2] = bad
    for points in (x, x.astype(np.float64)):
        with pytest.raises(NonFinite, match="row 7"):
            cluster_activations(points)
    x[1] = x[0]
    for neighbors in (None, 5):
        with pytest.raises(NonFinite, match="row 7"):
            cluster_activations(x, neighbors=neighbors)


def test_overflowing_distances_are_refused() -> None:
    with pytest.raises(NonFinite, match="overflow"):
        cluster_activations(1e200 * np.arange(20.0)[:, None])


@pytest.mark.parametrize("n", [2, 3, 5])
def test_fewer_points_than_min_samples(n: int) -> None:
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


@pytest.mark.parametrize("argument", [{"min_cluster_size": 5.0}, {"min_samples": 2.5}, {"neighbors": 7.0}])
def test_fractions_are_errors_unchecked(argument: dict[str, float]) -> None:
    """As for a user who runs no type checker."""
    [(name, value)] = argument.items()
    with pytest.raises(UsageError, match=rf"{name}.* is {value}; expected a whole number"):
        inspect.unwrap(check_request)(20, **argument)
    with pytest.raises(UsageError, match=r"one of shape \(20,\)"):
        inspect.unwrap(cluster_activations)(np.ones(20))


def test_progress_rises_to_the_total() -> None:
    for cluster in (
        partial(cluster_codes, SplineCodes.pack(blobs_of_gates(0, 700, 16)), metric="hamming"),
        partial(cluster_activations, blobs(0, 700, 4)),
    ):
        seen: list[int] = []
        cluster(progress=lambda done, total, seen=seen: seen.append(done) if total == 1400 else None)
        assert seen == sorted(set(seen)) and seen[-1] == 1400
