"""Slices: regions and lines of a plane that can be worked out on paper, and of the demo's InceptionV1."""

import io
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import atlas
import query
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.network import ImageView, TokenWindow
from query.examples.live import Live, place_of
from query.examples.subjects import Given
from query.experiments.archive import load, recall, save
from query.experiments.planes import Grid, Plane, Segments, find_boundaries, polylines, read_regions, simplified
from query.experiments.registry import find, run
from query.experiments.result import Directions, Result
from query.experiments.slice import picture as png_of
from query.experiments.slice import through
from tests.networks import shipped
from tests.query.experiments.tailed import (
    PLANE_GATES,
    digit_atlas,
    digits,
    random_tail,
)

SPAN = "embed->"
LINES = {
    ("hidden", 0): lambda x, y: x,
    ("hidden", 1): lambda x, y: y,
    ("hidden", 2): lambda x, y: x + y - 2,
    ("out", 0): lambda x, y: np.maximum(x, 0) - np.maximum(y, 0),
    ("out", 1): lambda x, y: np.maximum(x + y - 2, 0) - 1,
}
"""What is zero on each boundary of the plane network."""


def ask(plane, **options):
    a, ids, reader = plane
    options = {key: ids.get(value, value) if key in "abc" else value for key, value in options.items()}
    return run(a, "slice", reader=reader, **{"span": SPAN, **options})


def test_a_planes_polytopes_as_on_paper(plane):
    """Where x, y > 0: three bands of x + y, each cut in two by x = y; three bands where one of x and y is off, twice;
    one where both are: 13. The axes are those of the plane: from 0:0 along x to 4:0."""
    result = ask(plane, a="0:0", b="4:0", c="0:4", size=101)
    [summary] = result.tables["summary"].to_dict("records")
    assert summary["polytopes"] == summary["codes"] == 13
    assert summary["gates_crossed"] == summary["gates"] == PLANE_GATES
    assert result.table["points"].sum() == summary["points"] == 101**2
    p = result.parameters
    assert p["u"] == pytest.approx([-1, 5]) and p["v"] == pytest.approx([-1, 5])
    # At every point the polytope is the one of its code.
    u, v = np.meshgrid(np.linspace(*p["u"], 101), np.linspace(*p["v"], 101))
    gates = np.stack([line(u, v) > 1e-9 for line in LINES.values()], axis=-1).reshape(-1, PLANE_GATES)
    sure = np.all([np.abs(line(u, v)) > 1e-5 for line in LINES.values()], axis=0).ravel()
    sure |= (gates[:, :2] == 0).any(axis=1) & (np.minimum(np.abs(u), np.abs(v)).ravel() > 1e-5)
    numbers = result.tables["grid"]["polytope"].to_numpy()
    _, expected = np.unique(gates, axis=0, return_inverse=True)
    pairs = {(a, b) for a, b in zip(numbers[sure], expected[sure], strict=True)}
    assert len(pairs) <= 13 + 2 and len({a for a, _ in pairs}) == 13


def test_every_line_lies_on_its_boundary(plane):
    result = ask(plane, a="0:0", b="4:0", c="0:4", size=60)
    boundaries = result.tables["boundaries"]
    assert set(zip(boundaries["site"], boundaries["gate"], strict=True)) == set(LINES)
    step = 6 / 59
    for (site, gate), line in boundaries.groupby(["site", "gate"]):
        away = np.abs(LINES[site, gate](line["u"].to_numpy(), line["v"].to_numpy()))
        # A bend within a cell is cut off; lines of the first layer do not bend.
        assert away.max() < (1e-5 if site == "hidden" else step)
        assert site == "out" or line["exact"].eq(1).all()
    first = boundaries.query("site == 'hidden' and gate == 2")
    assert len(first) == 2, "a straight line is its two ends"
    assert np.hypot(*(first[["u", "v"]].iloc[0] - first[["u", "v"]].iloc[1])) == pytest.approx(
        4 * np.sqrt(2), rel=1e-4
    )


