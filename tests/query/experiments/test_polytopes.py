"""How far examples are from boundaries: on the plane against the single questions, on digits with outcomes."""

import shutil

import numpy as np
import pytest

import atlas
import query
from atlas.errors import UsageError
from query.experiments import archive, polytopes
from query.experiments.registry import run
from tests.networks import shipped
from tests.query.experiments.tailed import plane_reader

SPAN = "embed->"


@pytest.fixture(scope="module")
def result(plane):
    a, _, reader = plane
    controls = {"random": plane_reader("drawn", seed=3)}
    asked = {"span": SPAN, "examples": 49, "rays": 30, "towards": 2, "resamples": 30}
    return run(a, "polytopes", reader=reader, controls=controls, **asked)


@pytest.mark.slow
def test_a_row_is_what_single_questions_say(plane, result):
    a, ids, reader = plane
    rows = result.tables["examples"]
    own = rows[rows["kind"] == "activation"].set_index("example")
    assert len(own) == 49 and set(rows["kind"]) == {"activation", "gaussian", "random"}
    for word in ("4:2", "2:2", "0:4"):
        asked = query.boundaries(a, example=ids[word], reader=reader, span=SPAN, k=1)
        row = own.loc[ids[word]]
        assert row["inradius"] == pytest.approx(asked.inradius) and row["tied"] == asked.tied
        assert row["relative"] == pytest.approx(asked.relative) and row["to_neighbor"] == asked.to_neighbor
        assert (row["nearest"], row["of"]) == (asked.table["site"].iloc[0], "gate")
        away = query.exits(a, example=ids[word], reader=reader, span=SPAN, directions=4000).table["distance"]
        assert abs(row["inside"] - (away > 1).mean()) < 0.25 and abs(row["never"] - np.isinf(away).mean()) < 0.25
    assert np.isnan(own.loc[ids["0:0"], "relative"]) and own.loc[ids["0:0"], "norm"] == 0


def test_kinds_stand_beside_by_norm(result):
    """A Gaussian point has the norm of its example; an untrained network has activations of its own."""
    rows = result.tables["examples"].set_index(["kind", "example"])
    np.testing.assert_allclose(rows.loc["gaussian", "norm"], rows.loc["activation", "norm"], rtol=1e-6)
    table = result.table.set_index("kind")
    for kind, each in rows.groupby("kind"):
        assert table.loc[kind, "inradius"] == pytest.approx(each["inradius"].mean())
        assert table.loc[kind, "inradius_low"] < table.loc[kind, "inradius"] < table.loc[kind, "inradius_high"]
    summary = result.tables["summary"].set_index(["what", "kind"])
    farther = rows.loc["activation", "inradius"] > rows.loc["gaussian", "inradius"]
    assert summary.loc[("farther", "activation"), "value"] == pytest.approx(farther.mean())
    mean = rows.loc["activation", "sooner"].mean()
    assert summary.loc[("sooner", "activation"), "value"] == pytest.approx(mean) and 0 < mean < 1


def test_sites_share_boundaries_and_points(result):
    """Of embed-> hidden has three gates and out two; out is the later half."""
    sites = result.tables["sites"]
    own = sites[sites["kind"] == "activation"].set_index("site")
    assert own["boundaries"].tolist() == pytest.approx([0.6, 0.4]) and own["nearest"].sum() == pytest.approx(1)
    assert own["exits"].sum() == pytest.approx(1)
    summary = result.tables["summary"].set_index(["what", "kind"])
    deeper = summary.loc[("deeper", "activation")]
    assert deeper["value"] == own.loc["out", "nearest"] and deeper["chance"] == pytest.approx(0.4)


def test_a_stored_answer_is_recalled(plane, result, tmp_path):
    """It is found by its question, and draws the same figure."""
    shutil.copytree(plane[0].path, tmp_path / "own.atlas")
    with atlas.open(tmp_path / "own.atlas", writable=True) as a:
        number = archive.save(a, result)
    with atlas.open(tmp_path / "own.atlas") as a:
        assert archive.load(a, number).figure().to_json() == result.figure().to_json()
        assert archive.stored(a)["current"].all()


def test_rays_in_pairs_are_compared():
    assert polytopes._sooner(np.array([1.0, 3]), np.array([2.0, np.inf])) == 0.75
    assert polytopes._sooner(np.array([np.inf]), np.array([np.inf])) == 0.5
    assert np.isnan(polytopes._sooner(np.array([np.nan]), np.array([1.0])))


def test_digits_have_outcomes_and_a_chart(digits_path):
    """Loss and prediction are those of the atlas; the figure says its n, and a label its mean."""
    with atlas.open(digits_path) as a:
        asked = {"span": "inception5a->:full", "examples": 4, "rays": 20, "towards": 1, "resamples": 20}
        result = run(a, "polytopes", reader=shipped("demo:inceptionv1"), **asked)
        rows = result.tables["examples"]
        own = rows[rows["kind"] == "activation"].set_index("example")
        known = dict(a.rows("select example_id, (prediction != label)::int from examples"))
        losses = dict(a.rows("select example_id, loss from examples"))
    assert own["wrong"].to_dict() == {example: known[example] for example in own.index}
    np.testing.assert_allclose(own["loss"], [losses[example] for example in own.index])
    assert own["tied"].min() > 0 and any("lie on boundaries" in note for note in result.notes)
    assert 0 < own["missed"].max() < 1e-4 and own["missed"].sum() < 1e-4
    labels = result.tables["labels"].set_index("label")
    assert labels["n"].sum() == len(own)
    assert labels["inradius"].to_dict() == pytest.approx(own.groupby("label")["inradius"].mean().to_dict())
    layout = result.figure().layout
    assert "n in points" in layout.title.subtitle.text
    assert polytopes.deepest_bound(result).word == "undecided"  # one site
    assert polytopes.misclassified_nearer(result).word == "undecided"  # too few are


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 0}, "examples is 0"),
        ({"rays": 0}, "rays is 0"),
        ({"towards": -1}, "towards is -1"),
        ({"sketch": -1}, "sketch is -1"),
        ({"span": "out->"}, "holds no site"),
    ],
)
def test_polytopes_refuse_the_impossible(plane, options, message):
    a, _, reader = plane
    with pytest.raises(UsageError, match=message):
        run(a, "polytopes", reader=reader, **{"span": SPAN, **options})
