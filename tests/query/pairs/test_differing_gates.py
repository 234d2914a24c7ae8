"""Gates in which two examples differ, against the codes themselves."""

import numpy as np
import pytest

import query
from atlas.errors import UnknownName
from query.pairs.differing_gates import gates_apart


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


def test_an_example_is_apart_from_itself_in_no_gate(a):
    found = query.gates_apart(a, 40, 40, site="blocks.1.mlp")
    assert found.gates.empty and found.sites["differ"].tolist() == [0]


def test_examples_of_two_networks_are_not_compared(a):
    with pytest.raises(UnknownName, match="was read by network"):
        query.gates_apart(a, 1, 40, site="blocks.1.mlp", network="words")
