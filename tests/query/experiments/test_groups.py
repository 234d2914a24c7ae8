"""Purity, lift and the intruder test, against counting and simulation by hand."""

import math

import numpy as np
import pytest

import atlas
from query.examples.labels import Labels
from query.experiments.groups import (
    NEAREST_NORMS,
    Chance,
    Codes,
    intruder,
    measure_groups,
    normalised_entropy,
    random_groups,
    top_groups,
)
from tests.atlases import add_texts
from tests.networks import plane_network


def labels(numbers, inputs=None):
    numbers = np.asarray(numbers, dtype=np.int64)
    names = tuple(f"label{n}" for n in range(int(numbers.max()) + 1))
    inputs = np.arange(len(numbers)) if inputs is None else np.asarray(inputs)
    return Labels(np.arange(1, len(numbers) + 1), numbers, names, inputs)


def test_purity_is_counted_by_hand():
    """Purity entropy and inputs of a group counted by hand."""
    known = labels([0, 0, 0, 1, 1, 2, -1, -1], inputs=[1, 1, 2, 3, 3, 3, 4, 4])
    frame = measure_groups([np.array([0, 1, 3, 6]), np.array([3, 4]), np.array([5, 6, 7])], known, chance(known))
    assert frame["size"].tolist() == [4, 2, 3] and frame["labelled"].tolist() == [3, 2, 1]
    assert frame["inputs"].tolist() == [3, 1, 2]
    assert frame["purity"].tolist()[:2] == [2 / 3, 1.0] and math.isnan(frame["purity"][2])
    bits = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)) / math.log(3)
    assert frame["entropy"].tolist()[:2] == [pytest.approx(bits), 0.0]
    assert frame["top_label"].tolist() == ["label0", "label1", "label2"]


def chance(known):
    return Chance(known, np.random.default_rng(0))


def test_chance_is_a_mean_of_random_groups():
    """Chance is the mean purity of groups drawn one by one."""
    known = labels([0] * 30 + [1] * 15 + [2] * 5 + [-1] * 20)
    rng = np.random.default_rng(1)
    drawn = [np.bincount(rng.choice(known.numbers[:50], 8, replace=False)).max() / 8 for _ in range(4000)]
    assert chance(known).purity(8) == pytest.approx(np.mean(drawn), abs=0.02)


def test_random_groups_have_no_lift():
    """Random groups have no lift and groups of one label have all there is."""
    known = labels(np.repeat(np.arange(4), 50))
    by_chance = chance(known)
    groups = random_groups([10] * 200, 200, np.random.default_rng(3))
    assert measure_groups(groups, known, by_chance)["lift"].mean() == pytest.approx(1, abs=0.04)
    pure = measure_groups([np.arange(10)], known, by_chance)
    assert pure["lift"][0] == pytest.approx(1 / by_chance.purity(10)) and pure["entropy"][0] == 0


def test_even_labels_have_entropy_1():
    """Entropy is 1 where all labels are as common."""
    assert normalised_entropy(np.array([5, 5, 5])) == pytest.approx(1)
    assert math.isnan(normalised_entropy(np.array([4])))


def test_tops_hold_the_highest_above_0():
    """A top holds the highest scores above 0 and of equals the first."""
    scores = np.array([[3.0, -1], [5, 0], [5, 2], [1, -3]])
    assert [top.tolist() for top in top_groups(scores, 3)] == [[1, 2, 0], [2]]


# --- the intruder test -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """Two bundles of points in the plane network's hidden site: codes 100 (40 of them) and 010 (40)."""
    points = [("right", "1:-1"), ("right", "2:-1"), ("up", "-1:1"), ("up", "-1:2")]
    texts = [(f"{point}.txt", label, " ".join([point] * 20)) for label, point in points]
    path = tmp_path_factory.mktemp("bundles") / "a"
    add_texts(path, plane_network(), texts, per_sequence=4)
    with atlas.open(path) as a:
        site = a.catalog.target(site="hidden").sites[0]
        ids, values = a.activations(site)
        kinds = np.array([label for (label,) in a.rows("select label from examples order by example_id")])
        yield Codes(a, site, ids, np.linalg.norm(values.astype(np.float64), axis=1)), kinds


def test_another_code_always_stands_out(points):
    """An outsider with another code always stands out."""
    codes, kinds = points
    groups = [np.flatnonzero(kinds == kind) for kind in ("right", "up")]
    found = intruder(codes, groups, members=4, trials=25, rng=np.random.default_rng(0))
    assert found.tolist() == [1.0, 1.0]


def test_equal_codes_give_chance(points):
    """Without any difference an outsider is found as often as chance."""
    codes, kinds = points
    right = np.flatnonzero(kinds == "right")
    same = Codes(codes.atlas, codes.site, codes.ids[right], codes.norms[right])  # one code: all distances are 0
    found = intruder(same, [np.arange(20)], members=4, trials=30, rng=np.random.default_rng(0))
    assert found.tolist() == [pytest.approx(1 / 5)]


def test_groups_without_outsider_score_none(points):
    """Groups that leave no outsider or too few members have no score."""
    codes, _ = points
    everyone, few = np.arange(len(codes.ids)), np.arange(3)
    assert np.isnan(intruder(codes, [everyone, few], members=4, trials=2, rng=np.random.default_rng(0))).all()


def test_outsiders_are_near_in_norm(points):
    """An outsider is drawn from those nearest in norm."""
    from query.experiments.groups import _trials

    codes, _ = points
    norms = np.arange(len(codes.ids), dtype=np.float64)  # example i has norm i
    ranked = Codes(codes.atlas, codes.site, codes.ids, norms)
    group = np.array([40, 41, 42, 43, 44])
    drawn = _trials(ranked, group, 5, 400, np.random.default_rng(2))
    outsiders = drawn[:, -1]
    assert not np.isin(outsiders, group).any()
    assert outsiders.min() >= 40 - NEAREST_NORMS and outsiders.max() <= 44 + NEAREST_NORMS
    assert (np.sort(drawn[:, :-1], axis=1) == group).all()


def test_batches_of_codes_score_the_same(points, monkeypatch):
    """Codes read a batch at a time give the same scores."""
    codes, kinds = points
    groups = [np.flatnonzero(kinds == "right")[:6], np.arange(0, 80, 9)]
    whole = intruder(codes, groups, members=4, trials=20, rng=np.random.default_rng(5))
    monkeypatch.setattr("query.experiments.groups.CODES_AT_ONCE", 30)
    small = Codes(codes.atlas, codes.site, codes.ids, codes.norms)
    assert small.held is None
    assert intruder(small, groups, members=4, trials=20, rng=np.random.default_rng(5)).tolist() == whole.tolist()
