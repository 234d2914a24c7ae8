"""Clusterings, clusters, members; and placing new points as hdbscan does."""

import hdbscan
import numpy as np
import pytest

import atlas
import query
from atlas.clustering.hdbscan import cluster_activations, cluster_codes
from atlas.clustering.placement import approximate_predict
from atlas.errors import UnknownName, UsageError
from atlas.network import TokenWindow
from ingest.derived.clusters import cluster
from tests.atlases import add_texts
from tests.networks import KINDS, word_network, word_texts


def test_clusterings_are_listed_with_their_parameters(a):
    found = query.clusterings(a).set_index("clustering_id")
    assert found.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.loc[2, ["network", "target", "space", "metric"]].tolist() == [
        "words",
        "blocks.3.mlp",
        "codes",
        "hamming",
    ]
    assert found["current"].all()
    assert (found["n_noise"] < found["n_examples"]).all()


def test_clusters_of_a_text(a):
    found = query.clusters(a, clustering=4, samples=2)
    assert found.columns.tolist() == [
        "label",
        "name",
        "note",
        "size",
        "persistence",
        "purity",
        "top_label",
        "entropy",
        "medoid",
        "medoid_token",
        "medoid_context",
        "samples",
    ]
    rows = a.frame("select label, example_id from cluster_labels where clustering_id = 4 and label >= 0")
    assert found["size"].tolist() == rows.groupby("label").size().tolist()
    assert set(found["top_label"]) <= set(KINDS)
    for row in found.itertuples():
        members = rows.loc[rows["label"] == row.label, "example_id"].tolist()
        assert row.medoid in members and row.medoid_token in row.medoid_context
        assert 1 <= len(row.samples) <= 2
        tokens = {
            token
            for (token,) in a.rows(
                "select token from examples where example_id in (select unnest($1::uinteger[]))", [members]
            )
        }
        assert all(sample.split("«")[1].split("»")[0] in tokens for sample in row.samples)
    assert found.attrs == {
        "clustering": 4,
        "network": "words",
        "target": "blocks.3.mlp",
        "space": "activations",
        "metric": "euclidean",
        "current": True,
    }
    assert query.clusters(a, clustering=4, samples=0)["samples"].tolist() == [[]] * len(found)


def test_clusters_of_images(a):
    found = query.clusters(a, site="conv1:full")
    assert "medoid_token" not in found and found["medoid_key"].str.endswith(".png").all()
    assert all(key.startswith(row.top_label) for row in found.itertuples() for key in row.samples)


def test_the_newest_clustering_of_a_site_or_span(a):
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
    page = query.members(a, clustering=4, cluster=-1, limit=5, offset=3)
    assert page["example_id"].tolist() == query.members(a, clustering=4, cluster=-1)["example_id"].tolist()[3:8]
    assert found.columns.tolist() == [
        "example_id",
        "probability",
        "label",
        "prediction",
        "loss",
        "token",
        "context",
        "context_offset",
        "input_id",
        "position",
    ]


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda a: query.clusters(a), UsageError, "name a clustering by its id, or a site or span"),
        (lambda a: query.clusters(a, clustering=9), UnknownName, r"no clustering 9 in .*; it holds 1, 2, 3, 4, 5, 6"),
        (lambda a: query.clusters(a, clustering="x"), UsageError, "named by its id, a whole number, got 'x'"),
        (
            lambda a: query.clusters(a, clustering=2, site="blocks.2.mlp"),
            UsageError,
            r"clustering 2 .* is not of blocks.2.mlp",
        ),
        (lambda a: query.clusters(a, clustering=2, network="pixels"), UsageError, "is not of network pixels"),
        (lambda a: query.clusters(a, clustering=6, site="blocks.3.mlp"), UsageError, "is of network pixels, but"),
        (lambda a: query.clusters(a, site="blocks.2.mlp"), UnknownName, "--site 'blocks.2.mlp' --space codes`"),
        (lambda a: query.clusters(a, span="blocks.2.mlp->"), UnknownName, "--span 'blocks.2.mlp->' --space codes`"),
        (lambda a: query.clusters(a, site="blocks.3.mlp", space="code"), UsageError, "expected codes or activations"),
        (lambda a: query.clusters(a, clustering=2, samples=-1), UsageError, "samples is -1"),
        (
            lambda a: query.members(a, clustering=2, cluster=99),
            UnknownName,
            r"no cluster 99 in clustering 2 .* numbered from 0",
        ),
        (lambda a: query.members(a, clustering=2, cluster=-2), UnknownName, "no cluster -2"),
        (
            lambda a: query.members(a, clustering=2, cluster=0, limit=0),
            UsageError,
            "limit is 0; expected a whole number of at least 1",
        ),
        (lambda a: query.members(a, clustering=2, cluster=0, offset=-1), UsageError, "offset is -1"),
        (lambda a: query.membership(a, clustering=2), UsageError, "ask about one of example, text, image or code"),
        (lambda a: query.membership(a, example=3, clustering=2), UnknownName, "read by network plane, not by words"),
        (lambda a: query.membership(a, code="1" * 31, clustering=4), UsageError, "is of activations, and a code has"),
    ],
)
def test_what_is_refused(a, ask, error, message):
    with pytest.raises(error, match=message):
        ask(a)


