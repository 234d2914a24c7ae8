"""A planted basis of codes is found again; reading a batch at a time gives the same codes."""

import numpy as np
import pytest

from atlas.errors import UnknownName, UsageError
from query.experiments import registry
from query.experiments.dictionary import _factor, _read, basis_beats_clusters
from query.notes import Notes
from tests.query.experiments.judged import interval, result


def run(a, **options):
    return registry.run(a, "dictionary", **({"network": "words", "resamples": 50} | options))


def test_planted_atoms_are_found_again():
    rng = np.random.default_rng(0)
    atoms = np.kron(np.eye(3), np.ones(8))  # each of eight gates of its own
    active = rng.random((400, 3)) < 0.4
    codes = (active @ atoms > 0).astype(np.float32)
    found = _factor(codes, 3, "nmf", 0.05, 0, Notes())
    unit = found.weights / np.linalg.norm(found.weights, axis=1, keepdims=True)
    assert (np.abs(unit @ (atoms / np.sqrt(8)).T).max(axis=1) > 0.99).all()
    assert found.explained > 0.95
    np.testing.assert_allclose(found.coefficients.max(axis=0), 1)


def test_more_atoms_than_gates_overcomplete():
    """More atoms than gates are an overcomplete basis."""
    codes = (np.random.default_rng(1).random((200, 6)) < 0.5).astype(np.float32)
    notes = Notes()
    found = _factor(codes, 12, "nmf", 0.01, 0, notes)
    assert 6 < len(found.weights) <= 12 and found.explained > 0.9


def test_sparse_coding_finds_planted_atoms():
    """Sparse coding finds planted atoms too."""
    rng = np.random.default_rng(2)
    atoms = np.kron(np.eye(4), np.ones(6))
    codes = ((rng.random((300, 4)) < 0.3) @ atoms > 0).astype(np.float32)
    found = _factor(codes, 4, "dictionary", 0.1, 0, Notes())
    unit = found.weights / np.linalg.norm(found.weights, axis=1, keepdims=True)
    assert (np.abs(unit @ (atoms / np.sqrt(6)).T).max(axis=1) > 0.95).all()


def test_gates_are_chosen_by_what_they_tell(a, monkeypatch):
    """Codes are read as they are and gates chosen by how much they tell."""
    target = a.catalog.target(span="blocks.0.mlp->", network="words")
    ids, codes = a.codes(target.sites)
    gates = codes.unpack()
    rate = gates.mean(axis=0)
    wanted = np.sort(np.argsort(-rate * (1 - rate), kind="stable")[:25])
    for budget in (1 << 26, 200):  # a few rows at a time
        monkeypatch.setattr("query.experiments.dictionary.UNPACKED_BYTES", budget)
        kept = _read(a, target, ids, 25, Notes())
        np.testing.assert_array_equal(kept.codes, gates[:, wanted])
        np.testing.assert_allclose(kept.on_rate, rate[wanted])
        edges = np.cumsum([0, *target.parts])
        assert (edges[kept.site] + kept.gate).tolist() == wanted.tolist()


def test_atoms_beside_clusters_and_chance(a):
    """Atoms stand beside as many clusters and random groups."""
    found = run(a, span="blocks.1.mlp->")
    n_clusters = a.value("select n_clusters from clusterings where target = 'blocks.1.mlp->'")
    table = found.table.set_index("kind")
    assert table.index.tolist() == ["atoms", "clusters", "random groups"]
    assert table.loc["clusters", "groups"] == n_clusters >= found.parameters["atoms"]
    assert table.loc["atoms", "purity_low"] > table.loc["random groups", "purity_high"]
    layers = found.tables["layers"].groupby("atom")["weight"].sum()
    np.testing.assert_allclose(layers, 1)
    examples = found.tables["examples"]
    assert (examples.groupby("atom")["coefficient"].first() == 1).all()
    assert examples.groupby("atom")["coefficient"].apply(lambda c: c.is_monotonic_decreasing).all()
    on = dict(zip(found.tables["gates"]["gate"], found.tables["gates"]["on_rate"], strict=True))
    assert all(0 < rate < 1 for rate in on.values())


def test_the_basis_is_described(a):
    """It says whether the basis is overcomplete and which clustering stands beside."""
    few = run(a, site="blocks.3.mlp", atoms=3, gates=8)
    assert "3 atoms for 8 gates: not overcomplete, which takes more atoms than gates" in few.notes
    many = run(a, site="blocks.3.mlp", atoms=9, gates=8, clustering=2)
    assert "9 atoms for 8 gates: an overcomplete basis" in many.notes
    assert few.parameters["clustering"] == 3 and many.parameters["clustering"] == 2
    assert any("by euclidean distance" in note for note in few.notes)
    assert any("by hamming distance" in note for note in many.notes)


def test_the_seed_decides_the_numbers(a):
    """The same seed gives the same numbers."""
    first, again = (run(a, site="blocks.1.mlp", atoms=5) for _ in range(2))
    assert all(first.tables[name].equals(again.tables[name]) for name in first.tables)


def test_a_full_code_of_an_image_network(a):
    found = run(a, network="pixels", site="conv1:full", atoms=3)
    [summary] = found.tables["summary"].to_dict("records")
    assert summary["gates"] == 27 and summary["n"] == 12 and "key" in found.tables["examples"]
    used = found.tables["atoms"]["active"].sum()  # over atoms, of the share of examples that use one
    assert summary["per_example"] == pytest.approx(used)
    assert summary["per_example_low"] <= used <= summary["per_example_high"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"span": "blocks.1.mlp->", "site": "blocks.2.mlp"}, UsageError, "one of the two"),
        ({"span": "blocks.3.mlp->"}, UsageError, "it must end after"),
        ({"site": "blocks.8.mlp"}, UnknownName, r"no site 'blocks.8.mlp'"),
        ({"atoms": -3}, UsageError, "atoms is -3"),
        ({"atoms": 0}, UsageError, "atoms is 0"),
        ({"method": "kmeans"}, UsageError, "method is 'kmeans'"),
        ({"sparsity": -1.0}, UsageError, "sparsity is -1.0"),
        ({"site": "blocks.1.mlp", "atoms": 4, "sparsity": 1e6}, UsageError, "no atom is used; give a smaller one"),
        ({"clustering": 44}, UnknownName, "no clustering 44"),
    ],
)
def test_questions_that_are_refused(a, options, error, message):
    with pytest.raises(error, match=message):
        run(a, **options)


def test_a_basis_needs_clusters_to_beat():
    rows = [
        {"kind": kind, "groups": 9, **interval("purity", *ends)}
        for kind, ends in (("atoms", (0.8, 0.9)), ("clusters", (0.5, 0.7)))
    ]
    assert basis_beats_clusters(result("dictionary", table=rows)).word == "supported"
    assert basis_beats_clusters(result("dictionary", table=rows[:1])).word == "undecided"
    rows[0] |= interval("purity", 0.1, 0.4)
    assert basis_beats_clusters(result("dictionary", table=rows)).word == "not supported"
