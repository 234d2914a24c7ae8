"""A perceptron on the plane from end to end: regions listed by brute force are the polytopes of the atlas."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import atlas
import ingest
import query
from atlas.errors import BadInput
from query import experiments

SIDE = 21


@pytest.fixture(scope="module")
def weights() -> list[tuple[np.ndarray, np.ndarray]]:
    """Of a perceptron 2-16-16-2, drawn once for all: (weight, offset) of each layer."""
    rng = np.random.default_rng(5)
    sizes = (2, 16, 16, 2)
    return [
        (rng.normal(size=(high, low)).astype(np.float32), rng.normal(size=high).astype(np.float32))
        for low, high in pairwise(sizes)
    ]


@pytest.fixture(scope="module")
def model(weights: list[tuple[np.ndarray, np.ndarray]]) -> nn.Sequential:
    layers = [nn.Linear(weight.shape[1], weight.shape[0]) for weight, _ in weights]
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, weights, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).eval()


@pytest.fixture(scope="module")
def grid() -> np.ndarray:
    axis = np.linspace(-2, 2, SIDE, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, model: nn.Sequential, grid: np.ndarray) -> Path:
    folder = tmp_path_factory.mktemp("plane")
    np.save(folder / "grid.npy", grid)
    network = ingest.network(model, inputs="vector", name="plane", classes=["left", "right"])
    points = ingest.open_dataset(str(folder / "grid.npy"), kind="vector")
    ingest.ingest(folder / "plane.atlas", network, points, ingest.Choices(spans=("1->",)), cluster=False)
    return folder / "plane.atlas"


def regions(weights: list[tuple[np.ndarray, np.ndarray]], points: np.ndarray) -> np.ndarray:
    """Signs of all 32 preactivations, one point at a time, by hand."""
    (w1, b1), (w2, b2), _ = weights
    rows = []
    for point in points.astype(np.float64):
        first = w1 @ point + b1
        second = w2 @ np.maximum(first, 0) + b2
        rows.append(np.concatenate([first, second]) > 0)
    return np.array(rows)


def test_regions_by_force_are_polytopes(plane, weights, grid):
    """Every code of the atlas is that of its point, so its polytopes are the regions that the grid meets."""
    truth = regions(weights, grid)
    with atlas.open(plane) as a:
        rows = a.rows("select example_id, vector from examples join inputs using (input_id) order by example_id")
        points = np.array([vector for _, vector in rows], np.float32)
        np.testing.assert_array_equal(points, grid)
        codes = np.concatenate(
            [a.codes(a.catalog.target(site=site).sites)[1].unpack() for site in ("1", "3")], axis=1
        )
        counted = a.value("select count(*) from polytopes where site = '1'")
    np.testing.assert_array_equal(codes, truth)
    assert counted == len(np.unique(truth[:, :16], axis=0)) > 10


def test_new_points_lie_in_their_regions(plane, model, weights):
    """A vector that is read now has the code of its region, and shares its polytope with who lies there."""
    reader = ingest.network(model, inputs="vector", name="plane", classes=["left", "right"])
    new = np.array([[0.013, 0.77], [-1.501, 0.25], [1.9, -1.9]])
    with atlas.open(plane) as a:
        _, stored = a.codes(a.catalog.target(site="3").sites)
        for point, code in zip(new, regions(weights, new)[:, 16:], strict=True):
            found = query.nearest(a, vector=point, site="3", radius=0, reader=reader)
            same = np.flatnonzero((stored.unpack() == code).all(axis=1)) + 1
            np.testing.assert_array_equal(found["example_id"], same)
        with pytest.raises(BadInput, match="the vector has 3 numbers; network plane reads 2"):
            query.nearest(a, vector=[1.0, 2.0, 3.0], site="3", reader=reader)


def test_slice_of_the_inputs_is_all_regions(plane, model, weights):
    """The slice of the input plane tells points apart as brute force does; a boundary lies where one gate changes."""
    reader = ingest.network(model, inputs="vector", name="plane", classes=["left", "right"])
    with atlas.open(plane) as a:
        found = experiments.run(a, "slice", reader=reader, span="input->", size=24)
        near = query.boundaries(a, vector=[0.4, -1.1], span="input->", reader=reader, k=4)
    grid = found.tables["grid"]
    u, v = (np.linspace(*found.parameters[axis], 24) for axis in ("u", "v"))
    points = np.stack([u[grid["column"]], v[grid["row"]]], axis=1)
    truth = regions(weights, points)
    _, numbers = np.unique(truth, axis=0, return_inverse=True)
    pairs = {(int(mine), int(theirs)) for mine, theirs in zip(grid["polytope"], numbers, strict=True)}
    assert len(pairs) == len(np.unique(truth, axis=0)) == found.tables["summary"]["polytopes"][0]
    with torch.no_grad():
        classes = model(torch.from_numpy(points.astype(np.float32))).argmax(1).numpy()
    assert (found.table["class"].to_numpy()[grid["class"]] == np.array(["left", "right"])[classes]).all()
    assert len(found.tables["examples"]) == SIDE**2 and (u[0], u[-1]) == (-3, 3)
    first = near.table.iloc[0]
    for share, flipped in ((0.999, 0), (1.001, 1)):
        angles = np.linspace(0, 2 * np.pi, 2000)
        around = np.array([0.4, -1.1]) + share * first["distance"] * np.stack([np.cos(angles), np.sin(angles)], 1)
        flips = (regions(weights, around) != regions(weights, np.array([[0.4, -1.1]]))).sum(axis=1)
        assert flips.max() == flipped and near.table["verified"][near.table["facet"]].all()
