"""What the browser is sent of a map: every point, in ten bytes, near enough to where it lies."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from app.explorer.charts import map_points
from app.explorer.charts.map_points import MapPoints

N = 4000


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "example_id": np.arange(1, N + 1),
        "x": generator.normal(3, 9, N).astype(np.float32),
        "y": generator.normal(-1, 2, N).astype(np.float32),
        "cluster": generator.integers(-1, 40, N),
        "label": np.array([None, "a", "b", "<b>"], dtype=object)[generator.integers(0, 4, N)],
        "distance": generator.gamma(4, 10, N).astype(np.float32),
    }


def read(points: MapPoints) -> dict[str, np.ndarray]:
    """As static/points.js reads it."""
    length = int.from_bytes(points.payload[:4], "little")
    head, start = json.loads(points.payload[4 : 4 + length]), 4 + length
    assert head == {"key": points.key, "n": points.n} and start % 4 == 0
    found = {}
    for name, kind in (("ids", "<u4"), ("x", "<u2"), ("y", "<u2"), ("kinds", "<u2")):
        found[name] = np.frombuffer(points.payload, kind, points.n, start)
        start += found[name].nbytes
    assert start == len(points.payload) == 10 * points.n + 4 + length
    return found


def test_every_point_lies_where_it_lies(columns):
    points = map_points.by_cluster(columns, {})
    sent = read(points)
    rows = sent["ids"].astype(int) - 1
    assert sorted(rows) == list(range(N))
    x0, y0, side = points.frame
    for axis, low in (("x", x0), ("y", y0)):
        np.testing.assert_allclose(low + sent[axis] / map_points.SIDE * side, columns[axis][rows], atol=side / 1e5)
    assert points.extent[0] == 1 and 0 < points.extent[1] < 1


def test_clusters_are_kinds_above_noise(columns):
    points = map_points.by_cluster(columns, {0: "named", 7: " self"})
    sent = read(points)
    numbers = np.array([kind.number for kind in points.kinds])[sent["kinds"]]
    np.testing.assert_array_equal(numbers, columns["cluster"][sent["ids"].astype(int) - 1])
    quiet = np.array([kind.quiet for kind in points.kinds])[sent["kinds"]]
    assert (np.diff(quiet.astype(int)) <= 0).all() and quiet.sum() == (columns["cluster"] == -1).sum()
    by_number = {kind.number: kind for kind in points.kinds}
    assert (by_number[0].name, by_number[0].words, by_number[7].words) == ("named #0", "named", "␣self")
    assert by_number[3].words == "#3" and by_number[-1].at is None
    assert sum(kind.n for kind in points.kinds) == N


def test_the_largest_kinds_differ_in_looks(columns):
    kinds = [kind for kind in map_points.by_cluster(columns, {}).kinds if not kind.quiet]
    largest = sorted(kinds, key=lambda kind: -kind.n)[: len(map_points.COLOURS) * len(map_points.SHADES)]
    assert len({kind.colour for kind in largest}) == len(largest) < len(kinds)


def test_labels_are_kinds_of_points(columns):
    points = map_points.by_label(columns)
    sent = read(points)
    names = np.array([kind.name for kind in points.kinds])[sent["kinds"]]
    expected = [label or "no label" for label in columns["label"][sent["ids"].astype(int) - 1]]
    assert names.tolist() == expected


def test_distance_bands_part_all_points(columns):
    """Bands of distance part all points by the scale."""
    points = map_points.by_distance(columns)
    sent = read(points)
    values = columns["distance"][sent["ids"].astype(int) - 1]
    held = [values[sent["kinds"] == band] for band in range(map_points.BANDS)]
    assert sum(map(len, held)) == N and all(len(band) for band in held)
    for nearer, farther in itertools.pairwise(held):
        assert nearer.max() <= farther.min()
    assert all(kind.at is None for kind in points.kinds)
