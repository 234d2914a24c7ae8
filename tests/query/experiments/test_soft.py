"""Soft codes: gates against the nonlinearities themselves, distances against sums on paper and against hard codes."""

import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import atlas
from atlas import SplineCodes, hamming
from atlas.errors import NonFinite, NotStored, UnknownName, UsageError
from atlas.network import Site
from query.experiments import soft as module
from query.experiments.registry import run
from query.experiments.soft import GATES, _summary, expected_hamming
from tests.atlases import add_texts
from tests.networks import shipped
from tests.query.experiments.tailed import TailedReader, digit_atlas, plane_reader


class OpenReader(TailedReader):
    """A `TailedReader` that shows the preactivations of its layers."""

    def preactivations(self, batch, sites):
        x, found = np.concatenate([self._inputs(work)[work.positions] for work in batch]), {}
        for name, weight, bias in self.layers:
            found[name] = (x @ weight.T + bias).astype(np.float32)
            x = np.maximum(found[name], 0)
        return {site.name: found[site.name] for site in sites}


def opened(act="relu"):
    plane = plane_reader()
    vocabulary = dict(zip(plane.words, plane.points, strict=True))
    return OpenReader("open", vocabulary, plane.layers, act=act, classes=plane.classes)


def reading(path, words):
    """An atlas of these points, and what asks it; a network with another nonlinearity passes for the same."""
    add_texts(path, opened(), [(word, "x", word) for word in words], per_sequence=1)

    def ask(act="relu", **options):
        reader = opened(act)
        reader.info = opened().info
        return run(a, "soft", reader=reader, **options)

    with atlas.open(path) as a:
        yield ask


@pytest.fixture(scope="module")
def ask_two(tmp_path_factory):
    yield from reading(tmp_path_factory.mktemp("two") / "a.atlas", ["1:1", "3:1"])


