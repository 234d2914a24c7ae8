"""Distinctive gates against SciPy; gates that are set against outputs worked out on paper and plain passes."""

import math
import shutil

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control, fisher_exact

import atlas
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.network import TokenWindow
from ingest.derived.clusters import cluster
from query.clustering.distinctive import benjamini_hochberg, fisher_p
from query.experiments.registry import run
from query.statistics import paired_p
from tests.atlases import add_texts
from tests.networks import shipped
from tests.query.experiments.tailed import digit_atlas, digits, plane_reader

POINTS = [f"{x}:{y}" for x in range(7) for y in range(7)]


def write_clustering(path, clusters, min_cluster_size=2):
    """A clustering of hidden by hand: {example: cluster}."""
    number = cluster(path, site="hidden", min_cluster_size=min_cluster_size)
    with atlas.open(path, writable=True) as a:
        a.execute("delete from clusters where clustering_id = $1", [number])
        a.execute(
            "update cluster_labels set label = new.label from (select unnest($2) as id, unnest($3) as label) as new "
            "where clustering_id = $1 and example_id = new.id",
            [number, list(clusters), list(clusters.values())],
        )


@pytest.fixture(scope="module")
def plane(plane, tmp_path_factory):
    """All points. Cluster 0 of hidden's newest clustering is x + y > 2, whose distinctive gate is the third; that of
    an older one the points where all three gates are on."""
    source, ids, reader = plane
    path = shutil.copytree(source.path, tmp_path_factory.mktemp("intervene") / "plane.atlas")
    on = {w: w.find("0") < 0 and sum(map(int, w.split(":"))) > 2 for w in POINTS}
    write_clustering(path, {ids[w]: 0 if on[w] else 1 for w in POINTS})
    write_clustering(path, {ids[w]: 0 if sum(map(int, w.split(":"))) > 2 else 1 for w in POINTS}, 3)
    with atlas.open(path) as a:
        yield a, ids, reader


def ask(plane, **options):
    a, ids, reader = plane
    if "example" in options:
        options["example"] = ids[options["example"]]
    return run(a, "intervene", reader=reader, **{"site": "hidden", "cluster": 0, "gates": 1, **options})


# --- distinctive gates ---------------------------------------------------------------------------------------------


def test_p_is_fishers_doubled_tail():
    """P is fishers exact test with the smaller tail doubled."""
    rng = np.random.default_rng(0)
    m, n = 17, 40
    inside, outside = rng.integers(0, m + 1, 60), rng.integers(0, n + 1, 60)
    found = fisher_p(inside, m, outside, n)
    for a, b, p in zip(inside, outside, found, strict=True):
        table = [[a, m - a], [b, n - b]]
        tails = [fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
        assert p == pytest.approx(min(1, 2 * min(tails)))


def test_bounds_are_benjamini_hochbergs():
    """Bounds are those of benjamini and hochberg."""
    p = np.random.default_rng(1).uniform(size=200) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p))


def test_the_making_gate_is_distinctive(plane):
    """The gate that makes a cluster is its most distinctive."""
    gates = ask(plane).tables["gates"]
    first = gates.iloc[0]
    assert first["gate"] == 2 and first["inside"] == 1 and first["outside"] == 0 and first["on"] and first["set"]
    assert first["log_odds"] == pytest.approx(math.log(43.5 / 0.5) - math.log(0.5 / 6.5))
    assert gates["set"].sum() == 1 and len(gates) == 3


# --- gates that are set ------------------------------------------------------------------------------------------


