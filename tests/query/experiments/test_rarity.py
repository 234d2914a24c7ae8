"""Neighbours by three distances against a slow search, an example and a neighbour at a time."""

import numpy as np
import pandas as pd
import pytest

import atlas as store
import ingest
from atlas import hamming
from atlas.codes import jaccard
from atlas.errors import UnknownName, UsageError
from query.examples.labels import labels_of
from query.experiments import rarity, registry

SMALL = {"network": "words", "resamples": 50}


def slow_search(a, name, k):
    """Share of the label among the nearest, and share of Hamming's nearest among them, by distance; and chance."""
    target = a.catalog.target(site=name, network="words")
    ids, _ = a.codes(target.sites)
    labels = labels_of(a, ids)
    held = np.flatnonzero(labels.numbers >= 0)
    codes = a.codes(target.sites, ids[held])[1]
    gates, label, of_input = codes.unpack(), labels.numbers[held], labels.inputs[held]
    p = gates.mean(axis=0)
    bits = [0 if share in (0, 1) else -np.log2(2 * share * (1 - share)) for share in p]
    weights = np.round(np.array(bits) * 2**20).astype(int)
    rng = np.random.default_rng([0, 113])
    rng.permutation(len(held))
    turn = np.argsort(rng.permutation(len(held)))  # when an example has its turn among equally near ones
    same, overlap, chance = {}, {}, []
    for query in range(len(held)):
        one = codes[[query]]
        by = {
            "hamming": hamming(one, codes),
            "rarity": (gates ^ gates[query]) @ weights,
            "jaccard": jaccard(one, codes),
        }
        others = [i for i in range(len(held)) if of_input[i] != of_input[query]]
        chance.append(np.mean(label[others] == label[query]))
        near = {name: sorted(others, key=lambda i, far=far: (far[i], turn[i]))[:k] for name, far in by.items()}
        for name, places in near.items():
            same.setdefault(name, []).append(np.mean(label[places] == label[query]))
            overlap.setdefault(name, []).append(len({*places} & {*near["hamming"]}) / k)
    return *({name: np.mean(values) for name, values in found.items()} for found in (same, overlap)), np.mean(chance)


@pytest.mark.parametrize("name", ["blocks.1.mlp", "blocks.0.mlp->"])
def test_neighbours_equal_a_slow_search(a, monkeypatch, name):
    """Neighbours are those of a slow search, whether codes are compared at once or a few gates and rows at a time."""
    same, overlap, chance = slow_search(a, name, 4)
    found = registry.run(a, "rarity", targets=[name], k=4, queries=1000, **SMALL)
    monkeypatch.setattr(rarity, "READ_BYTES", 200_000)
    in_blocks = registry.run(a, "rarity", targets=[name], k=4, queries=1000, **SMALL)
    pd.testing.assert_frame_equal(found.table, in_blocks.table)
    table = found.table.set_index("distance")
    assert table.index.tolist() == ["hamming", "rarity", "jaccard"]
    for distance, row in table.iterrows():
        assert row["same"] == pytest.approx(same[distance]) and row["chance"] == pytest.approx(chance)
        assert row["same_low"] <= row["same"] <= row["same_high"] and row["same_low"] < row["same_high"]
        if distance != "hamming":
            assert row["overlap"] == pytest.approx(overlap[distance])
            assert row["gain"] == pytest.approx(same[distance] - same["hamming"])
    assert table.loc["hamming", ["gain", "overlap"]].isna().all()
    assert (table["examples"] == table["queries"]).all() and (table["inputs"] == 59).all()  # a text has no label


def test_weights_are_bits_of_a_difference():
    """A gate on in half of the codes weighs a bit, a rare one more, one always on or off nothing."""
    found = rarity.weights_of(np.array([50, 1, 99, 0, 100]), 100)
    assert found[0] == 1 and found[1] == found[2] == pytest.approx(5.658356, abs=1e-6) and (found[3:] == 0).all()
    assert (found / rarity.GRAIN % 1 == 0).all()


def test_labels_that_rare_gates_tell(tmp_path):
    """Where rare gates tell the label and common ones nothing, neighbours weighted by rarity bear it more often."""
    rng = np.random.default_rng(0)
    rare = np.arange(90) % 9 == 0
    bits = np.concatenate([np.repeat(rare[:, None], 2, axis=1), rng.random((90, 14)) < 0.5], axis=1)
    label = np.where(rare, "rare", "common")
    np.savez(tmp_path / "given.npz", key=np.arange(90).astype(str), label=label, site=bits)
    ingest.ingest(tmp_path / "x.atlas", *ingest.open_codes(tmp_path / "given.npz"), cluster=False)
    with store.open(tmp_path / "x.atlas") as a:
        found = registry.run(a, "rarity", k=5, resamples=200)
    table = found.table.set_index("distance")
    assert table.loc["rarity", "gain_low"] > 0 and table.loc["rarity", "overlap_high"] < 1
    assert table.loc["hamming", "same"] > table.loc["hamming", "chance"]
    weights = found.tables["weights"].iloc[0]
    assert weights["constant"] == 0 and weights["largest"] == pytest.approx(-np.log2(2 * 10 * 80 / 90**2), abs=1e-6)
    assert 1 <= weights["median"] < 1.1


def test_fewer_examples_drawn_by_the_seed(a):
    """Fewer are drawn by the seed, and it is said."""
    asked = {"targets": ["blocks.3.mlp"], "queries": 20, "examples": 60, **SMALL}
    first, again, other = (registry.run(a, "rarity", seed=seed, **asked) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first.table, again.table)
    assert not first.table["same"].equals(other.table["same"])
    assert (first.table["queries"] == 20).all() and (first.table["examples"] <= 60).all()
    assert any("60 of" in note and "drawn at random" in note for note in first.notes)
    whole = registry.run(a, "rarity", network="words", by="token", queries=5, resamples=20)
    assert whole.parameters["targets"] == [f"blocks.{i}.mlp" for i in range(4)]


def test_impossible_neighbours_are_refused(a):
    """Too many neighbours, no site, and other labels than there are."""
    with pytest.raises(UsageError, match=r"k is 5000; of \d+ labelled examples of blocks.1.mlp"):
        registry.run(a, "rarity", targets=["blocks.1.mlp"], k=5000, **SMALL)
    with pytest.raises(UsageError, match="expected a list of sites and spans"):
        registry.run(a, "rarity", targets=[], **SMALL)
    with pytest.raises(UnknownName, match=r"no site 'blocks\.9\.mlp'"):
        registry.run(a, "rarity", targets=["blocks.9.mlp"], **SMALL)
    with pytest.raises(UsageError, match="expected label or token"):
        registry.run(a, "rarity", targets=["blocks.1.mlp"], by="mood", **SMALL)
