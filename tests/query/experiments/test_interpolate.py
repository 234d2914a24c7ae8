"""Means and correlations over pairs of examples: what is resampled is the input, and who has no partner is said."""

import shutil

import numpy as np
import pandas as pd
import pytest

import atlas
from atlas.errors import UsageError
from query.experiments.affine import figure as draw_affine
from query.experiments.registry import run
from query.statistics import Interval, bootstrap, mean_interval, spearman_interval, weighted_mean
from tests.atlases import add_texts
from tests.query.experiments.tailed import plane_reader

SPAN = "embed->"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """16 texts that say one point of the plane four times, labelled low or high, the last two not at all."""
    path = tmp_path_factory.mktemp("rows") / "rows.atlas"
    points = [(x, y) for x in (1, 2, 4, 6) for y in (0, 2, 3, 5)]
    texts = [
        (f"{x}:{y}", None if x + y > 9 else "low" if x + y < 6 else "high", " ".join([f"{x}:{y}"] * 4))
        for x, y in points
    ]
    add_texts(path, plane_reader(), texts, per_sequence=4)
    return path


def of_inputs(a, frame):
    known = dict(a.rows("select example_id, input_id from examples"))
    return np.column_stack([[known[example] for example in frame[end]] for end in ("a", "b")])


def close(row, name, expected: Interval):
    """Another generator, the same ends within a fifth of the width."""
    width = expected.high - expected.low
    assert row[name] == pytest.approx(expected.value)
    assert (row[f"{name}_low"], row[f"{name}_high"]) == (
        pytest.approx(expected.low, abs=width / 5),
        pytest.approx(expected.high, abs=width / 5),
    )


def test_interpolate_resamples_texts(rows):
    """Interpolate resamples texts where tokens of one depend on each other."""
    with atlas.open(rows) as a:
        result = run(a, "interpolate", reader=plane_reader(), span=SPAN, pairs=60, steps=2, method="sampled")
        pairs = result.tables["pairs"]
        inputs = of_inputs(a, pairs)
    rng = np.random.default_rng(5)
    for row in result.tables["summary"].to_dict("records"):
        here = (pairs["kind"] == row["kind"]).to_numpy()
        density = pairs["density"].to_numpy()
        close(row, "density", mean_interval(density[here], rng, units=inputs[here]))
        by_token = mean_interval(density[here], rng, units=pairs.loc[here, ["a", "b"]].to_numpy())
        assert row["density_high"] - row["density_low"] > 1.3 * (by_token.high - by_token.low)
    same = (pairs["kind"] == "same").to_numpy()

    def ratio(weights):
        means = [weighted_mean(weights[:, kind], density[kind]) for kind in (~same, same)]
        return means[0] / means[1]

    with np.errstate(invalid="ignore", divide="ignore"):
        expected = bootstrap(len(density), ratio, rng, units=inputs)
    close(result.tables["summary"].set_index("kind").loc["different"], "ratio", expected)


def test_affine_resamples_texts(rows):
    """Affine resamples texts and says which labels are unknown."""
    with atlas.open(rows) as a:
        result = run(a, "affine", reader=plane_reader(), site="embed", examples=32, checks=2)
        table = result.table
        inputs = of_inputs(a, table)
        labels = dict(a.rows("select example_id, label from examples"))
    for row in result.tables["summary"].to_dict("records"):
        x, y = (table[name].to_numpy(np.float64) for name in (row["of"], row["with"]))
        close(row, "rho", spearman_interval(x, y, np.random.default_rng(5), units=inputs))
    for row in table.to_dict("records"):
        of_a, of_b = labels[row["a"]], labels[row["b"]]
        assert row["same_label"] is (None if of_a is None or of_b is None else of_a == of_b)
    names = {str(trace.name): len(trace.x) for trace in draw_affine(result).data}
    n = {known: int(sum(value is known for value in table["same_label"])) for known in (True, False, None)}
    for known, words in ((True, "same label"), (False, "different labels"), (None, "a label unknown")):
        assert n[known] > 0 and names[f"{words}, n = {n[known]} pairs"] == n[known]


def test_labelled_examples_make_two_series(plane):
    """Without unlabelled examples there are two series."""
    a, _, reader = plane
    result = run(a, "affine", reader=reader, site="embed", examples=8, checks=2)
    assert not any("unknown" in str(trace.name) for trace in draw_affine(result).data)


def relabelled(plane, path, statement):
    shutil.copytree(plane[0].path, path)
    with atlas.open(path, writable=True) as a:
        a.execute(statement)
    return path


def test_lone_labels_have_no_pairs(plane, tmp_path):
    """Labels of one input each have no pairs to interpolate between."""
    path = relabelled(plane, tmp_path / "p.atlas", "update examples set label = cast(input_id as varchar)")
    with atlas.open(path) as a, pytest.raises(UsageError, match="no label of network tailed has examples of two inp"):
        run(a, "interpolate", reader=plane_reader(), span=SPAN, pairs=2)


def test_a_lone_label_pairs_with_others(plane, tmp_path):
    """A label of one input is said to be in pairs of two labels alone."""
    path = relabelled(plane, tmp_path / "p.atlas", "update examples set label = 'lone' where example_id = 1")
    with atlas.open(path) as a:
        result = run(a, "interpolate", reader=plane_reader(), span=SPAN, pairs=4, steps=2)
        alone = run(a, "interpolate", reader=plane_reader(), span=SPAN, a=1, b=2, steps=2)
        density = run(a, "density", network="tailed", spans=[SPAN], pairs=50, resamples=5)
    said = "1 labels with examples of one input alone, which can be in pairs of different labels only"
    assert said in result.notes and said not in alone.notes
    assert f"tailed: {said}" in density.notes and density.table["n_lone"].tolist() == [1]
    labels = result.tables["pairs"].query("kind == 'same'")[["label_a", "label_b"]].to_numpy()
    assert "lone" not in set(labels.ravel()) and pd.notna(labels).all()


def test_class_probability_has_an_interval(rows):
    """The probability of the class has an interval over inputs at every alpha."""
    with atlas.open(rows) as a:
        result = run(a, "scale", reader=plane_reader(), span=SPAN, examples=30, alphas=[0, 0.5, 1, 2])
        known = dict(a.rows("select example_id, input_id from examples"))
    classes, kept = result.tables["classes"], result.tables["kept"]
    assert kept.groupby("kind", sort=False)["alpha"].apply(list).str.len().to_dict() == {
        "activation": 4,
        "gaussian": 4,
    }
    for row in kept.to_dict("records"):
        here = classes[(classes["kind"] == row["kind"]) & (classes["alpha"] == row["alpha"])]
        units = np.array([known[example] for example in here["example"]])
        assert row["n"] == len(here) == 30
        close(row, "kept", mean_interval(here["kept"].to_numpy(), np.random.default_rng(5), units=units))
    shown = [trace for trace in result.figure().data if trace.yaxis == "y2"]
    assert len(shown) == 4  # a line and a band for either kind