def test_a_set_gate_acts_as_on_paper(plane):
    """At (1, 1) z = (1, 1, 0). Logits are (0, −1); with the third gate at ε they are (0, ε − 1). A random flip turns
    x or y off, to −ε: logits (∓1, −1)."""
    epsilon = 0.5
    result = ask(plane, example="1:1", epsilon=epsilon, n_random=40)
    [row] = result.tables["examples"].to_dict("records")
    p, after = (np.exp(z) / np.exp(z).sum() for z in (np.array([0, -1.0]), np.array([0, epsilon - 1])))
    assert row["flipped"] == 1 and row["moved"] == pytest.approx(epsilon)
    assert row["kl"] == pytest.approx((p * np.log(p / after)).sum(), rel=1e-5)
    assert row["tv"] == pytest.approx(abs(p[0] - after[0]), rel=1e-5) and row["changed"] == 0
    # Neither (x + y − 2)⁺ > 1 nor x⁺ > y⁺ flips by the third gate; a random flip of y turns x⁺ > y⁺ on.
    assert row["later"] == 0 and 0 < row["random_later"] < 1
    assert row["random_moved"] == pytest.approx(1 + epsilon)
    shown = result.tables["outputs"].set_index("output")
    np.testing.assert_allclose(shown.loc[["left", "right"], "before"], p, rtol=1e-5)
    np.testing.assert_allclose(shown.loc[["left", "right"], "after"], after, rtol=1e-5)
    outcomes = [np.exp(z)[0] / np.exp(z).sum() for z in (np.array([1, -1.0]), np.array([-1, -1.0]))]
    assert min(outcomes) <= shown.loc["left", "random_low"] <= shown.loc["left", "random"] <= max(outcomes)


def test_gain_is_a_difference_of_divergences(plane):
    """Gain is the difference of two divergences from the clusters mean output."""
    result = ask(plane, example="1:1", epsilon=2.5)
    c, p, after = (result.tables["outputs"][name].to_numpy() for name in ("cluster", "before", "after"))
    [row] = result.tables["examples"].to_dict("records")
    assert row["gain"] == pytest.approx((c * np.log(c / p)).sum() - (c * np.log(c / after)).sum(), rel=1e-5)
    assert row["after"] == "right" and row["changed"] == 1  # logits (0, 1.5)


def test_examples_as_wanted_are_dropped(plane):
    """Examples that are as wanted are dropped and counted."""
    a, _ids, reader = plane
    with pytest.raises(UsageError, match=r"all 1 examples have these 1 gates as cluster 0 has them"):
        ask(plane, example="5:5")
    # Cluster 1 is x + y ≤ 2; of the first two gates none is distinctive enough to be set before the third.
    result = run(a, "intervene", reader=reader, site="hidden", cluster=1, gates=1, examples=10)
    assert len(result.tables["examples"]) == 10 and result.table["n"].eq(10).all()


def test_measures_are_paired_means(plane):
    """Measures of a table are means over examples and differences are paired."""
    result = ask(plane, examples=6)
    examples = result.tables["examples"]
    for row in result.table.to_dict("records"):
        name = row["measure"]
        assert row["distinctive"] == pytest.approx(examples[name].mean())
        assert row["random"] == pytest.approx(examples[f"random_{name}"].mean())
        assert row["difference"] == pytest.approx((examples[name] - examples[f"random_{name}"]).mean())
        assert 0 < row["p"] <= 1 and row["n"] == 6


def test_gates_are_set_as_in_the_tail(tmp_path):
    """Gates of inceptionv1 are set as in its own tail."""
    path, network = tmp_path / "digits.atlas", shipped("demo:inceptionv1")
    digit_atlas(path, stored=(), images=digits(60))
    cluster(path, site="inception5b:full", min_cluster_size=4)
    with atlas.open(path) as a:
        sizes = a.rows("select label, count(*) from cluster_labels where label >= 0 group by label order by 2 desc")
        result = run(
            a, "intervene", reader=network, site="inception5b", cluster=sizes[0][0], examples=3, gates=30, n_random=4
        )
        rows, chosen = result.tables["examples"], result.tables["gates"].query("set")
        assert 1 <= len(chosen) <= 30 and chosen["q"].max() <= 0.05 and chosen["module"].str.startswith("inc").all()
        ids = a.catalog.target(site="inception5b:full").sites[0]
        for row in rows.to_dict("records"):
            _, codes = a.codes([ids], [row["example"]])
            bits = codes.unpack()[0]
            gates, on = chosen["gate"].to_numpy(), chosen["on"].to_numpy()
            assert abs(row["flipped"] - (bits[gates] != on).sum()) <= 1
    assert (rows["kl"] >= 0).all() and rows["later"].eq(0).all()
    assert any("affine map" in note for note in result.notes)


