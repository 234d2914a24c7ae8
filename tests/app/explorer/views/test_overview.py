"""The Overview page: what the atlas holds, where each site leads, and whether all is well."""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Page, expect

import atlas
import query
from query.store.contents import polytope_counts
from tests.app.explorer.browsing import (
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    eventually,
    no_error,
    photograph,
    says,
    serving,
)

pytestmark = IN_BROWSER

TEXT, IMAGE = "demo-gpt2", "demo-inceptionv1"


def rows(page: Page) -> dict[str, list[str]]:
    """The rows of all tables by their first cell."""
    shown = page.locator(".pa table tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    )
    return {cells[0]: cells for cells in shown}


def test_overview_shows_what_the_atlas_holds(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        held = query.info(a)
        counts = polytope_counts(a, IMAGE).set_index("site")
        density = query.class_density(a, network=IMAGE, pairs=200, resamples=1).set_index("span")
    page = open_page(address(server, "", network=IMAGE))
    answered(page)
    no_error(page)
    sites = held["sites"]
    expected = [2, held["networks"]["n_examples"].sum(), (sites["n_codes"] > 0).sum(), sites["n_codes"].sum()]
    expect(page.get_by_test_id("stMetricValue")).to_have_text(
        [f"{number:,}" for number in [*expected, len(held["clusterings"])]]
    )
    mine = sites[(sites["network"] == IMAGE) & (sites["n_codes"] > 0)]
    strip = page.locator(".pa-strip a")
    expect(strip.locator("b")).to_have_text(mine["site"].tolist())
    expect(strip.locator("small:nth-of-type(1)")).to_have_text([f"{n:,} gates" for n in mine["n_gates"]])
    occupancies = {site: f"{counts.loc[site, 'occupancy']:#.3g}".rstrip(".") for site in mine["site"]}
    eventually(page, lambda: {site: row[6] for site, row in rows(page).items() if site in occupancies}, occupancies)
    measured = density.loc["inception5a->:full"]
    both = f"{measured['intra_mean']:#.3g} | {measured['inter_mean']:#.3g}"
    eventually(page, lambda: rows(page)["inception5a:full"][7], both)
    empty = ((sites["network"] == IMAGE) & (sites["scope"] == "full") & (sites["n_codes"] == 0)).sum()
    says(page, f"{empty} full sites of {IMAGE} hold no codes")
    photograph(page, "overview-images")


def test_every_site_leads_on(server: str, open_page: OpenPage):
    page = open_page(address(server, "", network=TEXT))
    answered(page)
    page.locator(".pa-strip a", has_text="blocks.1.mlp").click()
    expect(page.locator("h1")).to_have_text("Clusters")
    address_says(page, target="blocks.1.mlp")
    page = open_page(address(server, "", network=TEXT))
    answered(page)
    row = page.locator(".pa table tbody tr", has_text="blocks.2.mlp").first
    row.get_by_role("link", name="Map").click()
    expect(page.locator("h1")).to_have_text("Map")
    answered(page)
    address_says(page, target="blocks.2.mlp")
    page.go_back()
    expect(page.locator("h1")).to_have_text("Overview")
    answered(page)
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
        address_says(page, check=1)
        says(page, "1 codes have another number of gates on, the first at example 5")


def test_a_sound_atlas_passes_every_check(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        n = len(query.verify(a))
    page = open_page(address(server, "", network=TEXT, check=1))
    expect(page.get_by_text(f"All {n:,} checks passed.")).to_be_visible()