def test_exact_pieces_lie_on_boundaries():
    """In cells that no earlier boundary cuts, whatever the depth."""
    tail, sites = random_tail(1, sizes=(2, 10, 10, 10, 3))
    grid = Grid(Plane.through(np.zeros(2), np.array([1.0, 0]), np.array([0, 1.0])), *2 * [np.linspace(-4, 4, 90)])
    gates = np.arange(sum(site.n_gates for site in sites))
    found = find_boundaries(tail, grid, sites, gates)
    _, values = tail.preactivations(torch.from_numpy(found.at.mean(axis=1).astype(np.float32)), sites)
    middle = torch.cat([values[site.name] for site in sites], dim=1).numpy()[np.arange(len(found.gate)), found.gate]
    deep = found.gate >= 10
    assert 0.5 < found.exact[deep].mean() < 1 and found.exact[~deep].all()
    assert np.abs(middle[found.exact]).max() < 1e-5
    assert np.abs(middle[~found.exact]).max() > 1e-3, "the others are interpolated, and off"


def test_pooling_after_the_span_is_ignored(digits_path):
    """Against codes and switches of every point; from inception4d to 4e there are windows of 132 channels, 4 x 4."""
    network = shipped("demo:inceptionv1")
    options = {"a": 1, "b": 2, "c": 3, "size": 12, "lines": 0, "zoom": 1000.0}
    with atlas.open(digits_path) as a:
        bounded = run(a, "slice", reader=network, span="inception4d->inception4e", **options)
        whole = run(a, "slice", reader=network, span="inception4d->", **options)
        live = Live(a, network, place_of(network, span="inception4d->"))
        points = live.activations([1, 2, 3])
    tail, p = live.tail(1), bounded.parameters
    plane = Plane.through(points[0], points[1] - points[0], points[2] - points[0])
    at = Grid(plane, *(np.linspace(*p[axis], 12) for axis in "uv")).rows(0, 12, tail)
    reading = tail.read(at, tail.later, switches=True)
    assert reading.switches.shape[1] == 4608
    for result, sites, windows in ((bounded, tail.later[:1], 132 * 4 * 4), (whole, tail.later, 4608)):
        codes = np.concatenate([reading.codes[site.name] for site in sites], axis=1)
        both = np.concatenate([codes, reading.switches[:, :windows]], axis=1)
        [summary] = result.tables["summary"].to_dict("records")
        expected = {"codes": len(np.unique(codes, axis=0)), "polytopes": len(np.unique(both, axis=0))}
        assert {name: summary[name] for name in expected} == expected
        grid = result.tables["grid"]
        assert grid["code"].nunique() == expected["codes"] and grid["polytope"].nunique() == expected["polytopes"]
        if expected["codes"] < expected["polytopes"]:
            assert f"{expected['polytopes']:,} polytopes (of {expected['codes']:,} distinct codes)" in (
                result.figure().layout.title.subtitle.text
            )
            assert any("the gates alone tell" in note for note in result.notes)
    assert summary["codes"] < summary["polytopes"], "else nothing was shown of pooling"


def test_exactness_heeds_pooling_switches():
    """In InceptionV1 a boundary behind a pooling window bends where the window switches, and no gate flips."""
    network = shipped("demo:inceptionv1")
    site = next(site for site in network.sites if site.name == "inception4e:full")
    tail = network.tail(site)
    points = network.read([ImageView(image) for _, _, image in digits(3)], [], [site]).activations[site.name]
    plane = Plane.through(points[0], points[1] - points[0], points[2] - points[0])
    middle = plane.coordinates(points).mean(axis=0)
    grid = Grid(plane, *(np.linspace(m - 0.2, m + 0.2, 10) for m in middle))
    regions = read_regions(tail, grid, tail.later)
    assert regions.polytope.max() > regions.code.max()
    found = find_boundaries(tail.precise(), grid, tail.later, regions.varies)
    assert 0.05 < found.exact.mean() < 1
    u, v = found.at[found.exact].mean(axis=1).T
    at = plane.origin + np.stack([u, v], axis=1) @ plane.basis
    values = tail.precise().preactivations(torch.from_numpy(at), tail.later)[1]
    together = torch.cat([values[s.name] for s in tail.later], dim=1).detach().numpy()
    assert np.abs(together[np.arange(len(at)), found.gate[found.exact]]).max() < 1e-5


