"""Pages about an atlas of vectors: numbers in tables and by themselves, pictures where they have an image's shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import atlas
import ingest
from query.experiments import run, save
from tests.app.explorer.running import errors, figures, ids, metrics, opened, press, words
from tests.atlases import add_vectors
from tests.networks import REGIONS, PointNetwork, shipped


class FourNumbers(PointNetwork):
    """The plane network over the first two of four numbers."""

    n_inputs = 4

    def __init__(self) -> None:
        super().__init__("fours")
        (name, weight, bias), out = self.layers
        self.layers = [(name, np.pad(weight, ((0, 0), (0, 2))), bias), out]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "vectors.atlas"
    points = [(key, "a", np.array(key.split(":"), float)) for key in REGIONS if key != "nan:1"]
    add_vectors(path, PointNetwork(), points)
    squares = [(f"square{i}", "b", np.array([[i, 1.5], [-1, 2]])) for i in range(4)]
    add_vectors(path, FourNumbers(), squares, dataset="squares")
    return path


def test_tables_of_examples_have_numbers(vectors):
    app = opened(vectors, "look", network="points", target="hidden", example=2, k=3)
    assert "1, 3" in words(app) and len(ids(app)) > 0
    assert "no thumbnail" not in words(app) and "Picture" not in words(app)


def test_numbers_in_a_square_are_seen(vectors):
    """As a picture, with its numbers below."""
    app = opened(vectors, "look", network="fours", target="hidden", example=12)
    pictures = [part.value for part in app.html if "<img" in part.value]
    assert pictures and any("pa-one" in part for part in pictures)
    assert "0, 1.5, -1, 2" in words(app) and "square0" in words(app)


def test_numbers_that_are_none_are_told(vectors):
    app = opened(vectors, "look", network="points", target="hidden", vector="1, two")
    assert "the vector is '1, two'; write numbers with commas between them" in words(app)


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("moons") / "moons.atlas"
    points = ingest.open_dataset("builtin:two-moons-heldout", kind="vector")
    ingest.ingest(path, shipped("demo:two-moons"), points, ingest.Choices(limit=30))
    return path


@pytest.mark.parametrize(("page", "state"), [("clusters", {}), ("neurons", {"unit": 0})])
def test_pages_of_vectors_open(moons, page, state):
    app = opened(moons, page, **state)
    assert errors(app) == [] and len(ids(app)) > 0


def test_slice_of_all_inputs(moons):
    """The whole plane that a network reads: computed at a click, shown at once where it is stored, part by part."""
    app = opened(moons, "between", part="Slice", size=16)
    press(app, "Compute")
    assert errors(app) == [] and len(figures(app)) == 1
    with atlas.open(moons, writable=True) as a:
        found = run(a, "slice", reader=shipped("demo:two-moons"), span="input->", size=24)
        save(a, found)
    app = opened(moons, "between", part="Slice")
    assert metrics(app)[0] == f"{found.tables['summary']['polytopes'].item():,}"
    assert errors(app) == [] and "of example" not in words(app)
    press(app, "Zoom in")
    assert float(metrics(app)[3].replace("−", "-")) == pytest.approx(np.ptp(found.parameters["u"]) / 2, rel=1e-2)
