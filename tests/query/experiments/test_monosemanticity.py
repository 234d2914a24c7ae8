"""Groups side by side: planted clusters are found pure, random ones are not."""

import numpy as np
import pytest

import atlas
from atlas.errors import NotStored, UnknownName, UsageError
from query.experiments import registry
from tests.builder import add_clustering, add_texts, word_network, word_texts

ALL = ["code clusters", "activation clusters", "neurons", "NMF", "PCA", "random groups"]


def run(a, **options):
    return registry.run(a, "monosemanticity", **({"network": "words", "components": 5, "resamples": 100} | options))


def test_all_methods_stand_side_by_side_at_every_site_with_their_n(a):
    found = run(a)
    table = found.table
    assert table.groupby("site", sort=False)["method"].agg(list).to_dict() == {
        f"blocks.{i}.mlp": ALL for i in range(4)
    }
    assert (table["examples"] == 360).all() and (table["groups"] > 0).all()
    assert (table["purity_low"] <= table["purity"]).all() and (table["purity"] <= table["purity_high"]).all()
    groups = found.tables["groups"]
    assert groups.groupby(["site", "method"]).size().sum() == table["groups"].sum()
    means = groups.groupby(["site", "method"])["purity"].mean()
    for row in table.to_dict("records"):
        assert row["purity"] == pytest.approx(means[row["site"], row["method"]])


def test_clusters_of_words_are_about_their_kind_and_random_groups_are_not(a):
    """The kinds lie around centres of their own, so that clusters are pure by construction."""
    table = run(a).table.set_index(["site", "method"])
    for site in ("blocks.1.mlp", "blocks.3.mlp"):
        clusters, random = table.loc[(site, "code clusters")], table.loc[(site, "random groups")]
        assert clusters["purity_low"] > random["purity_high"] and clusters["lift_low"] > 1.5
        assert random["lift_low"] < 1 < random["lift_high"] or random["lift"] == pytest.approx(1, abs=0.1)
        assert clusters["intruder_low"] > clusters["chance"] == 1 / 6
        assert abs(random["intruder"] - 1 / 6) < 0.15


def test_purity_and_coverage_of_stored_clusters_are_those_of_the_clustering(a):
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


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(a):
    first, again, other = (run(a, sites=["blocks.1.mlp"], seed=seed) for seed in (0, 0, 1))
    assert first.table.equals(again.table) and first.tables["groups"].equals(again.tables["groups"])
    assert not first.table.equals(other.table)


def test_a_sample_of_the_examples_is_said(a):
    found = run(a, sites=["blocks.1.mlp"], examples=100)
    assert (found.table["examples"] == 100).all()
    assert any("100 of 360 examples, drawn at random" in note for note in found.notes)


def test_without_activations_there_are_code_clusters_and_random_groups_alone(tmp_path):
    with atlas.create(tmp_path / "a") as a:
        add_texts(a, word_network(), word_texts(20), activations=[])
        add_clustering(a, "blocks.3.mlp", "words")
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


def test_examples_without_labels_are_refused_and_a_site_without_codes(tmp_path):
    with atlas.create(tmp_path / "a") as a:
        add_texts(a, word_network(), [(key, None, text) for key, _, text in word_texts(6)], codes=["blocks.0.mlp"])
        with pytest.raises(UsageError, match="none of the 36 examples has a label"):
            run(a)
        with pytest.raises(NotStored, match=r"needs the codes of blocks.1.mlp, which were not ingested"):
            run(a, sites=["blocks.1.mlp"])
