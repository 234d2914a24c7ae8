"""Pairs between two sites against all pairs computed one by one; clusters against a cross table."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import atlas
import query
from atlas.errors import NotStored, UnknownName, UsageError
from query.experiments import archive, registry
from query.experiments.flow import representations_flow
from tests.query.experiments.judged import DOWN, UP, WIDE, interval, result


def run(a, **options):
    return registry.run(a, "flow", **({"network": "words", "pairs": 3000, "resamples": 50} | options))


def every_pair(a, found, space):
    """Distances of all pairs of different inputs, one by one: (i, j) → (before, after)."""
    ends = [a.catalog.target(site=found.parameters[end], network="words").sites[0] for end in ("before", "after")]
    inputs = [
        number for (number,) in a.rows("select input_id from examples where network_id = 2 order by example_id")
    ]
    tables = []
    for site in ends:
        if space == "codes":
            ids, codes = a.codes([site])
            gates = codes.unpack()
            distance = (gates[:, None] != gates[None]).mean(axis=2)
        else:
            ids, points = a.activations(site)
            unit = points / np.linalg.norm(points, axis=1, keepdims=True)
            distance = 1 - unit @ unit.T
        tables.append(distance)
    apart = np.array(inputs)[:, None] != np.array(inputs)[None]
    i, j = np.nonzero(np.triu(apart, 1))
    return ids, i, j, tables[0][i, j], tables[1][i, j]


@pytest.mark.parametrize("space", ["activations", "codes"])
def test_sampled_pairs_agree_with_all(a, space):
    """The sample of pairs agrees with all pairs."""
    found = run(a, space=space, quantile=0.2)
    _, _, _, before, after = every_pair(a, found, space)
    near = [values <= np.quantile(values, 0.2) for values in (before, after)]
    far = [values >= np.quantile(values, 0.8) for values in (before, after)]
    truth = {
        "convergence": far[0] & near[1],
        "divergence": near[0] & far[1],
        "stays near": near[0] & near[1],
        "stays far": far[0] & far[1],
    }
    table = found.table.set_index("kind")
    for kind, chosen in truth.items():
        assert table.loc[kind, "share"] == pytest.approx(chosen.mean(), abs=0.03), kind
    [summary] = found.tables["summary"].to_dict("records")
    assert summary["spearman"] == pytest.approx(spearmanr(before, after).statistic, abs=0.05)
    assert summary["spearman_low"] < summary["spearman"] < summary["spearman_high"]
    assert found.tables["distances"]["n"].sum() == found.parameters["n_pairs"] == 3000


def test_listed_pairs_are_as_they_say(a):
    """Listed pairs are what they are said to be."""
    found = run(a, quantile=0.3)
    pairs = found.tables["pairs"]
    assert len(pairs) > 0
    sites = [a.catalog.target(site=found.parameters[end], network="words").sites[0] for end in ("before", "after")]
    labels = dict(a.rows("select example_id, label from examples"))
    tokens = dict(a.rows("select example_id, token from examples"))
    for row in pairs.to_dict("records"):
        for site, name in zip(sites, ("before", "after"), strict=True):
            _, (x, y) = a.activations(site, [row["a"], row["b"]])
            assert row[name] == pytest.approx(1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-5)
        assert (row["label_a"], row["token_b"]) == (labels[row["a"]], tokens[row["b"]])
    converging = pairs[pairs["kind"] == "convergence"]
    assert (converging["before"] > converging["after"]).mean() > 0.5


def test_clusters_flow_as_a_cross_table_says(a):
    found = run(a, before="blocks.1.mlp", after="blocks.3.mlp", clustering_after=3)
    before = found.parameters["clustering_before"]
    assert before is None and any("made for this experiment" in note for note in found.notes)
    after = dict(a.rows("select example_id, label from cluster_labels where clustering_id = 3"))
    matrix = found.tables["matrix"]
    assert matrix["n"].sum() == 360
    totals = pd.Series(list(after.values())).value_counts()
    assert matrix.groupby("to")["n"].sum().to_dict() == totals.to_dict()


def test_near_pairs_agree_in_label(a):
    """Labels agree more often in pairs that stay near."""
    table = run(a).table.set_index("kind")
    assert table.loc["stays near", "same_low"] > table.loc["stays near", "same_all"]
    assert table.loc["stays near", "lift_low"] > 1 > table.loc["convergence", "lift"]


def test_one_inputs_pairs_are_resampled_once(a, damaged):
    """The same tokens as 60 texts, and as 9 texts of a kind each: fewer inputs tell less."""
    few = damaged("update examples set input_id = input_id % 9")
    options = {"pairs": 10_000, "resamples": 100, "space": "codes"}
    of_many = run(a, **options)
    with atlas.open(few) as b:
        of_few = run(b, **options)
    assert any("bootstrap over inputs" in note for note in of_few.notes)
    for table, row, name in (("table", 2, "lift"), ("table", 0, "same_all"), ("summary", 0, "spearman")):
        many, fewer = (
            found.tables[table].loc[row, f"{name}_high"] - found.tables[table].loc[row, f"{name}_low"]
            for found in (of_many, of_few)
        )
        assert fewer > 1.5 * many > 0, name


def test_the_seed_decides_the_numbers(a):
    """The same seed gives the same numbers."""
    first, again, other = (run(a, seed=seed) for seed in (3, 3, 4))
    assert all(first.tables[name].equals(again.tables[name]) for name in first.tables)
    assert not first.table.equals(other.table)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"before": "blocks.2.mlp", "after": "blocks.1.mlp"}, UsageError, r"blocks.2.mlp does not come before"),
        ({"before": "blocks.2.mlp", "after": "blocks.2.mlp"}, UsageError, "does not come before"),
        ({"quantile": 0.6}, UsageError, "quantile is 0.6; expected a share between 0 and 0.5"),
        ({"space": "logits"}, UsageError, "space is 'logits'"),
        ({"pairs": 1}, UsageError, "pairs is 1"),
        ({"after": "blocks.8.mlp"}, UnknownName, r"no site 'blocks.8.mlp'"),
        ({"clustering_after": 1}, UsageError, "clustering 1"),
        ({"by": "size"}, UsageError, "by is 'size'"),
    ],
)
def test_questions_that_are_refused(a, options, error, message):
    with pytest.raises(error, match=message):
        run(a, **options)


def test_activations_that_are_not_stored(damaged):
    path = damaged(
        "delete from activations where site_id = 6", "update sites set n_activations = 0 where site_id = 6"
    )
    with atlas.open(path) as a:
        assert a.catalog.sites_of(a.catalog.network("words"))[3].site_id == 6
        with pytest.raises(NotStored, match=r"no activations are stored at blocks.3.mlp"):
            run(a)
        assert run(a, space="codes").parameters["n"] == 360


@pytest.mark.parametrize(
    ("lifts", "word"),
    [
        ((UP, UP), "supported"),
        ((UP, WIDE), "undecided"),
        ((WIDE, WIDE), "undecided"),
        ((UP, DOWN), "not supported"),
        ((DOWN, DOWN), "not supported"),
        ((UP, (0.0, 0.0)), "not supported"),  # none diverged
        (((np.nan, np.nan), UP), "undecided"),
    ],
)
def test_flow_needs_more_than_independence(lifts, word):
    """Flow needs more convergence and divergence than independent layers would give."""
    rows = [
        {"kind": kind, "n": 9, **interval("lift", *ends)}
        for kind, ends in zip(("convergence", "divergence"), lifts, strict=True)
    ]
    summary = [{"n_pairs": 99, **interval("spearman", 0.3, 0.4)}]
    assert representations_flow(result("flow", table=rows, summary=summary)).word == word


def test_a_flow_calls_clusters_by_name(damaged):
    """Figures say what clusters are called now, though the result was stored before somebody named one."""
    path = damaged()
    with atlas.open(path, writable=True) as a:
        number = archive.save(a, run(a))

    def labels(a):
        found = archive.load(a, number)
        return found.parameters["clustering_after"], found.figure().data[0].node.label

    with atlas.open(path) as a:
        clustering, made = labels(a)
        titles = {
            f"{one.title} #{one.cluster}": one.cluster
            for one in query.made_names(a, clustering=clustering).itertuples()
        }
        shown = [label for label in made if label in titles]
        assert shown
        query.name_cluster(a, "by hand", clustering=clustering, cluster=titles[shown[0]])
        assert [label for label in labels(a)[1] if label not in made] == [f"by hand #{titles[shown[0]]}"]
