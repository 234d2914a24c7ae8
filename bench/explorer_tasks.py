"""Ten things that a researcher does in the explorer, step by step: what is clicked, and what it leads to.

A token and a digit that nobody has stored, a path and a slice need the network itself: they are tried where the atlas
has one of such a kind, as that of `polytope demo` does, and are left out of a generated one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import BrowserContext, FilePayload, Locator, Page, expect

from .explorer_waits import BARS, Wait, clicking, going, watched

PASTED = "class Shelf:\n    def __init__(self, books):\n        self.books = books\n"

QUERY = "select label, count(*) as n from examples where label is not null group by label order by label"

ROWS = re.compile(r"rows? in|The first [\d,]+ rows")
"""What stands over a query's rows."""

Steps = Iterator[tuple[str, Wait]]
"""What each step is called, and how long it was waited for."""


@dataclass(frozen=True)
class Place:
    """Where the tasks are tried: a server, a network of it with a clustered site that has a map, a word that is a
    stored token, what the network reads, and whether it can be run."""

    server: str
    network: str
    site: str
    word: str
    kind: str
    live: bool

    def address(self, page: str, **state: Any) -> str:
        words = urlencode({"network": self.network, "target": self.site, **state}, doseq=True)
        return f"{self.server}/{page}?{words}"


def tasks(tabs: BrowserContext, place: Place) -> Steps:
    """Every step of every task that the atlas allows."""
    for title, (task, possible) in TASKS.items():
        if not possible(place):
            continue
        page = watched(tabs)
        try:
            for step, wait in task(page, place):
                yield f"{title}: {step}", wait
        finally:
            page.close()


def cluster_of_token(page: Page, place: Place) -> Steps:
    yield "Look for it", going(page, place.address("look", find=place.word))
    link = page.locator('.pa a[href*="cluster="]').first
    yield "its first cluster, with its members", clicking(page, link.click, partial(_headed, page, "member"))


def two_examples(page: Page, place: Place) -> Steps:
    yield "Look for a token", going(page, place.address("look", find=place.word))
    row = page.locator(".pa td a[href*='example=']").first
    yield "open the first", clicking(page, row.click, partial(expect(_pin(page)).to_be_visible))
    yield "pin it", clicking(page, _pin(page).click, partial(_in_tray, page, 1))
    near = page.locator(".pa td .pa-pin").first
    yield "pin its nearest", clicking(page, near.click, partial(_in_tray, page, 2))
    yield "compare them", clicking(page, _compare(page).click, partial(_headed, page, "Between"))


def two_tokens(page: Page, place: Place) -> Steps:
    yield "Look, a pasted text", going(page, place.address("look", text=PASTED, token=7))
    yield "pin a token", clicking(page, _pin(page).click, partial(_in_tray, page, 1))
    token = page.get_by_role("radio", name="self", exact=True).first
    yield "another token", clicking(page, token.click)
    yield "pin it", clicking(page, _pin(page).click, partial(_in_tray, page, 2))
    yield "compare them", clicking(page, _compare(page).click, partial(_headed, page, "Between"))


def drawn_digit(page: Page, place: Place) -> Steps:
    yield "Look", going(page, place.address("look"))
    yield "open the box for an image", clicking(page, page.get_by_role("button", name="Or an image").first.click)
    file: FilePayload = {"name": "seven.png", "mimeType": "image/png", "buffer": _seven()}
    seen = partial(expect(page.get_by_text("28 × 28 pixels")).to_be_visible)
    upload = partial(page.locator('input[type="file"]').first.set_input_files, file)
    yield "upload it", clicking(page, upload, seen)


def two_clusters(page: Page, place: Place) -> Steps:
    yield "Atlas", going(page, place.address("atlas"))
    for nth in (0, 1):
        choose = partial(_row, page, nth)
        in_brief = page.locator(".pa-brief")
        yield f"choose {_ordinal(nth)}", clicking(page, choose, partial(expect(in_brief).to_be_visible))
        yield (
            f"pin {_ordinal(nth)}",
            clicking(page, in_brief.locator(".pa-pin").click, partial(_in_tray, page, nth + 1)),
        )
    yield "compare them", clicking(page, _compare(page).click, partial(_headed, page, "Between"))


def polysemantic_unit(page: Page, place: Place) -> Steps:
    yield "Neurons", going(page, place.address("neurons"))
    link = page.locator('.pa td a[href*="unit="]').first
    unit = page.get_by_label(re.compile(r"^Unit \("))
    yield "the first unit", clicking(page, link.click, partial(expect(unit).to_be_visible))
    if place.live:
        effect = page.get_by_text("Run the network without it").first
        yield "why: without it", clicking(page, effect.click)


def named_cluster(page: Page, place: Place) -> Steps:
    yield "a cluster's page", going(page, place.address("cluster"))
    form = page.get_by_text(re.compile("Name this cluster|Change the name or note"))
    yield "open the form", clicking(page, form.first.click)
    box = page.get_by_role("textbox", name="Name", exact=True)
    for words, step in (("looked at", "name it"), ("", "take the name away")):
        box.fill(words)
        save = page.get_by_role("button", name="Save", exact=True)
        yield step, clicking(page, save.click, partial(_headed, page, re.compile("looked at" if words else "#")))
        if words:
            other = watched(page.context)
            yield "find it by its name", going(other, place.address("atlas", cluster=_titled(page)))
            expect(other.locator(".pa-brief")).to_contain_text("looked at")
            other.close()
            going(page, page.url)  # anew, so that the form is folded
            form.first.click()


