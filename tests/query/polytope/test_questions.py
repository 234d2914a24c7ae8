"""Boundaries, exits, neighbours and crossings of stored examples of the plane network, worked out on paper.

Gates after embed: x > 0, y > 0, x + y > 2 at hidden; x⁺ > y⁺ and (x + y − 2)⁺ > 1 at out: the logits.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import atlas
import query
from atlas.errors import NonFinite, NotStored, UnknownName, UsageError
from query.polytope.boundaries import nearest_boundaries
from query.polytope.crossings import span_codes
from query.polytope.exits import uniform_directions
from query.polytope.margins import margins_at
from query.polytope.points import point_at
from tests.atlases import add_texts, add_vectors, built_once
from tests.networks import PointNetwork, WordReader, shipped
from tests.query.examples.test_vectors import POINTS, TailedPoints
from tests.query.experiments.tailed import digit_atlas, plane_atlas, plane_reader

SPAN = "embed->"


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    with atlas.open(built_once(tmp_path_factory, "plane.atlas", plane_atlas)) as a:
        yield a, dict(a.rows("select token, example_id from examples")), plane_reader()


def ask(plane, function, word, **options):
    a, ids, reader = plane
    return function(a, example=ids[word], reader=reader, span=options.pop("span", SPAN), **options)


def test_boundaries_of_four_two_on_paper(plane):
    """x = y is nearest; to x + y = 2 the way leads across x + y = 3, to x = 0 across all others but y = 0."""
    found = ask(plane, query.boundaries, "4:2")
    table = found.table
    np.testing.assert_allclose(table["distance"], [2**0.5, 2, 3 * 0.5**0.5, 8**0.5, 4])
    assert table["site"].tolist() == ["out", "hidden", "out", "hidden", "hidden"]
    assert table["gate"].tolist() == [0, 1, 1, 2, 0]
    assert table["facet"].tolist() == [True, True, True, False, False]
    assert table["flips"].tolist() == [1, 1, 1, 3, 4] and table["verified"].all()
    np.testing.assert_allclose(table["met"], table["distance"])
    assert found.inradius == pytest.approx(2**0.5) and found.relative == pytest.approx(0.1**0.5)
    assert found.to_neighbor == 1 and found.of_neighbor == pytest.approx(2**0.5)
    assert (found.n_gates, found.n_pairs, found.tied, found.exact, found.missed) == (5, 0, 0, True, 0)


def test_a_point_on_boundaries_says_so(plane):
    """2:2 lies on x = y; (4, 0) on y = 0 as well as nowhere else."""
    found = ask(plane, query.boundaries, "2:2")
    assert found.tied == 1 and "lies on 1 boundaries" in found.remark
    assert found.table["distance"].iloc[0] == found.inradius == pytest.approx(0.5**0.5)
    with_it = ask(plane, query.boundaries, "2:2", proper=False).table
    assert with_it["distance"].iloc[0] == 0 and with_it["gate"].iloc[0] == 0 and len(with_it) == 5


def test_in_the_orthant_zeros_only_grow(plane):
    """From (0, 4) x > y is reached by growing x alone as far as y shrinks; nothing makes x smaller."""
    free, grown = (ask(plane, query.boundaries, "0:4", orthant=orthant).table for orthant in (False, True))
    assert grown["distance"].iloc[0] == pytest.approx(1)  # x + y = 3 by y alone: x would have to shrink
    assert free["distance"].iloc[0] == pytest.approx(0.5**0.5)


def test_exits_share_the_circle_on_paper(plane):
    """The polytope of 3:1 is y > 0, x > y, x + y > 3: a ray leaves through one of these, or never."""
    found = ask(plane, query.exits, "3:1", directions=4000)
    facets = found.shares[found.shares["by"] == "facet"]
    shares = {(row.site, row.gate): row for row in facets.itertuples()}
    # Seen from (3, 1): the corners (3, 0) and (1.5, 1.5) and, far out, the directions of y = 0 and x = y.
    angle = {name: np.arctan2(*way) for name, way in {"low": (-1, 0), "high": (0.5, -1.5)}.items()}
    expected = {
        ("out", 1): ((angle["low"] - angle["high"]) % (2 * np.pi)) / (2 * np.pi),
        ("hidden", 1): 0.25,
        ("out", 0): (angle["high"] - np.pi / 4) / (2 * np.pi),
    }
    for name, share in expected.items():
        share = share if share < 0.5 else 1 - share
        assert shares[name].share_low - 0.01 < share < shares[name].share_high + 0.01
    assert not np.isfinite(found.table["distance"]).all() and set(shares) == set(expected)


def test_exits_towards_examples_and_units(plane):
    a, ids, _ = plane
    towards = ask(plane, query.exits, "3:1", towards=f"example:{ids['3:5']}").table
    assert towards["distance"].tolist() == [pytest.approx(2)] and towards["away"].tolist() == [4]
    assert towards["gate"].tolist() == [0] and towards["site"].tolist() == ["out"]
    along = ask(plane, query.exits, "3:1", towards="unit:1").table
    assert along["distance"].tolist() == [pytest.approx(2), pytest.approx(1)]
    same = ask(plane, query.exits, "3:1", towards="same", directions=10).table
    labels = dict(a.rows("select example_id, label from examples"))
    assert len(same) == 10 and {labels[example] for example in same["to"]} == {"low"} == set(same["label"])


def test_neighbours_across_facets_on_paper(plane):
    """Across x = y, a gate of the output, the map stays; across y = 0 it loses the −1 of y, and left wins."""
    _, ids, _ = plane
    found = ask(plane, query.neighbor_polytopes, "4:2", k=2)
    assert found.codes.unpack().astype(int).tolist() == [[1, 1, 1, 0, 1], [1, 0, 1, 1, 1]]
    assert found.table["map_change"].tolist() == [pytest.approx(0, abs=1e-12), pytest.approx(1)]
    assert found.prediction == "right" and found.table["prediction"].tolist() == ["right", "left"]
    assert found.table["changes"].tolist() == [False, True]
    beyond = {f"{x}:{y}" for x in range(1, 7) for y in range(x, 7) if x + y > 3}, {"4:0", "5:0", "6:0"}
    assert [set(living) for living in found.table["examples"]] == [{ids[word] for word in words} for words in beyond]


def test_a_region_and_what_lies_between(plane):
    a, ids, reader = plane
    inside = query.region(a, ids["4:1"], ids["5:2"], reader=reader, span=SPAN)
    assert inside.same and inside.table.empty and inside.hamming == 0
    between = query.region(a, ids["3:1"], ids["1:3"], reader=reader, span=SPAN)
    assert not between.same and between.hamming == 1
    assert between.table[["t", "site", "gate"]].values.tolist() == [[0.5, "out", 0]]
    assert between.table["distance"].tolist() == [pytest.approx(2**0.5)]


@pytest.mark.parametrize(
    ("function", "options", "error", "message"),
    [
        (query.boundaries, {"k": 0}, UsageError, "k is 0; expected a whole number"),
        (query.boundaries, {"text": "3:1"}, UsageError, "example and text"),
        (query.boundaries, {"span": "out->"}, UsageError, "holds no site"),
        (query.boundaries, {"span": "nowhere->"}, UnknownName, "no site 'nowhere'"),
        (
            query.boundaries,
            {"span": "embed->:full"},
            UsageError,
            "of all positions, and there are none; write 'embed->'",
        ),
        (query.boundaries, {"sketch": -1}, UsageError, "sketch is -1"),
        (query.exits, {"directions": 0}, UsageError, "directions is 0"),
        (query.exits, {"towards": "unit:7"}, UnknownName, "no unit 7"),
        (query.exits, {"towards": "pca:0"}, NotStored, "no direction pca:0"),
        (query.exits, {"towards": "medoid:x:1"}, UsageError, "expected uniform, same, other"),
        (query.neighbor_polytopes, {"k": -1}, UsageError, "k is -1"),
    ],
)
def test_impossible_questions_are_refused(plane, function, options, error, message):
    with pytest.raises(error, match=message):
        ask(plane, function, "3:1", **options)


def test_a_direction_to_itself_is_refused(plane):
    _, ids, _ = plane
    with pytest.raises(UsageError, match="direction of length 0"):
        ask(plane, query.exits, "3:1", towards=f"example:{ids['3:1']}")


def test_a_network_without_a_tail_is_refused(plane):
    a, ids, reader = plane
    plain = copy.copy(reader)
    plain.__class__ = WordReader
    with pytest.raises(UsageError, match="can't be run onward"):
        query.boundaries(a, example=ids["3:1"], reader=plain, span=SPAN)


def test_nan_has_no_polytope(plane):
    a, _, _ = plane
    reader = plane_reader()
    reader.points[reader.words.index("3:1")] = np.nan
    with pytest.raises(NonFinite, match="NaN or infinity at site embed; nothing bounds it"):
        query.boundaries(a, text="3:1", reader=reader, span=SPAN)


def test_spans_without_gates_bound_nothing(plane):
    a, ids, _ = plane
    reader = plane_reader()
    reader.sites = (*reader.sites[:1], *(replace(site, n_gates=0) for site in reader.sites[1:]))
    with pytest.raises(UsageError, match="span embed-> has no gate, and so no boundary; choose one"):
        query.boundaries(a, example=ids["3:1"], reader=reader, span=SPAN)


def test_a_vector_is_a_subject_too(tmp_path):
    """(1, 3) after the hidden layer is (1, 3, 2): h₀ > h₁ is √2 away, h₂ > 1 is 1 away."""
    add_vectors(tmp_path / "v.atlas", PointNetwork(), POINTS)
    with atlas.open(tmp_path / "v.atlas") as a:
        asked = {"vector": [1.0, 3.0], "reader": TailedPoints(), "span": "hidden->"}
        found = query.boundaries(a, **asked)
        assert found.subject == "the vector" and found.example is None
        np.testing.assert_allclose(found.table["distance"], [1, 2**0.5])
        assert query.exits(a, **asked, towards="unit:2").table["distance"].tolist() == [np.inf, pytest.approx(1)]
        assert query.neighbor_polytopes(a, **asked, k=1).codes.unpack().astype(int).tolist() == [[0, 0]]


TEXT = "def main():\n    return 1\n"


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    """Two tokens of a text, read by the demo's GPT-2: the network and the atlas."""
    network, path = shipped("demo:gpt2"), tmp_path_factory.mktemp("smooth") / "gpt2.atlas"
    add_texts(path, network, [("a.py", "code", TEXT)], sites=["blocks.2.mlp", "blocks.3.mlp"])
    return network, path


