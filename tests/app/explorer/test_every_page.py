"""Every page opens, passes axe-core, fits on half a laptop's screen, and is used by keyboard alone."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.app.explorer.browsing import (
    IN_BROWSER,
    OpenPage,
    address,
    answered,
    eventually,
    no_error,
    photograph,
)
from tests.app.explorer.views_by_hand import SITE, TEXT, VIEWS, View

pytestmark = [*IN_BROWSER, pytest.mark.slow]

PAGES = {
    "": "Start",
    "look": "Look",
    "atlas": "Atlas",
    "cluster": "Cluster",
    "neurons": "Neurons",
    "between": "Between",
    "sql": "SQL",
    "claims": "Claims",
}
LOOKED_AT = {
    "claims": VIEWS["claims"],
    "results": VIEWS["results"],
    "start": VIEWS["start"],
    "about": VIEWS["about"],
    "look": VIEWS["look"],
    "look-image": VIEWS["look-image"],
    "look-found": VIEWS["look-found"],
    "cluster": VIEWS["cluster"],
    "cluster-gates": VIEWS["cluster-gates"],
    "cluster-flow": VIEWS["cluster-flow"],
    "atlas": VIEWS["atlas-cluster"],
    "atlas-region": VIEWS["atlas-region"],
    "between": VIEWS["between"],
    "between-path": VIEWS["between-path"],
    "between-slice": VIEWS["between-slice"],
    "between-clusters": VIEWS["between-clusters"],
    **{page: View(page, {"network": TEXT, "target": SITE}) for page in ("neurons", "sql")},
}
"""Every page, with such figures, tables or forms as are wide. A page is opened once and looked at from all sides."""

BY_KEYBOARD = ("look", "cluster", "atlas-region")
"""Those with controls of all kinds."""

FIGURES = {"atlas-region": "map", "cluster-flow": "flow"}
"""Drawn by WebGL, and no chart with axes."""

MOST = 400
"""Stops of the Tab key on a page, more than any has."""

LEAST = 2_000
"""Bytes of a picture that shows something; a frame alone takes fewer."""

HALF = {"width": 640, "height": 800}

BEYOND = """() => [...document.querySelectorAll(
        '[data-testid="stMain"] :is(button, input, textarea, [role="slider"], h1, h2)'
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

SHADED = """each => {
    const edge = each.getBoundingClientRect().right - 1, ground = getComputedStyle(each).backgroundImage;
    return each.scrollWidth > each.clientWidth && edge <= innerWidth && ground.split('linear-gradient').length === 5;
}"""
"""Whether a table that is cut has its edges shaded."""

LOOKS = """each => {
    const looks = [];
    for (let e = each, up = 0; e && up < 5; e = e.parentElement, up++) {
        const s = getComputedStyle(e);
        looks.push([s.outlineStyle, s.outlineWidth, s.outlineColor, s.boxShadow, s.borderColor, s.backgroundColor]);
    }
    return JSON.stringify(looks);
}"""
"""What shows where the focus is: outlines, rings and borders, of a thing or of what is around it."""

LIBRARIES = '.js-plotly-plot, [data-testid="stDataFrame"], [data-testid="stElementToolbar"]'
"""Plots and grids, whose insides are not ours."""

TOLD = "each => each.cloneNode().outerHTML"
"""A thing without what is inside it."""

REACHABLE = """() => [...document.querySelectorAll(
        '[data-testid="stMain"] :is(a[href], button, input, textarea, summary, [role="slider"])'
    )]
    .filter(each => each.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !each.disabled)
    .filter(each => !each.closest('.js-plotly-plot, [data-testid="stElementToolbar"], [data-testid="stDataFrame"]'))
    .filter(each => !each.matches('[tabindex="-1"]'))
    .filter(each => !each.seen && !each.closest('label')?.querySelector('input')?.seen)
    .map(each => each.cloneNode().outerHTML)"""
"""Things to act on that the Tab key passed by."""


@pytest.mark.parametrize("name", LOOKED_AT)
def test_every_page_serves_everyone(server: str, measured_server: str, open_page: OpenPage, name: str):
    view = LOOKED_AT[name]
    page = open_page(address(measured_server if view.measured else server, view.page, **view.state))
    expect(page.locator("h1")).to_have_text(PAGES[view.page])
    answered(page)
    no_error(page)
    photograph(page, name)
    axe_finds_nothing(page)
    fits_half_a_screen(page)
    if name == "look":
        assert page.locator(".pa-scroll").last.evaluate(SHADED)
    if name in FIGURES:
        figure_is_taken_along(page, FIGURES[name])
    if name in BY_KEYBOARD:
        tab_reaches_all_and_is_seen(page)


def axe_finds_nothing(page: Page) -> None:
    """Contrast in either theme; in one the order of headings, names, what scrolls by keyboard."""
    for scheme, rules in (("dark", {"runOnly": ["color-contrast"]}), ("light", {})):
        page.emulate_media(color_scheme=scheme)
        eventually(page, partial(_violations, page, rules), [])  # a theme comes part by part


def _violations(page: Page, rules: dict[str, list[str]]) -> list[tuple[str, str, str]]:
    found = Axe().run(page, options=rules).response["violations"]
    return [(rule["id"], node["html"], node["failureSummary"]) for rule in found for node in rule["nodes"]]


def fits_half_a_screen(page: Page) -> None:
    page.set_viewport_size(HALF)
    answered(page)
    no_error(page)
    expect(page.locator("h1")).to_be_in_viewport(ratio=1)
    eventually(page, lambda: page.locator("h1").evaluate(COVERED), False)  # the sidebar takes a moment to fold
    widths = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]
    main = page.get_by_test_id("stMain")
    assert main.evaluate("each => each.scrollWidth <= each.clientWidth")
    assert page.evaluate(BEYOND) == []


def figure_is_taken_along(page: Page, figure: str) -> None:
    """In a file a map is drawn by vectors, and words are in letters that every machine has: the page's own would not
    be in the file."""
    place = page.locator(f".st-key-figure-{figure}")
    expect(place.locator(".pa-figure")).to_be_visible()
    for kind, magic in (("PNG", b"\x89PNG\r\n\x1a\n"), ("SVG", b"<svg ")):
        with page.expect_download() as download:
            place.get_by_role("button", name=kind, exact=True).click()
        data = Path(download.value.path()).read_bytes()
        assert data.startswith(magic) and len(data) > LEAST
    assert (
        b"Arial" in data
        and b"Source Sans" not in data
        and b"<image" not in data
        and (b"<path" in data or b"<circle" in data)
    )


def tab_reaches_all_and_is_seen(page: Page) -> None:
    """Tab reaches everything and one sees where it is."""
    page.add_style_tag(content="* { transition: none !important; }")
    page.evaluate(f"() => document.querySelectorAll('*').forEach(each => {{ each.looked = ({LOOKS})(each); }})")
    unseen = []
    for _ in range(MOST):
        page.keyboard.press("Tab")
        focused = page.evaluate_handle("document.activeElement")
        own = focused.evaluate(f"each => !each.closest({LIBRARIES!r})")
        if focused.evaluate("each => each === document.body"):
            continue
        if own and focused.evaluate("each => each.seen === true"):
            break  # once round; inside a grid Tab goes from cell to cell
        focused.evaluate("each => { each.seen = true; }")
        if own and focused.evaluate(f"each => ({LOOKS})(each) === each.looked"):
            unseen.append(focused.evaluate(TOLD))
    assert unseen == []
    # Of a group of radio buttons or tabs one stands in the order of Tab; arrows lead to the others.
    assert [each for each in page.evaluate(REACHABLE) if not re.search('role="(radio|tab)"', each)] == []
