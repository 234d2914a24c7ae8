"""The nearest example beyond a gate's boundary, against all of them compared one by one."""

import numpy as np
import pytest

import atlas
from atlas.errors import UnknownName
from query.polytope.opposite import nearest_opposite


def test_beyond_is_the_nearest_code_of_all(built):
    with atlas.open(built) as a:
        site = a.catalog.target(site="blocks.1.mlp", network="words").sites[0]
        ids, codes = a.codes([site])
        bits = codes.unpack()
        for place in (0, 7, 100):
            differs = bits != bits[place]
            found = nearest_opposite(a, int(ids[place]), site=site, gates=list(range(site.n_gates)))
            for gate, other in enumerate(found):
                beyond = np.flatnonzero(differs[:, gate])
                best = [(int(differs[i].sum()), int(ids[i])) for i in beyond]
                assert other == (min(best)[1] if best else None)


def test_a_stranger_has_no_opposite(built):
    with atlas.open(built) as a:
        site = a.catalog.target(site="blocks.1.mlp", network="words").sites[0]
        with pytest.raises(UnknownName, match="no code"):
            nearest_opposite(a, 1, site=site, gates=[0])
