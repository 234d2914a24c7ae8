"""The page of paths: nothing is computed before someone asks, and then it is what the experiments give."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect

import atlas
from atlas.network import Network
from query.experiments import run
from query.experiments.route import route
from tests.app.explorer.browsing import (
    COMPUTING,
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    eventually,
    photograph,
    says,
)

pytestmark = IN_BROWSER

IMAGE, SPAN = "demo-inceptionv1", "inception5a->:full"


def metrics(page: Page) -> list[str]:
    return page.get_by_test_id("stMetricValue").all_inner_texts()


def cards(page: Page) -> list[str]:
    """Ids of the examples that are shown as cards, in order."""
    return page.locator(".pa figure a").all_inner_texts()


RANGE = "() => document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range.slice()"


def zoomed_in(page: Page) -> list[float]:
    """Drag over the middle half of the first figure; the range of α or t that it shows then."""
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    assert box is not None
    middle, before = box["y"] + 0.5 * box["height"], page.evaluate(RANGE)
    page.mouse.move(box["x"] + 0.25 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], middle, steps=4)
    page.mouse.up()
    eventually(page, lambda: page.evaluate(RANGE) != before, True)
    low, high = page.evaluate(RANGE)
    assert before[0] < low < high < before[1]
    return [low, high]


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

    page = open_page(address(measured_server, "paths", network=IMAGE, span=SPAN, example=example, others="true"))
    compute = page.get_by_role("button", name="Compute")
    expect(compute).to_be_visible()
    expect(page.locator('[class*="st-key-job-"], .js-plotly-plot')).to_have_count(0)
    eventually(page, lambda: cards(page), [str(example)])
    answered(page)
    compute.click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=COMPUTING)
    expect(page.get_by_text("Nearest on the way")).to_be_visible(timeout=COMPUTING)
    answered(page)
    address_says(page, run=1)

    def expected(alpha: float) -> tuple[list[str], list[str]]:
        row = way.iloc[int(np.abs(way["at"] - alpha).argmin())]
        behind = int(crossed[profile["alpha_high"] <= alpha + 1e-9].sum())
        values = [row["prediction"], f"{row['probability']:.3f}", f"{behind:,}", f"{int(row['distance']):,}"]
        return values, [str(example), str(int(row["nearest"]))]

    assert expected(0.3) != expected(1.0)
    eventually(page, lambda: (metrics(page), cards(page)[:2]), expected(1.0))
    zoomed = zoomed_in(page)
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(14):
        slider.press("ArrowLeft")
    expect(page.get_by_test_id("stMetricValue").nth(2)).to_have_text(expected(0.3)[0][2])
    answered(page)
    eventually(page, lambda: (metrics(page), cards(page)[:2]), expected(0.3))
    expect(page).to_have_url(re.compile(r"alpha=0\.3"))
    assert page.evaluate(RANGE) == zoomed, "the same path, from another place on it"
    changes = sum(a != b for a, b in zip(way["prediction"], way["prediction"][1:], strict=False))
    assert changes
    says(page, f"The prediction changes {changes} time{'' if changes == 1 else 's'} over")
    photograph(page, "paths-scale")

    again = open_page(page.url)
    answered(again)
    eventually(again, lambda: (metrics(again), cards(again)[:2]), expected(0.3))


def test_a_link_to_an_interpolation_shows_it(
    measured_server: str, open_page: OpenPage, measured_atlas: Path, networks: dict[str, Network]
):
    reader = networks["demo:inceptionv1"]
    with atlas.open(measured_atlas) as a:
        result = run(a, "interpolate", reader=reader, span=SPAN, a=3, b=8)
        way = route(a, reader, span=SPAN, start=3, end=8, at=np.linspace(0, 1, 41).tolist()).table
    [pair] = result.tables["pairs"].to_dict("records")
    path = "From one example to another"
    page = open_page(address(measured_server, "paths", network=IMAGE, path=path, span=SPAN, a=3, b=8, t=0.25, run=1))
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=COMPUTING)
    expect(page.get_by_text("Nearest on the way")).to_be_visible(timeout=COMPUTING)
    answered(page)
    row = way.iloc[10]
    eventually(page, lambda: metrics(page)[:2], [row["prediction"], f"{row['probability']:.3f}"])
    eventually(page, lambda: metrics(page)[3], f"{int(row['distance']):,}")
    eventually(page, lambda: cards(page)[:3], ["3", str(int(row["nearest"])), "8"])
    says(page, f"{pair['crossings']:,} boundaries of 1,264 gates crossed")
    says(page, "exact paths: every crossing is located", ignore_case=True)
    photograph(page, "paths-between")


def test_without_the_network_the_page_says_why(measured_server: str, open_page: OpenPage):
    page = open_page(address(measured_server, "paths", network="demo-gpt2", span="blocks.2.mlp->", run=1))
    expect(page.locator(".pa-error")).to_have_count(1, timeout=COMPUTING)
    expect(page.locator(".pa-error")).to_contain_text("gone")
    expect(page.locator(".pa-passage")).to_have_count(1)  # the example itself needs no network


def test_a_path_to_itself_is_a_sentence(measured_server: str, open_page: OpenPage):
    path = "From one example to another"
    page = open_page(address(measured_server, "paths", network=IMAGE, path=path, span=SPAN, a=3, b=3, run=1))
    expect(page.locator(".pa-error")).to_have_text(
        "a and b are both example 3; a path needs two different ones", timeout=COMPUTING
    )
