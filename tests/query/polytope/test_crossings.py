"""Crossings of a segment: against lists worked out on paper, and against very fine sampling."""

import itertools

import numpy as np
import pytest
import torch

from atlas import hamming
from atlas.errors import TooManyPoints
from atlas.network import ImageView, TokenWindow
from query.polytope.crossings import exact_crossings, sampled_crossings, span_codes
from tests.networks import shipped
from tests.query.experiments.tailed import digits, plane_reader, random_tail

WHOLE = np.array([0.0, 1.0])


@pytest.fixture(scope="module")
def plane():
    reader = plane_reader()
    tail = reader.tail(reader.sites[0], TokenWindow(np.array([0]), np.array([0])))
    return tail, tail.later


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ((0.25, 0.75), (4.25, 0.75), [(0.125, 3), (0.25, 2), (0.5, 4)]),  # x = y, x + y = 2, x + y = 3
        ((-1, 2), (3, -2), [(0.25, 0), (0.375, 3), (0.5, 1)]),  # x = 0, x = y, y = 0; x + y stays 1
        ((4, 4), (5, 5.5), []),
        ((3, 1), (1, 3), [(0.5, 3)]),
        ((-3, -3), (-1, -2), []),
        ((1, 1), (-1, -1), [(0.5, 0), (0.5, 1)]),
    ],
)
def test_crossings_as_worked_out_on_paper(plane, start, end, expected):
    """Gates: 0 to 2 hidden (x, y, x + y − 2), 3 and 4 out (x⁺ − y⁺, (x + y − 2)⁺ − 1)."""
    tail, sites = plane
    found = exact_crossings(tail.precise(), np.array(start, float), np.array(end, float), sites)
    assert sorted(zip(found.at.round(12), found.gate, strict=True)) == expected
    assert len(found.switches) == 0


def test_per_step_counts_each_crossing_once(plane):
    tail, sites = plane
    found = exact_crossings(tail.precise(), np.array([0.25, 0.75]), np.array([4.25, 0.75]), sites)
    assert found.per_step(np.array([0, 0.2, 0.4, 0.6, 1])).tolist() == [1, 1, 1, 0]


def codes_at(tail, sites, points):
    return span_codes(tail.read(torch.from_numpy(np.asarray(points)), sites), sites)


def assert_parity(tail, sites, start, end, found):
    """A gate that flips an odd number of times differs between the ends; one that flips an even number does not."""
    ends = codes_at(tail, sites, [start, end]).unpack()
    flips = np.bincount(found.gate, minlength=ends.shape[1])
    np.testing.assert_array_equal(flips % 2 == 1, ends[0] != ends[1])


@pytest.mark.parametrize("seed", range(8))
def test_deep_crossings_are_all_found(seed):
    """Crossings of a deep network are all found and no others."""
    tail, sites = random_tail(seed)
    precise = tail.precise()
    start, end = 6 * np.random.default_rng([seed, 1]).standard_normal((2, 4))
    found = exact_crossings(precise, start, end, sites)
    assert_parity(precise, sites, start, end, found)
    assert (np.diff(found.at) >= 0).all() and found.at.min() >= 0 and found.at.max() <= 1
    fine = np.linspace(0, 1, 20_001)
    read = codes_at(precise, sites, start + fine[:, None] * (end - start))
    sampled = hamming(read[:-1], read[1:])
    # Fine steps miss what flips there and back within one, two at a time.
    missed = found.per_step(fine) - sampled
    assert (missed >= 0).all() and (missed % 2 == 0).all() and missed.sum() <= 4
    assert len(found.at) >= int(hamming(read[:1], read[-1:])[0])


@pytest.mark.parametrize("seed", range(8))
def test_networks_are_affine_in_between(seed):
    """The network is affine between crossings."""
    tail, sites = random_tail(seed)
    precise = tail.precise()
    start, end = 6 * np.random.default_rng([seed, 2]).standard_normal((2, 4))
    edges = np.unique(np.concatenate([WHOLE, exact_crossings(precise, start, end, sites).at]))
    for low, high in itertools.pairwise(edges):
        t = np.array([low, (low + high) / 2, high])
        first, middle, last = precise.logits(torch.from_numpy(start + t[:, None] * (end - start)))
        torch.testing.assert_close(middle, (first + last) / 2, rtol=1e-9, atol=1e-9)


