"""Clusterings, clusters, members; and placing new points as hdbscan does."""

import hdbscan
import numpy as np
import pandas as pd
import pytest

import atlas
import query
from atlas.clustering.hdbscan import cluster_codes
from atlas.clustering.placement import approximate_predict
from atlas.errors import UnknownName, UsageError
from atlas.network import TokenWindow
from ingest.derived.clusters import cluster
from tests.atlases import add_texts
from tests.networks import KINDS, word_network, word_texts


def test_clusterings_have_their_parameters(a):
    listed = query.clusterings(a).set_index("clustering_id")
    assert listed.index.tolist() == [1, 2, 3, 4, 5, 6]
    second = listed.loc[2, ["network", "target", "space", "metric"]].tolist()
    assert second == ["words", "blocks.3.mlp", "codes", "hamming"]
    assert listed["current"].all() and (listed["n_noise"] < listed["n_examples"]).all()


def test_clusters_of_a_text(a):
    found = query.clusters(a, clustering=4, samples=2)
    general = [
        "label",
        "name",
        "note",
        "made_name",
        "size",
        "n_placed",
        "persistence",
        "purity",
        "top_label",
        "entropy",
    ]
    assert found.columns.tolist() == [*general, "medoid", "medoid_token", "medoid_context", "samples"]
    rows = a.frame(
        "select cluster_labels.label, example_id, token from cluster_labels join examples using (example_id) "
        "where clustering_id = 4 and cluster_labels.label >= 0"
    )
    assert found["size"].tolist() == rows.groupby("label").size().tolist()
    assert set(found["top_label"]) <= set(KINDS)
    for row in found.itertuples():
        members = rows[rows["label"] == row.label]
        assert row.medoid in set(members["example_id"]) and row.medoid_token in row.medoid_context
        assert 1 <= len(row.samples) <= 2
        assert {sample.split("«")[1].split("»")[0] for sample in row.samples} <= set(members["token"])
    about = {"network": "words", "target": "blocks.3.mlp", "space": "activations", "metric": "euclidean"}
    assert found.attrs == {"clustering": 4, **about, "current": True, "note": None, "label_note": None}
    assert query.clusters(a, clustering=4, samples=0)["samples"].tolist() == [[]] * len(found)


def test_clusters_of_images(a):
    found = query.clusters(a, site="conv1:full")
    assert "medoid_token" not in found and found["medoid_key"].str.endswith(".png").all()
    assert all(key.startswith(row.top_label) for row in found.itertuples() for key in row.samples)


def test_the_newest_clustering_is_asked(a):
    assert query.clusters(a, site="blocks.3.mlp").attrs["clustering"] == 3
    assert query.clusters(a, site="blocks.3.mlp", space="activations").attrs["clustering"] == 4
    assert query.clusters(a, span="blocks.1.mlp→").attrs["clustering"] == 5
    assert query.clusters(a, clustering=2, site="blocks.3.mlp").attrs["clustering"] == 2


