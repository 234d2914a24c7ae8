"""Trained and untrained side by side: the numbers are those of `class_density`, each named for what it is."""

import dataclasses

import pytest

import atlas
import query
from atlas.errors import NotStored, UnknownName, UsageError
from query.experiments import archive, registry
from query.experiments.controls import controls_of
from query.experiments.density import boundaries_separate_classes, difference_grows_with_depth
from tests.atlases import add_images, add_texts
from tests.networks import PixelNetwork, WordReader, pixel_images, word_network, word_texts
from tests.query.experiments.judged import DOWN, UP, WIDE, interval, result


def control(name: str, weights: str, seed: int) -> WordReader:
    """The word network with layers drawn anew: words lie where they did, gates do not."""
    network = word_network(name)
    other = word_network(name, seed=seed)
    network.layers = other.layers
    network.info = dataclasses.replace(other.info, weights=weights)
    return network


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    path, texts = tmp_path_factory.mktemp("side_by_side") / "a", word_texts(30)
    add_texts(path, word_network("trained"), texts)
    add_texts(path, control("drawn", "random:0", 7), texts)
    add_texts(path, control("raw", "random-raw:0", 8), texts, activations=["blocks.0.mlp"])
    add_texts(path, word_network("other"), texts)
    with atlas.open(path) as a:
        yield a


def test_controls_are_named_for_their_kind(side_by_side):
    """Controls of the atlas stand beside and are named for what they are."""
    found = registry.run(side_by_side, "density", network="trained", pairs=200, resamples=50)
    shown = found.table[["network", "weights"]].drop_duplicates().to_numpy().tolist()
    assert shown == [["trained", "as given"], ["drawn", "untrained"], ["raw", "untrained"]]
    assert found.parameters["beside"] == ["drawn", "raw"]
    for name in ("trained", "drawn"):
        rows = found.table[found.table["network"] == name].drop(columns=["network", "weights"])
        expected = query.class_density(side_by_side, network=name, pairs=200, resamples=50)
        assert rows.reset_index(drop=True).equals(expected)


def test_an_added_control_outdates_answers(tmp_path):
    """An answer without controls is outdated by a control that is added."""
    experiment = registry.find("density")
    asked = {"network": "trained", "pairs": 100, "resamples": 20}
    path, sites = tmp_path / "a", ("blocks.2.mlp", "blocks.3.mlp")
    add_texts(path, word_network("trained"), word_texts(30), sites=sites)
    with atlas.open(path, writable=True) as a:
        number = archive.save(a, experiment.run(a, **asked))
    add_texts(
        path, word_network("other"), word_texts(30), sites=sites
    )  # given, not untrained: nothing to show beside
    with atlas.open(path) as a:
        assert archive.recall(a, experiment, "trained", asked) == number
    add_texts(path, control("drawn", "random:0", 7), word_texts(30), sites=sites)
    with atlas.open(path, writable=True) as a:
        assert archive.recall(a, experiment, "trained", asked) is None
        again = archive.save(a, experiment.run(a, **asked))
        assert archive.recall(a, experiment, "trained", asked) == again != number


def test_a_controls_missing_span_is_said(side_by_side):
    """A span that a control does not store is left out and said."""
    found = registry.run(side_by_side, "density", network="trained", pairs=100, resamples=20)
    assert found.table.groupby("network")["span"].count().to_dict() == {"trained": 3, "drawn": 3, "raw": 1}
    assert sum("raw: left out" in note and "--store-activations" in note for note in found.notes) == 2


def test_single_sites_stand_beside_spans(side_by_side):
    """Single sites are measured besides spans."""
    found = registry.run(
        side_by_side, "density", network="trained", beside=[], site_by_site=True, pairs=100, resamples=20
    )
    assert found.table["span"].tolist() == [
        "blocks.0.mlp->",
        "blocks.1.mlp->",
        "blocks.2.mlp->",
        "blocks.0.mlp->blocks.1.mlp",
        "blocks.1.mlp->blocks.2.mlp",
    ]
    assert found.table["n_gates"].tolist() == [60, 40, 31, 20, 9]


def test_named_networks_stand_beside(side_by_side):
    """Other networks stand beside when they are named."""
    found = registry.run(
        side_by_side,
        "density",
        network="trained",
        beside=["other"],
        spans=["blocks.1.mlp->"],
        pairs=100,
        resamples=20,
    )
    numbers = found.table.drop(columns=["network"])
    assert found.table["network"].tolist() == ["trained", "other"]
    assert numbers.iloc[0].equals(numbers.iloc[1])  # the same network under another name


def test_a_note_says_how_to_add_a_control(a):
    """Without a control a note says how to add one."""
    found = registry.run(a, "density", network="words", pairs=50, resamples=20)
    assert any("no untrained control" in note for note in found.notes)
    assert any("--weights random:0" in note and "--image-size" in note for note in found.notes)


def sized(name: str, weights: str, side: int) -> PixelNetwork:
    """`PixelNetwork` as read at another size."""

    class Sized(PixelNetwork):
        pass

    Sized.side = side
    network = Sized(name)
    network.info = dataclasses.replace(network.info, weights=weights)
    return network


