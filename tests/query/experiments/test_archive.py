"""What is stored comes back equal, once, or not at all."""

import dataclasses
import json
import math
import shutil
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest

import atlas
from atlas.errors import UnknownName, UsageError
from query.experiments import archive, occupancy, registry
from query.experiments.result import Directions, Result


@pytest.fixture
def writer(built, tmp_path):
    path = tmp_path / "copy.atlas"
    shutil.copytree(built, path)
    with atlas.open(path, writable=True) as opened:
        yield opened


def result(**changes):
    tables = {
        "table": pd.DataFrame(
            {
                "name": ["a", None, "c"],
                "ratio": [1.5, np.nan, -np.inf],
                "n": [3, 4, 5],
                "ok": [True, False, True],
                "single": np.array([0.1, 0.2, np.inf], np.float32),
                "lists": [[1, 2], None, ["x", math.nan]],
            }
        ),
        "empty": pd.DataFrame({"site": pd.Series([], dtype="str"), "n": pd.Series([], dtype="int64")}),
    }
    parameters = {"seed": 3, "limit": math.inf, "sites": ["b", "a"]}
    fields = {
        "kind": "occupancy",
        "network": "words",
        "parameters": parameters,
        "tables": tables,
        "notes": ("one ≥ two",),
    }
    return Result(**(fields | changes))


def same(found, expected):
    for name, table in expected.tables.items():
        pd.testing.assert_frame_equal(found.tables[name], table)
    assert list(found.tables) == list(expected.tables)
    assert (found.kind, found.network, found.notes) == (expected.kind, expected.network, expected.notes)
    return True


def test_a_result_comes_back_equal(writer):
    """A result comes back equal with its nans and infinities."""
    stored = result()
    found = archive.load(writer, archive.save(writer, stored))
    assert same(found, stored)
    assert found.parameters == stored.parameters and list(found.parameters) == list(stored.parameters)
    assert math.isnan(found.table["lists"][2][1])


def test_stored_json_is_read_by_sql(writer):
    """What is stored is json that sql can read."""
    number = archive.save(writer, result())
    rows = writer.rows(
        """
        select cells->>'name', (cells->>'ratio')::double, (cells->>'n')::bigint from experiment_rows
        where experiment_id = $1 and table_name = 'table' order by row_number
        """,
        [number],
    )
    assert rows[0] == ("a", 1.5, 3) and rows[2] == ("c", -math.inf, 5)
    assert rows[1][0] is None and math.isnan(rows[1][1])
    declared = writer.rows("select name, dtype from experiment_columns where table_name = 'empty' order by ordinal")
    assert declared == [("site", "str"), ("n", "int64")]


def test_the_comments_example_query_runs(writer):
    """An example query in the comments runs."""
    [(comment,)] = writer.rows(
        "select comment from duckdb_columns() where table_name = 'experiment_rows' and column_name = 'cells'"
    )
    result = registry.run(writer, "density", network="words", pairs=50, resamples=20)
    archive.save(writer, result)
    rows = writer.rows(comment.partition(": ")[2].rstrip("."))
    assert rows == result.table[["span", "ratio"]].to_records(index=False).tolist()
    [unit] = writer.rows("select unit from experiment_columns where name = 'intra_mean'")
    assert unit == ("boundaries a unit of distance",)


def test_the_newest_answer_is_kept(writer):
    """The same question is stored once and its newest answer kept."""
    first = archive.save(writer, result())
    again = archive.save(writer, result(notes=("computed again",)))
    other = archive.save(writer, result(parameters={"seed": 4}))
    assert first == again != other
    assert archive.load(writer, first).notes == ("computed again",)
    assert archive.stored(writer)["experiment_id"].tolist() == [other, first]
    assert archive.stored(writer, "density").empty


def test_order_of_parameters_is_no_matter(writer):
    """The order of parameters does not make another question."""
    first = archive.save(writer, result(options={"a": 1, "b": 2}))
    assert archive.save(writer, result(options={"b": 2, "a": 1})) == first


