"""A network of three inputs with pooling, through ingestion to the answers, worked out on paper.

Of (a, b, c) two windows take max(a, b) = u and max(b, c) = v. Then gates A = u + v > 4 and B = u − v > −2; of their
activations gates L = A − B > 0 and M = A + B > 0, which are the logits. At (3.5, 1, 2) u is a and v is c, A and B are
on by 1.5 and 3.5, so L = 2c − 6 = −2 is off and M = 2a − 2 = 5 on.
"""

import numpy as np
import pytest
import torch
from torch import nn

import atlas
import ingest
import query
from tests.atlases import add_vectors

POINT = [3.5, 1.0, 2.0]
NAMES = {("first:full", 0): "A", ("first:full", 1): "B", ("last:full", 0): "L", ("last:full", 1): "M"}


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d((1, 2), stride=1)
        self.first, self.last = nn.Conv2d(1, 2, (1, 2)), nn.Conv2d(2, 2, 1)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 1], [1, -1]]).reshape(2, 1, 1, 2))
            self.first.bias.copy_(torch.tensor([-4.0, 2]))
            self.last.weight.copy_(torch.tensor([[1.0, -1], [1, 1]]).reshape(2, 2, 1, 1))
            self.last.bias.zero_()

    def forward(self, x):
        pooled = self.pool(x.reshape(-1, 1, 1, 3))
        return self.last(self.first(pooled).relu()).relu().flatten(1)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """An atlas of the point and two others; what to ask about the point."""
    network = ingest.network(Pooled().eval(), inputs="vector", name="pooled", shape=(3,), classes=["left", "right"])
    path = tmp_path_factory.mktemp("pooled") / "pooled.atlas"
    points = {"point": POINT, "across": [3.5, 1.8, 1.6], "along": [3.5, 1, 4]}
    add_vectors(path, network, [(key, None, point) for key, point in points.items()])
    with atlas.open(path) as a:
        keys = dict(zip(points, (i for (i,) in a.rows("select example_id from examples order by 1")), strict=True))
        yield a, keys, {"reader": network, "span": "input->:full"}


def named(table):
    """A letter a gate; of a pooling window the input that it would take instead."""
    return [
        NAMES[row.site, row.gate] if row.kind == "gate" else "abc"[row.other_column] for row in table.itertuples()
    ]


def test_boundaries_and_facets_on_paper(asked):
    """c = b at √½, L at 1, A at 1.5/√2, a = b at 2.5/√2 (beyond c = b), B at 3.5/√2 and M at 2.5 (beyond others)."""
    a, keys, rest = asked
    found = query.boundaries(a, example=keys["point"], **rest)
    root = 0.5**0.5
    np.testing.assert_allclose(found.table["distance"], [root, 1, 1.5 * root, 2.5 * root, 3.5 * root, 2.5])
    assert named(found.table) == ["b", "L", "A", "b", "B", "M"]
    assert found.table["column"].fillna(-1).tolist()[0] == 2 and found.table["column"].tolist()[3] == 0
    assert found.table["facet"].tolist() == [True, True, True, False, False, False]
    assert found.table["flips"].tolist()[:3] == [0, 1, 1]
    assert found.table["verified"].tolist() == [True] * 5 + [False]  # where a = 1 A is off, and M = B on
    assert found.inradius == pytest.approx(root) and (found.n_gates, found.n_pairs, found.tied) == (4, 2, 0)
    assert found.exact and found.relative == pytest.approx(root / np.linalg.norm(POINT))


def test_neighbours_of_three_units_on_paper(asked):
    """Across c = b nothing changes but the window; across L the logits gain 2c; across A they go from 2a to B."""
    a, keys, rest = asked
    found = query.neighbor_polytopes(a, example=keys["point"], k=3, **rest)
    assert found.codes.unpack().astype(int).tolist() == [[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 0, 1]]
    np.testing.assert_allclose(found.table["map_change"], [0, 2, 2**0.5], atol=1e-12)
    assert found.prediction == "right" and not found.table["changes"].any()
    living = [set(some) for some in found.table["examples"]]
    assert living == [{keys["across"]}, {keys["along"]}, set()]


def test_rays_and_regions_on_paper(asked):
    """Upwards b meets c after 1; c meets L after 1, and downwards b after 1. To (3.5, 1.8, 1.6) c = b at 1/1.2."""
    a, keys, rest = asked
    for unit, up, down in ((0, np.inf, 1.5), (1, 1, np.inf), (2, 1, 1)):
        rays = query.exits(a, example=keys["point"], towards=f"unit:{unit}", **rest).table
        np.testing.assert_allclose(rays["distance"], [up, down])
        np.testing.assert_array_equal(rays["met"], rays["distance"])
    between = query.region(a, keys["point"], keys["across"], **rest)
    assert between.exact and not between.same and between.hamming == 0
    assert between.table["kind"].tolist() == ["pooling"]
    np.testing.assert_allclose(between.table["t"], 1 / 1.2, rtol=1e-6)