def test_a_control_that_does_not_fit_is_told(tmp_path):
    """Of another image size: it has other gates, so that its spans are others; not that there is none."""
    path, images = tmp_path / "sizes.atlas", pixel_images(24)
    full = {"full": ("conv1", "conv2")}
    add_images(path, sized("trained", "given", 3), images, **full)
    add_images(path, sized("control", "random:0", 4), images, **full)
    with atlas.open(path) as a:
        found = registry.run(a, "density", network="trained", pairs=40, resamples=20)
        assert controls_of(a, a.catalog.network("trained")) == []
    assert any("control is untrained and does not fit: it is read with size 4, not 3" in n for n in found.notes)
    assert not any("no untrained control" in note for note in found.notes)
    add_images(path, sized("fits", "random:0", 3), images, **full)
    with atlas.open(path) as a:
        found = registry.run(a, "density", network="trained", pairs=40, resamples=20)
    assert set(found.table["network"]) == {"trained", "fits"}
    assert not any("does not fit" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"spans": ["blocks.2.mlp->blocks.1.mlp"]}, UsageError, "it must end after"),
        ({"spans": ["blocks.7.mlp->"]}, UnknownName, r"no site 'blocks.7.mlp'"),
        ({"spans": []}, UsageError, "spans is"),
        ({"beside": ["nobody"]}, UnknownName, "no network 'nobody'"),
        ({"pairs": 0}, UsageError, "pairs is 0"),
        ({"confidence": 1.5}, UsageError, "confidence is 1.5"),
    ],
)
def test_questions_that_are_refused(a, options, error, message):
    with pytest.raises(error, match=message):
        registry.run(a, "density", network="words", **options)


def test_one_class_is_refused(tmp_path):
    """One class and missing activations are refused."""
    path = tmp_path / "a"
    add_texts(path, word_network(), [(key, "same", text) for key, _, text in word_texts(8)])
    add_texts(path, word_network("bare"), word_texts(8), activations=[])
    with atlas.open(path) as a:
        with pytest.raises(UsageError, match="at least two labels are needed"):
            registry.run(a, "density", network="words")
        with pytest.raises(NotStored, match="no site of network bare has stored activations"):
            registry.run(a, "density", network="bare")


@pytest.mark.usefixtures("unchecked")
def test_named_spans_alone_are_measured(side_by_side):
    """Spans by name are all that is measured."""
    with pytest.raises(UsageError, match="site_by_site adds to the spans measured by default"):
        registry.run(side_by_side, "density", network="trained", spans=["blocks.0.mlp->"], site_by_site=True)
    with pytest.raises(UsageError, match=r"resamples is 1\.5"):
        registry.run(side_by_side, "density", network="trained", resamples=1.5)


def densities(network, weights, *ratios):
    return [
        {
            "network": network,
            "weights": weights,
            "span": f"s{i}->",
            "n_intra": 5,
            "n_inter": 6,
            **interval("ratio", *ends),
        }
        for i, ends in enumerate(ratios)
    ]


FLAT = (0.97, 1.04)


@pytest.mark.parametrize(
    ("trained", "untrained", "word"),
    [
        ([UP, UP], [FLAT, FLAT], "supported"),
        ([UP, UP], [], "undecided"),  # untrained networks were not asked
        ([UP, UP], [(1.005, 1.015), FLAT], "supported"),  # a difference, and too small to count
        ([UP, UP], [WIDE, FLAT], "undecided"),  # that an interval holds 1 is no absence
        ([UP, UP], [(1.1, 1.2), FLAT], "undecided"),
        ([UP, WIDE], [FLAT, FLAT], "undecided"),
        ([UP, DOWN, DOWN], [FLAT] * 3, "not supported"),
        ([UP, WIDE, WIDE], [FLAT] * 3, "undecided"),
        ([UP, UP], [(1.5, 1.6), (1.5, 1.6)], "not supported"),  # the untrained network separates classes as well
    ],
)
def test_boundaries_separate_trained_classes(trained, untrained, word):
    """Boundaries separate classes in the trained network alone."""
    rows = densities("net", "as given", *trained) + densities("drawn", "untrained, calibrated", *untrained)
    found = boundaries_separate_classes(result("density", table=rows))
    assert found.word == word and len(found.numbers) == len(rows)


@pytest.mark.parametrize(
    ("ratios", "word"),
    [
        ([(1.1, 1.2), (1.3, 1.4), (1.5, 1.6)], "supported"),
        ([(1.5, 1.6), (1.1, 1.2)], "not supported"),
        ([(1.1, 1.4), (1.3, 1.6)], "undecided"),
        ([(1.1, 1.4)], "undecided"),
    ],
)
def test_density_grows_where_the_ends_part(ratios, word):
    """The difference grows where last and first part."""
    rows = densities("net", "as given", *ratios) + densities("x", "untrained, raw", (9, 9))
    assert difference_grows_with_depth(result("density", table=rows)).word == word