def test_an_unknown_cluster_is_named(plane, tmp_path):
    """An unknown cluster and a missing clustering are named."""
    with pytest.raises(UnknownName, match=r"no cluster 7 in clustering 2 \(hidden of network tailed, codes\)"):
        ask(plane, cluster=7)
    with pytest.raises(UnknownName, match="no clustering of out of network tailed in codes; `polytope cluster"):
        ask(plane, site="out")
    with pytest.raises(UnknownName, match="clustering"):
        ask(plane, clustering=99)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epsilon": 0}, UsageError, "epsilon is 0"),
        ({"epsilon": -1.0}, UsageError, "epsilon is -1.0"),
        ({"gates": 0}, UsageError, "gates is 0"),
        ({"n_random": 0}, UsageError, "n_random is 0"),
        ({"examples": 0}, UsageError, "examples is 0"),
        ({"site": "nowhere"}, UnknownName, "no site 'nowhere'"),
        ({"site": "embed"}, UsageError, "embed is the first site of network tailed"),
        ({"gates": 3, "clustering": 1, "example": "0:0"}, UsageError, "random sets of 3 gates are drawn"),
    ],
)
def test_intervene_refuses_the_impossible(plane, options, error, message):
    """Intervene refuses impossible questions."""
    with pytest.raises(error, match=message):
        ask(plane, **options)


def test_a_cluster_of_all_is_refused(tmp_path):
    """A cluster of everything and a site without codes are refused."""
    reader = plane_reader()
    path = tmp_path / "one.atlas"
    add_texts(path, reader, [(word, "x", word) for word in POINTS[:20]], per_sequence=1, sites=["hidden"])
    write_clustering(path, dict.fromkeys(range(1, 21), 0))
    with atlas.open(path) as a:
        with pytest.raises(UsageError, match="20 are in cluster 0"):
            run(a, "intervene", reader=reader, site="hidden", cluster=0)
        with pytest.raises(NotStored, match="needs the codes of out, which were not ingested"):
            run(a, "intervene", reader=reader, site="out", cluster=0)


def test_a_cluster_without_gates_is_refused(plane, tmp_path):
    """A cluster that no gate tells apart is refused."""
    reader, path = plane[2], shutil.copytree(plane[0].path, tmp_path / "noise.atlas")
    labels = np.random.default_rng(0).integers(0, 2, len(POINTS))
    write_clustering(path, dict(zip(range(1, len(POINTS) + 1), labels.tolist(), strict=True)), 4)
    with (
        atlas.open(path) as a,
        pytest.raises(UsageError, match=r"no gate of hidden is distinctive of cluster 0 .*discovery"),
    ):
        run(a, "intervene", reader=reader, site="hidden", cluster=0)


# --- the paired test ------------------------------------------------------------------------------------------


def test_sign_flips_find_what_is_real():
    """Sign flips find what is there and only that."""
    rng = np.random.default_rng(0)
    assert paired_p(np.full(12, 1.0), rng) < 0.01  # 2 of 4096 flips are as far
    assert paired_p(np.array([1.0, -1.0, 2.0, -2.0]), rng) == 1
    assert math.isnan(paired_p(np.empty(0), rng))
    p = [paired_p(rng.standard_normal(15), rng, 199) for _ in range(200)]
    assert np.mean(np.array(p) <= 0.05) < 0.1  # were it true, at most 0.05 + 3 standard errors


def test_gates_set_by_hand_agree(plane):
    """hidden of (1, 1) with its third gate at ε is the activation (1, 1, ε), which out's tail reads."""
    result = ask(plane, example="1:1", epsilon=0.25)
    _path, _ids, reader = plane
    tail = reader.tail(reader.sites[1], TokenWindow(np.array([0]), np.array([0])))
    logits = tail.read(torch.tensor([[1.0, 1.0, 0.25]]), []).logits[0]
    shares = np.exp(logits) / np.exp(logits).sum()
    after = result.tables["outputs"].set_index("output")["after"]
    np.testing.assert_allclose(after[["left", "right"]], shares, rtol=1e-5)
