"""The page of one example: what it shows is what the atlas holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

import atlas
import query
from tests.app.explorer.browsing import (
    HOSTILE,
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    eventually,
    ids,
    no_error,
    photograph,
    says,
)

pytestmark = IN_BROWSER

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


def value(path: Path, sql: str) -> Any:
    with atlas.open(path) as a:
        return a.value(sql)


def test_a_token_with_its_path_its_code_and_its_neighbours(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        example = a.value(
            "select min(example_id) from cluster_members where network = $1 and target = $2 and space = 'codes' "
            "and cluster >= 0",
            [TEXT, SITE],
        )
        path = query.cluster_path(a, example)
        bits = query.rasters(a, example)
        found = query.nearest(a, example=example, site=SITE, network=TEXT, k=8)
        outside = found[found["distance"] > 0]
        differing = query.differing_gates(a, example, outside["example_id"].tolist(), site=SITE, network=TEXT)
        token, prediction = a.rows("select token, prediction from examples where example_id = $1", [example])[0]
    page = open_page(address(server, "example", network=TEXT, target=SITE, example=example))
    answered(page)
    no_error(page)
    mark = page.locator(".pa-passage mark")
    eventually(page, lambda: mark.inner_text().replace("⏎", "\n").strip(), token.strip())
    says(page, prediction.strip()[:20])

    stops = page.locator(".pa-path li")
    eventually(page, lambda: [words.splitlines()[0] for words in stops.all_inner_texts()], path["site"].tolist())
    names = ["noise" if cluster < 0 else str(cluster) for cluster in path["cluster"]]
    expect(stops.locator("a")).to_have_text(names)
    place = path["site"].tolist().index(SITE)
    strength = f"strength {path['probability'][place]:.2f}"
    expect(stops.nth(place).locator(".pa-bar")).to_have_attribute("aria-label", strength)

    ticks = page.locator(".st-key-figure-code .ytick text")
    expect(ticks).to_have_text([f"{raster.site} {raster.n_active}/{raster.n_gates}" for raster in bits])
    rows = page.locator(".pa table").last.locator("tbody tr")
    expect(rows.locator("td:last-child")).to_have_text([str(other) for other in outside["example_id"]])
    gates = rows.first.locator(".pa-gates a")
    expect(gates).to_have_text([f"{'+' if on else '−'}{gate}" for _, gate, on in differing["gates"].iloc[0]])
    expect(gates.first).to_have_attribute("href", re.compile(r"^neurons\?unit="))
    photograph(page, "example-text")


def test_an_image_with_codes_of_all_positions(server: str, open_page: OpenPage, demo_atlas: Path):
    page = open_page(
        address(server, "example", network=IMAGE, target=FULL_SITE, example=7, scope="Codes of all positions")
    )
    answered(page)
    no_error(page)
    expect(page.get_by_text("a pixel is a channel")).to_be_visible()
    with atlas.open(demo_atlas) as a:
        full = [raster for raster in query.rasters(a, 7) if raster.by_channel]
        near = query.nearest(a, example=7, site=FULL_SITE, network=IMAGE, k=8)["example_id"].tolist()
    ticks = page.locator(".st-key-figure-code .ytick text")
    sites = [raster.site for raster in full]
    eventually(page, lambda: [words.split()[0] for words in ticks.all_text_contents()], sites)
    eventually(page, lambda: ids(page), near)
    photograph(page, "example-image")


def test_one_goes_from_example_to_example(server: str, open_page: OpenPage, demo_atlas: Path):
    first = value(demo_atlas, "select min(example_id) from examples where network_id = 2")
    page = open_page(address(server, "example", network=TEXT, target=SITE, example=first))
    answered(page)
    field = page.get_by_label("Example (")
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.get_by_role("button", name="Next").click()
    expect(field).to_have_value(str(first + 1))
    answered(page)
    page.get_by_role("button", name="Random").click()
    expect(field).not_to_have_value(re.compile(f"^({first + 1})?$"))
    answered(page)
    other = field.input_value()
    address_says(page, example=other)
    again = open_page(page.url)
    expect(again.get_by_label("Example (")).to_have_value(other)

    stale = open_page(address(server, "example", network=TEXT, target=SITE, example=999999))
    expect(stale.locator(".pa-error")).to_contain_text(
        f"asks for example 999999; expected an example of network {TEXT}, "
    )


def test_a_text_of_a_data_set_is_shown_as_its_characters(server: str, open_page: OpenPage, demo_atlas: Path):
    example = value(demo_atlas, "select min(example_id) from examples where starts_with(context, '<script>')")
    page = open_page(address(server, "example", network=TEXT, target=SITE, example=example))
    expect(page.locator(".pa-error")).to_have_count(0)
    shown = page.locator(".pa-passage")
    eventually(page, shown.inner_text, HOSTILE)
    expect(shown.locator("script, b, a")).to_have_count(0)
    expect(page).not_to_have_title("hacked")
