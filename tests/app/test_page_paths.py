"""The page of paths: nothing is computed before someone asks, and then it is what the experiments give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from playwright.sync_api import Page, expect

import atlas
from atlas.network import Network
from query.experiments import run
from query.experiments.route import route
from tests.app.browsing import CHROMIUM, COMPUTING, answered, photograph

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or name it in the variable CHROMIUM"),
]

IMAGE, SPAN = "demo-inceptionv1", "inception5a->:full"
OpenPage = Callable[[str], Page]


def address(server: str, **state: object) -> str:
    return f"{server}/paths?{urlencode(state)}"


def metrics(page: Page) -> list[str]:
    return page.get_by_test_id("stMetricValue").all_inner_texts()


def cards(page: Page) -> list[str]:
    """Ids of the examples that are shown as cards, in order."""
    return page.locator(".pa figure a").all_inner_texts()


def test_scaling_is_computed_at_a_click_and_followed_with_the_slider(
    measured_server: str, open_page: OpenPage, measured_atlas: Path, networks: dict[str, Network]
):
    reader, example = networks["demo:inceptionv1"], 7
    with atlas.open(measured_atlas) as a:
        result = run(a, "scale", reader=reader, span=SPAN, example=example)
        way = route(a, reader, span=SPAN, start=example, at=result.parameters["alphas"], others=True).table
    profile = result.table[result.table["kind"] == "activation"]
    crossed = (
        profile["share"] * (profile["alpha_high"] - profile["alpha_low"]) * result.parameters["n_gates"]
    ).round()

    page = open_page(address(measured_server, network=IMAGE, span=SPAN, example=example, others="true"))
    compute = page.get_by_role("button", name="Compute")
    expect(compute).to_be_visible()
    expect(page.locator('[class*="st-key-job-"], .js-plotly-plot')).to_have_count(0)
    assert cards(page) == [str(example)]
    compute.click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=COMPUTING)
    expect(page.get_by_text("Nearest on the way")).to_be_visible(timeout=COMPUTING)
    answered(page)
    assert "run=1" in page.url

    def expected(alpha: float) -> tuple[list[str], list[str]]:
        row = way.iloc[int(np.abs(way["at"] - alpha).argmin())]
        behind = int(crossed[profile["alpha_high"] <= alpha + 1e-9].sum())
        values = [row["prediction"], f"{row['probability']:.3f}", f"{behind:,}", f"{int(row['distance']):,}"]
        return values, [str(example), str(int(row["nearest"]))]

    assert (metrics(page), cards(page)[:2]) == expected(1.0)
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(14):
        slider.press("ArrowLeft")
    expect(page.get_by_test_id("stMetricValue").nth(2)).to_have_text(expected(0.3)[0][2])
    answered(page)
    assert (metrics(page), cards(page)[:2]) == expected(0.3) != expected(1.0)
    assert "alpha=0.3" in page.url
    changes = sum(a != b for a, b in zip(way["prediction"], way["prediction"][1:], strict=False))
    assert changes and f"The prediction changes {changes} times" in page.inner_text("body")
    photograph(page, "paths-scale")

    again = open_page(page.url)
    answered(again)
    assert (metrics(again), cards(again)[:2]) == expected(0.3)


def test_a_link_to_an_interpolation_shows_it(
    measured_server: str, open_page: OpenPage, measured_atlas: Path, networks: dict[str, Network]
):
    reader = networks["demo:inceptionv1"]
    with atlas.open(measured_atlas) as a:
        result = run(a, "interpolate", reader=reader, span=SPAN, a=3, b=8)
        way = route(a, reader, span=SPAN, start=3, end=8, at=np.linspace(0, 1, 41).tolist()).table
    [pair] = result.tables["pairs"].to_dict("records")
    path = "From one example to another"
    page = open_page(address(measured_server, network=IMAGE, path=path, span=SPAN, a=3, b=8, t=0.25, run=1))
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=COMPUTING)
    expect(page.get_by_text("Nearest on the way")).to_be_visible(timeout=COMPUTING)
    answered(page)
    row = way.iloc[10]
    assert metrics(page)[:2] == [row["prediction"], f"{row['probability']:.3f}"]
    assert metrics(page)[3] == f"{int(row['distance']):,}"
    assert cards(page)[:3] == ["3", str(int(row["nearest"])), "8"]
    assert f"{pair['crossings']:,} boundaries of 1,264 gates crossed" in page.inner_text("body")
    assert "exact paths: every crossing is located" in page.inner_text("body").lower()
    photograph(page, "paths-between")


def test_without_the_network_the_page_says_why(measured_server: str, open_page: OpenPage):
    page = open_page(address(measured_server, network="demo-gpt2", span="blocks.2.mlp->", run=1))
    expect(page.locator(".pa-error")).to_have_count(1, timeout=COMPUTING)
    expect(page.locator(".pa-error")).to_contain_text("gone")
    expect(page.locator(".pa-passage")).to_have_count(1)  # the example itself needs no network


def test_a_path_to_itself_is_a_sentence(measured_server: str, open_page: OpenPage):
    path = "From one example to another"
    page = open_page(address(measured_server, network=IMAGE, path=path, span=SPAN, a=3, b=3, run=1))
    expect(page.locator(".pa-error")).to_have_text("a and b are both example 3; a path needs two different ones",
                                                   timeout=COMPUTING)  # fmt: skip
