"""What is not exact about codes and clusters is said beside every number that rests on them."""

from dataclasses import replace

import pytest

import atlas
from query.clustering.labels import remark
from query.experiments import registry
from query.notes import Notes

SITE = "blocks.3.mlp"
READING = {
    "monosemanticity": {"sites": [SITE], "components": 3},
    "neuron": {"site": SITE},
    "directions": {"site": SITE, "components": 3},
    "flow": {"before": "blocks.1.mlp", "after": SITE, "space": "codes"},
    "dictionary": {"site": SITE, "atoms": 3},
}
"""Experiments that read clusters of codes, and how they are asked about a site that has a clustering."""


PARAMETERS = "clusterings of other parameters stand side by side"


@pytest.mark.parametrize("name", ["monosemanticity", "flow"])
def test_other_parameters_are_said(damaged, name):
    """Where clusterings that are compared were made with others; not where they agree."""
    with atlas.open(damaged(), writable=True) as writer:
        writer.execute("update clusterings set min_cluster_size = 5, min_samples = 5, selection = 'eom'")
        assert said(writer, name, PARAMETERS) == [[]]
        writer.execute("update clusterings set min_samples = 7 where target = $1 and space = 'codes'", [SITE])
        [[note]] = said(writer, name, PARAMETERS)
        assert "min_cluster_size 5, min_samples 7, eom: " in note and "min_samples 5, eom" in note


def said(a, name, *words):
    """The notes of an answer that hold the words, for each of these."""
    notes = registry.run(a, name, network="words", resamples=20, **READING[name]).notes
    return [[note for note in notes if part in note] for part in words]


def test_occupancy_tells_smooth_from_exact(a):
    smooth, exact = (registry.run(a, "occupancy", network=name).notes for name in ("words", "plane"))
    assert any("a definition, not a partition" in note for note in smooth)
    assert not any("a definition, not a partition" in note for note in exact)


def test_codes_of_texts_name_attention(a):
    whole = a.catalog.target(site="out", network="plane")
    position = replace(whole, sites=tuple(replace(site, exact=False) for site in whole.sites))
    notes = Notes()
    remark(notes, whole)
    assert not notes.lines()
    remark(notes, position)
    [note] = notes.lines()
    assert note.startswith("attention and normalisation lie between the gates") and "preactivations" not in note


@pytest.mark.parametrize("name", READING)
def test_readings_say_what_is_not_exact(damaged, name):
    """The codes of a smooth network; and an approximate clustering, or one of fewer examples, where it is one."""
    with atlas.open(damaged(), writable=True) as writer:
        assert said(writer, name, "approximate clustering", "before examples were added") == [[], []]
        writer.execute("update clusterings set exact = false, neighbors = 10, proven = 0.9")
        shares, advice = said(writer, name, "90.0% of its tree's edges", "without --approximate")
        assert shares and not advice
        writer.execute("update clusterings set proven = 0.008, data_digest = 'of what was there'")
        shares, advice, *others = said(
            writer,
            name,
            "0.8% of its tree's edges",
            "without --approximate",
            "approximate clustering",
            "before examples were added",
            "a definition, not a partition",
        )
        assert shares and shares == advice and [len(notes) for notes in others] == [1, 1, 1]
