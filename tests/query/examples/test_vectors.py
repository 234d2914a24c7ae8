"""Vectors as examples and as what is read now: their codes are those of the regions of the plane."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import atlas
import query
from atlas import Atlas
from atlas.errors import BadInput, UsageError, WeightsError
from ingest.derived.clusters import cluster
from query.examples.description import describe
from query.examples.kinds import numbers_in_words
from query.examples.live import Live, place_of
from tests.atlases import add_vectors
from tests.networks import REGIONS, PointNetwork, plane_network
from tests.query.experiments.tailed import dense_tail

POINTS = [(key, "even" if i % 2 == 0 else "odd", np.array(key.split(":"), float)) for i, key in enumerate(REGIONS)]
POINTS = [point for point in POINTS if point[0] != "nan:1"]


class TailedPoints(PointNetwork):
    """Points of the plane that are run on from the hidden layer."""

    def tail(self, site, work=None):
        later = [other for other in self.sites if other.ordinal > site.ordinal]
        return dense_tail(site, later, [layer[1:] for layer in self.layers[site.ordinal + 1 :]], self.classes)


@pytest.fixture(scope="module")
def built_points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("points") / "points.atlas"
    add_vectors(path, PointNetwork(), POINTS)
    return path


@pytest.fixture
def points(built_points: Path) -> Iterator[Atlas]:
    with atlas.open(built_points) as a:
        yield a


def test_examples_show_their_numbers(points):
    shown = describe(points, points.catalog.network(), [2, 1])
    assert shown["key"].tolist() == ["2:2", "1:1"] and shown["thumbnail"].isna().all()
    np.testing.assert_array_equal(np.stack(shown["vector"]), [[2, 2], [1, 1]])
    assert "token" not in shown and shown["label"].tolist() == ["odd", "even"]


def test_new_vectors_have_their_regions_code(points):
    """Wherever in the plane it lies; its nearest example is the one at that point."""
    reader = PointNetwork()
    for example, (key, _, point) in enumerate(POINTS, start=1):
        subject = query.subject(points, vector=point.tolist(), span="hidden->", network="points", reader=reader)
        assert subject.codes.unpack().astype(int).tolist() == [[int(bit) for bit in REGIONS[key][1]]]
        found = query.nearest(points, vector=point, site="hidden", radius=0, reader=reader)
        assert example in found["example_id"].tolist() and found.attrs["subject"] == "the vector"
        assert {tuple(map(int, code)) for code in bits(points, found)} == {tuple(map(int, REGIONS[key][0]))}


def bits(a: Atlas, found: pd.DataFrame) -> np.ndarray:
    return a.codes(a.catalog.target(site="hidden").sites, found["example_id"].tolist())[1].unpack()


@pytest.mark.parametrize(
    ("vector", "error", "message"),
    [
        ([1.0, 2.0, 3.0], BadInput, "the vector has 3 numbers; network points reads 2"),
        ([1.0, float("nan")], BadInput, r"number 1 \(from 0\) of the vector is NaN or infinite"),
        ([1e300, 0.0], BadInput, r"number 0 \(from 0\) of the vector is NaN or infinite"),
    ],
)
def test_impossible_vectors_are_refused(points, vector, error, message):
    with pytest.raises(error, match=message):
        query.subject(points, vector=vector, site="hidden", reader=PointNetwork())


def test_a_vector_needs_the_right_reader(points):
    with pytest.raises(UsageError, match="a vector that was not ingested must be read by network points itself"):
        query.subject(points, vector=[1.0, 2.0], site="hidden")
    with pytest.raises(UsageError, match="a text was given, but network points reads vectors"):
        query.subject(points, text="1:1", site="hidden", reader=plane_network())
    with pytest.raises(WeightsError, match="other"):
        other = PointNetwork()
        object.__setattr__(other.info, "weights_digest", "other")
        query.subject(points, vector=[1.0, 2.0], site="hidden", reader=other)
    with pytest.raises(UsageError, match="one of example, text, image, vector or code, got vector and code"):
        query.nearest(points, vector=[1.0, 2.0], code="110", site="hidden")


def test_stored_vectors_are_read_again(points):
    """Their activations are those that are stored, and one tail serves all of them."""
    reader = TailedPoints()
    live = Live(points, reader, place_of(reader, site="hidden"))
    ids = [5, 1, 3]
    views = live.views(ids)
    np.testing.assert_array_equal([view.numbers for view in views], [POINTS[i - 1][2] for i in ids])
    read = reader.read(views, codes=[], activations=[live.place.site]).activations["hidden"]
    np.testing.assert_array_equal(live.activations(ids), read)
    assert live.tail(1) is live.tail(2)


def test_clusters_show_members_numbers(tmp_path):
    path = tmp_path / "c.atlas"
    grid = [(f"{x}:{y}", None, [x / 8, y / 8]) for x in range(-8, 9) for y in range(-8, 9)]
    add_vectors(path, PointNetwork(), grid)
    cluster(path, site="hidden")
    with atlas.open(path) as a:
        found = query.clusters(a, site="hidden", samples=2)
        members = query.members(a, site="hidden", cluster=0)
    assert set(members["vector"].map(len)) == {2}
    shown = found["samples"].iloc[0]
    assert len(shown) == 2 and set(shown) <= {numbers_in_words(vector) for vector in members["vector"]}
    medoid = found["medoid"].iloc[0]
    [row] = members[members["example_id"] == medoid]["vector"]
    np.testing.assert_array_equal(found["medoid_vector"].iloc[0], row)


def test_long_vectors_are_cut_in_words():
    assert numbers_in_words([0.5, -1.25]) == "0.5, -1.25"
    assert numbers_in_words(np.arange(64.0), 3) == "0, 1, 2, … (64)"
