"""The SQL page: one user's queries, and nobody else's trouble."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

import atlas
import query
from atlas.errors import SqlRefused
from tests.app.browsing import CHROMIUM, drawn, photograph

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or name it in the variable CHROMIUM"),
]

TEXT, IMAGE, FULL_SITE = "demo-gpt2", "demo-inceptionv1", "inception5b:full"
OpenPage = Callable[[str], Page]

SLOW = "select count(*) from range(1000000000000) t(i) where i % 7 = 3"
"""Hours, unless it is stopped."""


def address(server: str, **state: object) -> str:
    return f"{server}/sql?{urlencode(state)}"


def no_error(page: Page) -> None:
    expect(page.locator('.pa-error, [data-testid="stException"], [data-testid="stAlert"]')).to_have_count(0)


def test_sql_runs_and_refuses(server: str, open_page: OpenPage, demo_atlas: Path):
    attack = "select * from read_text('/etc/passwd')"
    with atlas.open(demo_atlas) as a, pytest.raises(SqlRefused) as refusal:
        query.sql(a, attack)
    page = open_page(address(server, network=TEXT))
    no_error(page)
    editor = page.get_by_label("Query (")

    def run(text: str) -> None:
        editor.fill(text)
        editor.press("Control+Enter")

    run("select count(*) as n, 'a' as word, 'b' as word from examples")
    expect(page.get_by_text("1 row in")).to_be_visible()
    with atlas.open(demo_atlas) as a:
        n = a.value("select count(*) from examples")
    heads = page.get_by_test_id("stDataFrame").locator("canvas th")
    expect(heads.filter(has_text="word")).to_have_count(2)
    expect(page.get_by_test_id("stDataFrame").locator("canvas td").filter(has_text=str(n))).to_have_count(1)
    run(attack)
    expect(page.locator(".pa-error")).to_have_text(str(refusal.value))
    assert "root:" not in page.inner_text("body")
    run("select * from range(100000)")
    expect(page.get_by_text("The first 1,000 rows")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 1001
    run("select nonsense from examples")
    expect(page.locator(".pa-error")).to_contain_text("nonsense")


def test_sample_queries_run(server: str, open_page: OpenPage):
    page = open_page(address(server, network=IMAGE, target=FULL_SITE))
    for name in ("Fullest polytopes", "Labels where a gate is on", "Most surprising", "Purity by depth"):
        before = page.get_by_label("Query (").input_value()
        page.get_by_role("button", name=name).click()
        expect(page.get_by_label("Query (")).not_to_have_value(before)
        drawn(page)
        no_error(page)
        expect(page.get_by_text("rows in")).to_be_visible()


def test_a_slow_query_is_stopped_and_stalls_no_other_session(server: str, open_page: OpenPage):
    slow = open_page(address(server, network=TEXT, query=SLOW, timeout=300))
    stop = slow.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_visible()
    photograph(slow, "sql-running")
    other = open_page(address(server, network=TEXT, query="select 42 as answer"))
    expect(other.get_by_text("1 row in")).to_be_visible()
    stop.click()
    expect(slow.get_by_text("Query: stopped.")).to_be_visible()
    slow.get_by_role("button", name="Start again").click()
    expect(stop).to_be_visible()
    stop.click()
    expect(slow.get_by_text("Query: stopped.")).to_be_visible()


def test_a_query_past_its_time_says_so(server: str, open_page: OpenPage):
    page = open_page(address(server, network=TEXT, query=SLOW, timeout=1))
    expect(page.locator(".pa-error")).to_contain_text("the query ran longer than 1 s and was stopped")


def test_rows_are_charted_and_the_figure_downloads(server: str, open_page: OpenPage, demo_atlas: Path):
    text = "select label, count(*) as n, avg(loss) as loss from examples group by label order by label"
    page = open_page(address(server, network=TEXT, query=text, show="Chart", x="label", y="n"))
    no_error(page)
    with atlas.open(demo_atlas) as a:
        rows = query.sql(a, text)
    expect(page.locator(".st-key-figure-query-chart .js-plotly-plot .barlayer .point")).to_have_count(len(rows))
    photograph(page, "sql-chart")
    for kind in ("PNG", "SVG", "CSV"):
        with page.expect_download() as download:
            page.locator(".st-key-figure-query-chart").get_by_role("button", name=kind, exact=True).click()
        assert download.value.suggested_filename == f"query.{kind.lower()}"
        start = Path(download.value.path()).read_bytes()[:8]
        assert start == {"PNG": b"\x89PNG\r\n\x1a\n", "SVG": b"<svg cla", "CSV": b"label,n\n"}[kind]
