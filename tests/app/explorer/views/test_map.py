"""The Map page: everyone has a place, a part of it is listed, and its address and its SQL say which."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import BrowserContext, Page, expect
from streamlit.proto.BackMsg_pb2 import BackMsg

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
    eventually,
    ids,
    no_error,
    photograph,
    standing,
    state,
)

pytestmark = IN_BROWSER

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, IMAGE_SITE = "demo-inceptionv1", "inception5b"


def drag(page: Page, ways: list[tuple[float, float]]) -> None:
    """Drag over the map, by shares of its width and height, clear of the bar at the top of the window."""
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    plot.evaluate("(plot) => plot.scrollIntoView({ block: 'center' })")
    box = standing(page, plot)
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ways]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


POINTS_SHOWN = (
    """() => document.querySelector(".js-plotly-plot")._fullData.some(trace => trace.selectedpoints?.length)"""
)
"""Whether the browser shows which points are inside."""

OUTLINED = """() => {
  const { shapes, selections } = document.querySelector(".js-plotly-plot").layout;
  return (shapes?.length ?? 0) + (selections?.length ?? 0);
}"""
"""Regions that the map outlines."""

GROUND = "() => document.querySelector('.js-plotly-plot')._fullLayout.paper_bgcolor"
RANGE = "() => document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range.map(String)"


def within(page: Page) -> Region:
    """The region that the address of a page names, once it does."""
    eventually(page, lambda: "within" in state(page), True)
    return Region.parse(state(page)["within"])


@pytest.fixture
def sent(tabs: BrowserContext) -> Iterator[list[bytes]]:
    """What tabs that are opened from now on send to the server."""
    messages: list[bytes] = []

    def listen(tab: Page) -> None:
        tab.on("websocket", lambda socket: socket.on("framesent", lambda message: messages.append(message)))

    tabs.on("page", listen)
    yield messages
    tabs.remove_listener("page", listen)


def drags(sent: list[bytes]) -> list[Any]:
    """What they say was dragged on a map."""
    states = [state for message in sent for state in BackMsg.FromString(message).rerun_script.widget_states.widgets]
    return [json.loads(state.json_trigger_value) for state in states if "drag" in state.json_trigger_value]


def test_a_box_dragged_on_the_map_lists_who_lies_in_it(
    sent: list[bytes], server: str, open_page: OpenPage, demo_atlas: Path
):
    """The browser sends the box without its points."""
    page = open_page(address(server, "map", network=IMAGE, target=IMAGE_SITE))
    answered(page)
    no_error(page)
    expect(page.locator(".js-plotly-plot .gl-canvas").first).to_be_visible()
    photograph(page, "map-images")
    drag(page, [(0.02, 0.02), (0.98, 0.6)])
    assert page.evaluate(POINTS_SHOWN)
    expect(page.get_by_text("examples in this box")).to_be_visible()
    answered(page)
    region = within(page)
    with atlas.open(demo_atlas) as a:
        number = layout_of(a, a.catalog.target(site=IMAGE_SITE)).layout_id
        found = query.layout_examples(a, number, region, limit=36)
        points = query.layout_points(a, number)
    low_x, low_y, high_x, high_y = region.bounds
    size = int((points["x"].between(low_x, high_x) & points["y"].between(low_y, high_y)).sum())
    assert 0 < size < len(points) and found.attrs["size"] == size
    expect(page.locator("h3").last).to_have_text(f"{size:,} of {len(points):,} examples in this box")
    eventually(page, lambda: ids(page), found["example_id"].tolist())
    expect(page.locator("code.language-sql:visible")).to_contain_text(f"layout_id = {number} and {region.sql}")
    photograph(page, "map-selected")

    again = open_page(page.url)
    expect(again.locator("h3").last).to_have_text(f"{size:,} of {len(points):,} examples in this box")
    answered(again)
    again.get_by_role("button", name="Clear").click()
    expect(again.get_by_text("examples in this box")).to_have_count(0)
    address_says(again, within=None)
    answered(again)
    eventually(again, lambda: again.evaluate(OUTLINED), 0)  # a drag that a change of the figure meets is lost
    drag(again, [(0.02, 0.02), (0.98, 0.6)])
    expect(again.get_by_text("examples in this box")).to_be_visible()
    told = [drag for each in drags(sent) for drag in (each if isinstance(each, list) else [each])]
    assert len(told) == 2
    for drag_told in told:
        assert drag_told["event"] == "drag"
        assert set(drag_told["value"]) == {"kind", "x", "y"} and drag_told["value"]["kind"] == "box"

    outlined = again.locator(".selectionlayer path")
    expect(outlined.first).to_be_attached()
    again.go_back()
    expect(again.get_by_text("examples in this box")).to_have_count(0)
    expect(outlined).to_have_count(0)


def test_a_lasso_and_its_sql_name_the_same_examples(server: str, open_page: OpenPage, demo_atlas: Path):
    page = open_page(address(server, "map", network=TEXT, target=SITE, colour="label"))
    answered(page)
    expect(page.locator(".js-plotly-plot .gl-canvas").first).to_be_visible()
    lasso = page.locator('.modebar-btn[data-val="lasso"]')
    lasso.click()
    expect(lasso).to_have_class(re.compile(r"\bactive\b"))
    drag(page, [(0.1, 0.1), (0.9, 0.15), (0.85, 0.8), (0.5, 0.5), (0.15, 0.9), (0.1, 0.1)])
    expect(page.get_by_text("examples in this polygon")).to_be_visible()
    answered(page)
    with atlas.open(demo_atlas) as a:
        found = query.layout_examples(a, layout_of(a, a.catalog.target(site=SITE)).layout_id, within(page))
    eventually(page, lambda: ids(page), found["example_id"].tolist()[:20])
    page.get_by_text("Code for this").last.click()
    # Followed by its address: a page that draws itself again under the pointer would swallow a click.
    page.goto(f"{server}/{page.get_by_role('link', name='Open in the SQL page').last.get_attribute('href')}")
    expect(page.locator("h1")).to_have_text("SQL")
    expect(page.get_by_text(f"{found.attrs['size']:,} rows in")).to_be_visible()


def test_a_site_without_a_map_says_how_to_make_one(server: str, open_page: OpenPage, demo_atlas: Path):
    page = open_page(address(server, "map", network=TEXT, target="blocks.1.mlp"))
    no_error(page)
    command = page.locator("code.language-sh")
    expect(command).to_have_text(f"polytope layout {demo_atlas} --site blocks.1.mlp --network {TEXT}")
    answered(page)
    page.get_by_role("link", name=f"{SITE} (codes)").click()
    expect(page.locator(".js-plotly-plot")).to_be_visible()


def test_a_region_that_is_none_is_a_sentence_beside_the_map(server: str, open_page: OpenPage):
    page = open_page(address(server, "map", network=TEXT, target=SITE, within="1,2,<b>", colour="density", layout=99))
    expect(page.locator(".pa-error")).to_have_text(
        [
            re.compile("^the address asks for layout 99; expected "),
            "a region of a map is numbers with commas between them, got '1,2,<b>'",
        ]
    )
    expect(page.locator(".js-plotly-plot")).to_be_visible()
    photograph(page, "map-density")


@pytest.mark.parametrize("large", [False, True])
def test_a_map_has_few_kinds_that_differ_in_colour_or_shape(demo_atlas: Path, large: bool):
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


def test_a_kind_of_very_many_points_is_drawn_in_parts_and_listed_once():
    n = 2 * layout_charts.TRACE_POINTS + 1
    frame = pd.DataFrame({"example_id": range(n), "x": np.arange(n), "y": 0.0, "label": pd.Categorical(["a"] * n)})
    figure = layout_charts.layout(frame, "label", "map")
    assert max(len(trace.x) for trace in figure.data) == layout_charts.TRACE_POINTS
    assert np.concatenate([trace.customdata[:, 0] for trace in figure.data]).tolist() == list(range(n))
    assert [trace.showlegend for trace in figure.data] == [True, False, False]
    assert {trace.name for trace in figure.data} == {f"a ({n:,})"} == {trace.legendgroup for trace in figure.data}


def test_a_drawn_outline_keeps_few_of_its_corners():
    outline = [(float(i), float(i % 7)) for i in range(500)]
    kept = simplified(outline)
    assert 3 <= len(kept) <= MOST_CORNERS and set(kept) <= set(outline)
    assert simplified(outline[:4]) == outline[:4]


def test_another_colour_changes_the_map_that_is_there_and_leaves_it_zoomed(server: str, open_page: OpenPage):
    page = open_page(address(server, "map", network=TEXT, target=SITE))
    answered(page)
    page.evaluate("() => { window.canvas = document.querySelector('.js-plotly-plot .gl-canvas'); }")
    page.locator('.modebar-btn[data-val="in"]').click()
    zoomed = page.evaluate(RANGE)
    for colour in ("label", "density"):
        page.get_by_role("radio", name=colour).click()
        address_says(page, colour=colour)
        answered(page)
        expect(page.get_by_label(f"coloured by {colour}")).to_be_visible()
        assert page.evaluate(RANGE) == zoomed
        assert page.evaluate("() => window.canvas.isConnected")
    light = page.evaluate(GROUND)
    page.emulate_media(color_scheme="dark")
    eventually(page, lambda: page.evaluate(GROUND) != light, True)
    answered(page)
    no_error(page)
    assert page.evaluate(RANGE) == zoomed


def test_bands_of_density_part_all_points_by_the_scale_and_lay_the_densest_on_top():
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
