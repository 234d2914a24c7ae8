"""A unit's top and bands against sorting by hand; the ranking against entropies computed one by one."""

import math

import numpy as np
import pytest

import atlas
from atlas.errors import NotStored, UnknownName, UsageError
from query.clustering.labels import Clusters
from query.examples.labels import Labels
from query.experiments import registry
from query.experiments.neuron import neurons_are_polysemantic
from query.neurons.ranking import entropy, groups_of, rank_units
from tests.atlases import add_texts
from tests.networks import word_network, word_texts
from tests.query.experiments.judged import interval, result


def run(a, **options):
    return registry.run(a, "neuron", **({"network": "words", "site": "blocks.3.mlp", "resamples": 100} | options))


@pytest.fixture
def column(a):
    site = a.catalog.target(site="blocks.3.mlp", network="words").sites[0]
    return a.activations(site)


def test_a_units_top_is_its_highest(a, column):
    """The top of a unit is its highest activations."""
    ids, values = column
    table = run(a, unit=4, k=7).table
    top = table[table["part"] == "top"]
    expected = np.argsort(-values[:, 4], kind="stable")[:7]
    assert top["example_id"].tolist() == ids[expected].tolist() and top["rank"].tolist() == list(range(1, 8))
    np.testing.assert_allclose(top["activation"], values[expected, 4])
    labels = dict(a.rows("select example_id, label from examples"))
    assert [None if isinstance(x, float) else x for x in top["label"]] == [labels[i] for i in top["example_id"]]
    clusters = dict(a.rows("select example_id, label from cluster_labels where clustering_id = 3"))
    assert run(a, unit=4, k=7, clustering=3).table["cluster"].tolist() == [
        clusters[i] for i in run(a, unit=4, k=7, clustering=3).table["example_id"]
    ]


def test_bands_are_equally_full_and_rising(a, column):
    """Bands are equally full rising and hold what they say."""
    ids, values = column
    found = run(a, unit=4, bands=4, per_band=3)
    on = np.sort(values[values[:, 4] > 0, 4])
    parts = found.tables["composition"].drop_duplicates("part").set_index("part")
    assert list(parts.index) == ["top", "band 4", "band 3", "band 2", "band 1", "off"]
    sizes = parts["n_part"].drop("top")
    assert sizes.sum() == 360 and sizes["off"] == 360 - len(on)
    assert sizes.drop("off").max() - sizes.drop("off").min() <= 1
    for low, high in (("band 1", "band 2"), ("band 2", "band 3"), ("band 3", "band 4")):
        assert parts.loc[low, "high"] <= parts.loc[high, "low"]
    assert parts.loc["band 1", "low"] == on[0] and parts.loc["off", "high"] <= 0
    value = dict(zip(ids.tolist(), values[:, 4].tolist(), strict=True))
    for row in found.table.to_dict("records"):
        assert parts.loc[row["part"], "low"] <= value[row["example_id"]] <= parts.loc[row["part"], "high"]
    assert found.table.groupby("part").size()["band 2"] == 3
    counts = found.tables["composition"].groupby(["part", "what"])["n"].sum().unstack().loc[parts.index]
    assert (counts["cluster"] == parts["n_part"]).all() and (counts["label"] == parts["n_part"]).all()


def test_ranking_is_by_entropy(a, column):
    """The ranking is by entropy over labels; that over clusters is as computed one by one."""
    _, values = column
    clusters = np.array(
        [label for (label,) in a.rows("select label from cluster_labels where clustering_id = 3 order by example_id")]
    )
    ranking = run(a, k=10, clustering=3).tables["ranking"]
    assert ranking["label_entropy"].dropna().is_monotonic_decreasing
    for row in ranking.to_dict("records")[:12]:
        column_ = values[:, row["unit"]]
        top = [place for place in np.argsort(-column_, kind="stable")[:10] if column_[place] > 0]
        own = [clusters[place] for place in top if clusters[place] >= 0]
        shares = [own.count(cluster) / len(own) for cluster in set(own)]
        assert row["clusters"] == len(set(own)) and row["noise"] == len(top) - len(own)
        assert row["cluster_entropy"] == pytest.approx(-sum(p * math.log2(p) for p in shares), abs=1e-12)
        assert row["active"] == (column_ > 0).mean()


def test_the_most_even_unit_is_shown(a):
    """Without a unit the one whose top is spread most evenly is shown."""
    found = run(a)
    assert found.parameters["unit"] == found.tables["ranking"]["unit"][0]
    summary = found.tables["summary"].set_index("of")
    assert summary.loc["units", "n"] == len(found.tables["ranking"])
    assert summary.loc["random sets", "label_entropy"] == pytest.approx(math.log2(3), abs=0.1)


