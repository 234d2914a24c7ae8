"""Waiting for a page of the explorer as somebody does who looks at it, and what that costs the processors."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import BrowserContext, Page

from tests.app.explorer.browsing import SETTLING, STILL

LONGEST = 120.0
"""Seconds after which a page counts as broken."""

BARS = '[class*="st-key-job-"], .pa-figure[aria-busy="true"]'

WATCH = """([still, bars]) => {
  const found = window.found = { bar: null, whole: null }, now = () => performance.timeOrigin + performance.now();
  const painted = (then) => requestAnimationFrame(() => requestAnimationFrame(then));
  const look = () => {
    const working = document.querySelector(bars), before = found.whole;
    if (working) found.bar ??= now();
    if (working || !document.querySelector(still)) found.whole = null;
    else if (before === null) {
      const turn = found.whole = {};
      painted(() => { if (found.whole === turn) turn.since = now(); });
    }
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
}"""
"""Notes in the page when the first bar came, and since when it has been whole and painted; by a clock that goes on
where a link loads another page."""

NOW = "performance.timeOrigin + performance.now()"
BEGIN = f"() => {{ window.found.bar = window.found.whole = null; return {NOW}; }}"
WHOLE_FOR = f"""(settled) => {{
  const since = window.found?.whole?.since;
  return since && {NOW} > since + settled ? [window.found.bar, since] : null;
}}"""
"""When the first bar came and since when it is whole, once it has been so for a moment; asked for at once, since a
page may begin anew between two questions."""


@dataclass(frozen=True)
class Wait:
    """Seconds until everything was there, and until a progress bar was, if one came; and seconds of processors that
    the server and the browser took meanwhile, which another load of the machine changes little."""

    seconds: float
    bar: float | None
    server: float
    browser: float


def watched(tabs: BrowserContext) -> Page:
    """A tab of its own that notes what its pages do."""
    page = tabs.new_page()
    page.add_init_script(f"({WATCH})({json.dumps([STILL, BARS])})")
    page.set_default_timeout(1000 * LONGEST)
    return page


def opening(tabs: BrowserContext, address: str) -> Wait:
    page = watched(tabs)
    try:
        return going(page, address)
    finally:
        page.close()


def going(page: Page, address: str) -> Wait:
    before = spent()
    page.goto(address, wait_until="commit")
    return _waited(page, page.evaluate("performance.timeOrigin"), before)


def clicking(page: Page, act: Callable[[], object], seen: Callable[[], None] = lambda: None) -> Wait:
    """From a click until what it leads to is ``seen`` and complete."""
    begun, before = page.evaluate(BEGIN), spent()
    act()
    seen()
    return _waited(page, begun, before)


def _waited(page: Page, begun: float, before: tuple[float, float]) -> Wait:
    """Until nothing is computed or drawn any more, and stays so for a moment; that moment does not count."""
    bar, whole = page.wait_for_function(WHOLE_FOR, arg=SETTLING).json_value()
    server, browser = (now - then for now, then in zip(spent(), before, strict=True))
    return Wait((whole - begun) / 1000, None if bar is None else (bar - begun) / 1000, server, browser)


def spent() -> tuple[float, float]:
    """Seconds of processors that the server and the browser of this bench have taken so far, with all that they
    started; 0 where the system does not tell them as Linux does."""
    stats = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = place.parent.name, place.read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        except OSError:  # it has just ended
            continue
        fields = rest.split()
        stats[int(number)] = int(fields[1]), sum(map(int, fields[11:15]))  # parent; with children that have ended
    servers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    of_server = _descendants(stats, servers)
    others = _descendants(stats, [os.getpid()]) - of_server - {os.getpid()}
    tick = os.sysconf("SC_CLK_TCK")
    server, browser = (sum(stats[number][1] for number in each if number in stats) for each in (of_server, others))
    return server / tick, browser / tick


def _descendants(stats: dict[int, tuple[int, int]], roots: Iterable[int]) -> set[int]:
    """Processes and all that they have started, by number."""
    found, waiting = set[int](), list(roots)
    while waiting:
        number = waiting.pop()
        found.add(number)
        waiting += [child for child, (parent, _) in stats.items() if parent == number]
    return found
