"""Ten things that a researcher does in the explorer, step by step: what is clicked, and what it leads to.

Each begins at Start. A click, a key, a paste, an upload and a choice from a list are a click each.

A token and a digit that nobody has stored, a path and a slice need the network itself: they are tried where the atlas
has one of such a kind, as that of `polytope demo` does, and are left out of a generated one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from PIL import Image
from playwright.sync_api import BrowserContext, FilePayload, Locator, Page, expect

import atlas
import query
from ingest.derived.clusters import cluster

from .explorer_waits import BARS, Wait, clicking, going, watched

PASTED = "class Shelf:\n    def __init__(self, books):\n        self.books = books\n"

QUERY = "select label, count(*) as n from examples where label is not null group by label order by label"

CALLED = "what was looked at"
"""The name that somebody gives to a cluster."""

ROWS = re.compile(r"rows? in|The first [\d,]+ rows")
"""What stands over a query's rows."""

FIGURE = ".js-plotly-plot"


@dataclass(frozen=True)
class Step:
    """What it is called, how many clicks it takes, and how long it was waited for."""

    name: str
    clicks: int
    wait: Wait


Steps = Iterator[Step]


@dataclass(frozen=True)
class Place:
    """Where the tasks are tried: a server and its atlas, a network of it with a clustered site that has a map, a word
    that is a stored token, what the network reads, and whether it can be run."""

    server: str
    atlas: Path
    network: str
    site: str
    word: str
    kind: str
    live: bool

    def address(self, page: str, **state: Any) -> str:
        words = urlencode({"network": self.network, "target": self.site, **state}, doseq=True)
        return f"{self.server}/{page}?{words}"


def possible(place: Place) -> list[str]:
    """The titles of the tasks that the atlas allows."""
    return [title for title, (_, allowed) in TASKS.items() if allowed(place)]


def done(tabs: BrowserContext, place: Place, title: str) -> Steps:
    """Every step of a task, from Start on."""
    page, (task, _) = watched(tabs), TASKS[title]
    try:
        yield Step("Start", 0, going(page, place.address("start")))
        yield from task(page, place)
    finally:
        page.close()


def does(page: Page, name: str, *acts: Callable[[], object], seen: Callable[[], None] = lambda: None) -> Step:
    """A step: acts, one a click, and what they lead to."""

    def act() -> None:
        for each in acts:
            each()

    return Step(name, len(acts), clicking(page, act, seen))


def cluster_of_token(page: Page, place: Place) -> Steps:
    yield does(page, "type it into the box", *_typed(page, place.word), seen=partial(_headed, page, "As a token"))
    link = page.locator(".pa a[href*='cluster=']").first
    yield does(page, "its first cluster, with its members", link.click, seen=partial(_headed, page, "member"))


def two_examples(page: Page, place: Place) -> Steps:
    yield does(
        page, "type a token into the box", *_typed(page, place.word), seen=partial(_headed, page, "As a token")
    )
    signs = page.locator(".pa td .pa-pin")
    yield does(page, "pin one", signs.nth(0).click, seen=partial(_in_tray, page, 1))
    yield does(page, "pin another", signs.nth(1).click, seen=partial(_in_tray, page, 2))
    yield does(page, "compare them", page.get_by_role("link", name="Compare").click, seen=partial(_compared, page))


def two_tokens(page: Page, place: Place) -> Steps:
    yield does(
        page, "paste a text into the box", *_typed(page, PASTED), seen=partial(expect(_pin(page)).to_be_visible)
    )
    yield does(page, "pin its last token", _pin(page).click, seen=partial(_in_tray, page, 1))
    token = page.get_by_role("radio", name="self", exact=True).first
    yield does(page, "another token", token.click, seen=partial(expect(_with_pin(page)).to_be_visible))
    yield does(page, "compare it with the pin", _with_pin(page).click, seen=partial(_compared, page))


def drawn_digit(page: Page, place: Place) -> Steps:
    yield does(page, "Look", _in_sidebar(page, "Look"), seen=partial(_titled, page, "Look"))
    upload = page.get_by_role("button", name="Upload an image").first
    field = page.locator('input[type="file"]').first
    yield does(page, "open what it is uploaded in", upload.click, seen=partial(expect(field).to_be_attached))
    file: FilePayload = {"name": "seven.png", "mimeType": "image/png", "buffer": seven()}
    seen = partial(expect(page.get_by_text("28 × 28 pixels")).to_be_visible)
    yield does(page, "upload it", partial(field.set_input_files, file), seen=seen)


def two_clusters(page: Page, place: Place) -> Steps:
    yield _atlas(page)
    in_brief = page.locator(".pa-brief")
    yield does(page, "a cluster of the list", partial(_row, page, 0), seen=partial(expect(in_brief).to_be_visible))
    yield does(page, "pin it", in_brief.locator(".pa-pin").click, seen=partial(_in_tray, page, 1))
    yield does(page, "another", partial(_row, page, 1), seen=partial(expect(_with_pin(page)).to_be_visible))
    yield does(page, "compare it with the pin", _with_pin(page).click, seen=partial(_compared, page))


