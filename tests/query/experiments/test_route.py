"""Points of a path: predictions and nearest examples that can be worked out on paper, and of the demo's networks."""

import shutil

import numpy as np
import pandas as pd
import pytest

import atlas
from atlas.errors import UnknownName, UsageError
from query.examples.live import Live, place_of
from query.examples.subjects import Given
from query.experiments.registry import run
from query.experiments.route import route, way
from query.polytope.crossings import exact_crossings, sampled_crossings
from tests.networks import shipped

SPAN = "embed->"


def gates(x, y):
    """The plane network, as its docstring says it."""
    out = max(x, 0) - max(y, 0), max(x + y - 2, 0) - 1
    return np.array([x > 0, y > 0, x + y > 2, out[0] > 0, out[1] > 0]), ("left", "right")[int(np.argmax(out))]


def test_scaled_points_as_on_paper(plane):
    """Points of a scaled activation are those worked out on paper."""
    a, ids, reader = plane
    at = [0.0, 0.4, 0.75, 1.0, 1.3]
    found = route(a, reader, span=SPAN, start=ids["1:4"], at=at).table
    words = dict(a.rows("select example_id, token from examples"))
    for row in found.to_dict("records"):
        code, prediction = gates(row["at"] * 1, row["at"] * 4)
        assert row["prediction"] == prediction or row["at"] == 0
        apart = {
            example: int((gates(*map(float, word.split(":")))[0] != code).sum()) for example, word in words.items()
        }
        assert row["distance"] == min(apart.values())
        assert row["nearest"] == min(example for example, n in apart.items() if n == row["distance"])
        assert row["label"] == ("low" if sum(map(int, words[row["nearest"]].split(":"))) < 6 else "high")
    assert found["at"].tolist() == at
    assert found["probability"].between(0.5, 1).all()


def test_a_path_begins_and_ends_at_home(digits_path):
    """Of an image network: whole tensors, several sites; blocks of stored codes are read one after the other."""
    seen = []
    with atlas.open(digits_path) as a:
        found = route(
            a,
            shipped("demo:inceptionv1"),
            span="inception5a->",
            start=2,
            end=9,
            at=np.linspace(0, 1, 9).tolist(),
            progress=lambda done, total: seen.append((done, total)),
        )
        predictions = dict(a.rows("select example_id, prediction from examples"))
    assert (found.table["nearest"].iloc[0], found.table["nearest"].iloc[-1]) == (2, 9)
    assert found.table["distance"].iloc[[0, -1]].tolist() == [0, 0] and found.table["distance"].iloc[4] > 0
    assert found.table["prediction"].iloc[[0, -1]].tolist() == [predictions[2], predictions[9]]
    assert found.notes == () and seen and all(0 < done <= total for done, total in seen)


def test_the_ends_can_be_left_out(plane):
    a, ids, reader = plane
    asked = {"span": SPAN, "start": ids["5:1"], "end": ids["1:5"], "at": [0.0, 0.5, 1.0]}
    all_, others = (route(a, reader, **asked, others=value).table for value in (False, True))
    assert {ids["5:1"], ids["1:5"]}.isdisjoint(others["nearest"])
    assert (others["distance"] >= all_["distance"]).all()
    assert others["prediction"].tolist() == all_["prediction"].tolist()


def test_a_way_may_end_at_what_is_read_now(plane):
    """Between stored examples it is what `interpolate` and `route` say; a text that reads the same gives the same."""
    a, ids, reader = plane
    x, y = ids["5:1"], ids["1:5"]
    whole = run(a, "interpolate", reader=reader, span=SPAN, a=x, b=y, steps=8)
    points = route(a, reader, span=SPAN, start=x, end=y, at=np.linspace(0, 1, 9).tolist()).table
    stored, read = (
        way(a, reader, span=SPAN, start=start, end=Given(example=y), steps=8)
        for start in (Given(example=x), Given(text="5:1"))
    )
    with pytest.raises(UsageError, match=r"token 0 .* and example .* have one activation at embed"):
        way(a, reader, span=SPAN, start=Given(text="1:5"), end=Given(example=y))
    with pytest.raises(UsageError, match="a code has no activation"):
        way(a, reader, span=SPAN, start=Given(code="111"), end=Given(example=y))
    [pair] = whole.tables["pairs"].to_dict("records")
    for found in (stored, read):
        assert (found.distance, found.hamming, found.n_gates) == (pair["distance"], pair["hamming"], 5)
        assert found.steps["crossings"].sum() == pair["crossings"]
        np.testing.assert_allclose(found.steps["density"], whole.table["density"])
        pd.testing.assert_frame_equal(found.route.table, points)


def test_without_codes_nearest_is_left_out(digits_path, tmp_path):
    """Codes that are not stored leave the nearest out and say why."""
    shutil.copytree(digits_path, tmp_path / "d.atlas")
    with atlas.open(tmp_path / "d.atlas", writable=True) as writer, writer.transaction():
        writer.execute(
            "delete from codes where site_id = (select site_id from sites where name = 'inception5b:full')"
        )
        writer.execute("update sites set n_codes = 0, codes_digest = null where name = 'inception5b:full'")
    with atlas.open(tmp_path / "d.atlas") as a:
        found = route(a, shipped("demo:inceptionv1"), span="inception5a->", start=2, at=[0.5, 1.0])
    assert found.table["nearest"].isna().all() and found.table["prediction"].notna().all()
    assert "inception5b:full" in found.notes[0] and "--full" in found.notes[0]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"start": "1:4", "end": "1:4", "at": [0.0]}, UsageError, "start and end are both example"),
        ({"start": "1:4", "at": []}, UsageError, "at has 0 values"),
        ({"start": "1:4", "at": [float("nan")]}, UsageError, "at has 1 values"),
        ({"start": "nobody", "at": [1.0]}, UnknownName, "no example"),
        ({"start": "1:4", "at": [1.0], "span": "nowhere->"}, UnknownName, "no site 'nowhere'"),
    ],
)
def test_impossible_routes_are_refused(plane, asked, error, message):
    a, ids, reader = plane
    asked = {"span": SPAN, **{k: ids.get(v, 9999) if k in ("start", "end") else v for k, v in asked.items()}}
    with pytest.raises(error, match=message):
        route(a, reader, **asked)


class Enough(Exception):
    pass


def test_a_path_is_stopped_on_the_way(plane):
    """A report of progress that raises ends the counting, before the one path that there is to count is done."""
    a, ids, reader = plane
    asked = []

    def stop(done, total):
        asked.append((done, total))
        if len(asked) > 1:
            raise Enough

    for name, options in (("scale", {"example": ids["1:4"]}), ("interpolate", {"a": ids["1:4"], "b": ids["5:0"]})):
        asked.clear()
        with pytest.raises(Enough):
            run(a, name, reader=reader, span=SPAN, progress=stop, **options)
        assert asked[0][0] == 0 and asked[1][0] < asked[1][1], name
    live = Live(a, reader, place_of(reader, span=SPAN))
    tail, ends = live.tail(ids["1:4"]), live.activations([ids["1:4"], ids["5:0"]])

    def at_once(share):
        raise Enough

    with pytest.raises(Enough):
        exact_crossings(tail.precise(), *ends, live.place.sites, told=at_once)
    with pytest.raises(Enough):
        sampled_crossings(
            tail, *ends, live.place.sites, np.linspace(0, 1, 3), tolerance=0.0, most_points=9, told=at_once
        )
