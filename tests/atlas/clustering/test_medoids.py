"""Medoids against all pairwise distances."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances

from atlas.clustering.hierarchy import Metric, Selection
from atlas.clustering.medoids import medoids
from atlas.codes import SplineCodes
from atlas.errors import NonFinite, UsageError
from tests.atlas.clustering.generated import (
    METRICS,
    blobs,
    blobs_of_gates,
    gate_distances,
)

SEEDS = st.integers(0, 2**32 - 1)
SELECTIONS: list[Selection] = ["eom", "leaf"]


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 40), metric=st.sampled_from(METRICS), as_codes=st.booleans())
def test_a_medoid_is_the_first_nearest(seed: int, n: int, metric: Metric, as_codes: bool) -> None:
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


@pytest.mark.parametrize(("as_codes", "metric"), [*((True, metric) for metric in METRICS), (False, "euclidean")])
def test_medoids_stay_within_the_budget(metric: Metric, as_codes: bool) -> None:
    gates = blobs_of_gates(0, 3000, 1600)
    points = SplineCodes.pack(gates) if as_codes else blobs(0, 3000, 400)
    labels = np.random.default_rng(0).permutation(np.repeat([-1, 0, 1], [100, 2700, 200]))
    seen: list[tuple[int, int]] = []
    expected = medoids(points, labels, metric=metric, progress=lambda done, of: seen.append((done, of)))
    assert seen == sorted(seen) and seen[-1] == (2700**2 + 200**2,) * 2
    budget = 6 << 20  # the points of both kinds take 14 MiB, all distances 56
    medoids(points, labels, metric=metric, memory_budget=budget)  # what is compiled on the way is not measured
    tracemalloc.start()
    try:
        found = medoids(points, labels, metric=metric, memory_budget=budget)
        assert tracemalloc.get_traced_memory()[1] <= budget + (4 << 20)  # blocks of a megabyte
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, expected)


def test_a_medoid_of_a_huge_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_impossible_labels_are_errors() -> None:
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
