"""Groups side by side: planted clusters are found pure, random ones are not."""

import numpy as np
import pandas as pd
import pytest

import atlas
from atlas.errors import NotStored, UnknownName, UsageError
from ingest.derived.clusters import cluster
from query.experiments import registry
from query.experiments.groups import share_monosemantic
from query.experiments.monosemanticity import (
    activation_clusters_are_monosemantic,
    clusters_are_monosemantic,
    clusters_beat_neurons,
)
from query.statistics import share_interval
from tests.atlases import add_texts
from tests.networks import word_network, word_texts
from tests.query.experiments.judged import DOWN, UP, WIDE, interval, result

ALL = ["code clusters", "activation clusters", "neurons", "NMF", "PCA", "random groups"]


def run(a, **options):
    return registry.run(a, "monosemanticity", **({"network": "words", "components": 5, "resamples": 100} | options))


def test_all_methods_stand_side_by_side(a):
    """All methods stand side by side at every site with their n."""
    found = run(a)
    table = found.table
    assert table.groupby("site", sort=False)["method"].agg(list).to_dict() == {
        f"blocks.{i}.mlp": ALL for i in range(4)
    }
    assert (table["examples"] == 360).all() and (table["groups"] > 0).all()
    known = table[table["groups"] >= 6]
    assert (known["purity_low"] <= known["purity"]).all() and (known["purity"] <= known["purity_high"]).all()
    groups = found.tables["groups"]
    assert groups.groupby(["site", "method"]).size().sum() == table["groups"].sum()
    means = groups.groupby(["site", "method"])["purity"].mean()
    for row in table.to_dict("records"):
        assert row["purity"] == pytest.approx(means[row["site"], row["method"]])


def test_word_clusters_are_about_their_kind(a):
    """The kinds lie around centres of their own, so that clusters are pure by construction."""
    table = run(a).table.set_index(["site", "method"])
    for site in ("blocks.1.mlp", "blocks.3.mlp"):
        clusters, random = table.loc[(site, "code clusters")], table.loc[(site, "random groups")]
        assert clusters["purity_low"] > random["purity_high"] and clusters["lift_low"] > 1.5
        assert random["lift_low"] < 1 < random["lift_high"] or random["lift"] == pytest.approx(1, abs=0.1)
        assert clusters["intruder_low"] > clusters["chance"] == 1 / 6
        assert abs(random["intruder"] - 1 / 6) < 0.15


def test_purity_is_the_clusterings(a):
    """Purity and coverage of stored clusters are those of the clustering."""
    found = run(a, sites=["blocks.3.mlp"])
    rows = a.rows("select size, purity from clusters where clustering_id = 3 order by label")
    groups = found.tables["groups"].query("method == 'code clusters'")
    assert groups["size"].tolist() == [size for size, _ in rows]
    np.testing.assert_allclose(groups["purity"], [purity for _, purity in rows])
    noise = a.value("select n_noise from clusterings where clustering_id = 3")
    clusters = found.table.set_index("method").loc["code clusters"]
    assert clusters["coverage"] == pytest.approx(1 - noise / 360)


def test_tokens_instead_of_labels(a):
    found = run(a, sites=["blocks.0.mlp"], by="token")
    tops = set(found.tables["groups"]["top_label"])
    assert tops <= {token for (token,) in a.rows("select distinct token from examples where network_id = 2")}
    assert not tops & {"fruit", "metal", "river"}


def test_the_seed_decides_the_numbers(a):
    """The same seed gives the same numbers and another does not."""
    first, again, other = (run(a, sites=["blocks.1.mlp"], seed=seed) for seed in (0, 0, 1))
    assert first.table.equals(again.table) and first.tables["groups"].equals(again.tables["groups"])
    assert not first.table.equals(other.table)


def test_a_sample_of_the_examples_is_said(a):
    found = run(a, sites=["blocks.1.mlp"], examples=100)
    assert (found.table["examples"] == 100).all()
    assert any("100 of 360 examples, drawn at random" in note for note in found.notes)


def test_empty_clusterings_have_a_row(damaged):
    """A site whose clustering finds nothing has a row of no groups."""
    path = damaged(
        "update cluster_labels set label = -1 where clustering_id = 3",
        "delete from clusters where clustering_id = 3",
        "update clusterings set n_clusters = 0, n_noise = 360 where clustering_id = 3",
    )
    with atlas.open(path) as b:
        found = run(b, sites=["blocks.1.mlp", "blocks.3.mlp"])
    table = found.table.set_index(["site", "method"])
    assert table.groupby("site", sort=False).size().to_dict() == {"blocks.1.mlp": 6, "blocks.3.mlp": 6}
    none = table.loc[("blocks.3.mlp", "code clusters")]
    assert (none["groups"], none["coverage"], none["n_judged"]) == (0, 0.0, 0) and none["examples"] == 360
    assert none[["size", "inputs", "purity", "lift_low", "intruder_high", "monosemantic"]].isna().all()
    assert any("blocks.3.mlp: the clustering of codes finds no cluster" in note for note in found.notes)
    verdict = clusters_are_monosemantic(found)
    assert "1 have fewer than 10 clusters" in verdict.because or "2 have fewer than 10" in verdict.because
    assert any("blocks.3.mlp: monosemantic code clusters" in what for what in verdict.numbers["what"])
    assert found.figure().data and clusters_beat_neurons(found).word in ("undecided", "supported")