def polysemantic_unit(page: Page, place: Place) -> Steps:
    link = page.locator('.pa td a[href*="unit="]').first
    yield does(page, "Neurons", _in_sidebar(page, "Neurons"), seen=partial(expect(link).to_be_visible))
    on_for = partial(_headed, page, "On for")
    yield does(page, "the first of the ranking, and what it is on for", link.click, seen=on_for)
    if place.live:
        effect = page.get_by_text("Run the network without it").first
        seen = partial(expect(page.get_by_text("It raises")).to_be_visible)
        yield does(page, "what it adds to the answer", effect.click, seen=seen)


def named_cluster(page: Page, place: Place) -> Steps:
    yield _atlas(page)
    in_brief = page.locator(".pa-brief")
    yield does(page, "a cluster of the list", partial(_row, page, 0), seen=partial(expect(in_brief).to_be_visible))
    form = page.get_by_text("Name this cluster").first
    name = page.get_by_role("textbox", name="Name", exact=True)
    yield does(page, "open the form", form.click, seen=partial(expect(name).to_be_visible))
    said = partial(expect(in_brief).to_contain_text, CALLED)
    yield does(page, "name it", *_entered(name, CALLED), seen=said)
    _take_away(page, name, in_brief)


def found_by_name(page: Page, place: Place) -> Steps:
    other = watched(page.context)  # where somebody has named one
    going(other, place.address("atlas", cluster=0))
    in_brief, name = other.locator(".pa-brief"), other.get_by_role("textbox", name="Name", exact=True)
    other.get_by_text("Name this cluster").first.click()
    for act in _entered(name, CALLED):
        act()
    expect(in_brief).to_contain_text(CALLED)
    page.bring_to_front()  # a tab behind another is drawn seconds later
    link = page.get_by_role("link", name=re.compile(re.escape(CALLED))).first
    yield does(page, "type its name into the box", *_typed(page, CALLED), seen=partial(expect(link).to_be_visible))
    yield does(page, "its page", link.click, seen=partial(_headed, page, CALLED))
    _take_away(other, name, in_brief)
    other.close()


def _take_away(page: Page, name: Locator, in_brief: Locator) -> None:
    """Take the name of a cluster away in the form that is open still, so that the next to come finds the atlas as it
    was."""
    for act in _entered(name, ""):
        act()
    expect(in_brief).not_to_contain_text(CALLED)


def region_as_sql(page: Page, place: Place) -> Steps:
    yield _atlas(page)
    box = page.get_by_role("button", name="Drag draws a box")
    seen = partial(expect(page.get_by_text("in this box")).to_be_visible)
    yield does(page, "draw a box, beside which its SQL stands", box.click, partial(dragged, page), seen=seen)
    link = page.get_by_role("link", name="Open in the SQL page")
    yield does(page, "run it", link.click, seen=partial(expect(page.get_by_text(ROWS)).to_be_visible))


def query_with_chart(page: Page, place: Place) -> Steps:
    rows = page.get_by_text(ROWS)
    yield does(page, "SQL", _in_sidebar(page, "SQL"), seen=partial(expect(rows).to_be_visible))
    field = page.get_by_role("textbox", name=re.compile("^Query"))
    last = page.get_by_text("20 rows in") if not place.live else rows
    run = partial(page.keyboard.press, "Control+Enter")
    yield does(page, "a query", partial(field.fill, QUERY), run, seen=partial(expect(last).to_be_visible))
    chart = page.get_by_text("Chart", exact=True)
    yield does(page, "its chart", chart.click, seen=partial(expect(page.locator(FIGURE).first).to_be_visible))


def path(page: Page, place: Place) -> Steps:
    yield does(page, "Between", _in_sidebar(page, "Between"), seen=partial(_compared, page))
    begin = _begin(page)
    yield does(page, "Path", _part(page, "Path"), seen=partial(expect(begin).to_be_visible))
    follow = partial(expect(page.get_by_text("Gates to the nearest")).to_be_visible)
    yield does(page, "follow it", begin.click, seen=follow)


def stopped_slice(page: Page, place: Place) -> Steps:
    yield does(page, "Between", _in_sidebar(page, "Between"), seen=partial(_compared, page))
    begin = _begin(page)
    yield does(page, "Slice", _part(page, "Slice"), seen=partial(expect(begin).to_be_visible))
    begin.click()
    page.wait_for_selector(BARS)
    stop = page.get_by_role("button", name="Stop").first
    stopped = partial(expect(page.get_by_text("stopped")).to_be_visible)
    step = does(page, "begin it, and stop it", stop.click, seen=stopped)
    yield Step(step.name, step.clicks + 1, step.wait)