@pytest.mark.usefixtures("unchecked")
def test_a_failed_save_leaves_nothing(writer):
    """A result that cannot be stored leaves nothing behind."""
    known = archive.save(writer, result())
    for wrong in ({"when": pd.Timestamp("2024-01-01")}, {"$float": "nan"}, {1: 2}):
        with pytest.raises(TypeError, match=r"JSON can't hold|strings as keys"):
            archive.save(writer, result(parameters=wrong))
    lost = Directions("no such site", "nmf", np.eye(2, dtype=np.float32))
    with pytest.raises(KeyError, match="no such site"):  # after the row was written: the transaction takes it back
        archive.save(writer, result(parameters={"seed": 9}, directions=(lost,)))
    assert archive.stored(writer)["experiment_id"].tolist() == [known]
    assert same(archive.load(writer, known), result())


def test_directions_go_with_their_experiment(writer):
    """Directions are kept in their table and replaced with their experiment."""
    vectors = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
    found = result(directions=(Directions("blocks.1.mlp", "pca", vectors, (0.5, 0.3, 0.1)),))
    number = archive.save(writer, found)
    archive.save(writer, result(directions=(Directions("blocks.1.mlp", "nmf", vectors[:2]),)))
    rows = writer.rows(
        "select experiment_id, method, component, vector, explained from directions order by component"
    )
    assert [row[:3] for row in rows] == [(number, "nmf", 0), (number, "nmf", 1)]
    np.testing.assert_array_equal(np.array(rows[1][3], np.float32), vectors[1])
    assert rows[0][4] is None


def test_an_answer_is_recalled_until_changes(writer):
    """A stored answer is recalled until the data changes."""
    experiment = registry.find("occupancy")
    asked = {"targets": ["blocks.1.mlp"]}
    assert archive.recall(writer, experiment, "words", asked) is None
    number = archive.save(writer, experiment.run(writer, network="words", **asked))
    assert archive.recall(writer, experiment, "words", asked) == number
    assert archive.recall(writer, experiment, "words", asked | {"network": "words"}) == number
    assert archive.recall(writer, experiment, "words", {"targets": ["blocks.2.mlp"]}) is None
    assert archive.recall(writer, experiment, "words", asked | {"seed": 1}) is None
    assert archive.recall(writer, experiment, "plane", asked) is None
    assert archive.stored(writer)["current"].tolist() == [True]
    with writer.transaction():
        writer.execute("update sites set codes_digest = 'changed' where name = 'blocks.1.mlp'")
    assert archive.recall(writer, experiment, "words", asked) is None
    assert archive.stored(writer)["current"].tolist() == [False]


def test_another_version_outdates_an_answer(writer, monkeypatch):
    experiment = registry.find("occupancy")
    number = archive.save(writer, experiment.run(writer, network="words"))
    [row] = archive.stored(writer).to_dict("records")
    assert row["current"] and row["made_by"] == f"polytope-atlas {version('polytope-atlas')}"
    assert row["made_at"].year >= 2024
    newer = dataclasses.replace(experiment, version=experiment.version + 1)
    monkeypatch.setattr(occupancy, "EXPERIMENT", newer)
    assert archive.recall(writer, newer, "words", {}) is None
    [row] = archive.stored(writer).to_dict("records")
    assert not row["current"] and row["outdated"] == "the experiment has changed"
    assert archive.save(writer, newer.run(writer, network="words")) == number  # in place of the older
    assert archive.recall(writer, newer, "words", {}) == number


def test_a_clustering_outdates_its_users(writer):
    """A new clustering outdates only what looks at clusters."""
    digests = {kind: archive.data_digest(writer, kind, "words", {}) for kind in ("occupancy", "neuron")}
    writer.execute(
        "insert into clusterings select * replace (99 as clustering_id) from clusterings where clustering_id = 2"
    )
    changed = {kind: archive.data_digest(writer, kind, "words", {}) != digests[kind] for kind in digests}
    assert changed == {"occupancy": False, "neuron": True}


def test_networks_beside_count_as_data(writer):
    """A network shown beside is part of what a result rests on."""
    alone = archive.data_digest(writer, "density", "words", {})
    beside = archive.data_digest(writer, "density", "words", {"beside": ["plane"]})
    everything = archive.data_digest(writer, "density", None, {})
    assert len({alone, beside, everything}) == 3