def test_strips_of_the_grid_join():
    """Strips of the grid join without a gap."""
    tail, sites = random_tail(2, sizes=(2, 8, 8, 3))
    grid = Grid(Plane.through(np.zeros(2), np.array([1.0, 0]), np.array([0, 1.0])), *2 * [np.linspace(-3, 3, 33)])
    gates = np.arange(16)
    whole = find_boundaries(tail, grid, sites, gates)
    strips = find_boundaries(tail, grid, sites, gates, strip_bytes=4 * 33 * 20)
    for name in ("gate", "edge", "exact"):
        order = [np.lexsort((*s.edge.T, s.gate)) for s in (whole, strips)]
        np.testing.assert_array_equal(getattr(whole, name)[order[0]], getattr(strips, name)[order[1]])
    regions = read_regions(tail, grid, sites)
    tail.batch = 5
    again = read_regions(tail, grid, sites)
    np.testing.assert_array_equal(regions.polytope, again.polytope)
    np.testing.assert_array_equal(regions.varies, again.varies)


def test_polytopes_are_those_of_the_codes():
    """Polytopes and gates that vary are those of the codes."""
    tail, sites = random_tail(4, sizes=(2, 9, 9, 3))
    grid = Grid(Plane.through(np.ones(2), np.array([1.0, 1]), np.array([0, 1.0])), *2 * [np.linspace(-1, 1, 20)])
    _, values = tail.preactivations(grid.rows(0, 20, tail), sites)
    gates = torch.cat([values[site.name] > 0 for site in sites], dim=1).numpy()
    regions = read_regions(tail, grid, sites)
    _, expected = np.unique(gates, axis=0, return_inverse=True)
    assert len(set(zip(expected, regions.polytope.ravel(), strict=True))) == expected.max() + 1
    np.testing.assert_array_equal(regions.varies, np.flatnonzero(gates.any(axis=0) & ~gates.all(axis=0)))


def test_a_closed_line_comes_back():
    """Four segments around one grid point."""
    at = np.array([[[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]]], float)
    edges = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    [line] = polylines(Segments(np.zeros(4, np.int64), edges, at, np.array([True, True, False, True])), 0.01)
    assert len(line.points) == 5 and (line.points[0] == line.points[-1]).all() and line.exact == 0.75


def test_lines_of_gates_are_not_joined():
    """Lines of different gates are not joined."""
    at = np.zeros((2, 2, 2))
    lines = polylines(Segments(np.array([0, 1]), np.array([[0, 1], [1, 2]]), at, np.ones(2, bool)), 0.01)
    assert [line.gate for line in lines] == [0, 1]


def test_simplified_lines_keep_the_slack():
    """Simplified lines stay within the slack."""
    x = np.linspace(0, 6, 400)
    curve = np.stack([x, np.sin(x)], axis=1)
    kept = simplified(curve, 0.01)
    assert 5 < len(kept) < 60
    # Measured upward rather than across: up to √2 times as much where the curve is steepest.
    assert 0.005 < np.abs(np.interp(x, *kept.T) - np.sin(x)).max() < 0.01 * np.sqrt(2)


def test_two_directions_start_at_an_example(plane):
    """A slice along two directions starts at an example or at the origin."""
    units = ask(plane, directions=["unit:0", "unit:1"], reach=5.0, size=41)
    assert units.parameters["u"] == [-5, 5] and units.tables["summary"]["polytopes"].item() == 13
    about = ask(plane, a="3:3", directions=["unit:1", "unit:0"], reach=1.0, size=41)
    [row] = about.tables["examples"].query("named == 'a'").to_dict("records")
    assert (row["u"], row["v"]) == (0, 0) and row["example"] == plane[1]["3:3"]
    turned = ask(plane, a="3:3", directions=["random:0", "random:1"], reach=1.0, size=41)
    assert turned.parameters["u"] == [-1, 1]


def test_examples_in_the_plane_are_found(plane):
    """All points of the atlas lie in the one plane there is; those in the window are listed."""
    result = ask(plane, a="1:1", b="3:1", c="1:3", size=16)
    found = result.tables["examples"]
    assert found["distance"].max() < 1e-5 and set(found["named"].dropna()) == {"a", "b", "c"}
    words = {example: word for word, example in plane[1].items()}
    assert {words[e] for e in found["example"]} == {f"{x}:{y}" for x in (1, 2, 3) for y in (1, 2, 3)}


