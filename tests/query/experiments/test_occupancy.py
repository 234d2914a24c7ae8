"""Occupancy against counting by hand and in SQL."""

from itertools import combinations

import numpy as np
import pytest

import atlas
from atlas.errors import NotStored, UnknownName
from query.experiments import registry
from query.experiments.occupancy import expected_distinct
from tests.atlases import add_images
from tests.networks import REGIONS, PixelNetwork, pixel_images


def test_points_in_the_plane_are_counted(a):
    """The 11 points of REGIONS (the twelfth is not stored), by their codes worked out on paper."""
    points = [code for point, code in REGIONS.items() if point != "nan:1"]
    found = registry.run(a, "occupancy", network="plane").table.set_index("target")
    hidden, out = found.loc["hidden"], found.loc["out"]
    assert (hidden["examples"], hidden["distinct"]) == (11, len({code for code, _ in points})) == (11, 7)
    assert (out["distinct"], out["collisions"], out["largest"]) == (4, 7, 4)
    assert hidden["saturation"] == 7 / 11
    assert hidden["shared"] == 11 - 5  # 110, 010, 011, 100 and 101 belong to one point each
    assert found.loc["hidden->", "distinct"] == out["distinct"]


def test_spans_join_the_codes_of_their_sites(a):
    found = registry.run(a, "occupancy", network="words").table.set_index("target")
    for site in ("blocks.1.mlp", "blocks.3.mlp"):
        expected = a.value(
            "select count(distinct code) from codes join sites using (site_id) where sites.name = $1", [site]
        )
        assert found.loc[site, "distinct"] == expected
    _, codes = a.codes(a.catalog.target(span="blocks.0.mlp->").sites)
    counts = np.unique(codes.packed, axis=0, return_counts=True)[1]
    span = found.loc["blocks.0.mlp->"]
    assert (span["distinct"], span["largest"]) == (len(counts), counts.max())
    assert span["shared"] == counts[counts > 1].sum() > 0
    assert span["n_gates"] == 60 and not span["exact"]


def test_rarefaction_equals_all_subsets():
    """Expected distinct codes equal the mean over all subsets."""
    polytopes = [0, 0, 0, 1, 1, 2, 3]
    counts = np.bincount(polytopes)
    for m in range(1, len(polytopes) + 1):
        subsets = [len(set(chosen)) for chosen in combinations(polytopes, m)]
        # combinations of equal numbers at different places count apart, as examples do
        assert expected_distinct(counts, m) == pytest.approx(np.mean(subsets), rel=1e-9)


def test_a_span_of_unequal_examples(tmp_path):
    """A span whose sites hold codes of different examples."""
    add_images(tmp_path / "a", PixelNetwork(), pixel_images(4), sites=["conv1"])
    with atlas.open(tmp_path / "a") as a:
        with pytest.raises(NotStored, match="needs the codes of conv2"):
            registry.run(a, "occupancy", targets=["conv1->"])
        with pytest.raises(UnknownName, match="no site 'conv9'"):
            registry.run(a, "occupancy", targets=["conv9"])
        assert registry.run(a, "occupancy").table["target"].tolist() == ["conv1"]
