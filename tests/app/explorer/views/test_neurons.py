"""The Neurons page: what activates a unit, how units rank, and directions beside them."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

import atlas
import query
from app.explorer.views.neurons import TELLING, TOP
from tests.app.explorer.browsing import (
    COMPUTING,
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    eventually,
    no_error,
    photograph,
)

pytestmark = IN_BROWSER

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, IMAGE_SITE = "demo-inceptionv1", "inception5b"


def test_a_unit_shows_its_top_and_its_gate(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = query.unit(a, 7, site=SITE, network=TEXT, k=TOP["text"])
    page = open_page(address(server, "neurons", network=TEXT, target=SITE, unit=7))
    answered(page)
    no_error(page)
    top = found.table[found.table["part"] == "top"]
    first = page.locator(".pa table").first
    expect(first.locator("tbody tr td:last-child a")).to_have_text([str(i) for i in top["example_id"]])
    expect(first.locator("tbody tr td:first-child")).to_have_text([f"{x:#.3g}" for x in top["activation"]])
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(f"{found.n_on / found.n:.1%}")
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    photograph(page, "neurons-unit")
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_label("Unit (")).to_have_value("8")
    answered(page)
    address_says(page, unit=8)
    page.get_by_role("link", name="labels where it is on").click()
    expect(page.locator("h1")).to_have_text("SQL")
    expect(page.get_by_text("rows in")).to_be_visible()
    expect(page.get_by_label("Query (")).to_have_value(re.compile(r"is_on\(code, 8\)"))


def test_a_unit_of_a_block_has_another_gate(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = query.unit(a, 100, site=IMAGE_SITE, network=IMAGE, k=TOP["image"])
    assert found.gate not in (None, 100)
    page = open_page(address(server, "neurons", network=IMAGE, target=IMAGE_SITE, unit=100, colour="label"))
    answered(page)
    no_error(page)
    expect(page.get_by_test_id("stMetricValue").nth(2)).to_have_text(str(found.gate))
    top = found.table.loc[found.table["part"] == "top", "example_id"]
    shown = page.locator(".pa-grid").first.locator("figcaption a[href^=example]")
    expect(shown).to_have_text([str(i) for i in top])
    photograph(page, "neurons-images")


def test_a_unit_that_is_not_there_is_a_sentence(server: str, open_page: OpenPage):
    page = open_page(address(server, "neurons", network=TEXT, target=SITE, unit=99999))
    expect(page.locator(".pa-error")).to_contain_text(f"a unit of site {SITE}, which has 512, numbered from 0")
    expect(page.get_by_label("Unit (")).to_have_value("0")
    page = open_page(address(server, "neurons", network=TEXT, target="blocks.0.mlp->"))
    no_error(page)
    expect(page.get_by_text("A span (blocks.0.mlp->) has gates but no units of its own.")).to_be_visible()
    answered(page)
    page.get_by_role("link", name=SITE).click()
    expect(page.get_by_label("Unit (")).to_be_visible()


def test_the_ranking_is_that_of_the_query(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = query.units(a, site=IMAGE_SITE, network=IMAGE)
    telling = found[found["top"] >= TELLING]
    expected = telling.sort_values(["label_entropy", "unit"], ascending=[False, True], kind="stable")["unit"].tolist()
    page = open_page(
        address(server, "neurons", network=IMAGE, target=IMAGE_SITE, section="Ranking", order="Most labels", page=2)
    )
    answered(page)
    no_error(page)
    rows = page.locator(".pa table tbody tr td:first-child a")
    expect(rows).to_have_text([str(unit) for unit in expected[25:50]])
    photograph(page, "neurons-ranking")
    rows.first.click()
    expect(page.get_by_label("Unit (")).to_have_value(str(expected[25]))


def test_directions_are_fitted_when_asked_for(server: str, open_page: OpenPage):
    page = open_page(address(server, "neurons", network=IMAGE, target=IMAGE_SITE, section="Directions"))
    answered(page)
    no_error(page)
    expect(page.locator(".js-plotly-plot")).to_have_count(0)
    page.get_by_role("button", name="Compute").click()
    expect(page.locator(".js-plotly-plot")).to_be_visible(timeout=COMPUTING)
    answered(page)
    address_says(page, run=1)
    expect(page.get_by_text("Computed now and not stored.")).to_be_visible()
    methods = page.locator(".pa table tbody tr td:first-child")
    eventually(page, lambda: set(methods.all_inner_texts()) - {"nmf", "pca", "random"}, set())
    photograph(page, "neurons-directions")
