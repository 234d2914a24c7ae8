"""Names of clusters made from what is stored, against lifts that pandas counts."""

import re

import numpy as np
import pandas as pd
import pytest

import atlas
import query
from query.clustering.clusterings import find_clustering
from query.clustering.made_names import LEAST_LIFT, LEAST_SHARE, agreed, shown, value_lifts


def counted(a, clustering: int, basis: str) -> pd.DataFrame:
    """Lifts as their definition has them: a row a cluster and value."""
    rows = a.frame(
        f"select cluster_labels.label as cluster, examples.{basis} as value "
        "from cluster_labels join examples using (example_id) where clustering_id = $1",
        [clustering],
    )
    found = []
    for cluster, inside in rows[rows["cluster"] >= 0].groupby("cluster"):
        rest = rows[rows["cluster"] != cluster]
        for value, n in inside["value"].value_counts().items():
            beside = (rest["value"] == value).sum()
            lift = ((n + 0.5) / (len(inside) + 1)) / ((beside + 0.5) / (len(rest) + 1))
            found.append((cluster, value, n, n / len(inside), lift, n * np.log(lift)))
    return pd.DataFrame(found, columns=["cluster", "value", "n", "share", "lift", "telling"])


@pytest.mark.parametrize(("clustering", "basis"), [(2, "token"), (4, "token"), (2, "label"), (6, "label")])
def test_lifts_are_those_pandas_counts(a, clustering, basis):
    truth = counted(a, clustering, basis).set_index(["cluster", "value"])
    found = value_lifts(a, find_clustering(a, clustering), basis).set_index(["cluster", "value"])
    same = truth.loc[found.index]
    assert found["n"].tolist() == same["n"].tolist()
    np.testing.assert_allclose(found[["share", "lift"]], same[["share", "lift"]])
    best = truth.groupby("cluster")["telling"].max()
    np.testing.assert_allclose(best, same.groupby("cluster")["telling"].first())


@pytest.mark.parametrize("clustering", [1, 2, 3, 4, 5, 6])
def test_every_cluster_has_a_name(a, clustering):
    named, clusters = query.made_names(a, clustering=clustering), query.clusters(a, clustering=clustering)
    assert named["cluster"].tolist() == clusters["label"].tolist() == list(range(len(named)))
    assert named["title"].tolist() == named["made_name"].tolist() == clusters["made_name"].tolist()
    assert (named["made_name"].str.len() > 0).all() and named["name"].isna().all()
    for row in named.itertuples():
        if row.basis == "medoid":
            assert row.made_name.startswith("like ") and np.isnan(row.lift)
        elif not row.made_name.startswith("mixed: "):
            truth = counted(a, clustering, row.basis)
            first = truth[(truth["cluster"] == row.cluster) & (truth["value"] == row.values[0])].iloc[0]
            assert (row.share, row.lift) == pytest.approx((first["share"], first["lift"]))
            assert (row.lift >= LEAST_LIFT and row.share >= LEAST_SHARE) or row.basis == "label"
            assert all(shown(value) in row.made_name for value in row.values)


def test_images_are_called_by_their_labels(a):
    named = query.made_names(a, site="conv1:full").set_index("cluster")
    for row in query.clusters(a, site="conv1:full").itertuples():
        if row.purity == 1:
            assert named.loc[row.label, "made_name"] == row.top_label


def test_a_name_of_a_person_goes_first(damaged):
    with atlas.open(damaged()) as a:
        query.name_cluster(a, "by hand", clustering=2, cluster=1)
        named = query.made_names(a, clustering=2).set_index("cluster")
    assert named.loc[1, ["title", "name"]].tolist() == ["by hand", "by hand"]
    assert named.loc[1, "made_name"] not in ("", "by hand") and pd.isna(named.loc[0, "name"])


def test_a_token_stands_in_its_context(damaged):
    """The words beside the token of a cluster of one token, where most of its members share them."""
    same = (
        "update examples set token = ' self', context = 'def of( self, x)', context_offset = 7 where example_id in "
    )
    path = damaged(f"{same} (select example_id from cluster_labels where clustering_id = 2 and label = 0)")
    with atlas.open(path) as a:
        assert query.made_names(a, clustering=2)["made_name"].iloc[0] == "(«␣self»,"


def test_words_that_most_contexts_share():
    word = re.compile(r"\w*$")
    assert agreed(["in def", "a def", "an if"], word) == "def"
    assert agreed(["in def", "a for", "an if"], word) == ""
    assert agreed(["alone"], word) == ""


def test_space_in_a_name_is_seen():
    assert [shown(word) for word in (" self", "self", "\n  ", " ")] == ["␣self", "self", "⏎␣␣", "␣"]
    assert [shown(word) for word in ("\n       x", "a  b    ")] == ["⏎␣×7x", "a  b␣×4"]
