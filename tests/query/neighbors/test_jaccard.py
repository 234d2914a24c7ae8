"""Jaccard distances of codes, from nearest to clusters, against scikit-learn's and hdbscan's."""

from __future__ import annotations

import shutil
from pathlib import Path

import hdbscan
import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

import atlas
import query
from atlas import SplineCodes, jaccard
from atlas.clustering.hdbscan import cluster_codes
from atlas.errors import UsageError
from atlas.store.atlas import Atlas
from ingest.derived.clusters import cluster

SITE, SPAN = "blocks.3.mlp", "blocks.1.mlp->"


def truth(a: Atlas, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Example ids, gates, and scikit-learn's distances."""
    ids, codes = a.codes(a.catalog.target(site=name, network="words").sites)
    gates = codes.unpack()
    return ids, gates, pairwise_distances(gates, metric="jaccard")


def test_codes_without_a_gate_on_are_equal():
    """At distance 0 of each other, as in scikit-learn, and at 1 of all others."""
    gates = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 1], [1, 1, 0]], dtype=bool)
    codes = SplineCodes.pack(gates)
    assert jaccard(codes, codes[[0]]).tolist() == [0, 0, 1, 1]
    assert jaccard(codes, codes[[2]]).tolist() == [1, 1, 0, 2 / 3]
    every = [jaccard(codes, codes[[row]]).tolist() for row in range(4)]
    assert np.array_equal(every, pairwise_distances(gates, metric="jaccard"))


@pytest.mark.parametrize("name", [SITE, SPAN])
def test_nearest_by_jaccard_is_exact(a: Atlas, name: str):
    """Of a site and of a span without an index; gates that differ and that both have on stand beside."""
    ids, gates, distances = truth(a, name)
    example = int(ids[7])
    found = query.nearest(a, example=example, site=name, network="words", metric="jaccard", k=25)
    order = [row for row in np.lexsort((ids, distances[7])) if row != 7][:25]
    assert found["example_id"].tolist() == ids[order].tolist()
    assert found["distance"].tolist() == distances[7][order].tolist()
    assert found["gates"].tolist() == (gates[order] != gates[7]).sum(axis=1).tolist()
    assert found["shared"].tolist() == (gates[order] & gates[7]).sum(axis=1).tolist()
    assert found.attrs["metric"] == "jaccard" and found.attrs["n_same"] == (distances[7] == 0).sum() - 1
    by_gates = query.nearest(a, example=example, site=name, network="words", k=25)
    both = set(found["example_id"]) & set(by_gates["example_id"])
    densities = [frame.set_index("example_id")["density"][sorted(both)] for frame in (found, by_gates)]
    assert both and densities[0].equals(densities[1])


def test_nearest_by_jaccard_among_others(a: Atlas):
    """Filters, and leaving out who shares the polytope, work as for Hamming distances."""
    ids, _, distances = truth(a, SITE)
    fruit = {row for (row,) in a.rows("select example_id from examples where label = 'fruit'")}
    found = query.nearest(a, example=int(ids[7]), site=SITE, metric="jaccard", k=9, label="fruit", outside=True)
    order = [row for row in np.lexsort((ids, distances[7])) if ids[row] in fruit and distances[7][row] > 0][:9]
    assert found["example_id"].tolist() == ids[order].tolist()
    for given, said in (({"radius": 3}, "radius counts gates"), ({"device": "cuda"}, "on the processor")):
        with pytest.raises(UsageError, match=said):
            query.nearest(a, example=int(ids[7]), site=SITE, metric="jaccard", **given)
    with pytest.raises(UsageError, match="metric is 'cosine'"):
        query.nearest(a, example=int(ids[7]), site=SITE, metric="cosine")


def test_clusters_by_jaccard_take_new_codes(built: Path, tmp_path: Path):
    """Stored as hdbscan finds them; a code that is none of the examples is placed by its Jaccard distances."""
    path = shutil.copytree(built, tmp_path / "own.atlas")
    number = cluster(path, site=SITE, network="words", metric="jaccard", min_samples=3)
    with atlas.open(path) as a:
        _, gates, distances = truth(a, SITE)
        expected = hdbscan.hdbscan(distances, metric="precomputed", min_cluster_size=5, min_samples=3)[0]
        labels = a.rows("select label from cluster_labels where clustering_id = $1 order by example_id", [number])
        assert [label for (label,) in labels] == expected.tolist() and max(expected) > 0
        member = gates[int(np.flatnonzero(expected == 1)[0])].copy()
        member[np.flatnonzero(member)[0]] = False
        placed = query.membership(a, code="".join("01"[int(bit)] for bit in member), clustering=number)
        assert (placed.metric, placed.stored) == ("jaccard", False) and -1 <= placed.cluster <= max(expected)
        medoids = query.clusters(a, clustering=number)["medoid"].to_numpy()
        rows = np.searchsorted(a.codes(a.catalog.target(site=SITE, network="words").sites)[0], medoids)
        for label, row in enumerate(rows):
            totals = distances[:, expected == label].sum(axis=1)
            assert totals[row] == pytest.approx(totals[expected == label].min())
    with pytest.raises(UsageError, match="exactly alone"):
        cluster(path, site=SITE, network="words", metric="jaccard", neighbors=20)
    with pytest.raises(UsageError, match="activations are clustered under euclidean, not jaccard"):
        cluster(path, site=SITE, network="words", space="activations", metric="jaccard")
    with pytest.raises(UsageError, match="on the processor"):
        cluster_codes(SplineCodes.pack(gates), metric="jaccard", device="cuda")
