"""How long does someone who looks at a large atlas wait?

    python -m bench.explorer [--size small|full] [--atlas PATH]

Headless Chromium opens every page of the explorer on a generated atlas of 12 sites with 3,072 gates (clusters at the
first and the last, activations and a map at the last), then clicks. A wait ends when the server has nothing more to
do and the page holds what was asked for and is painted, not at the first sign of life. Where something is computed
for longer, a progress bar with a button to stop it stands there meanwhile; "bar" is when it came.

Every round has a server of its own, so that nothing is known yet, and a browser of its own, so that the first page
brings Streamlit's scripts along. The server is asked for its first page at once ("started"), as by someone who types
`polytope app`, then again with another browser and nothing in its cache, as by a colleague. "again" is the same
address once more. --atlas keeps what is generated, for the next time.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from playwright.sync_api import BrowserContext, Page, ViewportSize, expect, sync_playwright

import atlas
from bench.atlases import NETWORK, generated_atlas
from bench.data import clustered_activations, clustered_codes
from bench.report import show
from ingest.derived.clusters import cluster
from ingest.derived.layouts import layout
from tests.app.explorer.browsing import CHROMIUM, SETTLING, STILL, serving

N_BITS, SITES = 3072, 12  # GPT-2 small
FIRST, LAST = "blocks.0.mlp", f"blocks.{SITES - 1}.mlp"
NEAREST = 10
"""Neighbours that the clusterings are computed from: approximate, for what is measured is looking at them."""

SIZES = {"small": (10_000, 1), "full": (100_000, 3)}
"""Examples, rounds."""

LONGEST = 120.0
"""Seconds after which a page counts as broken."""

READING = 4000
"""Milliseconds that someone looks at a page before the first click on it."""

WINDOW: ViewportSize = {"width": 1280, "height": 800}

HERE = {"network": NETWORK, "target": LAST}

PAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "Start": ("", {}),
    "Look": ("look", {"example": 777}),
    "Look, found": ("look", {"find": "word17"}),
    "Look, span": ("look", {"example": 777, "target": "blocks.8.mlp->"}),
    "Cluster": ("cluster", {}),
    "Atlas": ("atlas", {"colour": "cluster"}),
    "Neurons": ("neurons", {"unit": 7}),
    "Between": ("between", {}),
    "Between, path": ("between", {"part": "Path"}),
    "Between, slice": ("between", {"part": "Slice"}),
    "SQL": ("sql", {}),
    "Claims": ("claims", {}),
}


@dataclass(frozen=True)
class Wait:
    """Seconds until everything was there, and until a progress bar was, if one came."""

    seconds: float
    bar: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--atlas", type=Path, help="where the generated atlas is, or will be kept")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        print("bench.explorer needs Chromium: install it, or name it in the variable CHROMIUM")
        return
    n, rounds = SIZES[arguments.size]
    opened: dict[str, list[tuple[Wait, Wait]]] = {name: [] for name in PAGES}
    clicked: dict[str, list[Wait]] = {}
    started: list[Wait] = []
    with kept_or_temporary(arguments.atlas) as path, sync_playwright() as playwright:
        if not path.exists():
            generate(path, n)
        with atlas.open(path) as a:  # which may be an earlier one
            n = int(a.value("select count(*) from examples"))
        for _ in range(rounds):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            with serving(path) as server:
                started.append(opening(browser.new_context(viewport=WINDOW), server))
                tabs = browser.new_context(viewport=WINDOW)
                for name, (page, state) in PAGES.items():
                    address = f"{server}/{page}?{urlencode({**HERE, **state})}"
                    opened[name].append((opening(tabs, address), opening(tabs, address)))
                for name, wait in clicks(tabs, server):
                    clicked.setdefault(name, []).append(wait)
            browser.close()
    shape = {"examples": n, "sites": SITES}
    show(
        f"explorer, {n:,} examples × {SITES} sites: s until a server that has just started has given a page",
        [{"page": "Start", **shape, **columns(started, "first")}],
    )
    show(
        f"explorer, {n:,} examples × {SITES} sites: s from asking for a page until it is complete",
        [
            {
                "page": name,
                **shape,
                **columns([first for first, _ in waits], "first"),
                **columns([second for _, second in waits], "again"),
            }
            for name, waits in opened.items()
        ],
    )
    show(
        f"explorer, {n:,} examples × {SITES} sites: s from a click until it is answered",
        [{"click": name, **columns(waits, "answered")} for name, waits in clicked.items()],
    )


def columns(waits: list[Wait], name: str) -> dict[str, float | None]:
    bars = [wait.bar for wait in waits if wait.bar is not None]
    return {
        f"{name} s": statistics.median(wait.seconds for wait in waits),
        f"{name} bar s": statistics.median(bars) if bars else None,
    }


# --- what is looked at -----------------------------------------------------------------------------------------


@contextmanager
def kept_or_temporary(path: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() if path is None else nullcontext() as scratch:
        yield path or Path(str(scratch)) / "bench.atlas"


def generate(path: Path, n: int) -> None:
    codes = clustered_codes(n, N_BITS, clusters=n // 500, seed=0)
    activations = clustered_activations(n, N_BITS, clusters=n // 500, seed=0)
    generated_atlas(path, codes, sites=SITES, activations=np.maximum(activations, 0))
    for site in (FIRST, LAST):
        cluster(path, site=site, neighbors=NEAREST)
    layout(path, site=LAST)


# --- waiting ---------------------------------------------------------------------------------------------------

BARS = '[class*="st-key-job-"], .pa-figure[aria-busy="true"]'

WATCH = """([still, bars]) => {
  const found = window.found = { bar: null, whole: null };
  const painted = (then) => requestAnimationFrame(() => requestAnimationFrame(then));
  const look = () => {
    const working = document.querySelector(bars), before = found.whole;
    if (working) found.bar ??= performance.now();
    if (working || !document.querySelector(still)) found.whole = null;
    else if (before === null) {
      const turn = found.whole = {};
      painted(() => { if (found.whole === turn) turn.since = performance.now(); });
    }
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
}"""
"""Notes in the page when the first bar came, and since when it has been whole and painted."""

BEGIN = "() => { window.found.bar = window.found.whole = null; return performance.now(); }"
WHOLE_FOR = "(settled) => window.found.whole?.since && performance.now() > window.found.whole.since + settled"


def watched(tabs: BrowserContext) -> Page:
    """A tab of its own that notes what its pages do."""
    page = tabs.new_page()
    page.add_init_script(f"({WATCH})({json.dumps([STILL, BARS])})")
    page.set_default_timeout(1000 * LONGEST)
    return page


def opening(tabs: BrowserContext, address: str) -> Wait:
    page = watched(tabs)
    try:
        page.goto(address, wait_until="commit")
        return waited(page, 0.0)  # the page's clock begins when it is asked for
    finally:
        page.close()


def clicking(page: Page, act: Callable[[], None], seen: Callable[[], None]) -> Wait:
    """From a click until what it leads to is ``seen`` and complete."""
    begun = page.evaluate(BEGIN)
    act()
    seen()
    return waited(page, begun)


def waited(page: Page, begun: float) -> Wait:
    """Until nothing is computed or drawn any more, and stays so for a moment; that moment does not count."""
    page.wait_for_function(WHOLE_FOR, arg=SETTLING)
    bar, whole = page.evaluate("() => [window.found.bar, window.found.whole.since]")
    return Wait((whole - begun) / 1000, None if bar is None else (bar - begun) / 1000)


# --- clicks ----------------------------------------------------------------------------------------------------


def clicks(tabs: BrowserContext, server: str) -> Iterator[tuple[str, Wait]]:
    def at(name: str, **state: Any) -> Page:
        path, own = PAGES[name]
        page = watched(tabs)
        page.goto(f"{server}/{path}?{urlencode({**HERE, **own, **state})}")
        waited(page, 0.0)
        page.wait_for_timeout(READING)
        return page

    page = at("Start")
    yield (
        "Start: another page in the sidebar",
        clicking(
            page,
            page.get_by_test_id("stSidebarNav").get_by_text("Look").click,
            lambda: expect(page.locator("h1")).to_have_text("Look"),
        ),
    )
    page = at("Cluster")
    yield (
        "Cluster: the page of an example",
        clicking(
            page,
            page.locator(".pa-gallery a").first.click,
            lambda: expect(page.locator("h1")).to_have_text("Look"),
        ),
    )
    arrived = partial(expect(page.locator("h1")).to_have_text, "Cluster")
    yield "Look: back to it", clicking(page, partial(returned, page), arrived)
    page = at("Cluster")
    for part in ("Labels and tokens", "Gates", "Near clusters", "Flow"):
        tab = page.get_by_role("tab", name=part)
        opened = partial(expect(tab).to_have_attribute, "aria-selected", "true")
        yield f"Cluster: {part}", clicking(page, tab.click, opened)
    page = at("Look")
    yield (
        "Look: the next example",
        clicking(
            page,
            page.get_by_role("button", name="Next").click,
            lambda: expect(page.get_by_label("Example (")).to_have_value("778"),
        ),
    )
    rows = page.locator(".pa table").last.locator("tbody tr")
    page.get_by_test_id("stExpander").first.locator("summary").click()
    yield (
        "Look: k = 25",
        clicking(page, lambda: typed(page, "Nearest", "25"), lambda: expect(rows).to_have_count(25)),
    )
    yield (
        "Look: a condition in SQL",
        clicking(
            page,
            lambda: typed(page, "Where (SQL)", "loss < 0.01"),
            lambda: expect(page.get_by_text(re.compile(r"of [\d,]+ of [\d,]+ codes"))).to_be_visible(),
        ),
    )
    page = at("Atlas")
    yield (
        "Atlas: a cluster of the list",
        clicking(page, lambda: second_row(page), lambda: expect(page).to_have_url(re.compile("cluster="))),
    )
    yield (
        "Atlas: a box of a quarter of it",
        clicking(
            page, lambda: dragged(page), lambda: expect(page.get_by_text("examples in this box")).to_be_visible()
        ),
    )
    for colour in ("label", "distance", "cluster"):
        pressed = page.get_by_role("radio", name=colour)
        seen = partial(expect(page.get_by_label(f"coloured by {colour}")).to_be_visible)
        yield f"Atlas: in colours of {colour}", clicking(page, pressed.click, seen)
    page = at("Start")
    link = page.get_by_test_id("stSidebarNav").get_by_role("link", name="Atlas", exact=True)
    drawn = partial(expect(page.locator(".pa-map canvas").first).to_be_visible)
    yield "Start: the atlas in the sidebar", clicking(page, link.click, drawn)
    page = at("Neurons")
    yield (
        "Neurons: the next unit",
        clicking(
            page,
            page.get_by_role("button", name="Next").click,
            lambda: expect(page.get_by_label("Unit (")).to_have_value("8"),
        ),
    )
    page = at("SQL")
    for query in ("Fullest polytopes", "Most surprising", "Polytopes a site"):
        yield (
            f"SQL: {query}",
            clicking(
                page,
                page.get_by_role("button", name=query).click,
                lambda: expect(page.get_by_text("rows in")).to_be_visible(),
            ),
        )


def second_row(page: Page) -> None:
    """The box of the second row, under the heads: the grid is drawn on a canvas."""
    grid = page.get_by_test_id("stDataFrame").first.locator("canvas").first
    grid.click(force=True, position={"x": 18, "y": 36 + 33 + 16})


def returned(page: Page) -> None:
    page.go_back()


def typed(page: Page, label: str, text: str) -> None:
    field = page.get_by_role("textbox", name=label).or_(page.get_by_role("spinbutton", name=label)).first
    field.fill(text)
    field.press("Enter")


def dragged(page: Page) -> None:
    page.get_by_role("button", name="Drag draws a box").click()
    box = page.locator(".pa-map").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.75 * box["height"], steps=4)
    page.mouse.up()


if __name__ == "__main__":
    main()
