"""Everything can be done by the keyboard alone."""

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
from tests.app.explorer.views_by_hand import SITE, TEXT

pytestmark = IN_BROWSER

MOST = 400
"""Stops of the Tab key on a page, more than any has."""


def tab_to(page: Page, selector: str, most: int = MOST) -> None:
    """Press Tab until something is in focus that matches a selector."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{most} times Tab never reaches {selector}")


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
        page = open_page(address(server, "cluster", network=TEXT, target=SITE))
        answered(page)
        tab_to(page, 'input[aria-label*="Cluster"][role="combobox"]:not([aria-label*="Clustering"])')
        page.keyboard.type(f"#{smallest}")
        offered = page.get_by_role("option")
        offered.first.wait_for()
        places = [re.search(rf"#{smallest}$", words.strip()) is not None for words in offered.all_inner_texts()]
        for _ in range(places.index(True)):  # what else has that digit may stand before it
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        address_says(page, cluster=smallest)
        answered(page)
        tab_to(page, '[class*="st-key-naming"] summary')
        page.keyboard.press("Enter")
        tab_to(page, 'input[aria-label="Name"]')
        page.keyboard.type("by hand")
        tab_to(page, '[data-testid="stFormSubmitButton"] button')
        page.keyboard.press("Space")
        expect(page.locator("h2").last).to_contain_text("by hand")
        answered(page)
        with atlas.open(path) as a:
            assert "by hand" in query.cluster_names(a)["name"].tolist()
