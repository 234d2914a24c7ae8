"""Networks beside each other, against counting by hand, in NumPy and in SQL."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import atlas
import query
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.store.atlas import Atlas
from ingest.derived.clusters import cluster
from query.experiments import run, save
from query.networks.fates import Fate, fates
from tests.atlases import add_images, add_texts, built_once
from tests.networks import PixelNetwork, WordReader, pixel_images, plane_network, word_network, word_texts

SITE = "blocks.1.mlp"


def trained(name: str, amount: float) -> WordReader:
    """The network of words with its weights moved."""
    rng, network = np.random.default_rng(8), word_network(name)
    layers = [(site, w + amount * rng.standard_normal(w.shape), b) for site, w, b in network.layers]
    vocabulary = dict(zip(network.words, network.points, strict=True))
    return WordReader(name, vocabulary, layers, act="gelu_new", window=5, context=0.2)


def two_steps(path: Path) -> None:
    """Two plane networks over 3 points, and three of words over 30 texts, those of the third over 24 of them."""
    for name, scale in (("flat", 1.0), ("steep", 2.0)):
        points = [(point, "even", point) for point in ("2:1", "1:1", "-1:5")]
        add_texts(path, plane_network(name, scale), points, dataset="points", per_sequence=1)
    for name, amount, n_texts in (("step-0", 0.0, 30), ("step-1", 0.2, 30), ("step-2", 0.6, 24)):
        add_texts(path, trained(name, amount), word_texts(30)[-n_texts:], dataset=name, sites=(SITE, "blocks.2.mlp"))
        cluster(path, site=SITE, network=name)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_once(tmp_path_factory, "steps.atlas", two_steps)


@pytest.fixture(scope="module")
def a(steps: Path):
    with atlas.open(steps) as opened:
        yield opened


def test_flips_are_those_worked_out_on_paper(a: Atlas):
    """With twice the weights a second gate, 2 (x + y − 2) > 1, is on at 2:1 alone; the others stay."""
    found = query.compare(a, networks=["flat", "steep"])
    flips = found.steps.set_index("site")["flips"]
    assert (found.n_examples, found.n_inputs) == (3, 3) and found.sites == ("hidden", "out")
    assert flips.to_dict() == {"hidden": 0, "out": pytest.approx(1 / 3)}
    assert found.steps["unchanged"].tolist() == [1, pytest.approx(2 / 3)]
    assert found.examples["token"].iloc[0] == "2:1" and found.examples["flips"].tolist() == [1, 0, 0]
    assert found.examples["flips:out"].tolist() == [1, 0, 0] and found.examples["share"].iloc[0] == 1 / 5


def test_flips_are_hamming_distances_in_sql(a: Atlas):
    """Of the examples that all three networks read; since the first network, too."""
    found = query.compare(a, networks=["step-0", "step-1", "step-2"], k=None)
    counted = a.frame(
        """
        with held as (
            select networks.name as network, sites.name as site, input_id, position, code, example_id
            from codes join sites using (site_id) join networks using (network_id) join examples using (example_id)
        )
        select site, zero.example_id as zero, one.example_id as one, two.example_id as two,
            hamming(zero.code, one.code) as first, hamming(one.code, two.code) as second,
            hamming(zero.code, two.code) as whole
        from (from held where network = 'step-0') as zero
        join (from held where network = 'step-1') as one using (site, input_id, position)
        join (from held where network = 'step-2') as two using (site, input_id, position)
        """
    )
    means = counted.groupby("site")[["first", "second", "whole"]].mean()
    table = found.steps.set_index(["step", "site"])
    for site, row in means.iterrows():
        assert table.loc[1, site]["flips"] == pytest.approx(row["first"])
        assert table.loc[2, site]["flips"] == pytest.approx(row["second"])
        assert table.loc[2, site]["since_first"] == pytest.approx(row["whole"])
        assert table.loc[1, site]["flips_low"] < row["first"] < table.loc[1, site]["flips_high"]
    later = found.examples[found.examples["step"] == 2]
    assert later["flips"].is_monotonic_decreasing and len(later) == found.n_examples == len(counted) / 2
    by_example = counted[counted["site"] == SITE].set_index("two")["second"]
    assert (later.set_index("example_after")[f"flips:{SITE}"] == by_example[later["example_after"]]).all()
    assert len(query.compare(a, networks=["step-0", "step-1"], k=3).examples) == 3


def test_fates_are_those_of_overlap(a: Atlas):
    """n / (members of either), over the examples that the three networks share."""
    found = query.compare(a, networks=["step-0", "step-1", "step-2"], k=None)
    assert "blocks.2.mlp: not clustered in all networks" in " ".join(found.notes)
    ids = found.examples[found.examples["step"] == 1][["example_before", "example_after"]].to_numpy()
    labels = []
    for column, name in zip(ids.T, ("step-0", "step-1"), strict=True):
        number = query.clusterings(a).set_index("network")["clustering_id"][name]
        rows = a.frame("select example_id, label from cluster_labels where clustering_id = $1", [int(number)])
        labels.append(rows.set_index("example_id")["label"][column].to_numpy())
    rows = found.clusters.query("step == 1 and cluster.notna()")
    assert len(rows) == labels[0].max() + 1
    for row in rows.itertuples():
        inside = labels[0] == row.cluster
        overlaps = [
            (inside & (labels[1] == other)).sum() / (inside | (labels[1] == other)).sum()
            for other in range(labels[1].max() + 1)
        ]
        assert row.overlap == pytest.approx(max(overlaps)) and row.size == inside.sum()
        assert row.n_into == (inside & np.isin(labels[1], row.into)).sum()
    counts = found.steps.query("step == 1 and site == @SITE").iloc[0]
    assert {fate: counts[fate] for fate in ("stays", "dies")} == {
        fate: (rows["fate"] == fate).sum() for fate in ("stays", "dies")
    }


def test_clusters_stay_split_merge_and_die():
    """Ten examples each: 0 goes on as 5, 1 and 2 in 0, 3 falls into halves, 4 into noise; 4 comes from noise."""
    before = np.repeat([0, 1, 2, 3, 4, -1], 10)
    after = np.concatenate([np.repeat([5, 0, 0], 10), np.repeat([1, 2], 5), np.repeat([-1, 4], 10)])
    found = fates(before, after, np.arange(60), 99, np.random.default_rng(0))
    assert [(each.cluster, each.fate, each.into) for each in found] == [
        (0, "stays", (5,)),
        (1, "merges", (0,)),
        (2, "merges", (0,)),
        (3, "splits", (1, 2)),
        (4, "dies", ()),
        (None, "born", (4,)),
    ]
    assert [each.overlap for each in found[:5]] == [1, 0.5, 0.5, 0.5, 0]
    assert all(each.p == 0.01 and each.expected < each.overlap for each in found[:4])


def test_overlap_by_chance_decides_nothing():
    """Where all lie in one cluster afterwards, and where whole inputs alone could have changed places."""
    before, everywhere = np.repeat([0, 1], 10), np.zeros(20, np.int64)
    swallowed = fates(before, everywhere, np.arange(20), 99, np.random.default_rng(0))
    assert [(each.fate, each.p) for each in swallowed] == [("undecided", 1.0)] * 2
    of_two_texts = fates(before, before, np.repeat([7, 3], 10), 99, np.random.default_rng(0))
    assert all(each.fate == "undecided" and each.p == 1 and each.overlap == 1 for each in of_two_texts)
    alone = fates(before, before, np.arange(20), 99, np.random.default_rng(0))
    assert all(isinstance(each, Fate) and each.fate == "stays" for each in alone)


def test_stored_densities_stand_beside(steps: Path, tmp_path: Path):
    path = shutil.copytree(steps, tmp_path / "own.atlas")
    with atlas.open(path) as a:
        assert query.compare(a, networks=["step-0", "step-1"]).density.empty
        about = {"spans": [f"{SITE}->blocks.2.mlp"], "beside": [], "pairs": 40, "resamples": 40}
        results = [run(a, "density", network=name, **about) for name in ("step-1", "step-0")]
    with atlas.open(path, writable=True) as a:
        for result in results:
            save(a, result)
    with atlas.open(path) as a:
        density = query.compare(a, networks=["step-0", "step-1"]).density
    assert density["network"].tolist() == ["step-0", "step-1"]
    assert density["ratio"].tolist() == [result.table["ratio"].iloc[0] for result in reversed(results)]


def test_networks_that_differ_are_refused(a: Atlas, tmp_path: Path):
    with pytest.raises(UsageError, match="step-0 has other sites than flat"):
        query.compare(a, networks=["flat", "step-0"])
    with pytest.raises(UsageError, match="has other sites than flat"):
        query.compare(a)
    with pytest.raises(UsageError, match="networks are flat; name two or more, each once"):
        query.compare(a, networks=["flat"])
    with pytest.raises(UsageError, match="expected a list"):
        query.compare(a, networks="flat")
    with pytest.raises(UnknownName, match="no network 'curved'"):
        query.compare(a, networks=["flat", "curved"])
    with pytest.raises(UnknownName, match="no site 'conv1' in flat"):
        query.compare(a, networks=["flat", "steep"], sites=["conv1"])
    with pytest.raises(NotStored, match="no codes of the same site"):
        query.compare(a, networks=["step-0", "step-1"], sites=["blocks.0.mlp"])
    with pytest.raises(UsageError, match="k is 0"):
        query.compare(a, networks=["flat", "steep"], k=0)
    path = tmp_path / "apart.atlas"
    images = pixel_images()
    add_images(path, PixelNetwork("left"), images[:6], dataset="left")
    add_images(path, PixelNetwork("right"), images[6:], dataset="right")
    with atlas.open(path) as apart, pytest.raises(UsageError, match="left, right have no inputs in common"):
        query.compare(apart)
