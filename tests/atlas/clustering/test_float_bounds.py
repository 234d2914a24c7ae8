"""Lower bounds of Euclidean distances: never too long, seldom much too short; and the trees grown by them."""

from __future__ import annotations

import hdbscan
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances

from atlas.clustering.distances import Activations
from atlas.clustering.float_bounds import excluding
from atlas.clustering.hdbscan import cluster_activations
from atlas.clustering.spanning_tree import SpanningTree, spanning_tree

SEEDS = st.integers(0, 2**32 - 1)
BUDGET = 1 << 32


def true_distances(x: np.ndarray) -> np.ndarray:
    long = x.astype(np.longdouble)
    return np.array([np.sqrt(((long - row) ** 2).sum(axis=1)) for row in long])


def thresholds(points: Activations, distances: np.ndarray) -> np.ndarray:
    """The least stored bound that would exclude each distance, were it shorter than this."""
    return np.array([[excluding(float(d), points.factor, points.shift) for d in row] for row in distances])


def differences(x: np.ndarray) -> np.ndarray:
    """Distances as the kernels define them, by NumPy."""
    wide = x.astype(np.float64)
    return np.array([np.sqrt(((wide - row) ** 2).sum(axis=1)) for row in wide])


def assert_equal(a: SpanningTree, b: SpanningTree) -> None:
    for name in ("source", "target", "length", "cores", "prediction_cores"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(1, 40),
    units=st.integers(1, 300),
    spread=st.sampled_from([1e-42, 1e-30, 1e-3, 1.0, 1e15]),
    offset=st.sampled_from([0.0, 1.0, 1e6, 1e12]),
    outlier=st.sampled_from([1.0, 1e3, 1e9]),
    precise=st.booleans(),
    wide=st.booleans(),
)
def test_no_bound_exceeds_its_distance(
    seed: int, n: int, units: int, spread: float, offset: float, outlier: float, precise: bool, wide: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = offset + spread * rng.normal(size=(n, units))
    x[rng.integers(n)] *= outlier
    x[rng.integers(n)] = x[rng.integers(n)]
    x = x.astype(np.float64 if wide else np.float32)
    points = Activations.of(x) if precise else Activations.bounded(x, room=0)
    assert points.centred.dtype == (np.float64 if precise else np.float32)
    longer = np.nextafter(true_distances(x).astype(np.float64) * (1 + 1e-12), np.inf)
    assert (points.bounds(slice(0, n), slice(0, n)) < thresholds(points, longer)).all()


@pytest.mark.parametrize("units", [1, 64, 3072])
def test_bounds_are_tight_to_a_thousandth(units: int) -> None:
    x = 100 + np.random.default_rng(0).normal(size=(60, units)).astype(np.float32)
    points = Activations.bounded(x)
    distances = differences(x)
    apart = distances > 0.1 * distances.max()  # near points are told apart by their differences
    found = points.bounds(slice(0, 60), slice(0, 60))
    assert apart.mean() > 0.7
    assert (found >= thresholds(points, 0.999 * distances))[apart].all()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=st.integers(2, 120), units=st.integers(1, 40), samples=st.integers(1, 6))
def test_either_precision_grows_one_tree(seed: int, n: int, units: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, (n, units)) + rng.choice([0, 1e-9, 1e-3, 1.0], (n, 1)) * rng.normal(size=(n, units))
    everyone, samples = np.arange(n), min(samples, n - 1)
    narrow, precise = Activations.bounded(x, room=0), Activations.of(x)
    assert_equal(spanning_tree(narrow, everyone, samples, BUDGET), spanning_tree(precise, everyone, samples, BUDGET))


def test_tight_groups_need_float64() -> None:
    rng = np.random.default_rng(0)
    x = 1000 * np.repeat(rng.normal(size=(8, 64)), 30, axis=0) + 1e-6 * rng.normal(size=(240, 64))
    assert Activations.bounded(x).centred.dtype == np.float64
    assert Activations.bounded(x, room=8 * x.size - 1).centred.dtype == np.float32
    assert Activations.bounded(rng.normal(size=(240, 64))).centred.dtype == np.float32


@pytest.mark.filterwarnings("ignore:invalid value")
@settings(max_examples=50, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(5, 80),
    units=st.integers(1, 8),
    offset=st.sampled_from([0.0, 1e6, -1e9]),
    step=st.sampled_from([2.0**-149, 2.0**-10, 1.0, 2.0**60]),
    copies=st.booleans(),
)
def test_clusters_at_any_offset_and_scale(
    seed: int, n: int, units: int, offset: float, step: float, copies: bool
) -> None:
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 4 if copies else 40, (n, units)).astype(np.float64)
    x = step * grid if step < 1e-20 or step > 1e10 else offset + step * grid
    x = x.astype(np.float32) if step < 1e-20 else x  # the least numbers that float32 knows
    ours = cluster_activations(x, min_cluster_size=3)
    distances = step * pairwise_distances(grid)
    truth = hdbscan.hdbscan(np.maximum(distances, distances.T), metric="precomputed", min_cluster_size=3)
    np.testing.assert_array_equal(ours.labels, truth[0])
    np.testing.assert_allclose(ours.probabilities, truth[1], rtol=1e-7)


def test_an_outlier_leaves_the_others_alone() -> None:
    rng = np.random.default_rng(0)
    x = (5 * rng.normal(size=(6, 30)))[rng.integers(0, 6, 200)] + rng.normal(size=(200, 30))
    x[17] *= 1e8
    ours = cluster_activations(x)
    truth = hdbscan.hdbscan(differences(x), metric="precomputed")
    np.testing.assert_array_equal(ours.labels, truth[0])
    assert ours.labels[17] == -1 and ours.labels.max() == 5


def test_half_floats_are_plain_numbers() -> None:
    rng = np.random.default_rng(0)
    x = (8 * rng.normal(size=(5, 12))[rng.integers(0, 5, 150)] + rng.normal(size=(150, 12))).astype(np.float16)
    half, double = cluster_activations(x), cluster_activations(x.astype(np.float64))
    np.testing.assert_array_equal(half.labels, double.labels)
    np.testing.assert_array_equal(half.core_distances, double.core_distances)
