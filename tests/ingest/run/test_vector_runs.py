"""Vectors from a file to an atlas: the numbers, the codes, and those that a network can't read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

import atlas
from atlas.errors import BadInput, EmptyDataset
from atlas.network import VectorNetwork
from ingest.datasets.base import Dataset
from ingest.datasets.sources import open_dataset
from ingest.run.plan import Choices, make_plan, planned_choices
from ingest.run.run import ingest
from tests.atlases import add_vectors
from tests.networks import REGIONS, PointNetwork

POINTS = {key: [float(number) for number in key.split(":")] for key in REGIONS if key != "nan:1"}


def table(path: Path, points: Iterable[Sequence[float]]) -> Dataset:
    rows = [",".join([*map(str, point), "even" if i % 2 == 0 else "odd"]) for i, point in enumerate(points)]
    path.write_text("\n".join(["x,y,label", *rows]), encoding="utf-8")
    return open_dataset(str(path), kind="vector")


def test_points_have_codes_of_their_regions(tmp_path):
    """In several batches and shards; a second run over the same points stores nothing twice."""
    dataset = table(tmp_path / "points.csv", POINTS.values())
    network = PointNetwork()
    assert isinstance(network, VectorNetwork)
    for shard_examples in (3, 4):
        choices = Choices(batch_size=2, shard_examples=shard_examples)
        ingest(tmp_path / "p.atlas", network, dataset, choices, run="points", cluster=False)
    with atlas.open(tmp_path / "p.atlas") as a:
        inputs = a.rows(
            "select vector, kind, text, thumbnail, label, key from inputs join dataset_inputs using (input_id)"
        )
        codes = a.rows(
            "select vector, sites.name, left(code::varchar, n_gates::integer) from codes join sites using (site_id) "
            "join examples using (example_id) join inputs using (input_id)"
        )
    assert sorted(row[0] for row in inputs) == sorted(POINTS.values())
    assert {row[1:4] for row in inputs} == {("vector", None, None)} and {row[4] for row in inputs} == {"even", "odd"}
    assert {row[5] for row in inputs} == {f"points.csv:{line}" for line in range(2, 2 + len(POINTS))}
    expected = {
        (tuple(point), site, REGIONS[key][place])
        for key, point in POINTS.items()
        for place, site in enumerate(("hidden", "out"))
    }
    assert {(tuple(vector), site, code) for vector, site, code in codes} == expected and len(codes) == len(expected)


def test_numbers_in_a_grid_have_a_picture(tmp_path):
    network = PointNetwork()
    network.n_inputs = 6  # read as the same plane: the other numbers weigh nothing
    network.layers = [
        ("hidden", np.pad(network.layers[0][1], ((0, 0), (0, 4))), network.layers[0][2]),
        network.layers[1],
    ]
    add_vectors(tmp_path / "p.atlas", network, [("a", None, np.arange(6).reshape(2, 3)), ("b", None, np.arange(6))])
    with atlas.open(tmp_path / "p.atlas") as a:
        shapes = a.rows("select width, height, vector, thumbnail is not null from inputs order by input_id")
    assert shapes == [(3, 2, [0, 1, 2, 3, 4, 5], True), (None, None, [0, 1, 2, 3, 4, 5], False)]


def test_vectors_of_another_width_stop_a_run(tmp_path):
    """Before the network has run, all of them named; or they are left out and listed."""
    path = tmp_path / "points.csv"
    path.write_text("x,y\n1,2\n3,\n4,5\n", encoding="utf-8")
    dataset = open_dataset(str(path), kind="vector")
    with pytest.raises(BadInput, match=r"1 of 3 inputs can't be used(.|\n)*points\.csv:3 holds 2 numbers, of which"):
        ingest(tmp_path / "p.atlas", PointNetwork(), dataset)
    done = ingest(tmp_path / "p.atlas", PointNetwork(), dataset, Choices(skip_bad=True), cluster=False)
    assert done.n_examples == 2 and [key for key, _ in done.bad] == ["points.csv:3"]
    wide = open_dataset(str(path), kind="vector", vector_columns=["x"])
    with pytest.raises(BadInput, match=r"3 of 3 inputs(.|\n)*points\.csv:2 has 1 number; network points reads 2"):
        ingest(tmp_path / "q.atlas", PointNetwork(), wide)
    with pytest.raises(EmptyDataset, match="gives no example: 3 of 3 inputs are unusable"):
        ingest(tmp_path / "q.atlas", PointNetwork(), wide, Choices(skip_bad=True))


def test_stored_plans_give_choices_again(tmp_path):
    """The same shards of another network of the same sites."""
    dataset = table(tmp_path / "points.csv", POINTS.values())
    choices = Choices(sites=("out",), limit=7, seed=3, batch_size=4, shard_examples=2, store_activations=False)
    plan = make_plan(PointNetwork(), dataset, choices)
    again = planned_choices(plan.document)
    assert (again.sites, again.limit, again.seed, again.batch_size) == (("out",), 7, 3, 4)
    assert again.skip_bad and not again.store_activations
