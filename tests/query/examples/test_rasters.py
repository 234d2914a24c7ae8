"""One example through its network, against the codes and labels as they are stored."""

from __future__ import annotations

import numpy as np
import pytest

import query
from atlas import hamming
from atlas.errors import UnknownName, UsageError
from atlas.store.atlas import Atlas
from query.clustering.flow import cluster_path
from query.examples.rasters import rasters
from query.pairs.differing_gates import differing_gates


def one_of(a: Atlas, network: str, place: int = 5) -> int:
    number = a.catalog.network(network).network_id
    return a.rows("select example_id from examples where network_id = $1 order by 1", [number])[place][0]


def test_a_raster_shows_every_gate_of_a_position_code(a: Atlas):
    example = one_of(a, "words")
    shown = {raster.site: raster for raster in rasters(a, example)}
    sites = [site for site in a.catalog.sites if site.network == "words"]
    assert list(shown) == [site.name for site in sites]
    for site in sites:
        raster = shown[site.name]
        bits = a.codes([site], [example])[1].unpack()[0]
        assert np.array_equal(raster.values, bits) and raster.n_active == bits.sum()
        assert raster.n_gates == site.n_gates and not raster.by_channel


def test_a_raster_of_a_full_code_shows_the_share_of_positions_a_channel(a: Atlas):
    example = one_of(a, "pixels")
    full = next(site for site in a.catalog.sites if site.network == "pixels" and site.scope == "full")
    raster = next(raster for raster in rasters(a, example) if raster.site == full.name)
    bits = a.codes([full], [example])[1].unpack()[0]
    assert raster.by_channel
    for module, first, count, positions in raster.parts:
        gates = next(part for part in full.layout if part.module == module)
        assert count * positions == gates.count
        for channel in range(count):
            start = gates.start + channel * positions
            assert raster.values[first + channel] == pytest.approx(bits[start : start + positions].mean())


def test_a_path_names_the_stored_cluster_at_every_site(a: Atlas):
    example = one_of(a, "words")
    path = cluster_path(a, example, "activations").set_index("site")
    assert path["clustering"].notna().sum() == 2  # of blocks.1.mlp and blocks.3.mlp
    for site, row in path[path["clustering"].notna()].iterrows():
        where = query.membership(a, example=example, site=str(site), network="words", space="activations")
        assert (row["clustering"], row["cluster"], row["probability"]) == (
            where.clustering,
            where.cluster,
            where.probability,
        )
    assert path["cluster"].isna().sum() == len(path) - 2
    codes = cluster_path(a, example).set_index("site")
    newest = a.value("select max(clustering_id) from clusterings where target = 'blocks.3.mlp' and space = 'codes'")
    assert codes.loc["blocks.3.mlp", "clustering"] == newest


@pytest.mark.parametrize("target", [{"site": "blocks.2.mlp"}, {"span": "blocks.0.mlp->"}])
def test_the_gates_named_are_those_that_differ(a: Atlas, target: dict[str, str]):
    example = one_of(a, "words")
    found = query.nearest(a, example=example, network="words", k=7, include_self=True, **target)
    others = found["example_id"].tolist()
    shown = differing_gates(a, example, others, first=1000, **target)
    assert shown["distance"].tolist() == found["distance"].tolist()
    sites = a.catalog.target(network="words", **target).sites
    for other, distance, gates in shown.itertuples(index=False):
        expected = []
        for site in sites:
            bits = a.codes([site], [example, other])[1].unpack()
            expected += [(site.name, gate, bool(bits[1, gate])) for gate in np.flatnonzero(bits[0] != bits[1])]
        assert gates == expected and len(gates) == distance
    few = differing_gates(a, example, others, first=2, **target)
    assert [gates[:2] for gates in shown["gates"]] == few["gates"].tolist()


def test_a_distance_is_that_of_the_codes(a: Atlas):
    """Of full codes too, whose sites fill no whole bytes."""
    ids = [one_of(a, "pixels", place) for place in (0, 3, 4)]
    site = next(site for site in a.catalog.sites if site.network == "pixels" and site.scope == "full")
    _, codes = a.codes([site], ids)
    shown = differing_gates(a, ids[0], ids[1:], site=site.name)
    assert shown["distance"].tolist() == hamming(codes[1:], codes[[0]]).tolist()


def test_unknown_examples_and_spaces_are_said(a: Atlas):
    for question in (rasters, cluster_path):
        with pytest.raises(UnknownName, match="no example 99999"):
            question(a, 99999)
    with pytest.raises(UsageError, match="space is 'nowhere'"):
        cluster_path(a, 1, "nowhere")
    with pytest.raises(UnknownName, match="was read by network"):
        differing_gates(a, one_of(a, "words"), [one_of(a, "pixels")], site="blocks.2.mlp", network="words")
