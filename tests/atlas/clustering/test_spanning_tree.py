"""One tree, however its distances are computed and however many points are equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.clustering.distances import Activations, Codes, Points, TorchCodes
from atlas.clustering.hdbscan import cluster_activations
from atlas.clustering.hierarchy import Selection
from atlas.clustering.rows import same_rows
from atlas.clustering.spanning_tree import spanning_tree
from atlas.codes import SplineCodes
from tests.atlas.clustering.generated import (
    blobs,
    blobs_of_gates,
)

SEEDS = st.integers(0, 2**32 - 1)
SELECTIONS: list[Selection] = ["eom", "leaf"]


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(2, 150),
    bits=st.integers(1, 40),
    samples=st.integers(1, 6),
    spare_rows=st.integers(0, 200),
    prepare=st.sampled_from([None, Activations.of, Activations.bounded]),
)
def test_recomputed_rows_grow_the_same_tree(
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
def test_merging_equal_points_keeps_the_tree(seed: int, n: int, distinct: int, samples: int) -> None:
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
def test_products_of_signs_are_distances(bits: int) -> None:
    codes = SplineCodes.pack(blobs_of_gates(0, 60, bits))
    signs, popcounts = TorchCodes.of(codes, "cpu"), Codes.of(codes)
    for rows in (slice(3, 40), np.array([7, 1, 59])):
        found = signs.between(rows, slice(5, 60))
        assert found.dtype == popcounts.dtype
        np.testing.assert_array_equal(found, popcounts.between(rows, slice(5, 60)))


def test_torch_takes_the_same_products() -> None:
    x = blobs(0, 50, 30)
    ours, by_torch = (
        Activations.of(x),
        replace(Activations.of(x), centred=None, on_device=torch.from_numpy(Activations.of(x).centred)),
    )
    for rows in (slice(3, 40), np.array([7, 1, 49])):
        expected = ours.between(rows, slice(0, 50))
        np.testing.assert_allclose(by_torch.between(rows, slice(0, 50)), expected, rtol=1e-12)


def test_signs_of_zero_are_equal() -> None:
    signs = np.random.default_rng(0).choice(np.array([0.0, -0.0], np.float32), (100, 8))
    assert len(same_rows(signs)[0]) == 1 and len(same_rows(signs.view(np.uint32))[0]) > 50
    for neighbors in (None, 5):
        found = cluster_activations(signs, neighbors=neighbors)
        assert not found.core_distances.any() and (found.labels == -1).all()
    x = blobs(0, 60, 3)
    x[:40, 0] = 0
    np.testing.assert_array_equal(cluster_activations(x).labels, cluster_activations(-x).labels)


def test_equal_hashes_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
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