def test_members_and_noise(a):
    stored = a.frame(
        "select example_id, label, probability from cluster_labels where clustering_id = 4 "
        "order by probability desc, example_id"
    )
    for label in (-1, 0, int(stored["label"].max())):
        found = query.members(a, clustering=4, cluster=label)
        of_cluster = stored[stored["label"] == label]
        assert found["example_id"].tolist() == of_cluster["example_id"].tolist()
        assert found["probability"].tolist() == of_cluster["probability"].tolist()
        assert found.attrs["size"] == len(of_cluster) and found.attrs["cluster"] == label
    page = query.members(a, clustering=4, cluster=label, limit=3, offset=2)
    following = query.members(a, clustering=4, cluster=label, limit=3, after=int(found["example_id"][1]))
    pd.testing.assert_frame_equal(following, page)
    assert following.attrs == page.attrs
    pd.testing.assert_frame_equal(page, found[2:5].reset_index(drop=True))
    assert found.columns.tolist()[:6] == ["example_id", "probability", "placed", "label", "prediction", "loss"]
    assert found.columns.tolist()[6:] == ["token", "context", "context_offset", "input_id", "position"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("ask", "options", "error", "message"),
    [
        (query.clusters, {}, UsageError, "name a clustering by its id, or a site or span"),
        (query.clusters, {"clustering": 9}, UnknownName, r"no clustering 9 in .*; it holds 1, 2, 3, 4, 5, 6"),
        (query.clusters, {"clustering": "x"}, UsageError, "named by its id, a whole number, got 'x'"),
        (
            query.clusters,
            {"clustering": 2, "site": "blocks.2.mlp"},
            UsageError,
            "clustering 2 .* not of blocks.2.mlp",
        ),
        (query.clusters, {"clustering": 2, "network": "pixels"}, UsageError, "is not of network pixels"),
        (query.clusters, {"clustering": 6, "site": "blocks.3.mlp"}, UsageError, "is of network pixels, but"),
        (query.clusters, {"site": "blocks.2.mlp"}, UnknownName, "--site 'blocks.2.mlp' --space codes`"),
        (query.clusters, {"span": "blocks.2.mlp->"}, UnknownName, "--span 'blocks.2.mlp->' --space codes`"),
        (query.clusters, {"site": "blocks.3.mlp", "space": "code"}, UsageError, "expected codes or activations"),
        (query.clusters, {"clustering": 2, "samples": -1}, UsageError, "samples is -1"),
        (query.members, {"cluster": 99}, UnknownName, r"no cluster 99 in clustering 2 .* numbered from 0"),
        (query.members, {"cluster": -2}, UnknownName, "no cluster -2"),
        (query.members, {"cluster": 0, "limit": 0}, UsageError, "limit is 0; expected a whole number of at least 1"),
        (query.members, {"cluster": 0, "offset": -1}, UsageError, "offset is -1"),
        (query.members, {"cluster": 0, "after": 1}, UnknownName, "example 1 is no member of cluster 0 of"),
        (query.membership, {}, UsageError, "ask about one of example, text, image, vector or code"),
        (query.membership, {"example": 3}, UnknownName, "read by network plane, not by words"),
        (query.membership, {"code": "1" * 31, "clustering": 4}, UsageError, "of activations, and a code has none"),
    ],
)
def test_what_clusters_refuse(a, ask, options, error, message):
    of_second = {"clustering": 2} if ask is not query.clusters else {}
    with pytest.raises(error, match=message):
        ask(a, **(of_second | options))


# --- membership ------------------------------------------------------------------------------------------------


def test_an_example_has_its_stored_label(a):
    labels = a.rows(
        "select clustering_id, example_id, label, probability from cluster_labels "
        "where clustering_id between 2 and 5 using sample 20 (reservoir, 1)"
    )
    for clustering, example, label, probability in labels:
        found = query.membership(a, example=example, clustering=clustering)
        assert (found.cluster, found.probability, found.stored) == (label, probability, True)
    assert query.membership(a, example=40, site="blocks.3.mlp").clustering == 3


VARIED = {"context": 2.0, "window": 12}
"""What came before a token weighs more than the token, so that few activations are equal."""


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    path = tmp_path_factory.mktemp("varied") / "a"
    add_texts(path, word_network(**VARIED), word_texts(40), skip_first=2, per_sequence=10)
    cluster(path, span="blocks.0.mlp->")
    cluster(path, span="blocks.0.mlp->", metric="euclidean")
    cluster(path, site="blocks.3.mlp", space="activations")
    return path


def new_texts(n_texts=18):
    """Texts of three words of one kind that were not ingested."""
    rng = np.random.default_rng(7)
    return [" ".join(f"{KINDS[n % 3]}{i}" for i in rng.integers(20, size=3)) for n in range(n_texts)]