def test_smooth_boundaries_are_met_at_roots(smooth):
    """Where GPT-2 itself meets a boundary stands beside the linear distance, and there the gate does flip."""
    network, path = smooth
    with atlas.open(path) as a:
        found = query.boundaries(a, text=TEXT, reader=network, span="blocks.2.mlp->", k=4)
        assert not found.exact and "linearisation" in found.remark and found.table["facet"].isna().all()
        np.testing.assert_allclose(found.table["met"], found.table["distance"], rtol=0.1)
        assert found.table["verified"].all() and (found.table["flips"] >= 1).all()
        point = point_at(a, network, "blocks.2.mlp->", text=TEXT)
        margins = margins_at(point.tail, point.place.sites, point.activation)
        nearest = nearest_boundaries(margins, 4)
        steps = -nearest.gradients / np.linalg.norm(nearest.gradients, axis=1, keepdims=True)
        for number, step, met in zip(nearest.numbers, steps, found.table["met"], strict=True):
            beside = np.stack([margins.point + met * share * step for share in (0.99, 1.01)])
            codes = span_codes(point.tail.read(torch.from_numpy(beside).float(), point.place.sites), margins.sites)
            assert np.logical_xor(*codes.unpack())[number]
        beyond = query.neighbor_polytopes(a, text=TEXT, reader=network, span="blocks.2.mlp->", k=2)
        assert not beyond.exact and beyond.table["map_change"].isna().all() and beyond.table["facet"].isna().all()
        np.testing.assert_allclose(beyond.table["met"], found.table["met"][:2], rtol=0.01)
        here = span_codes(point.tail.read(torch.from_numpy(margins.point[None]), margins.sites), margins.sites)
        flipped = np.logical_xor(beyond.codes.unpack(), here.unpack())
        assert flipped.sum(axis=1).tolist() == beyond.table["flips"].tolist()
        assert flipped[np.arange(2), nearest.numbers[:2]].all()