# --- membership ------------------------------------------------------------------------------------------------


def test_a_stored_example_has_its_stored_label(a):
    for clustering in (2, 3, 4, 5):
        for example, label, probability in a.rows(
            "select example_id, label, probability from cluster_labels where clustering_id = $1 "
            "using sample 5 (reservoir, 1)",
            [clustering],
        ):
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


def new_texts(n_texts=40):
    """Texts of three words of one kind that were not ingested."""
    rng = np.random.default_rng(7)
    return [" ".join(f"{KINDS[n % 3]}{i}" for i in rng.integers(20, size=3)) for n in range(n_texts)]


def read(words, texts, sites):
    """Codes over the sites (as 0.0 and 1.0) and activations at the last of them, of the last tokens."""
    windows = [TokenWindow(words.tokenize(text).ids, np.array([2])) for text in texts]
    reading = words.read(windows, sites, sites[-1:])
    bits = [np.unpackbits(reading.codes[site.name], axis=1, count=site.n_gates) for site in sites]
    return np.concatenate(bits, axis=1).astype(np.float64), reading.activations[sites[-1].name].astype(np.float64)


@pytest.mark.parametrize("clustering", [1, 2, 3], ids=["share of gates", "0/1 vectors", "activations"])
def test_a_new_point_is_placed_as_in_the_hierarchy_that_was_stored(varied, clustering):
    """Stored and read back, the hierarchy places points exactly as it did before."""
    words, texts = word_network(**VARIED), new_texts()
    with atlas.open(varied) as a:
        sites = a.catalog.target(site="blocks.0.mlp->").sites
        codes, activations = a.codes(sites)[1], a.activations(sites[-1])[1]
        placed = [query.membership(a, text=text, clustering=clustering, reader=words) for text in texts]
    bits, points = read(words, texts, sites)
    if clustering == 3:
        hierarchy = cluster_activations(activations, min_cluster_size=5)
        distances = np.sqrt(((points[:, None] - activations.astype(np.float64)) ** 2).sum(axis=2))
    else:
        hierarchy = cluster_codes(codes, metric="hamming" if clustering == 1 else "euclidean", min_cluster_size=5)
        gates = (bits[:, None].astype(bool) != codes.unpack()).sum(axis=2)
        distances = gates / codes.n_bits if clustering == 1 else np.sqrt(gates)
    labels, strengths = approximate_predict(hierarchy, distances)
    assert [found.cluster for found in placed] == labels.tolist()
    np.testing.assert_allclose([found.probability for found in placed], strengths, rtol=1e-9)
    assert not any(found.stored for found in placed) and len(set(labels)) > 2


def test_a_new_activation_is_placed_as_hdbscan_places_it(varied):
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


def test_a_code_is_placed_like_the_text_it_was_read_from(a, words):
    sites = a.catalog.target(site="blocks.3.mlp").sites
    texts = new_texts(5)
    for text, bits in zip(texts, read(words, texts, sites)[0].astype(int), strict=True):
        by_code = query.membership(a, code="".join(map(str, bits)), clustering=2)
        by_text = query.membership(a, text=text, clustering=2, reader=words)
        assert (by_code.cluster, by_code.probability) == (by_text.cluster, by_text.probability)
        assert by_code.subject == "the given code"


def test_nothing_is_placed_in_a_clustering_that_is_out_of_date(damaged, words):
    path = damaged()
    add_texts(path, word_network(), word_texts(63)[60:])
    with atlas.open(path) as a:
        assert not query.clusterings(a).set_index("clustering_id").loc[[1, 2, 3, 4, 5], "current"].any()
        assert query.clusters(a, clustering=2).attrs["current"] is False
        for asked in ({"example": 390}, {"text": "metal1", "reader": words}, {"code": "1" * 31}):
            with pytest.raises(UsageError, match=r"has other examples than when clustering 2 .* cluster again with"):
                query.membership(a, **asked, clustering=2)
        assert query.membership(a, example=40, clustering=2).stored  # what was clustered keeps its label
