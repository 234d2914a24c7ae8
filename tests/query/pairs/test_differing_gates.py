"""Gates in which two examples differ, against the codes themselves."""

import numpy as np
import pytest

import query
from atlas import hamming
from atlas.errors import UnknownName
from query.pairs.differing_gates import differing_gates, gates_apart

HERE = {"site": "blocks.2.mlp", "network": "words"}


@pytest.mark.parametrize("asked", [{"site": "blocks.1.mlp"}, {"span": "blocks.0.mlp->"}])
def test_gates_apart_are_those_that_differ(a, asked):
    x, y = 40, 371
    found = gates_apart(a, x, y, network="words", **asked)
    target = a.catalog.target(network="words", **asked)
    assert found.sites["site"].tolist() == [site.name for site in target.sites]
    for site, row in zip(target.sites, found.sites.to_dict("records"), strict=True):
        on = a.codes([site], [x, y])[1].unpack()
        mine = found.gates[found.gates["site"] == site.name]
        np.testing.assert_array_equal(mine["gate"], np.flatnonzero(on[0] != on[1]))
        assert [bool(on[0][gate]) for gate in mine["gate"]] == (mine["on_in"] == x).tolist()
        assert set(mine["on_in"]) <= {x, y}
        assert (row["on_x"], row["on_y"], row["n_gates"]) == (on[0].sum(), on[1].sum(), site.n_gates)
        assert row["only_x"] + row["only_y"] == row["differ"] == len(mine)
        assert row["share"] == row["differ"] / site.n_gates
    by_sql = a.value(
        "select sum(hamming(cx.code, cy.code)) from codes cx join codes cy using (site_id) "
        "where cx.example_id = $1 and cy.example_id = $2 and site_id in (select unnest($3))",
        [x, y, [site.site_id for site in target.sites]],
    )
    assert len(found.gates) == by_sql > 0


def test_pairs_with_no_gates_apart(a):
    """An example and itself; and examples of two networks, which are not compared."""
    itself = gates_apart(a, 40, 40, site="blocks.1.mlp")
    assert itself.gates.empty and itself.sites["differ"].tolist() == [0]
    for compare in (lambda: gates_apart(a, 1, 40, **HERE), lambda: differing_gates(a, 40, [372], **HERE)):
        with pytest.raises(UnknownName, match="was read by network"):
            compare()


@pytest.mark.parametrize("target", [{"site": "blocks.2.mlp"}, {"span": "blocks.0.mlp->"}])
def test_gates_named_are_those_that_differ(a, target):
    found = query.nearest(a, example=17, network="words", k=7, include_self=True, **target)
    others = found["example_id"].tolist()
    shown = differing_gates(a, 17, others, first=1000, **target)
    assert shown["distance"].tolist() == found["distance"].tolist()
    for other, distance, gates in shown.itertuples(index=False):
        expected = []
        for site in a.catalog.target(network="words", **target).sites:
            bits = a.codes([site], [17, other])[1].unpack()
            expected += [(site.name, gate, bool(bits[1, gate])) for gate in np.flatnonzero(bits[0] != bits[1])]
        assert gates == expected and len(gates) == distance
    few = differing_gates(a, 17, others, first=2, **target)
    assert [gates[:2] for gates in shown["gates"]] == few["gates"].tolist()


def test_a_distance_is_that_of_the_codes(a):
    """Of full codes too, whose sites fill no whole bytes."""
    ids = [372, 375, 376]
    _, codes = a.codes(a.catalog.target(site="conv1:full").sites, ids)
    shown = differing_gates(a, ids[0], ids[1:], site="conv1:full")
    assert shown["distance"].tolist() == hamming(codes[1:], codes[[0]]).tolist()
