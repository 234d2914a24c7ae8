"""`polytope experiment`: commands made from signatures, answers that are stored, figures that need no connection."""

from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

import atlas
from app.cli.commands import cli
from app.cli.experiment import LazyGroup
from app.cli.networks import untrained
from query.experiments import archive, registry
from query.experiments.registry import EXPERIMENTS
from tests.app.cli.command import Run
from tests.networks import shipped

GPT2 = ("--network", "demo-gpt2")
CSV = ("--format", "csv")


@pytest.mark.parametrize("name", ["list", *EXPERIMENTS])
def test_every_experiment_is_a_command(name: str, polytope: Run):
    assert polytope("experiment", name, "--help").status == 0
    group = get_command(cli).commands["experiment"]  # type: ignore[attr-defined]
    assert isinstance(group, LazyGroup)
    command = group.get_command(None, name)
    silent = [p.name for p in command.params if not getattr(p, "help", None) and p.name != "help"]
    assert silent == []
    if name != "list":
        options = {p.name for p in command.params}
        assert set(registry.find(name).fields) <= options and {"store", "figure", "as_json", "fresh"} <= options
        assert ("device" in options) == registry.find(name).live


def test_the_list_names_what_is_stored(own: Path, polytope: Run):
    assert all(name in polytope("experiment", "list").out for name in EXPERIMENTS)
    polytope("experiment", "occupancy", own, *GPT2)
    answer = polytope("experiment", "list", own)
    assert "stored in" in answer.out and '"targets"' in answer.out
    [row] = polytope("experiment", "list", own, "--format", "json").rows()
    assert row["kind"] == "occupancy" and row["current"] == "yes" and row["made_by"].startswith("polytope-atlas ")
    assert len(polytope("experiment", "list", "--format", "json").rows()) == len(EXPERIMENTS)


def test_a_table_is_stored_once(own: Path, polytope: Run):
    asked = ("experiment", "density", own, "--network", "demo-inceptionv1", "--pairs", 50, "--resamples", 30)
    first = polytope(*asked, *CSV)
    printed = first.table()
    with atlas.open(own) as a:
        expected = registry.run(a, "density", network="demo-inceptionv1", pairs=50, resamples=30)
        assert archive.stored(a)["kind"].tolist() == ["density"]
        stored = archive.load(a, 1)
    assert printed["ratio"].tolist() == pytest.approx(expected.table["ratio"].tolist())
    assert stored.table.equals(expected.table)
    assert stored.options | {"network": "demo-inceptionv1"} == expected.options
    assert "stored as experiment 1" in first.err and "density: done" in first.err
    again = polytope(*asked, *CSV)
    assert again.out == first.out and "done" not in again.err  # recalled, not measured
    fresh = polytope(*asked, "--fresh")
    assert "density: done" in fresh.err and "stored as experiment 1" in fresh.err


def test_nothing_is_stored_if_told_so(own: Path, polytope: Run):
    answer = polytope("experiment", "occupancy", own, *GPT2, "--no-store")
    assert answer.status == 0 and "stored as" not in answer.err
    with atlas.open(own) as a:
        assert archive.stored(a).empty


def test_lists_are_split_at_commas(own: Path, polytope: Run):
    """And other tables are printed by name."""
    asked = ("experiment", "occupancy", own, *GPT2, "--targets", "blocks.1.mlp, blocks.0.mlp->")
    assert polytope(*asked, *CSV).table()["target"].tolist() == ["blocks.1.mlp", "blocks.0.mlp->"]
    other = polytope(*asked, *CSV, "--table", "rarefaction").table()
    assert other.columns.tolist() == ["target", "examples", "distinct"]
    wrong = polytope("experiment", "occupancy", own, *GPT2, "--table", "nothing")
    assert wrong.refuses("--table is 'nothing'; occupancy has table, rarefaction")


