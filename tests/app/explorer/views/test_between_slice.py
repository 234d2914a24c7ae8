"""Slices: a stored one at once, any window of it at a click or a box, and a way to stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest

import atlas
from query.experiments import load, run
from query.experiments.result import Result
from query.experiments.slice import RESOLVED, unresolved
from tests.app.conftest import SLICED
from tests.app.explorer.browsing import COMPUTING, IN_BROWSER, OpenPage, address, answered, drag, eventually, state
from tests.app.explorer.running import errors, figures, metrics, opened, press, words
from tests.networks import shipped

IMAGE = "demo-inceptionv1"


def window(app: AppTest) -> dict[str, float]:
    """The window that the address of a page names."""
    given = {name: app.query_params.get(name) for name in ("u", "v", "reach")}
    return {name: float(value[-1] if isinstance(value, list) else value) for name, value in given.items() if value}


def counted(result: Result) -> str:
    """How many polytopes a page says that a slice meets."""
    [row] = result.tables["summary"].to_dict("records")
    return f"{'≥ ' if unresolved(row) else ''}{row['polytopes']:,}"


def areas(app: AppTest) -> int:
    """Rasters of the figure: one of classes, and one of areas."""
    return sum(trace["type"] == "heatmap" for trace in figures(app)[0]["data"])


def test_a_slice_opens_resolved(demo_atlas: Path):
    """In its window polytopes are larger than points; of the whole plane no areas are drawn, and the page says so."""
    with atlas.open(demo_atlas) as a:
        first = int(
            a.value("select min(example_id) from examples join networks using (network_id) where name = $1", [IMAGE])
        )
    app = opened(demo_atlas, "between", network=IMAGE, part="Slice", run=1, size=32)
    assert errors(app) == [] and areas(app) == 2 and "unresolved" not in words(app)
    assert not metrics(app)[0].startswith("≥") and 1 < int(metrics(app)[0].replace(",", "")) <= 32 * 32 / RESOLVED
    marks = [trace for trace in figures(app)[0]["data"] if (trace.get("name") or "").startswith("examples")]
    assert any(f"example {first}," in words for words in marks[0]["hovertext"]), "the first example is in it"
    whole = opened(demo_atlas, "between", network=IMAGE, part="Slice", run=1, size=32, near="false")
    assert areas(whole) == 1 and f"{metrics(whole)[0]}: unresolved at this size" in words(whole)


def test_the_stored_slice_and_any_part_of_it(measured_atlas: Path):
    with atlas.open(measured_atlas) as a:
        stored = load(a, 1)
        (u0, u1), (v0, v1) = stored.parameters["u"], stored.parameters["v"]
        app = opened(measured_atlas, "between", network=IMAGE, part="Slice")
        assert errors(app) == [] and len(figures(app)) == 1
        assert metrics(app)[0] == counted(stored)
        press(app, "Zoom in")
        assert "Computed now and not stored" in words(app)
        middle = [pytest.approx(half / 2, abs=1e-5) for half in (u0 + u1, v0 + v1)]
        seen = window(app)
        assert seen == {"u": middle[0], "v": middle[1], "reach": pytest.approx((u1 - u0) / 4, rel=1e-6)}
        asked = {**SLICED, "middle": [seen["u"], seen["v"]], "reach": seen["reach"]}
        near = run(a, "slice", reader=shipped("demo:inceptionv1"), **asked)
    assert metrics(app)[0] == counted(near)


def test_a_nonsense_address_is_a_sentence(measured_atlas: Path):
    """Nonsense in the address is a sentence."""
    app = opened(measured_atlas, "between", network=IMAGE, part="Slice", **SLICED, u="<b>left</b>", v=1, reach=2)
    assert "the address names a window by u '<b>left</b>', v '1', reach '2'" in errors(app)[0]
    assert len(figures(app)) == 1, "the whole plane"


class TestInABrowser:
    pytestmark = IN_BROWSER

    def test_a_box_is_the_next_window(self, measured_server: str, open_page: OpenPage):
        whole = {"u": 0.0, "v": 0.0, "reach": 8.0}
        page = open_page(address(measured_server, "slices", network=IMAGE, **SLICED, **whole, run=1))
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=COMPUTING)
        answered(page)
        drag(page, [(0.25, 0.25), (0.5, 0.4)])

        def seen() -> dict[str, float]:
            return {name: float(state(page)[name]) for name in ("u", "reach")}

        eventually(page, seen, {"u": pytest.approx(-2, abs=0.4), "reach": pytest.approx(2, rel=0.05)})

    def test_a_slice_is_stopped_and_restarted(self, measured_server: str, open_page: OpenPage):
        """A slice can be stopped and started again."""
        page = open_page(address(measured_server, "slices", network=IMAGE, **{**SLICED, "size": 256}, run=1))
        stop = page.get_by_role("button", name="Stop", exact=True)
        stop.click(timeout=COMPUTING)
        page.get_by_role("button", name="Start again").click()
        stop.click(timeout=COMPUTING)
        expect(page.get_by_text("Reading the plane: stopped.")).to_be_visible()
