"""The page of one example: what it shows is what the atlas holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
from playwright.sync_api import expect

import atlas
import query
from app.explorer.parts.example_sections import walls
from app.explorer.parts.markup import number
from tests.app.explorer.browsing import (
    COMPUTING,
    HOSTILE,
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    eventually,
    no_error,
    state,
)
from tests.app.explorer.running import errors, figures, ids, metrics, opened, press, tables, words
from tests.networks import shipped

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


def value(path: Path, sql: str) -> Any:
    with atlas.open(path) as a:
        return a.value(sql)


def test_a_token_with_path_and_neighbours(demo_atlas: Path):
    """A token its path code and neighbours."""
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
    app = opened(demo_atlas, "look", network=TEXT, target=SITE, example=example, k=8)
    assert errors(app) == []
    shown = "".join(part.value for part in app.html)
    [mark] = re.findall(r'pa-passage">.*?<mark>(.*?)</mark>', shown, re.DOTALL)
    assert re.sub("<[^>]*>", "", mark).replace("⏎", "\n").strip() == token.strip()
    assert prediction.strip()[:20] in words(app)

    stops = re.findall(r"<li[^>]*><small>(.*?)</small><a [^>]*;cluster=(\w+)", shown)
    names = ["noise" if cluster < 0 else str(cluster) for cluster in path["cluster"]]
    assert stops == list(zip(path["site"], names, strict=True))
    strength = path["probability"][path["site"].tolist().index(SITE)]
    assert f'aria-label="strength {strength:.2f}"' in shown

    [figure] = figures(app)
    ticks = [f"{raster.site}  {raster.n_active}/{raster.n_gates}" for raster in bits]
    assert figure["layout"]["yaxis"]["ticktext"] == ticks
    near = tables(app)[-1]
    assert [int(row[-1]) for row in near] == outside["example_id"].tolist()
    gates = " ".join(f"{'+' if on else '−'}{gate}" for _, gate, on in differing["gates"].iloc[0])
    assert any(cell.startswith(gates) for cell in near[0])
    assert 'href="neurons?unit=' in shown


def test_an_image_with_full_codes(demo_atlas: Path):
    """An image with codes of all positions."""
    here = {"network": IMAGE, "target": FULL_SITE, "example": 7, "k": 8, "scope": "Codes of all positions"}
    app = opened(demo_atlas, "look", **here)
    assert errors(app) == [] and "a pixel is a channel" in words(app)
    with atlas.open(demo_atlas) as a:
        full = [raster for raster in query.rasters(a, 7) if raster.by_channel]
        near = query.nearest(a, example=7, site=FULL_SITE, network=IMAGE, k=8)["example_id"].tolist()
    [figure] = figures(app)
    assert [tick.split()[0] for tick in figure["layout"]["yaxis"]["ticktext"]] == [raster.site for raster in full]
    assert ids(app) == near


def test_one_goes_from_example_to_example(demo_atlas: Path):
    first = value(demo_atlas, "select min(example_id) from examples where network_id = 2")
    app = opened(demo_atlas, "look", network=TEXT, target=SITE, example=first)
    field = app.number_input(key="example")
    assert next(button for button in app.button if button.label == "Previous").disabled
    press(app, "Next")
    assert app.number_input(key="example").value == first + 1
    press(app, "Random")
    assert app.number_input(key="example").value not in (first + 1, None)
    assert field.min == first


def test_hostile_texts_are_characters(demo_atlas: Path):
    """A hostile text is shown as its characters."""
    example = value(demo_atlas, "select min(example_id) from examples where starts_with(context, '<script>')")
    app = opened(demo_atlas, "look", network=TEXT, target=SITE, example=example)
    assert errors(app) == [] and HOSTILE in words(app)
    assert "<script" not in "".join(part.value for part in app.html)


def test_boundaries_stand_around_an_image(demo_atlas: Path):
    """Each wall lies at its distance; that of a gate leads to the nearest example beyond it."""
    span = "inception5a->:full"
    here = {"network": IMAGE, "target": FULL_SITE, "example": 7, "span": span}
    app = opened(demo_atlas, "look", **here)
    assert any(button.label == "Find the nearest boundaries" for button in app.button)
    app = opened(demo_atlas, "look", **here, run=1)
    assert errors(app) == []
    with atlas.open(demo_atlas) as a:
        found, beyond = walls(a, {"example": 7}, span, reader=shipped("demo:inceptionv1"))
    assert metrics(app)[0] == number(found.inradius) and metrics(app)[2] == f"{found.tied:,}"
    ring = figures(app)[0]
    circle = np.hypot(ring["data"][0]["x"], ring["data"][0]["y"])
    np.testing.assert_allclose(circle**2, found.inradius, rtol=1e-6)
    at = {}
    for trace in ring["data"]:
        for x, y, link, said in zip(
            *(trace.get(name) or [] for name in ("x", "y", "customdata", "hovertext")), strict=False
        ):
            if x is not None:
                rank = int(said.removeprefix("<b>").split(".")[0])
                at[rank] = min(at.get(rank, (np.inf, None)), (x**2 + y**2, link or ""))
    assert [at[rank][0] for rank in found.table["rank"]] == pytest.approx(found.table["distance"].tolist())
    links = [at[rank][1] for rank in found.table["rank"]]
    assert [f"example={other}&" in link if other else not link for other, link in zip(beyond, links, strict=True)]
    assert [bool(link) for link in links] == [other is not None for other in beyond]


def test_boundaries_of_a_token_are_linear(demo_atlas: Path):
    example = value(demo_atlas, "select min(example_id) from examples where network_id = 2")
    here = {"network": TEXT, "target": SITE, "example": example, "span": "blocks.2.mlp->"}
    app = opened(demo_atlas, "look", **here, run=1)
    assert errors(app) == [] and "linearisation" in words(app) and len(figures(app)) == 2


class TestInABrowser:
    pytestmark = IN_BROWSER

    def test_a_wall_leads_to_who_lives_beyond(self, server: str, open_page: OpenPage):
        here = {"network": IMAGE, "target": FULL_SITE, "example": 7, "span": "inception5a->:full", "run": 1}
        page = open_page(address(server, "look", **here))
        ring = page.locator(".js-plotly-plot", has_text="no boundary within")
        expect(ring).to_be_visible(timeout=COMPUTING)
        answered(page)
        link = ring.evaluate(
            """plot => {
                const customdata = plot.data.flatMap((trace) => trace.customdata ?? []).find((link) => link);
                plot.emit("plotly_click", { points: [{ customdata }] });
                return customdata;
            }"""
        )
        other = parse_qs(link.partition("?")[2])["example"][0]
        eventually(page, lambda: state(page).get("example"), other)

    def test_back_to_the_network_of_before(self, server: str, open_page: OpenPage):
        """Where the address of before named no example, one is shown."""
        page = open_page(address(server, "look", network=TEXT))
        answered(page)
        page.get_by_role("combobox").first.click()
        page.get_by_role("option", name=IMAGE).click()
        address_says(page, network=IMAGE, target="inception5b")
        answered(page)
        for _ in range(2):
            page.go_back()
            answered(page)
            no_error(page)
