"""The page of slices: a stored one at once, any window of it at a click or a box, and a way to stop."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

import atlas
from atlas.network import Network
from query.experiments import load, run
from query.experiments.slices import png_slice
from tests.app.conftest import SLICED
from tests.app.explorer.browsing import (
    COMPUTING,
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    drawn,
    eventually,
    photograph,
    standing,
    state,
)

pytestmark = IN_BROWSER

IMAGE = "demo-inceptionv1"


def window(page: Page) -> dict[str, float]:
    """The window that the address of a page names."""
    given = state(page)
    return {name: float(given[name]) for name in ("u", "v", "reach") if name in given}


def polytopes(page: Page) -> Locator:
    """How many polytopes a page says it met."""
    return page.get_by_test_id("stMetricValue").first


def test_the_stored_slice_is_there_and_any_part_of_it_can_be_looked_at(
    measured_server: str, open_page: OpenPage, measured_atlas: Path, networks: dict[str, Network]
):
    with atlas.open(measured_atlas) as a:
        stored = load(a, 1)
        (u0, u1), (v0, v1) = stored.parameters["u"], stored.parameters["v"]
        page = open_page(address(measured_server, "slices", network=IMAGE))
        expect(page.locator(".js-plotly-plot").first).to_be_visible()
        expect(page.locator('[class*="st-key-job-"]')).to_have_count(0)
        expect(polytopes(page)).to_have_text(f"{stored.tables['summary']['polytopes'].item():,}")
        address_says(page, **SLICED)
        answered(page)
        with page.expect_download() as download:
            page.get_by_role("button", name="PNG of the slice alone").click()
        picture = Path(download.value.path()).read_bytes()
        assert picture == png_slice(stored)
        assert Image.open(io.BytesIO(picture)).size == (1024, 1024)
        photograph(page, "slices-stored")

        page.locator(".st-key-zoom-Zoom-in button:visible").click()
        expect(page.get_by_text("Computed now and not stored")).to_be_visible(timeout=COMPUTING)
        answered(page)
        middle = [pytest.approx(half / 2, abs=1e-5) for half in (u0 + u1, v0 + v1)]
        expected = {"u": middle[0], "v": middle[1], "reach": pytest.approx((u1 - u0) / 4, rel=1e-6)}
        eventually(page, lambda: window(page), expected)
        seen = window(page)
        asked = {**SLICED, "middle": [seen["u"], seen["v"]], "reach": seen["reach"]}
        near = run(a, "slice", reader=networks["demo:inceptionv1"], **asked)
        expect(polytopes(page)).to_have_text(f"{near.tables['summary']['polytopes'].item():,}")
    photograph(page, "slices-zoomed")

    drag = standing(page, page.locator(".js-plotly-plot .nsewdrag").first)
    x, y, side = drag["x"], drag["y"], drag["width"]
    page.mouse.move(x + 0.25 * side, y + 0.25 * side)
    page.mouse.down()
    page.mouse.move(x + 0.5 * side, y + 0.4 * side, steps=6)
    page.mouse.up()
    box = {
        "u": pytest.approx(seen["u"] - 0.25 * seen["reach"], abs=0.05 * seen["reach"]),
        "reach": pytest.approx(seen["reach"] / 4, rel=0.05),  # the longer side of the box
    }
    eventually(page, lambda: {name: window(page)[name] for name in box}, box)
    answered(page)
    again = open_page(page.url)
    answered(again)
    expect(polytopes(again)).to_have_text(polytopes(page).inner_text())


def test_a_slice_can_be_stopped_and_started_again(measured_server: str, open_page: OpenPage):
    page = open_page(address(measured_server, "slices", network=IMAGE, **{**SLICED, "size": 256}, run=1))
    stop = page.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_visible(timeout=COMPUTING)
    stop.click()
    expect(page.get_by_role("button", name="Start again")).to_be_visible()
    answered(page)
    expect(page.locator(".js-plotly-plot, .pa-error")).to_have_count(0)
    page.get_by_role("button", name="Start again").click()
    expect(stop).to_be_visible()
    drawn(page)
    stop.click()
    expect(page.get_by_text("Reading the plane: stopped.")).to_be_visible()


def test_nonsense_in_the_address_is_a_sentence_and_the_whole_plane(measured_server: str, open_page: OpenPage):
    page = open_page(address(measured_server, "slices", network=IMAGE, **SLICED, u="<b>left</b>", v=1, reach=2))
    expect(page.locator(".pa-error")).to_contain_text(
        "the address names a window by u '<b>left</b>', v '1', reach '2'"
    )
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
