"""Everything can be reached and done by the keyboard alone, and one sees where one is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import atlas
import query
from tests.app.explorer.browsing import (
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    serving,
)
from tests.app.explorer.views_by_hand import SITE, TEXT, VIEWS

pytestmark = IN_BROWSER

MOST = 400
"""Stops of the Tab key on a page, more than any has."""

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


def tab_to(page: Page, selector: str, most: int = MOST) -> None:
    """Press Tab until something is in focus that matches a selector."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{most} times Tab never reaches {selector}")


@pytest.mark.parametrize("name", ["search", "clusters", "map"])
def test_tab_reaches_all_and_is_seen(server: str, measured_server: str, open_page: OpenPage, name: str):
    """Tab reaches everything and one sees where it is."""
    view = VIEWS[name]
    page = open_page(address(measured_server if view.measured else server, view.page, **view.state))
    answered(page)
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


def test_a_query_runs_by_keyboard_alone(server: str, open_page: OpenPage):
    page = open_page(address(server, "sql", network=TEXT))
    answered(page)
    tab_to(page, "textarea")
    page.keyboard.press("Control+A")
    page.keyboard.type("select 42 as answer")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("1 row in")).to_be_visible()


def test_a_cluster_is_named_by_keyboard(demo_atlas: Path, tmp_path: Path, open_page: OpenPage):
    """A cluster is chosen and named by keyboard alone."""
    path = Path(shutil.copytree(demo_atlas, tmp_path / "own.atlas"))
    with atlas.open(path) as a:
        smallest = int(query.clusters(a, site=SITE, network=TEXT).sort_values("size", kind="stable")["label"].iloc[0])
    with serving(path) as server:
        page = open_page(address(server, "clusters", network=TEXT, target=SITE))
        answered(page)
        tab_to(page, 'input[aria-label*="Cluster"][role="combobox"]:not([aria-label*="Clustering"])')
        page.keyboard.type(str(smallest))
        page.keyboard.press("Enter")
        address_says(page, cluster=smallest)
        answered(page)
        tab_to(page, '[class*="st-key-naming"] summary')
        page.keyboard.press("Enter")
        tab_to(page, 'input[aria-label="Name"]')
        page.keyboard.type("by hand")
        tab_to(page, '[data-testid="stFormSubmitButton"] button')
        page.keyboard.press("Space")
        expect(page.locator("h3").last).to_contain_text("by hand")
        answered(page)
        with atlas.open(path) as a:
            assert "by hand" in query.cluster_names(a)["name"].tolist()
