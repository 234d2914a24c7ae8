"""What is not exact about codes and clusters is said beside every number that rests on them."""

import shutil

import pytest

import atlas
from query.experiments import registry

SITE = "blocks.3.mlp"
READING = {
    "monosemanticity": {"sites": [SITE], "components": 3},
    "neuron": {"site": SITE},
    "directions": {"site": SITE, "components": 3},
    "flow": {"before": "blocks.1.mlp", "after": SITE, "space": "codes"},
    "dictionary": {"site": SITE, "atoms": 3},
}
"""Experiments that read clusters of codes, and how they are asked about a site that has a clustering."""


@pytest.fixture
def writer(built, tmp_path):
    shutil.copytree(built, tmp_path / "copy.atlas")
    with atlas.open(tmp_path / "copy.atlas", writable=True) as opened:
        yield opened


def said(a, name, words):
    notes = registry.run(a, name, network="words", resamples=20, **READING[name]).notes
    return [note for note in notes if words in note]


@pytest.mark.parametrize("name", READING)
def test_codes_of_a_smooth_network_are_never_called_exact(a, name):
    assert len(said(a, name, "not exactly affine regions")) == 1


def test_occupancy_tells_smooth_codes_from_exact_ones(a):
    smooth, exact = (registry.run(a, "occupancy", network=name).notes for name in ("words", "plane"))
    assert any("not exactly affine regions" in note for note in smooth)
    assert not any("not exactly affine regions" in note for note in exact)


@pytest.mark.parametrize("name", READING)
def test_an_approximate_clustering_and_one_of_fewer_examples_are_called_so(writer, name):
    for words in ("approximate clustering", "before examples were added"):
        assert not said(writer, name, words)
    writer.execute("update clusterings set exact = false, neighbors = 10, proven = 0.9")
    writer.execute("update clusterings set data_digest = 'of what was there'")
    for words in ("approximate clustering", "before examples were added"):
        assert said(writer, name, words)
