"""The Overview page: what the atlas holds, where each site leads, and whether all is well."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

import atlas
import query
from query.info import polytope_counts
from tests.app.browsing import CHROMIUM, answered, drawn, photograph, serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or name it in the variable CHROMIUM"),
]

TEXT, IMAGE = "demo-gpt2", "demo-inceptionv1"
OpenPage = Callable[[str], Page]


def address(server: str, **state: object) -> str:
    return f"{server}/?{urlencode(state)}"


def no_error(page: Page) -> None:
    expect(page.locator('.pa-error, [data-testid="stException"], [data-testid="stAlert"]')).to_have_count(0)


def test_overview_shows_what_the_atlas_holds(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        held = query.info(a)
        counts = polytope_counts(a, IMAGE).set_index("site")
        density = query.class_density(a, network=IMAGE, pairs=200, resamples=1).set_index("span")
    page = open_page(address(server, network=IMAGE))
    answered(page)
    no_error(page)
    sites = held["sites"]
    expected = [2, held["networks"]["n_examples"].sum(), (sites["n_codes"] > 0).sum(), sites["n_codes"].sum()]
    expect(page.get_by_test_id("stMetricValue")).to_have_text(
        [f"{number:,}" for number in [*expected, len(held["clusterings"])]]
    )
    mine = sites[(sites["network"] == IMAGE) & (sites["n_codes"] > 0)]
    strip = page.locator(".pa-strip a")
    assert strip.locator("b").all_inner_texts() == mine["site"].tolist()
    assert strip.locator("small:nth-of-type(1)").all_inner_texts() == [f"{n:,} gates" for n in mine["n_gates"]]
    rows = {cells[0]: cells for cells in (
        row.locator("td").all_inner_texts() for row in page.locator(".pa table tbody tr").all()
    )}  # fmt: skip
    for site in mine["site"]:
        assert rows[site][6] == f"{counts.loc[site, 'occupancy']:#.3g}".rstrip(".")
    measured = density.loc["inception5a->:full"]
    assert rows["inception5a:full"][7] == f"{measured['intra_mean']:#.3g} | {measured['inter_mean']:#.3g}"
    empty = ((sites["network"] == IMAGE) & (sites["scope"] == "full") & (sites["n_codes"] == 0)).sum()
    assert f"{empty} full sites of {IMAGE} hold no codes" in page.inner_text("body")
    photograph(page, "overview-images")


def test_every_site_leads_on(server: str, open_page: OpenPage):
    page = open_page(address(server, network=TEXT))
    answered(page)
    page.locator(".pa-strip a", has_text="blocks.1.mlp").click()
    expect(page.locator("h1")).to_have_text("Clusters")
    assert "target=blocks.1.mlp" in page.url
    page = open_page(address(server, network=TEXT))
    answered(page)
    row = page.locator(".pa table tbody tr", has_text="blocks.2.mlp").first
    row.get_by_role("link", name="Map").click()
    expect(page.locator("h1")).to_have_text("Map")
    drawn(page)
    assert "target=blocks.2.mlp" in page.url
    page.go_back()
    page.get_by_role("link", name=IMAGE, exact=True).click()
    expect(page.get_by_text(f"Sites of {IMAGE}")).to_be_visible()


def test_the_check_finds_what_is_damaged(demo_atlas: Path, tmp_path: Path, open_page: OpenPage):
    path = tmp_path / "damaged.atlas"
    shutil.copytree(demo_atlas, path)
    with atlas.open(path, writable=True) as a:
        a.execute("update codes set n_active = n_active + 1 where site_id = 3 and example_id = 5")
    with serving(path) as server:
        page = open_page(server)
        answered(page)
        no_error(page)
        page.get_by_role("button", name="Check the atlas").click()
        expect(page.locator(".pa-error")).to_contain_text("1 of ")
        assert "check=1" in page.url
        assert "1 codes have another number of gates on, the first at example 5" in page.inner_text("body")


def test_a_sound_atlas_passes_every_check(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        n = len(query.verify(a))
    page = open_page(address(server, network=TEXT, check=1))
    expect(page.get_by_text(f"All {n:,} checks passed.")).to_be_visible()
