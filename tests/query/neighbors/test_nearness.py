"""How near is near: shares among the distances of all nearest neighbours, counted pair by pair."""

import shutil

import numpy as np
import pytest

import atlas
import query
from atlas.errors import UsageError
from ingest.derived.neighbors import store_neighbors

SITE = "blocks.2.mlp"


@pytest.fixture(scope="module")
def truth(built):
    """The distance of every example to its nearest other, all pairs compared bit by bit."""
    with atlas.open(built) as opened:
        bits = opened.codes(opened.catalog.target(site=SITE).sites)[1].unpack().astype(np.int32)
    distances = bits @ (1 - bits).T
    distances = distances + distances.T
    np.fill_diagonal(distances, bits.shape[1] + 1)
    return distances.min(axis=1)


def shares(truth, distances):
    return [((truth > d).mean(), (truth < d).mean()) for d in distances]


def test_shares_are_those_of_all_pairs(a, truth):
    """Of a sample that holds all examples."""
    distances = [0, 1, int(np.median(truth)), int(truth.max()), int(truth.max()) + 1]
    found = query.nearness(a, distances=distances, site=SITE, sample=10_000)
    assert found["distance"].tolist() == distances
    np.testing.assert_allclose(found[["nearer_than", "farther_than"]], shares(truth, distances))
    assert found.attrs == {
        "n": len(truth),
        "of": len(truth),
        "stored": False,
        "median": np.median(truth),
        "largest": truth.max(),
    }


def test_a_sample_is_near_the_truth(a, truth):
    distances = np.unique(truth)
    found = query.nearness(a, distances=distances, site=SITE, sample=128, seed=3)
    assert found.attrs["n"] == 128
    expected = np.array(shares(truth, distances))
    assert np.abs(found[["nearer_than", "farther_than"]].to_numpy() - expected).max() < 1.63 / np.sqrt(128)


def test_stored_neighbours_are_all_of_them(built, tmp_path, truth):
    path = shutil.copytree(built, tmp_path / "stored.atlas")
    store_neighbors(path, site=SITE, k=2)
    distances = np.unique(truth)
    with atlas.open(path) as a:
        found = query.nearness(a, distances=distances, site=SITE, sample=1)
    assert found.attrs["stored"] and found.attrs["n"] == len(truth)
    np.testing.assert_allclose(found[["nearer_than", "farther_than"]], shares(truth, distances))


@pytest.mark.usefixtures("unchecked")
def test_a_distance_is_a_whole_number(a):
    for distance in (-1, 0.5):
        with pytest.raises(UsageError, match="a distance is"):
            query.nearness(a, distances=[distance], site=SITE)