def test_too_large_sites_have_a_row(a, monkeypatch):
    """A site that is not clustered and too large to be has a row too."""
    monkeypatch.setattr("query.clustering.labels.UNASKED_POINTS", 100)
    found = run(a, sites=["blocks.1.mlp"])
    row = found.table.set_index("method").loc["code clusters"]
    assert row["groups"] == 0 and any("no clustering of codes is stored" in note for note in found.notes)


def test_monosemantic_shares_need_two_inputs(a):
    """The share of monosemantic groups is counted among those of two inputs."""
    found = run(a, sites=["blocks.0.mlp"], by="token")
    groups = found.tables["groups"]
    for row in found.table.to_dict("records"):
        judged = groups[(groups["method"] == row["method"]) & (groups["inputs"] >= 2)]
        expected = share_interval(int((judged["purity"] > 0.5).sum()), len(judged))
        assert [row[f"monosemantic{end}"] for end in ("", "_low", "_high")] == list(expected[:3])
        assert row["n_judged"] == len(judged)
    one_text = pd.DataFrame({"inputs": [1, 1, 2, 3], "purity": [1.0, 1.0, 0.5, np.nan]})
    assert share_monosemantic(one_text)[::3] == (0.0, 1)


def test_without_activations_codes_stand(tmp_path):
    """Without activations there are code clusters and random groups alone."""
    add_texts(tmp_path / "a", word_network(), word_texts(20), activations=[])
    cluster(tmp_path / "a", site="blocks.3.mlp")
    with atlas.open(tmp_path / "a") as a:
        found = run(a, sites=["blocks.3.mlp"])
    assert found.table["method"].tolist() == ["code clusters", "random groups"]
    assert found.table["intruder"].isna().all()
    assert any("no activations are stored" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sites": ["blocks.9.mlp"]}, UnknownName, r"no site 'blocks.9.mlp' in network words; it has blocks.0.mlp"),
        ({"sites": []}, UsageError, "sites is empty"),
        ({"by": "colour"}, UsageError, "by is 'colour'; expected label or token"),
        ({"k": 1}, UsageError, "k is 1; expected a whole number of at least 2"),
        ({"members": 1}, UsageError, "members is 1"),
        ({"trials": 0}, UsageError, "trials is 0"),
        ({"confidence": 2.0}, UsageError, "confidence is 2.0"),
        ({"network": "nobody"}, UnknownName, "no network 'nobody'"),
    ],
)
def test_questions_that_are_refused(a, options, error, message):
    with pytest.raises(error, match=message):
        run(a, **options)


def test_examples_without_labels_are_refused(tmp_path):
    """Examples without labels are refused and a site without codes."""
    texts = [(key, None, text) for key, _, text in word_texts(6)]
    add_texts(tmp_path / "a", word_network(), texts, sites=["blocks.0.mlp"])
    with atlas.open(tmp_path / "a") as a:
        with pytest.raises(UsageError, match="none of the 36 examples has a label"):
            run(a)
        with pytest.raises(NotStored, match=r"needs the codes of blocks.1.mlp, which were not ingested"):
            run(a, sites=["blocks.1.mlp"])


def test_another_distance_is_recorded(a):
    """A clustering by another distance can be chosen and is recorded."""
    site = "blocks.3.mlp"
    newest, chosen = run(a, sites=[site]), run(a, sites=[site], clusterings=[2])
    assert newest.parameters["clusterings"] == {site: {"codes": 3, "activations": 4}}
    assert chosen.parameters["clusterings"] == {site: {"codes": 2, "activations": 4}}
    assert any("clusters of codes by euclidean distance" in note for note in newest.notes)
    assert any("clusters of codes by hamming distance" in note for note in chosen.notes)
    sizes = a.rows("select count(*) from cluster_labels where clustering_id = 2 and label >= 0 group by label")
    found = chosen.tables["groups"].query("method == 'code clusters'")["size"]
    assert sorted(found) == sorted(n for (n,) in sizes)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("clusterings", "message"),
    [
        ([2, 3], "both of blocks.3.mlp in codes"),
        ([1], "of none of blocks.3.mlp"),
        ([5], "of none of blocks.3.mlp"),
        (["x"], "named by its id"),
    ],
)
def test_foreign_clusterings_are_refused(a, clusterings, message):
    """Clusterings of other sites or two of one are refused."""
    with pytest.raises(UsageError, match=message):
        run(a, sites=["blocks.3.mlp"], clusterings=clusterings)


