"""Maps: the neighbours that they rest on are exact, and what is near in code is near on the map."""

from __future__ import annotations

import numpy as np
import pytest
from umap import umap_

from atlas import umap
from atlas.codes import SplineCodes, concatenate
from atlas.errors import NonFinite, UsageError
from atlas.search.hamming_index import hamming_matrix
from atlas.umap import lay_out

GROUPS, EACH = 6, 25


@pytest.fixture(scope="module")
def codes() -> SplineCodes:
    """Six groups of 25 codes of 13 + 50 gates, two of them equal."""
    rng = np.random.default_rng(3)
    centres = np.repeat(rng.random((GROUPS, 63)) < 0.5, EACH, axis=0)
    gates = centres ^ (rng.random(centres.shape) < 0.08)
    gates[1] = gates[0]
    return concatenate([SplineCodes.pack(gates[:, :13]), SplineCodes.pack(gates[:, 13:])])


@pytest.fixture(scope="module")
def laid_out(codes: SplineCodes) -> umap.Layout:
    return lay_out(codes, neighbors=10)


def test_neighbours_of_codes_are_nearest(codes: SplineCodes, laid_out: umap.Layout):
    truth = hamming_matrix(codes, codes).astype(float)
    np.fill_diagonal(truth, np.inf)
    nearest = np.argsort(truth, axis=1, kind="stable")[:, :10]
    assert laid_out.proven == 1
    np.testing.assert_array_equal(laid_out.neighbors, nearest)
    np.testing.assert_array_equal(laid_out.distances, np.take_along_axis(truth, nearest, axis=1))


def test_near_codes_are_near_on_the_map(codes: SplineCodes, laid_out: umap.Layout):
    apart = np.linalg.norm(laid_out.xy[:, None] - laid_out.xy[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    group = np.repeat(np.arange(GROUPS), EACH)
    assert (group[apart.argmin(axis=1)] == group).all()
    assert laid_out.xy.dtype == np.float32 and np.isfinite(laid_out.xy).all()


def test_points_are_joined_as_by_umap(laid_out: umap.Layout, monkeypatch: pytest.MonkeyPatch):
    """By its own functions, which are not compiled for so few points."""
    for name in ("smooth_knn_dist", "compute_membership_strengths"):
        monkeypatch.setattr(umap_, name, getattr(umap_, name).py_func)
    near, distances = laid_out.neighbors, laid_out.distances.copy()
    distances[3], distances[4, :7] = 0, 0
    own = np.arange(len(near))[:, None]
    expected, _, _ = umap_.fuzzy_simplicial_set(
        own,
        11,
        np.random.RandomState(0),
        "precomputed",
        knn_indices=np.concatenate([own, near], axis=1).astype(np.int32),
        knn_dists=np.concatenate([np.zeros_like(own), distances], axis=1),
    )
    joined = umap._fuzzy_graph(near, distances)
    np.testing.assert_allclose(joined.toarray(), expected.toarray(), rtol=1e-4)  # ten times what widths are found to


def test_a_seed_gives_one_map(codes: SplineCodes, laid_out: umap.Layout):
    np.testing.assert_array_equal(lay_out(codes, neighbors=10).xy, laid_out.xy)
    assert (lay_out(codes, neighbors=10, seed=1).xy != laid_out.xy).any()


def test_neighbours_of_activations(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((60, 7)).astype(np.float32)
    apart = np.linalg.norm(x[:, None].astype(float) - x[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, :8]
    found = lay_out(x, neighbors=8)
    np.testing.assert_array_equal(found.neighbors, nearest)
    np.testing.assert_allclose(found.distances, np.take_along_axis(apart, nearest, axis=1), rtol=1e-9)

    monkeypatch.setattr(umap, "EXACT_ACTIVATIONS", 50)  # 60 are then too many to compare all
    sketched = lay_out(x, neighbors=8)
    right = (sketched.neighbors == nearest).all(axis=1).mean()
    assert 0 < sketched.proven <= right <= 1


def test_equal_codes_all_round_have_a_map():
    equal = SplineCodes.pack(np.ones((12, 9), dtype=np.bool_))
    found = lay_out(equal, neighbors=3)
    assert np.isfinite(found.xy).all() and (found.distances == 0).all()


def test_progress_rises_and_may_stop(codes: SplineCodes):
    told: list[int] = []

    def until(limit: int) -> None:
        def tell(done: int, total: int) -> None:
            assert total == 2 * len(codes)
            told.append(done)
            if done >= limit:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            lay_out(codes, neighbors=10, progress=tell)

    until(len(codes) * 3 // 2)
    assert told == sorted(told) and told[0] == 0 and len(set(told)) > 20


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"neighbors": 1}, "neighbors is 1; expected a whole number of at least 2"),
        ({"neighbors": 150}, "150 neighbours of each were asked for, but there are 150 examples"),
        ({"min_dist": -0.1}, "min_dist is -0.1; expected a number from 0 to 1"),
        ({"seed": -1}, "seed is -1; expected a whole number from 0"),
    ],
)
def test_impossible_parameters_are_refused(codes: SplineCodes, given: dict, message: str):
    with pytest.raises(UsageError, match=message):
        lay_out(codes, **given)


def test_infinite_activations_are_refused():
    x = np.zeros((20, 3), np.float32)
    x[4, 1] = np.nan
    with pytest.raises(NonFinite, match="row 4"):
        lay_out(x, neighbors=3)