def test_circles_reach_the_nearest_boundary(plane):
    """Of the plane itself the circle in the plane is that of the inradius; a smooth network has none."""
    a, ids, reader = plane
    result = ask(plane, a="1:1", b="3:1", c="1:3", size=16)
    found = result.tables["examples"].set_index("example")["radius"]
    for word in ("3:1", "2:2", "1:3"):
        asked = query.boundaries(a, example=ids[word], reader=reader, span="embed->", k=1)
        assert found[ids[word]] <= asked.inradius * (1 + 1e-6)
        assert found[ids[word]] == pytest.approx(asked.inradius, rel=2e-3)
    around = [trace for trace in result.figure().data if trace.legendgroup == "circles"]
    circles, [named] = around[0], around[1:]
    assert named.name.startswith("inscribed circles") and named.marker.color != circles.line.color == "#ffffff"
    assert circles.x.count(None) == len(found)


def test_labels_of_near_examples_part(plane):
    """Of three that nearly coincide in a wide window; alone each stands above its mark."""
    for options, places in (({"reach": 40.0}, 3), ({}, 1)):
        figure = ask(plane, a="1:1", b="3:1", c="1:3", size=16, **options).figure()
        labels = [label for label in figure.layout.annotations if label.text[0] in "abc"]
        assert len({(label.xshift, label.yshift) for label in labels}) == places and len(labels) == 3


def test_the_legend_counts_what_is_shown(plane):
    """Examples that the plane goes through and the window leaves out are said to be outside."""
    result = ask(plane, a="1:1", b="3:1", c="1:3", size=16, reach=0.5, middle=[0.0, 0.0])
    [name] = [trace.name for trace in result.figure().data if (trace.name or "").startswith("examples")]
    assert name == "examples, n = 1 (2 outside the window)"


def test_zoom_is_about_the_middle(plane):
    """Zoom makes the window smaller about its middle."""
    wide, near = (ask(plane, a="0:0", b="4:0", c="0:4", size=8, zoom=zoom).parameters for zoom in (1, 4))
    assert np.mean(near["u"]) == pytest.approx(np.mean(wide["u"]))
    assert np.ptp(near["u"]) == pytest.approx(np.ptp(wide["u"]) / 4)


