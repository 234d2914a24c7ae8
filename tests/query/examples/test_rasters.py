"""One example through its network, against the codes and labels as they are stored."""

import numpy as np
import pytest

import query
from atlas.errors import UnknownName, UsageError
from query.clustering.flow import cluster_path
from query.examples.rasters import rasters

EXAMPLE = 17  # of the network words


def test_a_raster_shows_every_gate(a):
    shown = {raster.site: raster for raster in rasters(a, EXAMPLE)}
    sites = [site for site in a.catalog.sites if site.network == "words"]
    assert list(shown) == [site.name for site in sites]
    for site in sites:
        raster = shown[site.name]
        bits = a.codes([site], [EXAMPLE])[1].unpack()[0]
        assert np.array_equal(raster.values, bits) and raster.n_active == bits.sum()
        assert raster.n_gates == site.n_gates and not raster.by_channel


def test_a_raster_of_full_code_by_channel(a):
    """Its values are shares of the positions of a channel."""
    full = next(site for site in a.catalog.sites if site.network == "pixels" and site.scope == "full")
    raster = next(raster for raster in rasters(a, 377) if raster.site == full.name)
    bits = a.codes([full], [377])[1].unpack()[0]
    assert raster.by_channel
    for module, first, count, positions in raster.parts:
        gates = next(part for part in full.layout if part.module == module)
        assert count * positions == gates.count
        shares = bits[gates.start : gates.start + gates.count].reshape(count, positions).mean(axis=1)
        np.testing.assert_allclose(raster.values[first : first + count], shares)


def test_a_path_names_the_clusters(a):
    path = cluster_path(a, EXAMPLE, "activations").set_index("site")
    clustered = path[path["clustering"].notna()]
    assert clustered.index.tolist() == ["blocks.1.mlp", "blocks.3.mlp"]
    for site, row in clustered.iterrows():
        member = query.membership(a, example=EXAMPLE, site=str(site), network="words", space="activations")
        shown = row["clustering"], row["cluster"], row["probability"]
        assert shown == (member.clustering, member.cluster, member.probability)
    assert path["cluster"].isna().sum() == len(path) - 2
    newest = a.value("select max(clustering_id) from clusterings where target = 'blocks.3.mlp' and space = 'codes'")
    assert cluster_path(a, EXAMPLE).set_index("site").loc["blocks.3.mlp", "clustering"] == newest


def test_unknown_examples_and_spaces(a):
    for question in (rasters, cluster_path):
        with pytest.raises(UnknownName, match="no example 99999"):
            question(a, 99999)
    with pytest.raises(UsageError, match="space is 'nowhere'"):
        cluster_path(a, 1, "nowhere")
