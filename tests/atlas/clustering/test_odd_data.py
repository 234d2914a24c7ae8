"""Clusterings of data that is none: one value, all noise, a chain, fewer points than samples; against hdbscan's."""

from __future__ import annotations

from typing import Any

import hdbscan
import numpy as np
import pytest

from atlas.clustering.hdbscan import cluster_codes
from atlas.clustering.hierarchy import Selection
from atlas.codes import SplineCodes
from tests.atlas.clustering.generated import gate_distances

RNG = np.random.default_rng(0)
ODD: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "500 equal codes": (np.ones((500, 64), bool), {}),
    "a site that never fires": (np.zeros((500, 64), bool), {}),
    "equal codes but one": (np.vstack([np.zeros((50, 16), bool), np.ones((1, 16), bool)]), {}),
    "two values": (np.repeat(np.array([[0] * 16, [1] * 16], bool), [30, 40], axis=0), {}),
    "a chain": (np.tri(400, 400, dtype=bool), {}),
    "all noise": (RNG.random((200, 256)) < 0.5, {"min_cluster_size": 50}),
    "two points": (RNG.random((2, 16)) < 0.5, {"min_cluster_size": 2}),
    "fewer points than a cluster has": (RNG.random((4, 16)) < 0.5, {}),
    "fewer points than samples": (RNG.random((20, 16)) < 0.5, {"min_samples": 50}),
}


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
@pytest.mark.parametrize("selection", ["eom", "leaf"])
@pytest.mark.parametrize("name", ODD)
def test_odd_codes_cluster_as_hdbscans(name: str, selection: Selection) -> None:
    gates, options = ODD[name]
    found = cluster_codes(SplineCodes.pack(gates), metric="hamming", selection=selection, **options)
    distances = gate_distances(gates, "hamming")
    options = {"min_cluster_size": 5} | options
    truth = hdbscan.HDBSCAN(metric="precomputed", cluster_selection_method=selection, **options).fit(distances)
    np.testing.assert_array_equal(found.labels, truth.labels_)
    assert np.isfinite(found.probabilities).all() and len(found.persistence) == found.labels.max() + 1


@pytest.mark.parametrize("selection", ["eom", "leaf"])
def test_a_long_chain_needs_no_deep_stack(selection: Selection) -> None:
    """Each code one gate from the last: the hierarchy is as deep as there are codes."""
    chain = SplineCodes(np.packbits(np.tri(3000, 3000, dtype=bool), axis=1), (3000,))
    found = cluster_codes(chain, metric="hamming", selection=selection)
    assert len(found.labels) == 3000 and found.labels.max() >= 1
    stable = cluster_codes(chain, metric="hamming", selection=selection, ties="stable")
    assert (stable.labels == -1).all()  # merged from one end on, it never splits in two


def test_order_moves_only_what_ties() -> None:
    """What another order of the examples leaves as it is: distances to neighbours, and labels where nothing ties."""
    gates = RNG.random((6, 40))[RNG.integers(0, 6, 200)] < 0.5
    gates ^= RNG.random(gates.shape) < 0.1
    order = RNG.permutation(len(gates))
    one, other = (cluster_codes(SplineCodes.pack(part), metric="hamming") for part in (gates, gates[order]))
    np.testing.assert_array_equal(one.core_distances[order], other.core_distances)
