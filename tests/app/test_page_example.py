"""The page of one example: what it shows is what the atlas holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

import atlas
import query
from tests.app.browsing import CHROMIUM, HOSTILE, answered, drawn, photograph

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or name it in the variable CHROMIUM"),
]

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"
OpenPage = Callable[[str], Page]


def address(server: str, **state: object) -> str:
    return f"{server}/example?{urlencode(state)}"


def value(path: Path, sql: str) -> Any:
    with atlas.open(path) as a:
        return a.value(sql)


def test_a_token_with_its_path_its_code_and_its_neighbours(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        example = a.value(
            "select min(example_id) from cluster_members where network = $1 and target = $2 and space = 'codes' "
            "and cluster >= 0", [TEXT, SITE],
        )  # fmt: skip
        path = query.cluster_path(a, example)
        bits = query.rasters(a, example)
        found = query.nearest(a, example=example, site=SITE, network=TEXT, k=8)
        outside = found[found["distance"] > 0]
        differing = query.differing_gates(a, example, outside["example_id"].tolist(), site=SITE, network=TEXT)
        token, prediction = a.rows("select token, prediction from examples where example_id = $1", [example])[0]
    page = open_page(address(server, network=TEXT, target=SITE, example=example))
    answered(page)
    expect(page.locator('.pa-error, [data-testid="stException"]')).to_have_count(0)
    assert page.locator(".pa-passage mark").inner_text().replace("⏎", "\n").strip() in (token.strip(), "\n")
    assert prediction.strip()[:20] in page.inner_text("body")

    stops = page.locator(".pa-path li")
    assert [words.splitlines()[0] for words in stops.all_inner_texts()] == path["site"].tolist()
    names = ["noise" if cluster < 0 else str(cluster) for cluster in path["cluster"]]
    assert stops.locator("a").all_inner_texts() == names
    place = path["site"].tolist().index(SITE)
    strength = stops.nth(place).locator(".pa-bar").get_attribute("aria-label")
    assert strength == f"strength {path['probability'][place]:.2f}"

    ticks = page.locator(".st-key-figure-code .ytick text")
    assert [" ".join(words.split()) for words in ticks.all_text_contents()] == [
        f"{raster.site} {raster.n_active}/{raster.n_gates}" for raster in bits
    ]
    rows = page.locator(".pa table").last.locator("tbody tr")
    assert [int(row.locator("td").last.inner_text()) for row in rows.all()] == outside["example_id"].tolist()
    first = [f"{'+' if on else '−'}{gate}" for _, gate, on in differing["gates"].iloc[0]]
    assert rows.first.locator(".pa-gates a").all_inner_texts() == first
    assert rows.first.locator(".pa-gates a").first.get_attribute("href").startswith("neurons?unit=")  # type: ignore[union-attr]
    photograph(page, "example-text")


def test_an_image_with_codes_of_all_positions(server: str, open_page: OpenPage, demo_atlas: Path):
    page = open_page(address(server, network=IMAGE, target=FULL_SITE, example=7, scope="Codes of all positions"))
    answered(page)
    expect(page.locator('.pa-error, [data-testid="stException"]')).to_have_count(0)
    expect(page.get_by_text("a pixel is a channel")).to_be_visible()
    with atlas.open(demo_atlas) as a:
        full = [raster for raster in query.rasters(a, 7) if raster.by_channel]
        near = query.nearest(a, example=7, site=FULL_SITE, network=IMAGE, k=8)["example_id"].tolist()
    ticks = page.locator(".st-key-figure-code .ytick text").all_text_contents()
    assert [words.split()[0] for words in ticks] == [raster.site for raster in full]
    shown = page.locator(".pa-grid figcaption a[href^=example]").all_inner_texts()
    assert [int(words) for words in shown] == near
    photograph(page, "example-image")


def test_one_goes_from_example_to_example(server: str, open_page: OpenPage, demo_atlas: Path):
    first = value(demo_atlas, "select min(example_id) from examples where network_id = 2")
    page = open_page(address(server, network=TEXT, target=SITE, example=first))
    field = page.get_by_label("Example (")
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.get_by_role("button", name="Next").click()
    expect(field).to_have_value(str(first + 1))
    drawn(page)
    page.get_by_role("button", name="Random").click()
    expect(field).not_to_have_value(str(first + 1))
    expect(page).to_have_url(re.compile(f"example={field.input_value()}"))
    again = open_page(page.url)
    expect(again.get_by_label("Example (")).to_have_value(field.input_value())

    stale = open_page(address(server, network=TEXT, target=SITE, example=999999))
    expect(stale.locator(".pa-error")).to_contain_text(f"has no example 999999; shown is {first}, its first")


def test_a_text_of_a_data_set_is_shown_as_its_characters(server: str, open_page: OpenPage, demo_atlas: Path):
    example = value(demo_atlas, "select min(example_id) from examples where starts_with(context, '<script>')")
    page = open_page(address(server, network=TEXT, target=SITE, example=example))
    expect(page.locator(".pa-error")).to_have_count(0)
    shown = page.locator(".pa-passage")
    assert shown.inner_text() == HOSTILE
    assert shown.locator("script, b, a").count() == 0
    assert page.title() != "hacked"
