"""Every figure says its n, names its axes and is readable without colour vision; a stored one draws the same."""

import shutil
from itertools import pairwise

import plotly.graph_objects as go
import pytest

import atlas
from query.experiments import archive, registry
from query.experiments.figures import NOTE_WIDTH, PALETTE, finish, one_line, text

ASKED = {
    "monosemanticity": {"components": 4, "resamples": 50},
    "neuron": {"resamples": 50},
    "directions": {"components": 4, "resamples": 50},
    "projection": {"unit": 3, "site": "blocks.3.mlp"},
    "density": {"pairs": 60, "resamples": 50},
    "flow": {"pairs": 800, "resamples": 20},
    "dictionary": {"atoms": 4, "resamples": 50},
    "occupancy": {},
    "rarity": {"queries": 30, "resamples": 50},
}


@pytest.fixture(scope="module")
def results(built):
    with atlas.open(built) as a:
        return {name: registry.run(a, name, network="words", **options) for name, options in ASKED.items()}


@pytest.fixture(scope="module")
def figures(results):
    """Each is drawn once, to be looked at."""
    return {name: result.figure() for name, result in results.items()}


def test_each_atlas_experiment_is_drawn():
    """Every experiment on the atlas alone is drawn here."""
    assert set(ASKED) == {name for name in registry.EXPERIMENTS if not registry.find(name).live}


@pytest.mark.parametrize("name", ASKED)
def test_a_figure_says_its_n_and_its_notes(name, results, figures):
    layout = figures[name].layout
    assert layout.title.text and "n = " in layout.title.subtitle.text
    below = layout.annotations[-1].text.replace("<br>", " ")
    for note in results[name].notes:
        assert text(note) in below
    assert layout.margin.b > 15 * layout.annotations[-1].text.count("<br>")


@pytest.mark.parametrize("name", ASKED)
def test_every_axis_with_numbers_has_a_title(name, figures):
    figure = figures[name]
    for side in ("x", "y"):
        axes = list(figure.select_xaxes() if side == "x" else figure.select_yaxes())
        shown = [axis for axis in axes if axis.showticklabels is not False and axis.matches is None]
        named = [axis for axis in shown if axis.title.text]
        # Of a grid of panels the outer axes are named, and a side whose ticks are names needs no more than those.
        assert named or all(_names(figure, side))


def _names(figure, side):
    return [isinstance(value, str) for trace in figure.data for value in list(getattr(trace, side, None) or [])[:1]]


@pytest.mark.parametrize("name", ASKED)
def test_series_differ_in_more_than_colour(name, figures):
    looks = {}
    for trace in figures[name].data:
        if isinstance(trace, go.Bar) and trace.name:
            looks.setdefault(trace.marker.pattern.shape or "", set()).add(trace.marker.color)
        elif isinstance(trace, go.Scatter) and trace.name:
            looks.setdefault(trace.marker.symbol, set()).add(trace.marker.color)
    assert all(len(colours) == 1 for colours in looks.values())


@pytest.fixture(scope="module")
def stored(results, built, tmp_path_factory):
    """A copy of the atlas that holds all results, opened, and their numbers."""
    path = tmp_path_factory.mktemp("stored") / "copy.atlas"
    shutil.copytree(built, path)
    with atlas.open(path, writable=True) as writer:
        numbers = {name: archive.save(writer, result) for name, result in results.items()}
    with atlas.open(path) as reader:
        yield reader, numbers


@pytest.mark.parametrize("name", ASKED)
def test_a_stored_result_draws_the_same(name, figures, stored):
    """A stored result draws the same figure."""
    reader, numbers = stored
    assert archive.load(reader, numbers[name]).figure().to_json() == figures[name].to_json()


def test_the_palette_differs_without_colour():
    """The palette is told apart without colour."""
    for attribute in ("colour", "symbol", "pattern"):
        assert len({getattr(look, attribute) for look in PALETTE}) == len(PALETTE)
    assert all(a.dash != b.dash for a, b in pairwise(PALETTE))


def test_words_of_the_data_are_shown_whole():
    """Words of the data are shown as they are."""
    assert text("<b>a</b> & b") == "&lt;b&gt;a&lt;/b&gt; &amp; b"
    assert one_line("a\nb\tc" + "d" * 99, 10) == "a⏎b→cdddd…"
    assert one_line(" self") == "␣self" and one_line("self") == "self"


def test_long_notes_wrap_under_the_plot():
    """Long notes are wrapped under the plot."""
    figure = finish(go.Figure(), "title", "n = 3", ["word " * 100])
    lines = figure.layout.annotations[0].text.split("<br>")
    assert len(lines) > 2 and max(map(len, lines)) <= NOTE_WIDTH
