"""The Map page: everyone has a place, a part of it is listed, and its address and its SQL say which."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

import atlas
import query
from app.explorer.charts import layout_charts
from app.explorer.views.map import simplified
from query.layout.layouts import layout_of
from query.layout.regions import MOST_CORNERS, Region
from tests.app.explorer.browsing import (
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    drag,
    eventually,
    no_error,
    state,
)
from tests.app.explorer.running import errors, figures, ids, opened, press, scripts, words

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, IMAGE_SITE = "demo-inceptionv1", "inception5b"


def outlines(app: AppTest) -> list[dict]:
    """The regions that are outlined on the map."""
    [figure] = [part.proto for part in app.get("bidi_component")]
    return json.loads(figure.json)["outline"]


@pytest.mark.parametrize("lasso", [False, True])
def test_a_region_lists_who_lies_in_it(demo_atlas: Path, lasso: bool):
    with atlas.open(demo_atlas) as a:
        number = layout_of(a, a.catalog.target(site=IMAGE_SITE)).layout_id
        points = query.layout_points(a, number)
        (x0, x1), (y0, y1) = (points[axis].quantile([0.1, 0.8]) for axis in ("x", "y"))
        corners = (x0, y0, x1, y1, x0, y1) if lasso else (x0, y0, x1, y1)
        region = Region.of(corners)
        found = query.layout_examples(a, number, region, limit=36)
    assert 0 < found.attrs["size"] < len(points)
    app = opened(demo_atlas, "map", network=IMAGE, target=IMAGE_SITE, within=str(region))
    assert errors(app) == [] and len(figures(app)) == 1
    kind = "polygon of 3 corners" if lasso else "box"
    assert app.header[-1].value == f"{found.attrs['size']:,} of {len(points):,} examples in this {kind}"
    assert ids(app) == found["example_id"].tolist()
    assert f"layout_id = {number} and {region.sql}" in scripts(app, "sql")
    with atlas.open(demo_atlas) as a:
        assert len(query.sql(a, scripts(app, "sql")[-1])) == found.attrs["size"]
    [outline] = outlines(app)
    assert outline["type"] == ("path" if lasso else "rect")
    press(app, "Clear")
    assert outlines(app) == [] and "within" not in app.query_params


def test_a_site_without_a_map_says_how(demo_atlas: Path):
    """A site without a map says how to make one."""
    app = opened(demo_atlas, "map", network=TEXT, target="blocks.1.mlp")
    assert errors(app) == []
    assert scripts(app, "sh") == [f"polytope layout {demo_atlas} --site blocks.1.mlp --network {TEXT}"]
    assert f"{SITE} (codes)" in words(app)


def test_a_bad_region_is_a_sentence(demo_atlas: Path):
    """A region that is none is a sentence beside the map."""
    app = opened(demo_atlas, "map", network=TEXT, target=SITE, within="1,2,<b>", colour="distance", layout=99)
    layout, region = errors(app)
    assert layout.startswith("the address asks for layout 99; expected ")
    assert region == "a region of a map is numbers with commas between them, got '1,2,<b>'"
    assert len(figures(app)) == 1


@pytest.mark.parametrize("large", [False, True])
def test_a_map_has_few_distinct_kinds(demo_atlas: Path, large: bool):
    """A map has few kinds that differ in colour or shape."""
    with atlas.open(demo_atlas) as a:
        frame = query.layout_points(a, layout_of(a, a.catalog.target(site=SITE)).layout_id)
    if large:
        frame = pd.concat([frame] * (layout_charts.LARGE // len(frame) + 1), ignore_index=True)
    frame["cluster"] = [i % 40 - 1 for i in range(len(frame))]
    kinds = list(layout_charts.kinds(frame, "cluster", {0: "named"}))
    assert [kind.name for kind in kinds[:3]] == ["noise", "others", "0 named"]
    assert len(kinds) == 2 + layout_charts.MOST_KINDS
    assert len({(kind.colour, kind.symbol) for kind in kinds}) == len(kinds)
    assert (len({kind.symbol for kind in kinds}) == 1) == large
    assert sorted(row for kind in kinds for row in kind.rows) == list(range(len(frame)))
    figure = layout_charts.layout(frame, "cluster", "map")
    assert sum(len(trace.x) for trace in figure.data) == len(frame)
    assert {trace.type for trace in figure.data} == {"scattergl"} and figure.data[0].x.dtype == "float32"


def test_a_large_kind_is_drawn_in_parts():
    """A kind of very many points is drawn in parts and listed once."""
    n = 2 * layout_charts.TRACE_POINTS + 1
    frame = pd.DataFrame({"example_id": range(n), "x": np.arange(n), "y": 0.0, "label": pd.Categorical(["a"] * n)})
    figure = layout_charts.layout(frame, "label", "map")
    assert max(len(trace.x) for trace in figure.data) == layout_charts.TRACE_POINTS
    assert np.concatenate([trace.customdata[:, 0] for trace in figure.data]).tolist() == list(range(n))
    assert [trace.showlegend for trace in figure.data] == [True, False, False]
    assert {trace.name for trace in figure.data} == {f"a ({n:,})"} == {trace.legendgroup for trace in figure.data}


def test_an_outline_keeps_few_corners():
    """A drawn outline keeps few of its corners."""
    outline = [(float(i), float(i % 7)) for i in range(500)]
    kept = simplified(outline)
    assert 3 <= len(kept) <= MOST_CORNERS and set(kept) <= set(outline)
    assert simplified(outline[:4]) == outline[:4]


def test_distance_bands_part_all_points():
    """Bands of distance part all points by the scale and lay the nearest on top."""
    distance = np.concatenate([np.random.default_rng(0).gamma(4, 10, 5000), [1e4]]).astype(np.float32)
    found = list(layout_charts.bands(pd.DataFrame({"distance": distance})))
    assert 2 < len(found) <= layout_charts.BANDS and len({kind.colour for kind in found}) == len(found)
    assert sorted(row for kind in found for row in kind.rows) == list(range(len(distance)))
    assert found[0].name.endswith(" to 1e+04")
    for far, near in itertools.pairwise(found):
        assert distance[far.rows].min() >= distance[near.rows].max()
    for kind in found:
        low, high = (float(end) for end in kind.name.split(" to "))
        assert low * 0.999 <= distance[kind.rows].min() and distance[kind.rows].max() <= high * 1.001


class TestInABrowser:
    pytestmark = IN_BROWSER
    RANGE = "() => document.querySelector('.js-plotly-plot').layout.xaxis.range.map(String)"

    def within(self, page: Page) -> Region:
        """The region that the address of a page names, once it does."""
        eventually(page, lambda: "within" in state(page), True)
        return Region.parse(state(page)["within"])

    def test_a_drawing_on_the_map_is_its_region(self, server: str, open_page: OpenPage):
        """A box, then an outline by hand; either stands on the map, and no other."""
        page = open_page(address(server, "map", network=IMAGE, target=IMAGE_SITE))
        answered(page)
        drag(page, [(0.02, 0.02), (0.98, 0.6)])
        expect(page.get_by_text("examples in this box")).to_be_visible()
        assert len(self.within(page).corners) == 2
        answered(page)
        page.locator('.modebar-btn[data-val="drawclosedpath"]').click()
        drag(page, [(0.1, 0.1), (0.9, 0.15), (0.85, 0.8), (0.5, 0.5), (0.15, 0.9)])
        expect(page.get_by_text("examples in this polygon")).to_be_visible()
        answered(page)
        outlines = "() => document.querySelector('.js-plotly-plot').layout.shapes.length"
        eventually(page, lambda: page.evaluate(outlines), 1)

    def test_recolouring_keeps_the_zoom(self, server: str, open_page: OpenPage):
        """Another colour leaves the map zoomed."""
        page = open_page(address(server, "map", network=TEXT, target=SITE))
        answered(page)
        page.evaluate("() => { window.canvas = document.querySelector('.js-plotly-plot .gl-canvas'); }")
        page.locator('.modebar-btn[data-val="in"]').click()
        zoomed = page.evaluate(self.RANGE)
        page.get_by_role("radio", name="distance").click()
        address_says(page, colour="distance")
        answered(page)
        expect(page.get_by_label("coloured by distance")).to_be_visible()
        page.emulate_media(color_scheme="dark")
        answered(page)
        no_error(page)
        assert page.evaluate(self.RANGE) == zoomed and page.evaluate("() => window.canvas.isConnected")