def read(words, texts, sites):
    """Codes over the sites (as 0.0 and 1.0) and activations at the last of them, of the last tokens."""
    windows = [TokenWindow(words.tokenize(text).ids, np.array([2])) for text in texts]
    reading = words.read(windows, sites, sites[-1:])
    bits = [np.unpackbits(reading.codes[site.name], axis=1, count=site.n_gates) for site in sites]
    return np.concatenate(bits, axis=1).astype(np.float64), reading.activations[sites[-1].name].astype(np.float64)


@pytest.mark.parametrize("metric", ["hamming", "euclidean"])
def test_a_new_code_is_placed_as_before(varied, metric):
    """Stored and read back, the hierarchy places points exactly as it did before."""
    words, texts, clustering = word_network(**VARIED), new_texts(), 1 if metric == "hamming" else 2
    with atlas.open(varied) as a:
        sites = a.catalog.target(site="blocks.0.mlp->").sites
        codes = a.codes(sites)[1]
        placed = [query.membership(a, text=text, clustering=clustering, reader=words) for text in texts]
    gates = (read(words, texts, sites)[0][:, None].astype(bool) != codes.unpack()).sum(axis=2)
    distances = gates / codes.n_bits if metric == "hamming" else np.sqrt(gates)
    hierarchy = cluster_codes(codes, metric=metric, min_cluster_size=5)
    labels, strengths = approximate_predict(hierarchy, distances)
    assert [found.cluster for found in placed] == labels.tolist()
    np.testing.assert_allclose([found.probability for found in placed], strengths, rtol=1e-9)
    assert not any(found.stored for found in placed) and len(set(labels)) > 2


def test_activations_are_placed_by_hdbscan(varied):
    words, texts = word_network(**VARIED), new_texts()
    with atlas.open(varied) as a:
        site = a.catalog.target(site="blocks.3.mlp").sites[0]
        points = a.activations(site)[1].astype(np.float64)
        placed = [query.membership(a, text=text, clustering=3, reader=words) for text in texts]
        ours = a.rows("select label from cluster_labels where clustering_id = 3 order by example_id")
    theirs = hdbscan.HDBSCAN(min_cluster_size=5, prediction_data=True).fit(points)
    labels, strengths = hdbscan.approximate_predict(theirs, read(words, texts, [site])[1])
    assert [label for (label,) in ours] == theirs.labels_.tolist()
    assert [found.cluster for found in placed] == labels.tolist()
    np.testing.assert_allclose([found.probability for found in placed], strengths, rtol=1e-5, atol=1e-9)
    assert 0 < np.median([found.probability for found in placed if found.cluster >= 0]) < 1


def test_a_code_is_placed_like_its_text(a, words):
    sites = a.catalog.target(site="blocks.3.mlp").sites
    texts = new_texts(5)
    for text, bits in zip(texts, read(words, texts, sites)[0].astype(int), strict=True):
        by_code = query.membership(a, code="".join(map(str, bits)), clustering=2)
        by_text = query.membership(a, text=text, clustering=2, reader=words)
        assert (by_code.cluster, by_code.probability) == (by_text.cluster, by_text.probability)
        assert by_code.subject == "the given code"


def test_nothing_new_in_an_old_clustering(damaged, words):
    path = damaged()
    add_texts(path, word_network(), word_texts(63)[60:])
    with atlas.open(path) as a:
        assert not query.clusterings(a).set_index("clustering_id").loc[[1, 2, 3, 4, 5], "current"].any()
        assert query.clusters(a, clustering=2).attrs["current"] is False
        for asked in ({"example": 390}, {"text": "metal1", "reader": words}, {"code": "1" * 31}):
            with pytest.raises(UsageError, match=r"has other examples than when clustering 2 .* cluster again with"):
                query.membership(a, **asked, clustering=2)
        assert query.membership(a, example=40, clustering=2).stored  # what was clustered keeps its label