@pytest.mark.parametrize("name", [name for name in GATES if name != "relu2"])
def test_a_unit_times_its_gate(name):
    """A unit times its gate is its activation."""
    from transformers.activations import ACT2FN

    z = np.linspace(-6, 6, 400)
    expected = ACT2FN[name](torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(z * GATES[name].gate(z), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", GATES)
def test_gates_open_as_z_grows(name):
    """Gates open as z grows and stay between off and on."""
    g = GATES[name].gate(np.linspace(0, 8, 200))
    assert (np.diff(g) >= 0).all() and g[0] >= 0 and g[-1] == pytest.approx(1, abs=1e-3)
    assert GATES[name].gate(np.array([-30.0]))[0] == pytest.approx(0, abs=1e-9)


def test_expected_hamming_is_a_mean():
    """Expected hamming is the mean over codes drawn with these probabilities."""
    rng = np.random.default_rng(0)
    g, h = rng.uniform(size=(2, 30))
    drawn = [(rng.uniform(size=(20_000, 30)) < p) for p in (g, h)]
    differ = (drawn[0] != drawn[1]).sum(axis=1)
    assert expected_hamming(g, h) == pytest.approx(differ.mean(), abs=4 * differ.std() / np.sqrt(len(differ)))
    assert expected_hamming(np.array([0.0, 1, 1]), np.array([1.0, 1, 0])) == 2


def test_relu_has_no_blur(ask_two):
    """(1, 1) and (3, 1) differ in x + y > 2; x⁺ > y⁺; and (x + y − 2)⁺ > 1."""
    result = ask_two(sites=["hidden", "out"])
    table = result.table.set_index("site")
    assert table["expected"].tolist() == table["hard"].tolist() == [1, 2]
    assert table["blur"].eq(0).all() and table["undecided"].eq(0).all() and table["ratio"].eq(1).all()
    assert any("soft and hard distance are the same" in note for note in result.notes)


def test_gelu_gates_as_on_paper(ask_two):
    """Preactivations of hidden at (1, 1): 1, 1, 0; at (3, 1): 3, 1, 2."""
    phi = {z: 0.5 * (1 + math.erf(z / math.sqrt(2))) for z in (0, 1, 2, 3)}
    result = ask_two(act="gelu", sites=["hidden"])
    [row] = result.table.to_dict("records")
    gates = [(phi[1], phi[3]), (phi[1], phi[1]), (phi[0], phi[2])]
    assert row["expected"] == pytest.approx(sum(g * (1 - h) + h * (1 - g) for g, h in gates))
    assert row["blur"] == pytest.approx(sum(g * (1 - g) + h * (1 - h) for g, h in gates))
    # Φ(1) = 0.84 three times and Φ(0) = 0.5 are undecided; Φ(2) and Φ(3) are on.
    assert row["undecided"] == pytest.approx(4 / 6) and row["hard"] == 1
    assert row["gate"] == "Φ(z)" and any("no exact region" in note for note in result.notes)


FULL = ["inception5a:full", "inception5b:full"]


def test_relu_soft_distance_is_hamming(digits_path, tmp_path):
    """Read from preactivations, where no codes are stored, it is the same."""
    path, network = tmp_path / "digits.atlas", shipped("demo:inceptionv1")
    shutil.copytree(digits_path, path)
    with atlas.open(path, writable=True) as a:
        stored = run(a, "soft", reader=network, sites=FULL, examples=12)
        for row in stored.tables["pairs"].to_dict("records"):
            _, codes = a.codes(a.catalog.target(site=row["site"]).sites, [row["a"], row["b"]])
            assert row["expected"] == row["hard"] == int(hamming(codes[:1], codes[1:])[0]) > 0
        a.execute("delete from codes")
        a.execute("update sites set n_codes = 0, codes_digest = null")
    with atlas.open(path) as a:
        read = run(a, "soft", reader=network, sites=FULL, examples=12)
    assert any("those of the stored codes" in note for note in stored.notes)
    assert not any("stored codes" in note for note in read.notes)
    pairs = [result.tables["pairs"].sort_values(["site", "a"], ignore_index=True) for result in (stored, read)]
    pd.testing.assert_frame_equal(pairs[0][["site", "a", "b"]], pairs[1][["site", "a", "b"]])
    assert (pairs[1]["expected"] == pairs[1]["hard"]).all()
    assert (pairs[0]["hard"] - pairs[1]["hard"]).abs().max() <= 1  # a batch of another size is added up otherwise


def test_photos_have_soft_codes(tmp_path):
    """Photos of which a thumbnail is kept have soft codes where codes are stored."""
    path, network = tmp_path / "photos.atlas", shipped("demo:inceptionv1")
    digit_atlas(path, stored=[])
    with atlas.open(path, writable=True) as a:
        a.execute("update inputs set width = 2000, height = 1500")
    with atlas.open(path) as a:
        assert run(a, "soft", reader=network, sites=FULL, examples=12).table["n"].tolist() == [6, 6]
        with pytest.raises(NotStored, match=r"at inception4e .* 1500 pixels only a thumbnail .*; stored codes do"):
            run(a, "soft", reader=network, sites=["inception4e", *FULL], examples=12)


def test_gpt2s_soft_codes_agree(tmp_path, monkeypatch):
    """Soft codes of gpt2 agree with its stored codes and are read in batches."""
    network, path = shipped("demo:gpt2"), tmp_path / "gpt2.atlas"
    lines = ["import os", "def walk(path):", "The quick brown fox", "return sorted(names)", "class A(B):", "x = 1"]
    add_texts(path, network, [(str(i), "x", line) for i, line in enumerate(lines)])
    with atlas.open(path) as a:
        result = run(a, "soft", reader=network, examples=14)
        for row in result.tables["pairs"].to_dict("records"):
            _, codes = a.codes(a.catalog.target(site=row["site"]).sites, [row["a"], row["b"]])
            assert row["hard"] == int(hamming(codes[:1], codes[1:])[0])
        monkeypatch.setattr(module, "READ_BYTES", 1)  # a pair at a time
        again = run(a, "soft", reader=network, examples=14)
    # Another batch is added up in another order.
    pd.testing.assert_frame_equal(result.tables["pairs"], again.tables["pairs"], rtol=1e-4)
    table = result.table
    assert table["site"].tolist() == [site.name for site in network.sites]
    assert 3 <= table["n"].iloc[0] <= 7 and table["n"].eq(len(result.tables["pairs"]) / 4).all()
    assert table["undecided"].between(0.01, 0.99).all() and (table["expected"] > table["blur"]).all()
    assert table["gate"].str.contains("an approximation of Φ").all()


def test_soft_and_hard_correlate_as_scipys():
    """Soft and hard distances correlate as scipy says with an interval."""
    from scipy.stats import spearmanr

    pairs = pd.DataFrame(
        {"expected": [1.5, 2.5, 2.0, 5.5, 4.0, 6.5], "hard": [1, 2, 2, 5, 6, 6], "blur": 0.5, "undecided": 0.1}
    )
    site = Site("s", 0, 4, 4, "gelu", exact=False)
    row = _summary(site, pairs, None, np.random.default_rng(0))
    assert row["rho"] == pytest.approx(spearmanr(pairs["expected"], pairs["hard"]).statistic)
    assert row["rho_low"] < row["rho"] < row["rho_high"] <= 1 and row["n"] == 6
    flat = _summary(site, pairs.assign(hard=3), None, np.random.default_rng(0))
    assert np.isnan([flat["rho"], flat["rho_low"], flat["rho_high"]]).all()


def test_pairs_share_no_example(tmp_path):
    words = tuple(f"{x}:{y}" for x in range(4) for y in range(4))
    [result] = (ask(sites=["hidden"], examples=9) for ask in reading(tmp_path / "p.atlas", words))
    ends = result.tables["pairs"][["a", "b"]].to_numpy().ravel()
    assert len(ends) == 8 and len(set(ends)) == 8
    codes = {
        word: SplineCodes.pack(np.array([[x > 0, y > 0, x + y > 2]]))
        for word, (x, y) in ((word, map(int, word.split(":"))) for word in words)
    }
    names = dict(enumerate(words, start=1))
    for row in result.tables["pairs"].to_dict("records"):
        assert row["hard"] == int(hamming(codes[names[row["a"]]], codes[names[row["b"]]])[0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"sites": ["blocks.7.mlp"]},
            UnknownName,
            "no site 'blocks.7.mlp' in network open; it has embed, hidden, out",
        ),
        ({"sites": []}, UsageError, "list of names"),
        ({"sites": "out"}, UsageError, "list of names"),
        ({"examples": 1}, UsageError, "examples is 1"),
        ({"act": "tanh"}, UsageError, "nonlinearity tanh"),
    ],
)
def test_soft_refuses_impossible_questions(ask_two, options, error, message):
    with pytest.raises(error, match=message):
        ask_two(**options)


def test_soft_of_one_input_is_refused(tmp_path):
    with pytest.raises(UsageError, match="of 1 inputs, none could be made"):
        [ask() for ask in reading(tmp_path / "e.atlas", ["1:1"])]


def test_no_preactivations_is_refused(tmp_path):
    """A network that shows no preactivations is refused."""
    texts = [("a", "x", "1:1"), ("b", "x", "2:2")]
    add_texts(tmp_path / "t.atlas", plane_reader(), texts, per_sequence=1, sites=["out"])
    with atlas.open(tmp_path / "t.atlas") as a:
        assert run(a, "soft", reader=plane_reader(), sites=["out"]).table["n"].tolist() == [1]  # codes are enough
        with pytest.raises(UsageError, match="tailed shows no preactivations"):
            run(a, "soft", reader=plane_reader())


def test_what_is_not_finite_is_named():
    site = opened().sites[1]
    values = np.array([[0, 1, 2], [0, np.inf, 1]], np.float32)
    with pytest.raises(NonFinite, match="example 8 gives NaN or infinity at site hidden"):
        module._check_finite(site, np.array([5, 8]), values)