def region_as_sql(page: Page, place: Place) -> Steps:
    yield "Atlas", going(page, place.address("atlas"))
    yield (
        "draw a box",
        clicking(page, partial(dragged, page), partial(expect(page.get_by_text("in this box")).to_be_visible)),
    )
    link = page.get_by_role("link", name="Open in the SQL page")
    yield "its SQL", clicking(page, link.click, partial(expect(page.get_by_text(ROWS)).to_be_visible))


def query_with_chart(page: Page, place: Place) -> Steps:
    yield "SQL", going(page, place.address("sql"))
    page.get_by_role("textbox", name=re.compile("^Query")).fill(QUERY)
    run = partial(page.keyboard.press, "Control+Enter")
    yield "run a query", clicking(page, run, partial(expect(page.get_by_text(ROWS)).to_be_visible))
    chart = page.get_by_role("radio", name="Chart", exact=True)
    yield (
        "its chart",
        clicking(page, chart.click, partial(expect(page.locator(".js-plotly-plot").first).to_be_visible)),
    )


def path_and_slice(page: Page, place: Place) -> Steps:
    yield "Between", going(page, place.address("between", pin=["example:3", "example:8"]))
    for part in ("Path", "Slice"):
        yield part, clicking(page, page.get_by_role("radio", name=part, exact=True).click)
        begin = page.get_by_role("button", name=re.compile("^(Compute|Follow|Cut|Slice|Measure)")).first
        if begin.count():
            if part == "Path":
                yield "compute it", clicking(page, begin.click)
                continue
            begin.click()
            page.wait_for_selector(BARS)
            yield "stop it", clicking(page, page.get_by_role("button", name="Stop").first.click)


def link_and_figure(page: Page, place: Place) -> Steps:
    yield "Atlas", going(page, place.address("atlas"))
    other = watched(page.context)
    yield "the same link, opened by somebody else", going(other, page.url)
    figure = other.locator(".st-key-figure-map")

    def taken() -> None:
        with other.expect_download():
            figure.get_by_role("button", name="SVG", exact=True).click()

    yield "its SVG", clicking(other, taken)
    other.close()


TASKS: dict[str, tuple[Callable[[Page, Place], Steps], Callable[[Place], bool]]] = {
    "1 cluster of a token": (cluster_of_token, lambda place: place.kind == "text"),
    "2 two stored tokens": (two_examples, lambda place: place.kind == "text"),
    "2 two tokens of a text": (two_tokens, lambda place: place.live and place.kind == "text"),
    "3 a drawn digit": (drawn_digit, lambda place: place.live and place.kind == "image"),
    "4 gates between clusters": (two_clusters, lambda place: True),
    "5 a polysemantic unit": (polysemantic_unit, lambda place: True),
    "6 a named cluster": (named_cluster, lambda place: True),
    "7 a region as SQL": (region_as_sql, lambda place: True),
    "8 a query with a chart": (query_with_chart, lambda place: True),
    "9 a path, a slice": (path_and_slice, lambda place: place.live),
    "10 a link, a figure": (link_and_figure, lambda place: True),
}
"""By title: how a task is done, and whether it can be."""


# --- what is on a page -----------------------------------------------------------------------------------------


def dragged(page: Page) -> None:
    """A box over a quarter of the map."""
    page.get_by_role("button", name="Drag draws a box").click()
    box = page.locator(".pa-map").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.75 * box["height"], steps=4)
    page.mouse.up()


def _row(page: Page, nth: int) -> None:
    """The box of a row of the list of clusters, under the heads: the grid is drawn on a canvas."""
    grid = page.get_by_test_id("stDataFrame").first.locator("canvas").first
    grid.click(force=True, position={"x": 18, "y": 36 + 33 * nth + 16})


def _headed(page: Page, words: str | re.Pattern[str]) -> None:
    expect(page.locator("h1, h2").filter(has_text=words).first).to_be_visible()


def _titled(page: Page) -> str:
    """The cluster of a page, as its address has it."""
    found = re.search(r"cluster=([^&]*)", page.url)
    assert found is not None
    return found[1]


def _pin(page: Page) -> Locator:
    return page.get_by_role("button", name="Pin", exact=True).first


def _in_tray(page: Page, n: int) -> None:
    expect(page.get_by_test_id("stSidebar").locator(".pa-pin")).to_have_count(n)


def _compare(page: Page) -> Locator:
    return page.get_by_role("link", name="Compare")


def _ordinal(nth: int) -> str:
    return ("the first", "the second")[nth]


def _seven() -> bytes:
    """A digit as somebody draws it, 28 × 28 pixels."""
    drawn = Image.new("L", (28, 28))
    for step in range(16):
        drawn.paste(255, (6 + step, 5, 9 + step, 8))
        drawn.paste(255, (20 - step // 2, 6 + step, 23 - step // 2, 9 + step))
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return file.getvalue()