def test_a_figure_is_one_file_alone(own: Path, polytope: Run, tmp_path: Path):
    file = tmp_path / "figure.html"
    assert polytope("experiment", "occupancy", own, *GPT2, "--figure", file).status == 0
    page = file.read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page and "how many polytopes" in page
    assert '<script src="http' not in page and "cdn.plot.ly" not in page.split("Plotly.newPlot")[-1]
    answer = polytope("experiment", "occupancy", own, *GPT2, "--figure", tmp_path / "figure.svg")
    assert answer.refuses("ends in .html")


def test_a_map_can_be_written_whole(own: Path, polytope: Run, tmp_path: Path):
    asked = ("experiment", "affine", own, "--site", "inception5a:full", "--example", 4, "--examples", 2)
    assert polytope(*asked, "--arrays", tmp_path / "map.csv").refuses("ending in .npz")
    table = polytope(*asked, "--arrays", tmp_path / "map.npz", "--table", "map", *CSV).table()
    with np.load(tmp_path / "map.npz") as arrays:
        np.testing.assert_allclose(arrays["b"], table["b"], atol=1e-9)
        np.testing.assert_allclose(arrays["A"] @ arrays["x"] + arrays["b"], table["logit"], atol=1e-9)
        assert arrays["outputs"].tolist() == table["name"].astype(str).tolist()
    again = polytope(*asked, "--arrays", tmp_path / "again.npz")  # the stored answer has them as well
    assert "affine: done" not in again.err and (tmp_path / "again.npz").exists()


def test_json_has_every_table(own: Path, polytope: Run):
    document = polytope("experiment", "occupancy", own, *GPT2, "--json").rows()
    assert document["kind"] == "occupancy" and set(document["tables"]) == {"table", "rarefaction"}
    assert document["experiment_id"] == 1 and document["parameters"]["seed"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("occupancy",), "holds several networks"),
        (("density", *GPT2, "--spans", "blocks.3.mlp->blocks.1.mlp"), "it must end after"),
        (("neuron", "--site", "blocks.9.mlp"), "no site 'blocks.9.mlp'"),
        (("neuron", "--site", "blocks.1.mlp", "--unit", "5000"), "numbered from 0"),
        (("monosemanticity", *GPT2, "--k", "0"), "k is 0"),
        (("directions", "--site", "blocks.1.mlp", "--methods", "ica"), "methods is ['ica']"),
    ],
)
def test_a_bad_question_stores_nothing(own: Path, polytope: Run, arguments: tuple[str, ...], message: str):
    name, *options = arguments
    answer = polytope("experiment", name, own, *options)
    assert answer.status == 1 and message in " ".join(answer.err.split())
    with atlas.open(own) as a:
        assert archive.stored(a).empty


def test_directions_are_stored_for_others(own: Path, polytope: Run):
    asked = ("--site", "blocks.2.mlp")
    assert polytope("experiment", "directions", own, *asked, "--components", 3, "--k", 5).status == 0
    answer = polytope("experiment", "projection", own, *asked, "--method", "pca", "--component", 1)
    assert answer.status == 0 and "monosemantic" in answer.out
    with atlas.open(own) as a:
        rows = a.rows("select method, count(*) from directions group by all order by all")
    assert rows == [("nmf", 3), ("pca", 3)]
    assert polytope("verify", own).status == 0


def test_an_interrupted_one_leaves_no_row(own: Path, polytope: Run, monkeypatch: pytest.MonkeyPatch):
    from query.experiments import occupancy

    def stopped(*_: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(occupancy, "tell", stopped)
    answer = polytope("experiment", "occupancy", own, *GPT2)
    assert answer.status == 130
    with atlas.open(own) as a:
        assert archive.stored(a).empty


def test_controls_share_the_architecture(demo_atlas: Path):
    reader = shipped("demo:inceptionv1")
    with atlas.open(demo_atlas) as a:
        controls = untrained(a, reader, "cpu")
        again = untrained(a, reader, "cpu")
    assert list(controls) == ["random", "random-raw"]
    digests = {reader.info.weights_digest, *(c.info.weights_digest for c in controls.values())}
    assert len(digests) == 3
    assert [c.info.weights_digest for c in again.values()] == [c.info.weights_digest for c in controls.values()]
    assert all(c.info.reading == reader.info.reading for c in controls.values())