def groups(method, *lifts, n=20):
    return [
        {
            "site": f"s{i}",
            "method": method,
            "groups": n,
            **interval("purity", 0.5, 0.6),
            **interval("lift", *lift),
            **interval("intruder", 0.8, 0.9),
        }
        for i, lift in enumerate(lifts)
    ]


def clustered(method, *sites):
    """A table of sites, each (lift, pure groups, all groups), and the groups behind it, random ones never pure. Four
    groups more at each site are of one text, and pure by construction."""
    table, rows = groups(method, *(lift for lift, _, _ in sites)), []
    for row, (_, pure, n) in zip(table, sites, strict=True):
        row["groups"] = n + 4
        own = {"site": row["site"], "method": method}
        rows += [own | {"purity": 0.9 if i < pure else 0.5, "inputs": 2} for i in range(n)]
        rows += [own | {"purity": 1.0, "inputs": 1}] * 4
        rows += [own | {"method": "random groups", "purity": 0.2, "inputs": 9}] * n
    empty = pd.DataFrame(columns=["site", "method", "purity", "inputs", "groups"])
    return result("monosemanticity", table=table or empty, groups=rows or empty)


PURE, MIXED, EVEN = 18, 2, 10  # of 20: Wilson's intervals lie above one half, below it, and around it


@pytest.mark.parametrize(
    ("sites", "word", "voting"),
    [
        ([(UP, PURE, 20)] * 3, "supported", 3),
        ([(UP, PURE, 20)] * 2 + [(UP, EVEN, 20)], "undecided", 3),
        ([(UP, MIXED, 20)] * 2, "not supported", 2),  # purer than random groups, and yet not about one thing
        ([(UP, PURE, 20)] * 2 + [(UP, MIXED, 20)], "undecided", 3),
        ([(WIDE, PURE, 20)] * 2, "undecided", 2),  # pure, and so may random groups be
        ([(DOWN, PURE, 20)] * 2, "not supported", 2),
        ([(UP, 9, 9)] * 3, "undecided", 0),  # nine clusters a site are too few
        ([(UP, PURE, 20)] * 2 + [(UP, 0, 9)], "undecided", 2),  # with more clusters it might be against
        ([(UP, MIXED, 20)] + [(UP, 0, 9)] * 2, "undecided", 1),
        ([(UP, 0, 0)], "undecided", 0),
        ([], "undecided", 0),
    ],
)
@pytest.mark.parametrize("method", ["code clusters", "activation clusters"])
def test_clusters_are_judged_by_all_sites(sites, word, voting, method):
    """Clusters are monosemantic where most are about one label."""
    judge = {
        "code clusters": clusters_are_monosemantic,
        "activation clusters": activation_clusters_are_monosemantic,
    }[method]
    found = judge(clustered(method, *sites))
    assert found.word == word
    assert f"of {voting} voting sites" in found.because
    assert f"; {len(sites) - voting} have fewer than 10 clusters and do not vote" in found.because
    assert len(found.numbers) == 5 * len(sites)
    if sites:
        _, pure, n = sites[0]
        share = found.numbers.iloc[0]
        assert share["n"] == n and (share["value"] == pure / n if n else np.isnan(share["value"]))
        assert found.numbers["value"][1] == 0 or n == 0  # of random groups none is pure
        assert ("too few to vote" in share["what"]) == (n < 10)


def test_unclustered_sites_do_not_vote():
    """A site without clusters does not vote on neurons either."""
    few = groups("code clusters", (2, 3), (2, 3), n=9) + groups("neurons", (1, 1.5), (1, 1.5))
    none = groups("code clusters", (np.nan, np.nan), n=0) + groups("neurons", (1, 1.5))
    for rows, n in ((few, 2), (none, 1)):
        found = clusters_beat_neurons(result("monosemanticity", table=rows))
        assert found.word == "undecided" and found.because.endswith(f"{n} do not vote")


@pytest.mark.parametrize(
    ("clusters", "neurons", "word"),
    [
        ([(2, 3), (2, 3)], [(1, 1.5), (1, 1.5)], "supported"),
        ([(2, 3), (2, 3)], [(1, 2.5), (1, 2.5)], "undecided"),
        ([(1, 1.5)], [(2, 3)], "not supported"),
    ],
)
def test_clusters_beat_where_intervals_part(clusters, neurons, word):
    """Clusters beat neurons only where their intervals part."""
    rows = groups("code clusters", *clusters) + groups("neurons", *neurons)
    assert clusters_beat_neurons(result("monosemanticity", table=rows)).word == word