def test_clusters_of_one_label_are_a_group():
    """Clusters 0 and 1 are both of label 0, cluster 2 of label 1, cluster 3 of none that is known; noise is one."""
    own = np.array([0, 0, 1, 1, 2, 2, 3, 3, -1, -1])
    of = np.array([0, 0, 0, -1, 1, 1, -1, -1, 1, 0])
    clusters, labels = Clusters(own, None, "by hand"), Labels(np.arange(10), of, ("six", "two"), np.arange(10))
    groups = groups_of(clusters, labels)
    assert [len(set(groups[own == cluster])) for cluster in (0, 1, 2, 3, -1)] == [1] * 5
    assert groups[0] == groups[2] and len(set(groups)) == 4
    unlabelled = groups_of(clusters, Labels(np.arange(10), np.full(10, -1), (), np.arange(10)))
    assert len(set(unlabelled)) == 5


def test_a_split_thing_is_one_thing():
    """Unit 0 is on for sixes that lie in two clusters, unit 1 for sixes and twos: it is about several things."""
    own, of = np.repeat([0, 1, 2], 8), np.repeat([0, 0, 1], 8)
    clusters, labels = Clusters(own, None, "by hand"), Labels(np.arange(24), of, ("six", "two"), np.arange(24))
    values = np.stack([np.where(own < 2, 2.0, 0.0), np.where(own > 0, 2.0, 0.0)], axis=1)
    found = rank_units(values, clusters, labels, 16)
    assert found["unit"].tolist() == [1, 0] and found["clusters"].tolist() == [2, 2]
    assert found["groups"].tolist() == [2, 1] and found["group_entropy"].tolist() == [1, 0]


def test_entropy_in_bits():
    assert entropy(np.array([1, 1, 2, 2])) == 1 and entropy(np.array([3, 3])) == 0
    assert math.isnan(entropy(np.array([3])))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"unit": 31}, UsageError, r"unit is 31; site blocks.3.mlp has 31 units, numbered from 0"),
        ({"unit": -1}, UsageError, "unit is -1"),
        ({"k": 1}, UsageError, "k is 1"),
        ({"site": "nowhere"}, UnknownName, "no site 'nowhere'"),
        ({"clustering": 5}, UsageError, r"clustering 5 .* is not of blocks.3.mlp"),
        ({"clustering": 77}, UnknownName, "no clustering 77"),
    ],
)
def test_questions_that_are_refused(a, options, error, message):
    with pytest.raises(error, match=message):
        run(a, **options)


def test_activations_that_were_not_ingested(tmp_path):
    add_texts(tmp_path / "a", word_network(), word_texts(6), activations=["blocks.0.mlp"])
    with atlas.open(tmp_path / "a") as a:
        with pytest.raises(NotStored, match=r"no activations are stored at blocks.3.mlp .* --store-activations"):
            run(a)
        assert registry.run(a, "neuron", resamples=50).parameters["site"] == "blocks.0.mlp"


def test_the_seed_decides_the_numbers(a):
    """The same seed gives the same numbers."""
    first, again, other = (run(a, examples=200, seed=seed) for seed in (3, 3, 4))
    assert all(first.tables[name].equals(again.tables[name]) for name in first.tables)
    assert first.notes == again.notes and not first.table.equals(other.table)


def test_ranking_is_told_and_stopped(a):
    """Ranking tells unit by unit how far it is and can be stopped."""
    told = []
    found = run(a, progress=lambda done, total: told.append(done / total))
    ranking = [share for share in told if 1 / 3 < share < 2 / 3]
    assert told == sorted(told) and told[-1] == 1 and len(ranking) >= len(found.tables["ranking"]) - 1

    def stop(done, total):
        if done / total > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(a, progress=stop)


@pytest.mark.parametrize(
    ("met", "noisy", "word"),
    [(95, 0, "supported"), (52, 0, "undecided"), (10, 0, "not supported"), (95, 95, "undecided")],
)
def test_neurons_are_judged_by_majority(met, noisy, word):
    """Neurons are polysemantic where most tops meet two groups, with noise as one of them or without it."""
    ranking = [{"top": 20, "noise": int(i < noisy), "groups": 2 if i < met else 1} for i in range(100)]
    ranking += [{"top": 1, "noise": 1, "groups": 1}] * 500  # of one example nothing can be said
    summary = [{"of": of, "n": 9, **interval("group_entropy", 1, 2)} for of in ("units", "random sets")]
    found = neurons_are_polysemantic(result("neuron", ranking=ranking, summary=summary))
    assert found.word == word and found.numbers["n"].tolist()[:2] == [100, 100]
    assert found.numbers["value"].tolist()[:2] == [(met - noisy) / 100, met / 100]


def test_over_split_clusters_support_nothing():
    """Every unit is on for sixes alone, which lie in two clusters: none is about several things."""
    own, of = np.repeat([0, 1, 2], 8), np.repeat([0, 0, 1], 8)
    clusters, labels = Clusters(own, None, "by hand"), Labels(np.arange(24), of, ("six", "two"), np.arange(24))
    values = np.where(own < 2, 2.0, 0.0)[:, None].repeat(40, axis=1)
    ranking = rank_units(values, clusters, labels, 16)
    assert (ranking["clusters"] == 2).all()
    summary = [{"of": of, "n": 9, **interval("group_entropy", 1, 2)} for of in ("units", "random sets")]
    found = neurons_are_polysemantic(result("neuron", ranking=ranking.to_dict("records"), summary=summary))
    assert found.word == "not supported" and found.because == "0% to 0% of 40 units"