def link_and_figure(page: Page, place: Place) -> Steps:
    yield _atlas(page)
    copy = page.get_by_role("button", name="Copy a link to this view")
    yield does(page, "copy its link", copy.click, seen=partial(expect(page.get_by_text("Link copied")).to_be_visible))
    link, other = str(page.evaluate("navigator.clipboard.readText()")), watched(page.context)
    kept = parse_qs(urlsplit(link).query)
    if place.live:  # it takes some minutes on a large atlas
        with atlas.open(place.atlas) as a:
            least = 5 + len(query.clusterings(a))  # which none was made with
        made = cluster(place.atlas, site=place.site, network=place.network, min_cluster_size=least)
        assert [str(made)] != kept["clustering"]
    yield Step("the link, after a new clustering", 1, going(other, link))
    assert parse_qs(urlsplit(other.url).query) == kept
    figure = other.locator(".st-key-figure-map")

    def taken() -> None:
        with other.expect_download():
            figure.get_by_role("button", name="SVG", exact=True).click()

    yield does(other, "its SVG", taken)
    other.close()


TASKS: dict[str, tuple[Callable[[Page, Place], Steps], Callable[[Place], bool]]] = {
    "1 the cluster of a token, and its members": (cluster_of_token, lambda place: place.kind == "text"),
    "2 two stored tokens": (two_examples, lambda place: place.kind == "text"),
    "2 two tokens of a text that is pasted": (two_tokens, lambda place: place.live and place.kind == "text"),
    "3 a digit that is drawn": (drawn_digit, lambda place: place.live and place.kind == "image"),
    "4 the gates that tell two clusters apart": (two_clusters, lambda place: True),
    "5 a polysemantic unit, and why": (polysemantic_unit, lambda place: True),
    "6 name a cluster": (named_cluster, lambda place: True),
    "6 find it by its name": (found_by_name, lambda place: True),
    "7 a region of the map as SQL": (region_as_sql, lambda place: True),
    "8 a query with a chart": (query_with_chart, lambda place: True),
    "9 a path": (path, lambda place: place.live),
    "9 a slice that is stopped": (stopped_slice, lambda place: place.live),
    "10 a link that stays, and a figure": (link_and_figure, lambda place: True),
}
"""By title: how a task is done, and whether it can be."""


# --- what is on a page -----------------------------------------------------------------------------------------


def dragged(page: Page) -> None:
    """A box over a quarter of the map; the map has been told that a drag draws one."""
    box = page.locator(".pa-map").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.75 * box["height"], steps=4)
    page.mouse.up()


def _typed(page: Page, words: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """Words into the box that looks for anything."""
    return _entered(page.get_by_test_id("stChatInputTextArea"), words)


def _entered(field: Locator, words: str) -> tuple[Callable[[], None], Callable[[], None]]:
    return partial(field.fill, words), partial(field.press, "Enter")


def _in_sidebar(page: Page, name: str) -> Callable[[], None]:
    link: Callable[[], None] = page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click
    return link


def _atlas(page: Page) -> Step:
    drawn = partial(expect(page.locator(".pa-map canvas").first).to_be_visible)
    return does(page, "Atlas", _in_sidebar(page, "Atlas"), seen=drawn)


def _row(page: Page, nth: int) -> None:
    """The box of a row of the list of clusters, under the heads: the grid is drawn on a canvas."""
    grid = page.get_by_test_id("stDataFrame").first.locator("canvas").first
    grid.click(force=True, position={"x": 18, "y": 36 + 33 * nth + 16})


def _titled(page: Page, words: str) -> None:
    expect(page.locator("h1").first).to_contain_text(words)


def _headed(page: Page, words: str | re.Pattern[str]) -> None:
    expect(page.locator("h2").filter(has_text=words).first).to_be_visible()


def _compared(page: Page) -> None:
    _titled(page, "Between")
    _headed(page, re.compile("most telling first|tell"))


def _part(page: Page, name: str) -> Callable[[], None]:
    part: Callable[[], None] = page.get_by_role("radio", name=name, exact=True).click
    return part


def _begin(page: Page) -> Locator:
    return page.get_by_role("button", name="Compute", exact=True).first


def _pin(page: Page) -> Locator:
    return page.get_by_role("button", name="Pin", exact=True).first


def _with_pin(page: Page) -> Locator:
    return page.get_by_role("button", name="Compare with the pin", exact=True)


def _in_tray(page: Page, n: int) -> None:
    expect(page.get_by_test_id("stSidebar").locator(".pa-pin")).to_have_count(n)


def seven() -> bytes:
    """A digit as somebody draws it, 28 × 28 pixels."""
    drawn = Image.new("L", (28, 28))
    for step in range(16):
        drawn.paste(255, (6 + step, 5, 9 + step, 8))
        drawn.paste(255, (20 - step // 2, 6 + step, 23 - step // 2, 9 + step))
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return file.getvalue()