def test_smooth_rays_and_regions(smooth):
    """Each ray's gate flips where it is said to; between two tokens one that differs flips an odd number of times."""
    (network, path), span = smooth, "blocks.2.mlp->"
    with atlas.open(path) as a:
        first, second, *_ = [example for (example,) in a.rows("select example_id from examples order by 1")]
        point = point_at(a, network, span, example=first)
        rays = query.exits(a, example=first, reader=network, span=span, directions=40)
        assert not rays.exact
        ways = uniform_directions(np.random.default_rng([0, 15]), 40, len(point.activation))
        met = rays.table["met"].notna().to_numpy()
        assert met.mean() > 0.5
        beside = preactivation_signs(point, ways[met], rays.table[met])
        assert (beside[0] != beside[1]).all()
        between = query.region(a, first, second, reader=network, span=span)
        assert not between.exact and not between.same and "located by root search" in between.remark
        other = point_at(a, network, span, example=second).activation
        codes = span_codes(
            point.tail.read(torch.from_numpy(np.stack([point.activation, other])), point.place.sites),
            point.place.sites,
        ).unpack()
        assert between.hamming == (codes[0] != codes[1]).sum()
        counted = between.table.groupby("gate").size().reindex(range(codes.shape[1]), fill_value=0)
        np.testing.assert_array_equal(counted % 2, codes[0] != codes[1])


