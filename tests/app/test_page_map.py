"""The Map page: everyone has a place, a part of it is listed, and its address and its SQL say which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlparse

import pytest
from playwright.sync_api import Page, expect

import atlas
import query
from app import plots_map
from app.pages.map import simplified
from query.layouts import MOST_CORNERS, Region, layout_of
from tests.app.browsing import CHROMIUM, drawn, photograph

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or name it in the variable CHROMIUM"),
]

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, IMAGE_SITE = "demo-inceptionv1", "inception5b"
OpenPage = Callable[[str], Page]


def address(server: str, **state: object) -> str:
    return f"{server}/map?{urlencode(state)}"


def no_error(page: Page) -> None:
    expect(page.locator('.pa-error, [data-testid="stException"], [data-testid="stAlert"]')).to_have_count(0)


def drag(page: Page, ways: list[tuple[float, float]]) -> None:
    """Drag over the map, by shares of its width and height."""
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ways]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def within(page: Page) -> Region:
    """The region that the address of a page names."""
    return Region.parse(parse_qs(urlparse(page.url).query)["within"][0])


def test_a_box_dragged_on_the_map_lists_who_lies_in_it(server: str, open_page: OpenPage, demo_atlas: Path):
    page = open_page(address(server, network=IMAGE, target=IMAGE_SITE))
    no_error(page)
    expect(page.locator(".js-plotly-plot .gl-canvas").first).to_be_visible()
    photograph(page, "map-images")
    drag(page, [(0.02, 0.02), (0.98, 0.6)])
    expect(page.get_by_text("examples in this box")).to_be_visible()
    drawn(page)
    region = within(page)
    with atlas.open(demo_atlas) as a:
        number = layout_of(a, a.catalog.target(site=IMAGE_SITE)).layout_id
        found = query.layout_examples(a, number, region, limit=36)
        points = query.layout_points(a, number)
    low_x, low_y, high_x, high_y = region.bounds
    size = int((points["x"].between(low_x, high_x) & points["y"].between(low_y, high_y)).sum())
    assert 0 < size < len(points) and found.attrs["size"] == size
    expect(page.locator("h3").last).to_have_text(f"{size:,} of {len(points):,} examples in this box")
    captions = page.locator(".pa-grid figcaption a[href^=example]").all_inner_texts()
    assert [int(words) for words in captions] == found["example_id"].tolist()
    assert f"layout_id = {number} and {region.sql}" in page.locator("code.language-sql:visible").inner_text()
    photograph(page, "map-selected")

    again = open_page(page.url)
    expect(again.locator("h3").last).to_have_text(f"{size:,} of {len(points):,} examples in this box")
    again.get_by_role("button", name="Clear").click()
    expect(again.get_by_text("examples in this box")).to_have_count(0)
    assert "within" not in again.url


def test_a_lasso_and_its_sql_name_the_same_examples(server: str, open_page: OpenPage, demo_atlas: Path):
    page = open_page(address(server, network=TEXT, target=SITE, colour="label"))
    page.locator('.modebar-btn[data-val="lasso"]').click()
    drag(page, [(0.1, 0.1), (0.9, 0.15), (0.85, 0.8), (0.5, 0.5), (0.15, 0.9), (0.1, 0.1)])
    expect(page.get_by_text("examples in this polygon")).to_be_visible()
    drawn(page)
    with atlas.open(demo_atlas) as a:
        found = query.layout_examples(a, layout_of(a, a.catalog.target(site=SITE)).layout_id, within(page))
    shown = page.locator(".pa table td:last-child a[href^=example]").all_inner_texts()
    assert [int(words) for words in shown] == found["example_id"].tolist()[:20]
    page.get_by_text("Code for this").last.click()
    # Followed by its address: a page that draws itself again under the pointer would swallow a click.
    page.goto(f"{server}/{page.get_by_role('link', name='Open in the SQL page').last.get_attribute('href')}")
    expect(page.get_by_text(f"{found.attrs['size']:,} rows in")).to_be_visible()


def test_a_site_without_a_map_says_how_to_make_one(server: str, open_page: OpenPage, demo_atlas: Path):
    page = open_page(address(server, network=TEXT, target="blocks.1.mlp"))
    no_error(page)
    command = page.locator("code.language-sh")
    expect(command).to_have_text(f"polytope layout {demo_atlas} --site 'blocks.1.mlp' --network {TEXT}")
    page.get_by_role("link", name=f"{SITE} (codes)").click()
    expect(page.locator(".js-plotly-plot")).to_be_visible()


def test_a_region_that_is_none_is_a_sentence_beside_the_map(server: str, open_page: OpenPage):
    page = open_page(address(server, network=TEXT, target=SITE, within="1,2,<b>", colour="density", layout=99))
    expect(page.locator(".pa-error")).to_have_text(
        "a region of a map is numbers with commas between them, got '1,2,<b>'"
    )
    expect(page.locator(".js-plotly-plot")).to_be_visible()
    photograph(page, "map-density")


def test_a_map_has_few_kinds_that_differ_in_colour_or_shape(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        frame = query.layout_points(a, layout_of(a, a.catalog.target(site=SITE)).layout_id)
    frame["cluster"] = [i % 40 - 1 for i in range(len(frame))]
    kinds = list(plots_map.kinds(frame, "cluster", {0: "named"}))
    assert [kind.name for kind in kinds[:3]] == ["noise", "others", "0 named"]
    assert len(kinds) == 2 + plots_map.MOST_KINDS
    assert len({(kind.colour, kind.symbol) for kind in kinds}) == len(kinds)
    assert sorted(row for kind in kinds for row in kind.rows) == list(range(len(frame)))
    figure = plots_map.layout(frame, "cluster", "map")
    assert sum(len(trace.x) for trace in figure.data) == len(frame)
    assert {trace.type for trace in figure.data} == {"scattergl"} and figure.data[0].x.dtype == "float32"


def test_a_drawn_outline_keeps_few_of_its_corners():
    outline = [(float(i), float(i % 7)) for i in range(500)]
    kept = simplified(outline)
    assert 3 <= len(kept) <= MOST_CORNERS and set(kept) <= set(outline)
    assert simplified(outline[:4]) == outline[:4]