def test_a_window_shows_the_same_plane(plane):
    """Zoomed about (2.5, 1), the grid's points are those of the wide window, and so are classes and polytopes."""
    wide = ask(plane, a="0:0", b="4:0", c="0:4", size=61)
    near = ask(plane, a="0:0", b="4:0", c="0:4", size=11, middle=[2.5, 1.0], reach=0.5)
    assert near.parameters["u"] == [2.0, 3.0] and near.parameters["v"] == [0.5, 1.5]
    assert near.parameters["middle"] == [2.5, 1.0] and wide.parameters["middle"] is None
    classes = [
        result.table["class"].to_numpy()[result.tables["grid"]["class"]].reshape(size, size)
        for result, size in ((wide, 61), (near, 11))
    ]
    np.testing.assert_array_equal(classes[0][15:26, 30:41], classes[1])
    polytopes = [
        result.tables["grid"]["polytope"].to_numpy().reshape(size, size) for result, size in ((wide, 61), (near, 11))
    ]
    pairs = set(zip(polytopes[0][15:26, 30:41].ravel(), polytopes[1].ravel(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_a_too_fine_window_says_so(plane):
    """A window finer than single precision says so."""
    far = ask(plane, a="5:5", b="6:5", c="5:6", size=16, middle=[0.0, 0.0], reach=1e-6)
    assert any("single precision tells apart" in note for note in far.notes)
    assert not any("single precision" in note for note in ask(plane, a="5:5", b="6:5", c="5:6", size=16).notes)


def test_boundaries_beyond_limit_are_thinned(plane):
    """Boundaries beyond the limit are thinned out and said so."""
    result = ask(plane, a="0:0", b="4:0", c="0:4", size=32, lines=2)
    boundaries = result.tables["boundaries"]
    assert len(set(zip(boundaries["site"], boundaries["gate"], strict=True))) == 2
    assert any("2 of 5 boundaries" in note for note in result.notes)
    assert ask(plane, a="0:0", b="4:0", c="0:4", size=32, lines=0).tables["boundaries"].empty


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"a": "1:1", "b": "1:1", "c": "2:3"}, UsageError, "the same example twice"),
        ({"a": "0:0", "b": "2:2", "c": "5:5"}, UsageError, "lie on one line"),
        ({"a": "1:1", "b": "2:3"}, UsageError, "three examples, a, b and c, got a, b"),
        ({}, UsageError, "got none"),
        ({"a": "1:1", "b": "2:3", "c": 9999}, UnknownName, "no example 9999"),
        ({"a": "1:1", "b": "2:3", "c": "3:1", "span": "nowhere->"}, UnknownName, "no site 'nowhere'"),
        ({"a": "1:1", "b": "2:3", "c": "3:1", "size": 1}, UsageError, "size is 1"),
        ({"a": "1:1", "b": "2:3", "c": "3:1", "zoom": 0}, UsageError, "zoom is 0"),
        ({"a": "1:1", "b": "2:3", "c": "3:1", "reach": -1.0}, UsageError, "reach is -1.0"),
        ({"a": "1:1", "b": "2:3", "c": "3:1", "reach": math.inf}, UsageError, "reach is inf"),
        ({"a": "1:1", "b": "2:3", "c": "3:1", "middle": [1.0]}, UsageError, r"middle is \[1.0\]"),
        ({"a": "1:1", "b": "2:3", "c": "3:1", "middle": [1.0, math.nan]}, UsageError, "middle is"),
        ({"directions": ["unit:0", "unit:1"]}, UsageError, "say how far it goes with reach"),
        ({"directions": ["unit:0"], "reach": 1.0}, UsageError, "two directions, got unit:0"),
        ({"directions": ["unit:0", "unit:0"], "reach": 1.0}, UsageError, "lie on one line"),
        ({"directions": ["unit:0", "unit:7"], "reach": 1.0}, UnknownName, "no unit 7"),
        ({"directions": ["unit:0", "up"], "reach": 1.0}, UsageError, "random:SEED"),
        ({"directions": ["unit:0", "pca:0"], "reach": 1.0}, NotStored, "no direction pca:0"),
        ({"a": "1:1", "b": "2:2", "directions": ["unit:0", "unit:1"]}, UsageError, "leave them out"),
    ],
)
def test_slice_refuses_impossible_questions(plane, options, error, message):
    with pytest.raises(error, match=message):
        ask(plane, **options)


def test_unreadable_activations_are_refused(tmp_path):
    """Activations that are not stored and cannot be read are refused."""
    large = [(f"{i}.png", "0", Image.fromarray(np.full((80, 80), 40 * i, np.uint8))) for i in range(3)]
    digit_atlas(tmp_path / "a.atlas", stored=[], images=large)
    with atlas.open(tmp_path / "a.atlas", writable=True) as a:
        a.execute("update inputs set width = 800")
        with pytest.raises(NotStored, match="--full inception5a --store-activations"):
            run(a, "slice", reader=shipped("demo:inceptionv1"), span="inception5a->", a=1, b=2, c=3, size=8)


@pytest.fixture(scope="module")
def drawn(digits_path):
    options = {"span": "inception5a->", "a": 1, "b": 2, "c": 3, "size": 48, "lines": 60}
    with atlas.open(digits_path) as a:
        yield a, run(a, "slice", reader=shipped("demo:inceptionv1"), **options)


def test_the_slices_middle_agrees(drawn):
    """The grid point nearest to an example is predicted as the example is (the digits lie far from the borders)."""
    a, result = drawn
    p, names = result.parameters, result.table["class"]
    grid = result.tables["grid"]["class"].to_numpy().reshape(48, 48)
    for row in result.tables["examples"].query("named.notna()").to_dict("records"):
        i, j = (round(47 * (row[axis] - p[axis][0]) / (p[axis][1] - p[axis][0])) for axis in ("v", "u"))
        assert names[grid[i, j]] == a.value("select prediction from examples where example_id = $1", [row["example"]])