def test_only_a_writable_atlas_stores(a):
    """Only an atlas open for writing stores."""
    with pytest.raises(UsageError, match="open for reading; open it for writing"):
        archive.save(a, result())


def test_what_was_never_stored_is_not_found(a):
    with pytest.raises(UnknownName, match=r"no experiment 7 in .*; it holds none"):
        archive.load(a, 7)


def test_as_json_has_every_table_as_records():
    document = json.loads(archive.as_json(result(), 5), parse_constant=lambda name: pytest.fail(name))
    assert document["experiment_id"] == 5 and document["tables"]["empty"] == []
    assert document["tables"]["table"][1]["ratio"] == {"$float": "nan"}


def test_answers_are_found_without_controls(writer):
    """An answer is found without the controls that stood beside it."""
    find = registry.find("occupancy")
    alone = dataclasses.replace(result(), options=find.question({"network": "words", "seed": 3}))
    number = archive.save(writer, alone)
    assert archive.recall(writer, find, "words", {"seed": 3}, "any") == number
    assert archive.recall(writer, find, "words", {"seed": 4}, "any") is None
    assert archive.recall(writer, find, "plane", {"seed": 3}, "any") is None
    beside = dataclasses.replace(alone, options={**alone.options, "controls": {"random": "a digest"}})
    newer = archive.save(writer, beside)
    assert newer != number and archive.recall(writer, find, "words", {"seed": 3}, "any") == newer
    with pytest.raises(UsageError, match="has no option pairs"):
        archive.recall(writer, find, "words", {"pairs": 3}, "any")
    with writer.transaction():
        writer.execute("update sites set codes_digest = 'other' where n_codes > 0")
    assert archive.recall(writer, find, "words", {"seed": 3}, "any") is None


def test_only_options_not_default_are_said(writer):
    """What is stored says what was not asked by default."""
    find = registry.find("occupancy")
    for seed in (0, 3):
        archive.save(writer, dataclasses.replace(result(), options=find.question({"network": "words", "seed": seed})))
    several = dataclasses.replace(result(), network=None, options=find.question({"targets": ["b", "a"]}))
    archive.save(writer, several)
    found = archive.stored(writer)
    assert found["experiment_id"].tolist() == [3, 2, 1] and found["current"].all()
    assert found["options"].tolist() == [{"targets": ["b", "a"]}, {"seed": 3}, {}]
    assert archive.stored(writer, network="plane")["experiment_id"].tolist() == [3]
    assert archive.stored(writer, network="words")["experiment_id"].tolist() == [3, 2, 1]


def test_a_projection_follows_its_direction(writer):
    """A projection on a stored direction is current until another is found of that name."""
    projection, asked = registry.find("projection"), {"site": "blocks.1.mlp", "method": "nmf", "component": 0}
    options = {"site": "blocks.1.mlp", "k": 5, "resamples": 20}
    archive.save(writer, registry.run(writer, "directions", **options, components=3))
    first = archive.save(writer, projection.run(writer, **asked))
    assert archive.recall(writer, projection, "words", asked) == first
    archive.save(writer, registry.run(writer, "directions", **options, components=8))
    assert archive.recall(writer, projection, "words", asked) is None
    held = archive.stored(writer).set_index("experiment_id")["current"]
    assert not held[first] and held.drop(first).all()
    fresh = projection.run(writer, **asked)
    assert not fresh.tables["histogram"].equals(archive.load(writer, first).tables["histogram"])
    again = archive.save(writer, fresh)
    assert again != first and archive.recall(writer, projection, "words", asked) == again
    # On a unit it is nobody's direction.
    unit = {"site": "blocks.1.mlp", "unit": 2}
    on_unit = archive.save(writer, projection.run(writer, **unit))
    archive.save(writer, registry.run(writer, "directions", **options, components=4))
    assert archive.recall(writer, projection, "words", unit) == on_unit
    assert archive.recall(writer, projection, "words", asked) is None
