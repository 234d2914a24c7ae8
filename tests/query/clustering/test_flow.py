"""A cluster from all sides, against counting by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

import query
from atlas import hamming
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.store.atlas import Atlas
from query.clustering.clusters import member_counts, near_clusters
from query.clustering.flow import fate, member_flow
from query.experiments import distinctive
from query.experiments.distinctive import gate_table, split
from query.experiments.groups import Codes, intruder
from query.experiments.intruders import distinctive_gates, intruder_scores


def clustering(a: Atlas, target: str, space: str = "codes", pick: str = "max") -> int:
    return a.value(f"select {pick}(clustering_id) from clusterings where target = $1 and space = $2", [target, space])


def labels_of(a: Atlas, number: int) -> pd.Series:
    rows = a.frame("select example_id, label from cluster_labels where clustering_id = $1", [number])
    return rows.set_index("example_id")["label"].sort_index()


@pytest.mark.parametrize("by", ["label", "token", "prediction"])
def test_members_are_counted_against_the_whole(a: Atlas, by: str):
    number = clustering(a, "blocks.3.mlp")
    labels = labels_of(a, number)
    values = a.frame(f"select example_id, {by} as value from examples").set_index("example_id")["value"]
    values = values.reindex(labels.index).where(lambda v: v.notna(), None)
    for cluster in (0, -1):
        found = member_counts(a, clustering=number, cluster=cluster, by=by, limit=1000)
        counts, everywhere = Counter(values[labels == cluster]), Counter(values)
        size = sum(counts.values())
        shown = {None if pd.isna(row.value) else row.value: row for row in found.itertuples()}
        assert {value: row.n for value, row in shown.items()} == dict(counts)
        for value, row in shown.items():
            assert row.n_all == everywhere[value]
            assert row.lift == pytest.approx((row.n / size) / (everywhere[value] / len(labels)))
        assert found.attrs["size"] == size and found.attrs["n_values"] == len(counts)
        assert found["n"].is_monotonic_decreasing
    assert len(member_counts(a, clustering=number, cluster=0, by=by, limit=1)) == 1


def test_near_clusters_are_those_of_near_medoids(a: Atlas):
    number = clustering(a, "blocks.1.mlp->")
    target = a.catalog.target(site="blocks.1.mlp->", network="words")
    medoids = query.clusters(a, clustering=number)["medoid"].to_numpy()
    _, codes = a.codes(target.sites, medoids)
    distances = hamming(codes, codes[[1]])
    found = near_clusters(a, clustering=number, cluster=1, k=3)
    expected = sorted((int(d), c) for c, d in enumerate(distances) if c != 1)[:3]
    assert list(zip(found["distance"], found["cluster"], strict=True)) == expected


def test_near_clusters_of_activations_are_euclidean(a: Atlas):
    number = clustering(a, "blocks.3.mlp", "activations")
    site = a.catalog.target(site="blocks.3.mlp", network="words").sites[0]
    _, points = a.activations(site, query.clusters(a, clustering=number)["medoid"].to_numpy())
    found = near_clusters(a, clustering=number, cluster=0, k=2)
    distances = np.linalg.norm(points.astype(float) - points[0].astype(float), axis=1)
    assert found["distance"].tolist() == pytest.approx(np.sort(distances)[1:3].tolist())


def test_members_flow_into_the_clusters_that_hold_them(a: Atlas):
    here, there = clustering(a, "blocks.1.mlp", "activations"), clustering(a, "blocks.3.mlp", "activations")
    before, after = labels_of(a, here), labels_of(a, there)
    found = member_flow(a, clustering=here, cluster=0)
    assert found["to_clustering"].unique().tolist() == [there] and found["step"].unique().tolist() == [0]
    assert dict(zip(found["to_cluster"], found["n"], strict=True)) == dict(Counter(after[before == 0]))
    back = member_flow(a, clustering=there, cluster=0, backwards=True)
    assert dict(zip(back["to_cluster"], back["n"], strict=True)) == dict(Counter(before[after == 0]))
    assert member_flow(a, clustering=there, cluster=0).empty
    assert back.attrs["size"] == (after == 0).sum()


def test_the_fate_of_members_is_a_cross_table(a: Atlas):
    codes, activations = clustering(a, "blocks.3.mlp"), clustering(a, "blocks.3.mlp", "activations")
    one, other = labels_of(a, codes), labels_of(a, activations)
    found = fate(a, clustering=codes, cluster=0, other=activations)
    counts = Counter(other[one == 0])
    assert dict(zip(found["cluster"], found["n"], strict=True)) == dict(counts)
    for row in found.itertuples():
        either = ((one == 0) | (other == row.cluster)).sum()
        assert row.overlap == pytest.approx(row.n / either) and row.size == (other == row.cluster).sum()
    assert found["share"].sum() == pytest.approx(1)


def test_intruder_scores_are_those_of_the_groups(a: Atlas):
    number = clustering(a, "blocks.3.mlp")
    found = intruder_scores(a, clustering=number, members=3, trials=7, seed=4)
    site = a.catalog.target(site="blocks.3.mlp", network="words").sites[0]
    labels = labels_of(a, number)
    ids, points = a.activations(site, labels.index.to_numpy())
    norms = np.linalg.norm(points.astype(np.float64), axis=1)
    groups = [np.flatnonzero(labels.to_numpy() == c) for c in range(labels.max() + 1)]
    rng = np.random.default_rng([4, 2, site.ordinal])
    expected = intruder(Codes(a, site, ids, norms), groups, 3, 7, rng)
    assert np.array_equal(found["intruder"], expected, equal_nan=True)
    assert found["intruder"].max() > found.attrs["chance"]
    with pytest.raises(UsageError, match="of a span of 2"):
        intruder_scores(a, clustering=clustering(a, "blocks.1.mlp->"))


def test_an_intruder_test_without_activations_says_so(damaged):
    import atlas

    with (
        atlas.open(damaged("update sites set n_activations = 0")) as a,
        pytest.raises(NotStored, match="ingest with"),
    ):
        intruder_scores(a, clustering=clustering(a, "blocks.3.mlp"))


def test_distinctive_gates_are_the_head_of_the_whole_table(a: Atlas):
    number = clustering(a, "blocks.3.mlp")
    target = a.catalog.target(site="blocks.3.mlp", network="words")
    whole = gate_table(a, target.sites[0], target.sites[0].layout, split(a, target, 0, number))
    found = distinctive_gates(a, clustering=number, cluster=0, most=5)
    pd.testing.assert_frame_equal(found, whole.head(5), check_like=True)
    assert found.attrs["n_distinctive"] == whole["distinctive"].sum()
    assert found.attrs["n_inside"] == (labels_of(a, number) == 0).sum()


def test_counting_gates_tells_how_many_codes_are_read(a: Atlas, monkeypatch: pytest.MonkeyPatch):
    number = clustering(a, "blocks.3.mlp")
    silent = distinctive_gates(a, clustering=number, cluster=0)
    n = a.catalog.target(site="blocks.3.mlp", network="words").sites[0].n_codes
    monkeypatch.setattr(distinctive, "BLOCK_ROWS", 10)  # several blocks of so few codes
    told: list[tuple[int, int]] = []
    found = distinctive_gates(
        a, clustering=number, cluster=0, progress=lambda done, total: told.append((done, total))
    )
    assert told[0] == (0, n) and told[-1] == (n, n) and len(told) > 3
    assert [done for done, _ in told] == sorted(done for done, _ in told) and {total for _, total in told} == {n}
    pd.testing.assert_frame_equal(found, silent)


def test_unknown_clusters_are_said(a: Atlas):
    number = clustering(a, "blocks.3.mlp")
    for question in (member_counts, near_clusters, member_flow):
        with pytest.raises(UnknownName, match="no cluster 99 in clustering"):
            question(a, clustering=number, cluster=99)
    with pytest.raises(UnknownName, match="no cluster 99"):
        fate(a, clustering=number, cluster=99, other=number)
    with pytest.raises(UsageError, match="no medoid"):
        near_clusters(a, clustering=number, cluster=-1)
    with pytest.raises(UsageError, match="by is 'loss'"):
        member_counts(a, clustering=number, cluster=0, by="loss")
