"""Units: what activates one, over all examples, which gate is its own, and how all of them rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import atlas
import query
from atlas import Atlas
from atlas.errors import NotStored, UsageError
from atlas.network import GateRange
from query.clustering.clusterings import latest_clustering
from query.experiments import run
from query.experiments.intruders import intruder_scores
from query.neurons.activations import gate_of, unit_values
from query.neurons.ranking import ENTROPIES, highest_examples
from query.store.pieces import PIECES

SITE = "blocks.3.mlp"


def test_top_and_bands_of_all_activations(a: Atlas):
    site = a.catalog.target(site=SITE, network="words").sites[0]
    ids, values = a.activations(site)
    found = query.unit(a, 5, site=SITE, network="words", k=7, bands=4, per_band=3)
    column = values[:, 5]
    order = np.argsort(-column, kind="stable")
    assert (found.n, found.n_on, found.highest) == (len(ids), int((column > 0).sum()), float(column.max()))
    top = found.table[found.table["part"] == "top"]
    assert top["example_id"].tolist() == ids[order[:7]].tolist()
    assert top["activation"].tolist() == column[order[:7]].tolist()
    rising = np.sort(column[column > 0])
    for number, band in enumerate(np.array_split(rising, 4), start=1):
        rows = found.composition[(found.composition["part"] == f"band {number}")]
        assert set(rows["n_part"]) == {len(band)} and set(rows["low"]) == {float(band.min())}
        assert rows.loc[rows["what"] == "label", "n"].sum() == len(band)
        shown = found.table.loc[found.table["part"] == f"band {number}", "activation"]
        assert len(shown) == 3 and shown.between(band.min(), band.max()).all()
    clusters = dict(
        a.rows("select example_id, label from cluster_labels where clustering_id = $1", [found.clustering])
    )
    assert found.table["cluster"].tolist() == [clusters[i] for i in found.table["example_id"]]


def test_a_histogram_counts_each_once(a: Atlas):
    """All examples above zero; a unit that is never on has none of them, and no top."""
    found = query.unit(a, 5, site=SITE, network="words", bins=9)
    assert found.n_on > 50
    for what in ("cluster", "label"):
        rows = found.histogram[found.histogram["what"] == what]
        assert rows["n"].sum() == found.n_on and rows["high"].max() == pytest.approx(found.highest)
    never = query.unit(a, 2, site=SITE, network="words")
    assert (never.n_on, set(never.table["part"]), len(never.histogram)) == (0, {"off"}, 0)


@pytest.mark.parametrize(("network", "place"), [("words", SITE), ("pixels", "conv2:full")])
def test_a_gate_is_on_where_its_unit_is(a: Atlas, network: str, place: str):
    site = a.catalog.target(site=place, network=network).sites[0]
    ids, codes = a.codes([site])
    gates = codes.unpack()
    for number in range(site.n_units):
        at, column = unit_values(a, site, number)
        gate = gate_of(site, number)
        assert gate is not None and at.tolist() == ids.tolist()
        assert (gates[:, gate] == (column > 0)).all()


def test_progress_tells_of_every_piece(a: Atlas):
    newest = latest_clustering(a, a.catalog.target(site=SITE))
    assert newest is not None
    for ask in (
        lambda told: query.unit(a, 3, site=SITE, network="words", progress=told),
        lambda told: intruder_scores(a, clustering=newest.clustering_id, progress=told),
    ):
        shares: list[float] = []
        ask(lambda done, total, shares=shares: shares.append(done / total))
        assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1 and len(set(shares)) > PIECES


def test_units_of_a_block_end_its_branches(a: Atlas):
    site = a.catalog.target(site=SITE, network="words").sites[0]
    counts = {"b.branch1": 2, "b.branch2.0": 3, "b.branch2.1": 4, "b.branch4.1": 1}
    starts = np.cumsum([0, *counts.values()])
    layout = tuple(GateRange(name, int(s), n) for (name, n), s in zip(counts.items(), starts[:-1], strict=True))
    block = replace(site, n_units=7, n_gates=10, layout=layout)
    assert [gate_of(block, unit) for unit in range(7)] == [0, 1, 5, 6, 7, 8, 9]
    assert gate_of(replace(block, n_units=8), 0) is None  # whose units these are the layout does not say


def test_ranking_is_the_experiments(a: Atlas):
    clustering = latest_clustering(a, a.catalog.target(site=SITE, network="words")).clustering_id
    told: list[int] = []
    found = query.units(a, site=SITE, network="words", k=10, progress=lambda done, total: told.append(done))
    expected = run(a, "neuron", site=SITE, network="words", k=10)
    assert found.drop(columns="examples").equals(expected.tables["ranking"])
    assert found.attrs["clustering"] == clustering and told == list(range(len(found)))
    for mine, row in zip(found.attrs["chance"], expected.tables["summary"].to_dict("records"), strict=True):
        assert mine["of"] == row["of"] and mine["n"] == row["n"]
        for name in ENTROPIES:
            assert mine[name] == pytest.approx(row[name], nan_ok=True)


@pytest.mark.parametrize("k", [1, 3, 20, 60, 61, 99])
def test_highest_are_those_of_a_whole_sort(k: int):
    """Of equals the first, however many are equal to the last that is shown."""
    for column in np.random.default_rng(0).integers(-2, 4, (20, 60)).astype(np.float32):
        order = sorted(range(60), key=lambda place: (-column[place], place))
        assert highest_examples(column, k).tolist() == [place for place in order[:k] if column[place] > 0]


def test_what_has_no_units_is_said(a: Atlas, damaged: Callable[..., Path]):
    with pytest.raises(UsageError, match=r"unit is 31.*: site blocks.3.mlp has 31 units, numbered from 0"):
        query.unit(a, 31, site=SITE, network="words")
    with pytest.raises(NotStored, match=r"a span \(blocks.0.mlp->\) has gates but no units of its own"):
        query.unit(a, 0, site="blocks.0.mlp->", network="words")
    path = damaged(
        "delete from activations where site_id = 6", "update sites set n_activations = 0 where site_id = 6"
    )
    with atlas.open(path) as without, pytest.raises(NotStored, match=f"no activations are stored for site {SITE}"):
        query.unit(without, 0, site=SITE, network="words")


def test_without_clusterings_labels_alone(damaged: Callable[..., Path]):
    path = damaged("delete from clusterings", "delete from clusters", "delete from cluster_labels")
    with atlas.open(path) as a:
        found = query.unit(a, 5, site=SITE, network="words")
    assert found.clustering is None and set(found.composition["what"]) == {"label"}
    assert set(found.histogram["what"]) == {"label"}
