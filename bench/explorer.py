"""How long does someone who looks at a large atlas wait?

    python -m bench.explorer [--size small|full] [--atlas PATH] [--demo PATH] [--only pages|clicks|tasks]

Headless Chromium opens every page of the explorer on a generated atlas of 12 sites with 3,072 gates (clusters at the
first and the last, activations and a map at the last), then clicks. A wait ends when the server has nothing more to
do and the page holds what was asked for and is painted, not at the first sign of life. Where something is computed
for longer, a progress bar with a button to stop it stands there meanwhile; "bar" is when it came.

Every round has a server of its own, so that nothing is known yet, and a browser of its own, so that the first page
brings Streamlit's scripts along. The server is asked for its first page at once ("started"), as by someone who types
`polytope app`, then again with another browser and nothing in its cache, as by a colleague. "again" is the same
address once more. --atlas keeps what is generated, for the next time.

Then ten tasks (`bench.explorer_tasks`), step by step, on that atlas, and on one that --demo names, whose networks
read texts and images anew and compute paths and slices. Beside each wait stand the seconds of processors that the
server and the browser took: on a busy machine they say more than the clock.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

import atlas
from bench.atlases import NETWORK, generated_atlas
from bench.data import clustered_activations, clustered_codes
from bench.explorer_tasks import Place, Step, done, dragged, possible
from bench.explorer_waits import Wait, clicking, going, opening, watched
from bench.report import show
from ingest.derived.clusters import cluster
from ingest.derived.layouts import layout
from tests.app.explorer.browsing import CHROMIUM, serving

N_BITS, SITES = 3072, 12  # GPT-2 small
FIRST, LAST = "blocks.0.mlp", f"blocks.{SITES - 1}.mlp"
NEAREST = 10
"""Neighbours that the clusterings are computed from: approximate, for what is measured is looking at them."""

SIZES = {"small": (10_000, 1), "full": (100_000, 3)}
"""Examples, rounds."""

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--atlas", type=Path, help="where the generated atlas is, or will be kept")
    parser.add_argument("--demo", type=Path, help="an atlas of `polytope demo`, for tasks that run a network")
    parser.add_argument("--only", choices=("pages", "clicks", "tasks"), help="one part of it")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        print("bench.explorer needs Chromium: install it, or name it in the variable CHROMIUM")
        return
    n, rounds = SIZES[arguments.size]
    with kept_or_temporary(arguments.atlas) as path, sync_playwright() as playwright:
        if not path.exists():
            generate(path, n)
        launch = partial(playwright.chromium.launch, executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        if arguments.only in (None, "pages"):
            pages(path, launch, rounds)
        if arguments.only in (None, "clicks"):
            clicks(path, launch, rounds)
        if arguments.only in (None, "tasks"):
            for each in (path, *([arguments.demo] if arguments.demo else [])):
                steps(each, launch, rounds)


def pages(path: Path, launch: Callable[[], Browser], rounds: int) -> None:
    """Every page, opened and opened again."""
    with atlas.open(path) as a:  # which may be an earlier one
        shape = {"examples": int(a.value("select count(*) from examples")), "sites": SITES}
    opened: dict[str, list[tuple[Wait, Wait]]] = {name: [] for name in PAGES}
    started: list[Wait] = []
    for _ in range(rounds):
        browser = launch()
        with serving(path) as server:
            started.append(opening(browser.new_context(viewport=WINDOW), server))
            tabs = browser.new_context(viewport=WINDOW)
            for name, (page, state) in PAGES.items():
                address = f"{server}/{page}?{urlencode({**HERE, **state})}"
                opened[name].append((opening(tabs, address), opening(tabs, address)))
        browser.close()
    about = f"explorer, {shape['examples']:,} examples × {SITES} sites: s"
    show(
        f"{about} until a server that has just started has given a page",
        [{"page": "Start", **shape, **columns(started, "first")}],
    )
    show(
        f"{about} from asking for a page until it is complete",
        [
            {
                "page": name,
                **columns([first for first, _ in waits], "first"),
                **columns([second for _, second in waits], "again"),
            }
            for name, waits in opened.items()
        ],
    )


def clicks(path: Path, launch: Callable[[], Browser], rounds: int) -> None:
    """Clicks on pages that have just been opened."""
    clicked: dict[str, list[Wait]] = {}
    for _ in range(rounds):
        browser = launch()
        with serving(path) as server:
            tabs = browser.new_context(viewport=WINDOW)
            for name, wait in clicking_each(tabs, server):
                clicked.setdefault(name, []).append(wait)
        browser.close()
    show(
        "explorer: s from a click until it is answered",
        [{"click": name, **columns(waits, "answered")} for name, waits in clicked.items()],
    )


def steps(path: Path, launch: Callable[[], Browser], rounds: int) -> None:
    """The ten tasks: in each round by somebody who comes first, then at once by another. The atlas is given names and
    a clustering by them, so that it is a copy."""
    cold: dict[tuple[str, str, str], list[Step]] = {}
    warm: dict[tuple[str, str, str], list[Step]] = {}
    for _ in range(rounds):
        browser = launch()
        with copied(path) as own, serving(own) as server:
            tabs = browser.new_context(viewport=WINDOW, permissions=["clipboard-read", "clipboard-write"])
            for place in places(own, server):
                for title in possible(place):
                    for waits in (cold, warm):
                        for step in done(tabs, place, title):
                            waits.setdefault((place.network, title, step.name), []).append(step)
        browser.close()
    show(
        f"explorer, ten tasks on {path.name}: clicks, s from a click until it is answered, first and warm",
        [
            {
                "network": network,
                "task": title,
                "step": name,
                "clicks": first[0].clicks,
                **columns([step.wait for step in first], "first"),
                **columns([step.wait for step in warm[network, title, name]], "warm"),
            }
            for (network, title, name), first in cold.items()
        ],
    )


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        yield Path(shutil.copytree(path, Path(scratch) / path.name))


def places(path: Path, server: str) -> list[Place]:
    """Where the tasks are tried, of what the atlas holds."""
    with atlas.open(path) as a:
        commonest = str(a.value("select token from examples group by token order by count(*) desc, token limit 1"))
        return [
            Place(server, path, network, site, word, kind, live)
            for network, site, word, kind, live in (
                (NETWORK, LAST, commonest, "text", False),
                ("demo-gpt2", "blocks.3.mlp", "self", "text", True),
                ("demo-inceptionv1", "inception5b", "", "image", True),
            )
            if network in [record.name for record in a.catalog.networks]
        ]


def columns(waits: list[Wait], name: str) -> dict[str, float | None]:
    """Medians of some waits."""
    bars = [wait.bar for wait in waits if wait.bar is not None]
    return {
        f"{name} s": statistics.median(wait.seconds for wait in waits),
        f"{name} bar s": statistics.median(bars) if bars else None,
        f"{name} server CPU s": statistics.median(wait.server for wait in waits),
        f"{name} browser CPU s": statistics.median(wait.browser for wait in waits),
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


# --- clicks ----------------------------------------------------------------------------------------------------


def clicking_each(tabs: BrowserContext, server: str) -> Iterator[tuple[str, Wait]]:
    def at(name: str, **state: Any) -> Page:
        path, own = PAGES[name]
        page = watched(tabs)
        going(page, f"{server}/{path}?{urlencode({**HERE, **own, **state})}")
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
    page.get_by_role("button", name="Drag draws a box").click()
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


if __name__ == "__main__":
    main()
