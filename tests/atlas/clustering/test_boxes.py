"""Trees that boxes pruned are those of all distances, edge for edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.clustering.boxes import LEAF, Boxes
from atlas.clustering.distances import Activations, same_rows
from atlas.clustering.hdbscan import cluster_activations
from atlas.clustering.spanning_tree import FEW_UNITS, SpanningTree, spanning_tree

SEEDS = st.integers(0, 2**32 - 1)


def by_all_distances(x: np.ndarray, kind: np.ndarray, samples: int) -> SpanningTree:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atlas.clustering.spanning_tree.FEW_UNITS", 0)
        return spanning_tree(Activations.bounded(x), kind, samples, 1 << 32)


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    n=st.integers(2, 900),
    units=st.integers(1, FEW_UNITS),
    samples=st.integers(1, 12),
    spread=st.sampled_from([0.0, 1e-200, 1e-3, 1.0]),
    copies=st.booleans(),
)
def test_boxes_leave_out_nothing_that_matters(
    seed: int, n: int, units: int, samples: int, spread: float, copies: bool
) -> None:
    """Points on a grid, so that distances tie, moved off it by little, some many times over."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, (n, units)) + spread * rng.normal(size=(n, units))
    x = x[rng.integers(0, n, n)] if copies else x
    x *= rng.choice([1.0, 1e-200 if spread else 1.0, 1e6])
    first, kind = same_rows(x)
    samples = min(samples, n - 1)
    expected = by_all_distances(x[first], kind, samples)
    found = spanning_tree(Activations.bounded(x[first]), kind, samples, 1 << 32)
    for name in ("source", "target", "length", "cores", "prediction_cores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("units", [1, 4, FEW_UNITS])
def test_every_point_lies_in_the_box_that_holds_it(units: int) -> None:
    x = np.random.default_rng(0).normal(size=(5000, units)).astype(np.float32)
    boxes = Boxes.of(x)
    assert sorted(boxes.order.tolist()) == list(range(5000)) and (boxes.x == x[boxes.order]).all()
    assert boxes.starts[0] == 0 and boxes.starts[-1] == 5000 and 0 < np.diff(boxes.starts).max() <= LEAF
    for box, (start, stop) in enumerate(zip(boxes.starts[:-1], boxes.starts[1:], strict=True)):
        some = boxes.x[start:stop]
        assert (some.min(axis=0) == boxes.low[box]).all() and (some.max(axis=0) == boxes.high[box]).all()


def test_large_clusterings_of_few_units_are_those_of_all_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = (3 * rng.normal(size=(20, 4)))[rng.integers(0, 20, 3000)] + rng.normal(size=(3000, 4))
    x[500:600] = x[:100]
    boxed = cluster_activations(x.astype(np.float32))
    monkeypatch.setattr("atlas.clustering.spanning_tree.FEW_UNITS", 0)
    expected = cluster_activations(x.astype(np.float32))
    for name in ("labels", "probabilities", "persistence", "core_distances", "prediction_cores"):
        np.testing.assert_array_equal(getattr(boxed, name), getattr(expected, name))
    np.testing.assert_array_equal(boxed.tree.lambda_value, expected.tree.lambda_value)


def test_progress_rises_from_cores_to_the_tree_and_ctrl_c_stops_it() -> None:
    x = np.random.default_rng(0).normal(size=(9000, 3)).astype(np.float32)
    seen: list[int] = []
    cluster_activations(x, progress=lambda done, total: seen.append(done) if total == 18_000 else None)
    assert seen == sorted(set(seen)) and seen[-1] == 18_000 and len(seen) > 30 and min(seen) < 9000

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster_activations(x, progress=interrupt)