def test_sampling_says_when_it_stops():
    """Sampling misses what flips back and says when it stops."""
    tail, sites = random_tail(3)
    start, end = (6 * np.random.default_rng([3, 1]).standard_normal((2, 4))).astype(np.float32)
    exact = len(exact_crossings(tail.precise(), start, end, sites).at)
    coarse = sampled_crossings(tail, start, end, sites, WHOLE, tolerance=0.0, most_points=3)
    fine = sampled_crossings(tail, start, end, sites, WHOLE, tolerance=0.0, most_points=100_000)
    read = codes_at(tail, sites, [start, end])
    assert coarse.totals[0] == int(hamming(read[:1], read[1:])[0])
    assert list(fine.totals) == sorted(fine.totals) and fine.totals[-1] <= exact
    assert coarse.points == 3 and fine.converged and fine.totals[-1] == fine.totals[-2] and fine.growth == 0
    assert fine.per_step.sum() == fine.totals[-1]


def test_a_batch_boundary_changes_no_count():
    tail, sites = random_tail(5)
    start, end = (6 * np.random.default_rng(5).standard_normal((2, 4))).astype(np.float32)
    edges = np.linspace(0, 1, 12)
    whole = sampled_crossings(tail, start, end, sites, edges, tolerance=0.0, most_points=200)
    for batch in (1, 2, 7):
        tail.batch = batch
        again = sampled_crossings(tail, start, end, sites, edges, tolerance=0.0, most_points=200)
        assert again.totals == whole.totals
        np.testing.assert_array_equal(again.per_step, whole.per_step)


@pytest.fixture(scope="module")
def inception():
    network = shipped("demo:inceptionv1")
    site = next(site for site in network.sites if site.name == "inception4e:full")
    views = [ImageView(image) for _, _, image in digits(3)]
    return network.tail(site), network.read(views, [], [site]).activations[site.name]


def test_crossings_agree_with_fine_sampling(inception):
    """Crossings of inceptionv1 agree with fine sampling."""
    tail, points = inception
    precise = tail.precise()
    found = exact_crossings(precise, points[0], points[1], tail.later)
    assert_parity(precise, tail.later, points[0].astype(float), points[1].astype(float), found)
    edges = np.linspace(0, 1, 11)
    sampled = sampled_crossings(precise, points[0], points[1], tail.later, edges, tolerance=0.0, most_points=3000)
    assert sampled.totals[-1] <= len(found.at) <= sampled.totals[-1] * 1.002
    assert np.abs(found.per_step(edges) - sampled.per_step).max() <= 2
    assert len(found.switches) > 0


def test_inceptionv1_is_affine_in_between(inception):
    """Without the pooling switches it would not be."""
    tail, points = inception
    precise = tail.precise()
    found = exact_crossings(precise, points[0], points[1], tail.later)
    edges = np.unique(np.concatenate([WHOLE, found.at, found.switches]))
    wide = np.argsort(np.diff(edges))[-20:]
    start, end = points[0].astype(float), points[1].astype(float)
    for low, high in zip(edges[wide], edges[wide + 1], strict=True):
        t = np.array([low, (low + high) / 2, high])
        first, middle, last = precise.logits(torch.from_numpy(start + t[:, None] * (end - start))).detach()
        torch.testing.assert_close(middle, (first + last) / 2, rtol=1e-9, atol=1e-11)


def test_too_many_boundaries_are_refused(inception):
    """The exact way refuses a segment of too many boundaries."""
    tail, points = inception
    with pytest.raises(TooManyPoints, match="more than 50 boundaries"):
        exact_crossings(tail.precise(), points[0], points[1], tail.later, most=50)


def test_pieces_of_a_segment_join(inception):
    """The same crossings whether a stage sees the whole segment at once or a few points at a time."""
    tail, points = inception
    precise = tail.precise()
    whole = exact_crossings(precise, points[0], points[2], tail.later)
    pieces = exact_crossings(precise, points[0], points[2], tail.later, state_bytes=1 << 20)
    np.testing.assert_array_equal(np.sort(pieces.gate), np.sort(whole.gate))
    np.testing.assert_allclose(pieces.at, whole.at, atol=1e-9)
    assert len(pieces.switches) == len(whole.switches)


def test_the_share_that_is_done_rises_to_one(plane):
    """Piece by piece on the exact way; sampled, of all points that may be read, which a path takes that never
    converges."""
    tail, sites = plane
    ends = np.array([-1, 2], np.float32), np.array([3, -2], np.float32)
    told = []
    whole = exact_crossings(tail.precise(), *ends, sites)
    pieces = exact_crossings(tail.precise(), *ends, sites, state_bytes=1, told=told.append)
    assert pieces.at.tolist() == whole.at.tolist()
    assert len(told) > len(tail.stages) and told == sorted(told) and told[-1] == pytest.approx(1)
    told.clear()
    sampled_crossings(tail, *ends, sites, WHOLE, tolerance=-1.0, most_points=64, told=told.append)
    assert len(told) > 1 and told == sorted(told) and told[-1] == 1