def preactivation_signs(point, ways, rays):
    """Whether the gate of each ray is on 1 % before and 1 % beyond where it is met; of a span of one site."""
    signs = []
    for share in (0.99, 1.01):
        at = point.activation + share * rays["met"].to_numpy()[:, None] * ways
        codes = span_codes(point.tail.read(torch.from_numpy(at).float(), point.place.sites), point.place.sites)
        signs.append(codes.unpack()[np.arange(len(rays)), rays["gate"].astype(int)])
    return signs


def test_a_text_that_was_never_ingested(plane):
    a, _, reader = plane
    found = query.boundaries(a, text="3:1", reader=reader, span=SPAN)
    assert found.example is None and found.inradius == pytest.approx(0.5**0.5) and found.neighbor is not None


def test_images_of_a_real_network(tmp_path):
    """The code across each facet differs in the gates that were foretold; spans of position codes are refused."""
    path = tmp_path / "digits.atlas"
    digit_atlas(path)
    reader = shipped("demo:inceptionv1")
    with atlas.open(path) as a:
        for example in (1, 2):
            found = query.boundaries(a, example=example, reader=reader, span="inception5a->:full", k=5)
            table = found.table
            assert found.span == "inception5a->:full" and table["verified"][table["facet"]].all()
        for function in (query.boundaries, query.exits, query.neighbor_polytopes):
            with pytest.raises(UsageError, match=r"codes of one position.*whole tensor.*'inception5a->:full'"):
                function(a, example=1, reader=reader, span="inception5a->")
        with pytest.raises(UsageError, match=r"codes of one position.*'inception5a->:full'"):
            query.region(a, 1, 2, reader=reader, span="inception5a->")
    with pytest.raises(UsageError, match=r"codes of one position.*'inception5a->:full'"):
        query.store_boundaries(path, reader=reader, span="inception5a->")
