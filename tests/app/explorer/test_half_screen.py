"""On half a laptop's screen every page can be read without scrolling sideways, and its figures taken along."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import FloatRect, Locator, expect

from tests.app.explorer.browsing import IN_BROWSER, OpenPage, address, answered, eventually, no_error
from tests.app.explorer.views_by_hand import VIEWS

pytestmark = IN_BROWSER

LEAST = 2_000
"""Bytes of a picture that shows something; a frame alone takes fewer."""

HALF = {"width": 640, "height": 800}

BEYOND = """() => [...document.querySelectorAll(
        '[data-testid="stMain"] :is(button, input, textarea, [role="slider"], h1, h3)'
    )]
    .filter(each => each.checkVisibility())
    .filter(each => !each.closest('.pa-scroll, .pa-strip, [role="tablist"], .js-plotly-plot'))
    .map(each => ({ box: each.getBoundingClientRect(), what: each.outerHTML.slice(0, 120) }))
    .filter(({ box }) => box.width > 1 && (box.left < -1 || box.right > innerWidth + 1))
    .map(({ what }) => what)"""
"""Controls and headings that stand out to the left or right; what scrolls by itself is left out."""

COVERED = """each => {
    const { left, top, height } = each.getBoundingClientRect();
    return !each.contains(document.elementFromPoint(left + 5, top + height / 2));
}"""
"""Whether something lies over a heading."""


LOOKED_AT = ("overview-images", "search", "clusters-gates", "map-region", "density-pair", "slices", "sql")
"""Pages whose figures, tables or forms are wide."""


@pytest.mark.parametrize("name", LOOKED_AT)
def test_nothing_stands_out_of_half_a_screen(server: str, measured_server: str, open_page: OpenPage, name: str):
    view = VIEWS[name]
    page = open_page(address(measured_server if view.measured else server, view.page, **view.state))
    page.set_viewport_size(HALF)
    answered(page)
    no_error(page)
    expect(page.locator("h1")).to_be_in_viewport(ratio=1)
    assert not page.locator("h1").evaluate(COVERED)
    widths = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    main = page.get_by_test_id("stMain")
    assert main.evaluate("each => each.scrollWidth <= each.clientWidth")
    assert page.evaluate(BEYOND) == []


def test_cards_of_numbers_stand_in_a_grid(server: str, open_page: OpenPage):
    """Two by two on half a screen."""
    view = VIEWS["clusters-counts"]
    page = open_page(address(server, view.page, **view.state))
    cards = page.locator(".st-key-counts").get_by_test_id("stMetric")
    for viewport, columns in ((page.viewport_size, 4), (HALF, 2)):
        assert viewport is not None
        page.set_viewport_size(viewport)
        eventually(page, lambda: len({round(box["x"]) for box in boxes(cards)}), columns)


def boxes(things: Locator) -> list[FloatRect]:
    found = [thing.bounding_box() for thing in things.all()]
    return [box for box in found if box is not None]


SHADED = """each => {
    const edge = each.getBoundingClientRect().right - 1, ground = getComputedStyle(each).backgroundImage;
    return each.scrollWidth > each.clientWidth && edge <= innerWidth && ground.split('linear-gradient').length === 5;
}"""
"""Whether a table that is cut has its edges shaded."""


def test_a_cut_table_has_a_shadow(server: str, open_page: OpenPage):
    """A table that is cut has a shadow at its edge."""
    view = VIEWS["search"]
    page = open_page(address(server, view.page, **view.state))
    page.set_viewport_size(HALF)
    answered(page)
    table = page.locator(".pa-scroll").last
    assert table.evaluate(SHADED)


@pytest.mark.parametrize(("name", "figure"), [("map", "map"), ("clusters-flow", "flow")])
def test_other_figures_download_too(server: str, open_page: OpenPage, name: str, figure: str):
    """The map is drawn by WebGL, and in a file by vectors; the flow is no chart with axes. Words are in letters that
    every machine has: the page's own would not be in the file."""
    page = open_page(address(server, VIEWS[name].page, **VIEWS[name].state))
    answered(page)
    place = page.locator(f".st-key-figure-{figure}")
    expect(place.locator(".js-plotly-plot")).to_be_visible()
    for kind, magic in (("PNG", b"\x89PNG\r\n\x1a\n"), ("SVG", b"<svg cla")):
        with page.expect_download() as download:
            place.get_by_role("button", name=kind, exact=True).click()
        data = Path(download.value.path()).read_bytes()
        assert data.startswith(magic) and len(data) > LEAST
    assert b"Arial" in data and b"Source Sans" not in data and b"<image" not in data and b"<path" in data
