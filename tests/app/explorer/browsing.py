"""Looking at a page: a server of its own, waiting until it is drawn, what is on it, a picture of it."""

from __future__ import annotations

import os
import shutil
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Error, FloatRect, Locator, Page, expect

from app.cli.serve import arguments
from tests.forked import running

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
"""The first of them takes a quarter less of the processors: it has no window, not even one that nobody sees."""

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)

IN_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"),  # there the tests of pages fail for want of it
        reason="no Chromium: `apt install chromium`, or name one in the variable CHROMIUM",
    ),
]
"""The marks of a module of tests that look at pages."""

OpenPage = Callable[[str], Page]

HOSTILE = '<script>document.title = "hacked"</script> **bold** [a](javascript:alert(1)) $x$ & <b>tag</b>'
"""What a data set may hold, and a page must show as these characters."""

STARTING = 120.0
"""Seconds, on a busy machine: a page's first run imports faiss, DuckDB and scikit-learn."""

COMPUTING = 240_000.0
"""Milliseconds that a computation may take before a test gives up: its network is loaded first, which takes
seconds on an idle machine."""

PATIENCE = 60_000
"""Milliseconds until what is expected of a page has to be there: other tests may share the processor."""

LOOK_EVERY = 50
"""Milliseconds between two looks at a page."""

SETTLING = 150
"""Milliseconds between two looks that must agree: by then the script has begun to run that a click asked for."""

expect.set_options(timeout=PATIENCE)

SCREENSHOTS = Path(__file__).parents[3] / "screenshots"


@contextmanager
def serving(atlas: Path, script: Path | None = None) -> Iterator[str]:
    """The address of a server that shows the atlas; ``script`` in place of the explorer."""
    port = free_port()
    line = arguments(atlas, port=port, host="127.0.0.1", open_browser=False)
    if script is not None:
        line[1] = str(script)
    with running("streamlit", *line) as server:
        yield answering(port, lambda: not server.is_alive())


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answering(port: int, ended: Callable[[], object]) -> str:
    """The address of a server, once it answers; ``ended`` says whether it never will."""
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + STARTING
    while True:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=5):
                return url
        except OSError:  # nobody listens yet, or who does is busy
            if ended() or time.monotonic() > deadline:
                raise
            time.sleep(LOOK_EVERY / 1000)


# --- waiting ---------------------------------------------------------------------------------------------------

STILL = (
    '[data-testid="stApp"][data-test-script-state="notRunning"]:has(h1, .pa-error)'
    ':not(:has([data-testid="stSkeleton"], .pa-figure[aria-busy="true"]))'
)
JOB = '[class*="st-key-job-"]'
ERROR = '.pa-error, [data-testid="stException"], [data-testid="stAlert"]'


def drawn(page: Page) -> None:
    """Wait until the script has run and every part of the page is there: at two looks, for a click takes a moment
    to reach the script."""
    while True:
        page.wait_for_selector(STILL)
        page.wait_for_timeout(SETTLING)
        if page.locator(STILL).count():
            return


def answered(page: Page) -> None:
    """Wait until nothing on the page is being computed, however long that takes on a busy machine."""
    drawn(page)
    while page.locator(JOB).count():
        page.wait_for_selector(JOB, state="detached", timeout=COMPUTING)
        drawn(page)


def eventually(page: Page, read: Callable[[], object], expected: object) -> None:
    """Wait until what is read from the page is what is expected; the last reading is in the error.

    For a page is drawn in steps, whose order nobody promises: what can't be read yet is not there yet.
    """
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        with suppress(Error, LookupError, ValueError):
            if read() == expected:
                return
        page.wait_for_timeout(LOOK_EVERY)
    assert read() == expected


def standing(page: Page, thing: Locator) -> FloatRect:
    """Where a thing is on the page, once it stays there: for a pointer that is sent to places."""

    def stays() -> bool:
        before = thing.bounding_box()
        page.wait_for_timeout(SETTLING)
        return before is not None and thing.bounding_box() == before

    thing.scroll_into_view_if_needed()
    eventually(page, stays, True)
    box = thing.bounding_box()
    assert box is not None
    return box


def drag(page: Page, ways: list[tuple[float, float]]) -> None:
    """Drag over the first figure, by shares of its width and height, clear of the bar at the top of the window."""
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    plot.evaluate("(plot) => plot.scrollIntoView({ block: 'center' })")
    box = standing(page, plot)
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ways]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


# --- the address -----------------------------------------------------------------------------------------------


def address(server: str, page: str, /, **state: object) -> str:
    """Of a page in a certain state."""
    return f"{server}/{page}?{urlencode(state, doseq=True)}"


def state(page: Page) -> dict[str, str]:
    """What the address of a page says."""
    return dict(parse_qsl(urlsplit(page.url).query, keep_blank_values=True))


def address_says(page: Page, /, **expected: object) -> None:
    """Wait until the address of a page holds this; what is None, not at all."""
    words = {name: None if value is None else str(value) for name, value in expected.items()}
    eventually(page, lambda: {name: state(page).get(name) for name in words}, words)


# --- what is on it ---------------------------------------------------------------------------------------------


def no_error(page: Page) -> None:
    expect(page.locator(ERROR)).to_have_count(0)


def says(page: Page, *sentences: str, ignore_case: bool = False) -> None:
    """Wait until each of them can be read somewhere on the page."""
    for sentence in sentences:
        expect(page.locator("body")).to_contain_text(sentence, use_inner_text=True, ignore_case=ignore_case)


def cells(page: Page, column: int, table: int = 0) -> list[str]:
    """A column of a table, both told by their place: columns from 1 on, tables from 0, the last of them -1."""
    return page.locator(".pa table").nth(table).locator(f"tbody tr td:nth-child({column})").all_inner_texts()


def ids(page: Page) -> list[int]:
    """Example ids of tables and of grids, in the order shown; not that of what a page is about."""
    links = page.locator(".pa table td:last-child a, .pa-grid figcaption a[href^=example]")
    return [int(words) for words in links.all_inner_texts()]


def photograph(page: Page, name: str) -> None:
    """What a person sees, for a person to look at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
