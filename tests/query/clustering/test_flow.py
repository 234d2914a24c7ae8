"""A cluster from all sides, against counting by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import atlas
import query
from atlas import hamming
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.store.atlas import Atlas
from query.clustering import distinctive
from query.clustering.clusters import member_counts, near_clusters
from query.clustering.distinctive import distinctive_gates, gate_table, split
from query.clustering.flow import fate, member_flow
from query.experiments.groups import Codes, intruder
from query.experiments.intruders import intruder_scores


def clustering(a: Atlas, target: str, space: str = "codes", pick: str = "max") -> int:
    return a.value(f"select {pick}(clustering_id) from clusterings where target = $1 and space = $2", [target, space])


def labels_of(a: Atlas, number: int) -> pd.Series:
    rows = a.frame("select example_id, label from cluster_labels where clustering_id = $1", [number])
    return rows.set_index("example_id")["label"].sort_index()


@pytest.mark.parametrize("by", ["label", "token", "prediction"])
def test_members_against_the_whole(a: Atlas, by: str):
    number = clustering(a, "blocks.3.mlp")
    labels = labels_of(a, number)
    values = a.frame(f"select example_id, {by} as value from examples").set_index("example_id")["value"]
    values = values.reindex(labels.index).astype(object).where(lambda v: v.notna(), None)
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


@pytest.mark.parametrize(("of", "space"), [("blocks.1.mlp->", "codes"), ("blocks.3.mlp", "activations")])
def test_near_clusters_have_near_medoids(a: Atlas, of: str, space: str):
    number, sites = clustering(a, of, space), a.catalog.target(site=of, network="words").sites
    medoids = query.clusters(a, clustering=number)["medoid"].to_numpy()
    if space == "codes":
        codes = a.codes(sites, medoids)[1]
        distances = hamming(codes, codes[[1]])
    else:
        points = a.activations(sites[0], medoids)[1].astype(float)
        distances = np.linalg.norm(points - points[1], axis=1)
    found = near_clusters(a, clustering=number, cluster=1, k=2)
    nearest = [c for c in np.argsort(distances, kind="stable") if c != 1][:2]
    assert found["cluster"].tolist() == nearest
    assert found["distance"].tolist() == pytest.approx(distances[nearest].tolist())


def test_members_flow_to_their_clusters(a: Atlas):
    here, there = clustering(a, "blocks.1.mlp", "activations"), clustering(a, "blocks.3.mlp", "activations")
    before, after = labels_of(a, here), labels_of(a, there)
    found = member_flow(a, clustering=here, cluster=0)
    assert found["to_clustering"].unique().tolist() == [there] and found["step"].unique().tolist() == [0]
    assert dict(zip(found["to_cluster"], found["n"], strict=True)) == dict(Counter(after[before == 0]))
    back = member_flow(a, clustering=there, cluster=0, backwards=True)
    assert dict(zip(back["to_cluster"], back["n"], strict=True)) == dict(Counter(before[after == 0]))
    assert member_flow(a, clustering=there, cluster=0).empty
    assert back.attrs["size"] == (after == 0).sum()


def test_fate_of_members_is_a_cross_table(a: Atlas):
    codes, activations = clustering(a, "blocks.3.mlp"), clustering(a, "blocks.3.mlp", "activations")
    one, other = labels_of(a, codes), labels_of(a, activations)
    found = fate(a, clustering=codes, cluster=0, other=activations)
    counts = Counter(other[one == 0])
    assert dict(zip(found["cluster"], found["n"], strict=True)) == dict(counts)
    for row in found.itertuples():
        either = ((one == 0) | (other == row.cluster)).sum()
        assert row.overlap == pytest.approx(row.n / either) and row.size == (other == row.cluster).sum()
    assert found["share"].sum() == pytest.approx(1)


def test_intruder_scores_are_of_the_groups(a: Atlas, damaged: Callable[..., Path]):
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
    with (
        atlas.open(damaged("update sites set n_activations = 0")) as without,
        pytest.raises(NotStored, match="ingest with"),
    ):
        intruder_scores(without, clustering=number)


def test_distinctive_gates_head_the_table(a: Atlas, monkeypatch: pytest.MonkeyPatch):
    """Also where the codes are read in several blocks, each of which is told."""
    number = clustering(a, "blocks.3.mlp")
    target = a.catalog.target(site="blocks.3.mlp", network="words")
    whole = gate_table(a, target.sites[0], target.sites[0].layout, split(a, target, 0, number))
    monkeypatch.setattr(distinctive, "BLOCK_ROWS", 10)
    n, told = target.sites[0].n_codes, []
    found = distinctive_gates(
        a, clustering=number, cluster=0, most=5, progress=lambda done, total: told.append((done, total))
    )
    bound = found.pop("holm")
    pd.testing.assert_frame_equal(found, whole.head(5), check_like=True)
    # One by one: a test is passed over at level x where all of smaller p are called at x.
    ascending = sorted(whole["p"])
    assert found.attrs["n_sure"] == sum(
        all(p * (len(whole) - j) <= 0.05 for j, p in enumerate(ascending[: i + 1])) for i in range(len(whole))
    )
    for p, least in zip(found["p"], bound, strict=True):
        smaller = [(len(whole) - j) * each for j, each in enumerate(ascending) if each <= p]
        assert least == pytest.approx(min(1, max(smaller)))
    assert found.attrs["n_distinctive"] == whole["distinctive"].sum()
    assert found.attrs["n_inside"] == (labels_of(a, number) == 0).sum()
    assert told[0] == (0, n) and told[-1] == (n, n) and len(told) > 3
    assert told == sorted(told) and {total for _, total in told} == {n}


@pytest.mark.parametrize("elsewhere", [None, "blocks.2.mlp"])
def test_gates_tell_two_clusters_apart(a: Atlas, elsewhere: str | None):
    """Against a walk over the codes, sums of binomials, and bounds by their definition; who is in both is in none."""
    number, against = clustering(a, "blocks.3.mlp"), elsewhere and clustering(a, elsewhere)
    cluster, other = 0, 1
    found = distinctive_gates(
        a, clustering=number, cluster=cluster, against=other, against_clustering=against, most=1000
    )
    first = {int(i) for i, label in labels_of(a, number).items() if label == cluster}
    second = {int(i) for i, label in labels_of(a, against or number).items() if label == other}
    assert found.attrs["n_both"] == len(first & second)
    sides = first - second, second - first
    site = a.catalog.target(site="blocks.3.mlp", network="words").sites[0]
    ids, codes = a.codes([site])
    bits = dict(zip(ids.tolist(), codes.unpack(), strict=True))
    m, n = (len(side) for side in sides)
    assert (found.attrs["n_inside"], found.attrs["n_outside"]) == (m, n)
    p = {}
    for gate in range(site.n_gates):
        inside, outside = (sum(bool(bits[i][gate]) for i in side) for side in sides)
        row = found[found["gate"] == gate].iloc[0]
        assert (row["inside"], row["outside"]) == (pytest.approx(inside / m), pytest.approx(outside / n))
        odds = (inside + 0.5) / (m - inside + 0.5) / ((outside + 0.5) / (n - outside + 0.5))
        assert row["log_odds"] == pytest.approx(math.log(odds))
        on = inside + outside
        ways = {k: math.comb(m, k) * math.comb(n, on - k) for k in range(max(0, on - n), min(m, on) + 1)}
        lower, upper = (sum(w for k, w in ways.items() if keep(k)) for keep in (inside.__ge__, inside.__le__))
        p[gate] = min(1.0, 2 * min(lower, upper) / math.comb(m + n, on))
        assert row["p"] == pytest.approx(p[gate])
    ascending = sorted(p.values())
    for row in found.itertuples():
        q = min(value * len(p) / rank for rank, value in enumerate(ascending, start=1) if value >= p[row.gate])
        assert row.q == pytest.approx(min(q, 1.0)) and row.distinctive == (row.q <= 0.05)
    if elsewhere is None:
        with pytest.raises(UsageError, match="compare two clusters that differ"):
            distinctive_gates(a, clustering=number, cluster=cluster, against=cluster)


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
