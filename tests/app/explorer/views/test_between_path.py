"""Paths: nothing is computed before someone asks, and then it is what the experiments give."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest

import atlas
from query.experiments import run
from query.experiments.route import route
from tests.app.explorer.browsing import (
    COMPUTING,
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    drag,
    eventually,
)
from tests.app.explorer.running import computed, errors, figures, metrics, opened, press, tables, words
from tests.networks import shipped

TEXT, IMAGE, SPAN = "demo-gpt2", "demo-inceptionv1", "inception5a->:full"
SCALE = "Scaling one example"


def cards(app: AppTest) -> list[str]:
    """Ids of the examples that are shown as cards, in order."""
    shown = "".join(part.value for part in app.html if "pa-one" in part.value)
    return re.findall(r"<a [^>]*>(\d+)</a>", shown)


def test_scaling_is_computed_when_asked_for(measured_atlas: Path):
    reader, example = shipped("demo:inceptionv1"), 7
    with atlas.open(measured_atlas) as a:
        result = run(a, "scale", reader=reader, span=SPAN, example=example)
        way = route(a, reader, span=SPAN, start=example, at=result.parameters["alphas"], others=True).table
    profile = result.table[result.table["kind"] == "activation"]
    width = profile["alpha_high"] - profile["alpha_low"]
    crossed = (profile["share"] * width * result.parameters["n_gates"]).round()

    def expected(alpha: float) -> tuple[list[str], list[str]]:
        row = way.iloc[int(np.abs(way["at"] - alpha).argmin())]
        behind = int(crossed[profile["alpha_high"] <= alpha + 1e-9].sum())
        values = [row["prediction"], f"{row['probability']:.3f}", f"{behind:,}", f"{int(row['distance']):,}"]
        return values, [str(example), "8", str(int(row["nearest"]))]

    app = opened(
        measured_atlas, "between", network=IMAGE, part="Path", path=SCALE, span=SPAN, pin=[example, 8], others="true"
    )
    assert figures(app) == [] and cards(app) == [str(example), "8"]
    press(app, "Compute")
    assert expected(0.3) != expected(1.0)
    assert (metrics(app), cards(app)) == expected(1.0)
    app.slider(key="alpha").set_value(0.3)
    computed(app)
    assert (metrics(app), cards(app)) == expected(0.3)
    changes = sum(a != b for a, b in zip(way["prediction"], way["prediction"][1:], strict=False))
    assert changes and f"The prediction changes {changes} time{'' if changes == 1 else 's'} over" in words(app)


def test_a_link_to_an_interpolation_shows_it(measured_atlas: Path):
    reader = shipped("demo:inceptionv1")
    with atlas.open(measured_atlas) as a:
        result = run(a, "interpolate", reader=reader, span=SPAN, a=3, b=8)
        way = route(a, reader, span=SPAN, start=3, end=8, at=np.linspace(0, 1, 41).tolist()).table
    [pair] = result.tables["pairs"].to_dict("records")
    app = opened(measured_atlas, "between", network=IMAGE, part="Path", span=SPAN, pin=[3, 8], t=0.25, run=1)
    row = way.iloc[10]
    shown = metrics(app)[4:]
    assert shown[:2] == [row["prediction"], f"{row['probability']:.3f}"] and shown[3] == f"{int(row['distance']):,}"
    assert "stays A's" not in words(app), "of an image nothing else is held"
    assert cards(app) == ["3", "8", str(int(row["nearest"]))]
    title = figures(app)[0]["layout"]["title"]["text"]
    assert title.startswith(f"{pair['crossings']:,} boundaries of 1,264 gates crossed")
    assert "xact paths: every crossing is located" in words(app)


def test_a_path_in_a_text_says_what_stays(demo_atlas: Path):
    """It need not arrive at the second's code; the nearest is as far as the row of its stretch says."""
    with atlas.open(demo_atlas) as a:
        first = a.value(
            "select min(example_id) from examples join networks using (network_id) where name = $1", [TEXT]
        )
    pair = [first, first + 9]
    app = opened(demo_atlas, "between", network=TEXT, part="Path", span="blocks.2.mlp->", pin=pair, run=1)
    assert errors(app) == []
    assert "the rest of the text stays A's, so that at t = 1 neither B's code nor its prediction" in words(app)
    assert next(metric.label for metric in app.metric) == "Density of the pair"
    [rows] = [rows for rows in tables(app) if rows and len(rows[0]) == 6]
    [gates] = [row[1] for row in rows if covers(row[0], 0.5)]
    assert covers(gates, float(metrics(app)[-1]))


def covers(shown: str, value: float) -> bool:
    """Whether a range as the table writes it, or its only value, holds a number."""
    low, _, high = shown.partition(" to ")
    return float(low) <= value <= float(high or low)


def test_the_page_says_why_without_a_network(measured_atlas: Path):
    """Without the network the page says why."""
    app = opened(measured_atlas, "between", network="demo-gpt2", part="Path", span="blocks.2.mlp->", run=1)
    [sentence] = errors(app)
    assert "gone" in sentence
    assert sum("pa-passage" in part.value for part in app.html) == 2, "the examples themselves need no network"


class TestInABrowser:
    pytestmark = IN_BROWSER
    RANGE = "() => document.querySelector('.js-plotly-plot').layout.xaxis.range.map(Number)"

    def test_a_path_stays_zoomed_with_its_slider(self, measured_server: str, open_page: OpenPage):
        """A path stays zoomed as the slider moves."""
        page = open_page(address(measured_server, "paths", network=IMAGE, span=SPAN, example=7, run=1))
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=COMPUTING)
        answered(page)
        whole = page.evaluate(self.RANGE)
        drag(page, [(0.25, 0.5), (0.75, 0.5)])
        eventually(page, lambda: page.evaluate(self.RANGE) != whole, True)
        zoomed = page.evaluate(self.RANGE)
        page.get_by_role("slider").press("ArrowRight")
        address_says(page, alpha=1.05)
        answered(page)
        assert page.evaluate(self.RANGE) == zoomed