def test_the_picture_shows_classes(drawn):
    """Without lines, a pixel's hue is that of the class at its grid point, v upward."""
    _, result = drawn
    picture = np.asarray(Image.open(io.BytesIO(png_of(result, 96))))
    assert picture.shape == (96, 96, 3)
    classes = result.tables["grid"]["class"].to_numpy().reshape(48, 48)[::-1]
    blue = classes == 0  # the first colour of the palette is blue, the second vermillion
    red = classes == 1
    small = picture.reshape(48, 2, 48, 2, 3).astype(float).mean(axis=(1, 3))
    assert (small[blue] @ [-1, 0, 1]).mean() > 40 and (small[red] @ [1, 0, -1]).mean() > 40
    with pytest.raises(UsageError, match="side is 3"):
        png_of(result, 3)


def test_a_slice_says_whose_sequence(plane):
    """Of a network that reads texts; without an example, of the first."""
    named = ask(plane, a="3:1", directions=["unit:0", "unit:1"], size=4)
    assert named.parameters["sequence"] == plane[1]["3:1"]
    assert any(f"the token of example {plane[1]['3:1']}: the sequence is its all along" in n for n in named.notes)
    alone = ask(plane, directions=["unit:0", "unit:1"], reach=4, size=4)
    assert alone.parameters["sequence"] == 1 and any("token of example 1:" in note for note in alone.notes)
    for zoom in (float("inf"), float("nan"), 0):
        with pytest.raises(UsageError, match="zoom is"):
            ask(plane, directions=["unit:0", "unit:1"], reach=4, zoom=zoom)


def test_a_language_models_slice_is_inexact():
    """A language model is sliced as well and nothing called exact."""
    network = shipped("demo:gpt2")
    window = TokenWindow(np.arange(5, 25), np.array([12]))
    tail = network.tail(network.sites[2], window)
    point = network.read([window], [], [network.sites[2]]).activations[network.sites[2].name][0]
    across = np.random.default_rng(0).standard_normal((2, len(point)))
    grid = Grid(Plane.through(point, *across), *2 * [np.linspace(-3, 3, 12)])
    regions = read_regions(tail, grid, tail.later)
    np.testing.assert_array_equal(regions.code, regions.polytope)
    found = find_boundaries(tail, grid, tail.later, regions.varies)
    assert len(found.gate) and not found.exact.any()


def test_a_slice_follows_its_directions(plane, tmp_path):
    """A slice along stored directions is current until others are found of their names."""
    original, ids, reader = plane
    path = shutil.copytree(original.path, tmp_path / "plane.atlas")
    options = {"span": SPAN, "a": ids["2:3"], "directions": ["pca:0", "unit:1"], "size": 12}

    def found(vector):
        directions = (Directions("embed", "pca", np.array([vector], np.float32)),)
        table = {"table": pd.DataFrame({"method": ["pca"]})}
        return Result("directions", "tailed", {"seed": vector[1]}, table, directions=directions)

    with atlas.open(path, writable=True) as a:
        save(a, found([1.0, 0.5]))
        known = save(a, find("slice").run(a, reader=reader, **options))
        assert recall(a, find("slice"), "tailed", options) == known
        save(a, found([1.0, -0.5]))
        assert recall(a, find("slice"), "tailed", options) is None
        assert not find("slice").run(a, reader=reader, **options).table.equals(load(a, known).table)


def test_a_slice_through_what_is_read_now(plane):
    """It is the slice through the stored examples of the same words; what is not stored has no id."""
    a, ids, reader = plane
    stored = ask(plane, a="0:0", b="4:0", c="0:4", size=24)
    given = {"a": Given(text="0:0"), "b": Given(example=ids["4:0"]), "c": Given(text="0:4")}
    found = through(a, reader, given=given, span=SPAN, size=24)
    assert found.tables["examples"]["example"].tolist()[:3] == [-1, ids["4:0"], -1]
    assert found.tables["examples"]["radius"][:3].tolist() == pytest.approx(stored.tables["examples"]["radius"][:3])
    names = [label.text for label in found.figure().layout.annotations]
    assert [name for name in names if name[0] in "abc"] == ["a", f"b {ids['4:0']}", "c"]
    with pytest.raises(UsageError, match="on one line"):
        through(a, reader, given=given | {"c": Given(text="0:0")}, span=SPAN, size=24)
    for table in ("grid", "boundaries", "sites", "summary"):
        pd.testing.assert_frame_equal(found.tables[table], stored.tables[table])
