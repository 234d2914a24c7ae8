"""The SQL page: one user's queries, and nobody else's trouble."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from playwright.sync_api import expect

import atlas
import query
from app.explorer.view import View
from app.explorer.views.sql import _shown, sample_queries
from atlas.errors import SqlRefused
from tests.app.explorer.browsing import IN_BROWSER, OpenPage, address, answered, drawn, no_error, photograph, says
from tests.app.explorer.running import opened

pytestmark = IN_BROWSER

TEXT, IMAGE, FULL_SITE = "demo-gpt2", "demo-inceptionv1", "inception5b:full"

SLOW = "select count(*) from range(1000000000000) t(i) where i % 7 = 3"
"""Hours, unless it is stopped."""

DEAF = "select len(list_transform(range(20000000), lambda i: hash(i)::varchar)) as n"
"""Minutes, and one value: DuckDB looks neither at the clock nor for an interrupt."""


def test_sql_runs_and_refuses(server: str, open_page: OpenPage, demo_atlas: Path):
    attack = "select * from read_text('/etc/passwd')"
    with atlas.open(demo_atlas) as a, pytest.raises(SqlRefused) as refusal:
        query.sql(a, attack)
    page = open_page(address(server, "sql", network=TEXT))
    no_error(page)
    editor = page.get_by_label("Query (")

    def run(text: str) -> None:
        answered(page)
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
    answered(page)
    expect(page.locator("body")).not_to_contain_text("root:", use_inner_text=True)
    run("select * from range(100000)")
    expect(page.get_by_text("The first 1,000 rows")).to_be_visible()
    answered(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 1001
    run("select nonsense from examples")
    expect(page.locator(".pa-error")).to_contain_text("nonsense")


def test_a_column_of_many_kinds_is_shown_as_text_and_nothing_is_logged(
    demo_atlas: Path, caplog: pytest.LogCaptureFixture
) -> None:
    streamlit = logging.getLogger("streamlit.dataframe_util")  # which tells none above it
    streamlit.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.DEBUG, streamlit.name):
            page = opened(demo_atlas, "sql", network=TEXT, query="select * from duckdb_settings()")
    finally:
        streamlit.removeHandler(caplog.handler)
    assert [record for record in caplog.records if record.name == streamlit.name] == []
    [shown] = [table.value for table in page.dataframe]
    values = dict(zip(shown["name"], shown["typed_value"], strict=True))
    assert values["enable_external_access"] == "False" and values["allowed_directories"].startswith('["/')


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, "a", None, [1, 2]], ["1", "a", None, "[1, 2]"]),
        ([b"\x01\xff", "a", 1], ["01ff", "a", "1"]),
        ([[1], ["a"]], ["[1]", '["a"]']),
        ([True, "a", {"b": [b"\x01"]}], ["True", "a", '{"b": ["01"]}']),
        ([10**30, None, -1], [str(10**30), None, "-1"]),
    ],
)
def test_no_value_of_a_column_of_many_kinds_is_lost(values: list[object], texts: list[str | None]) -> None:
    rows = pd.DataFrame({"v": pd.Series(values, dtype=object), "n": range(len(values))})
    rows.columns = pd.Index(["v", "v"])
    shown, pictures = _shown(rows)
    assert [None if value is np.nan else value for value in shown["v"]] == texts
    assert shown["v (2)"].tolist() == [*range(len(values))] and not pictures
    pa.Table.from_pandas(shown)


@pytest.mark.parametrize("values", [["a", None], [b"\x01", None], [[1, None], []], [{"a": 1}, None], [1.5, None], []])
def test_a_column_of_one_kind_is_shown_as_it_is(values: list[object]) -> None:
    rows = pd.DataFrame({"v": pd.Series(values, dtype=object)})
    expected = ["01", None] if b"\x01" in values else values
    assert [None if value is np.nan else value for value in _shown(rows)[0]["v"]] == expected


def test_sample_queries_are_about_the_last_site_of_a_span(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        text, last = a.catalog.network(TEXT), "blocks.3.mlp"
        for target, site in {
            "blocks.1.mlp": "blocks.1.mlp",
            "blocks.0.mlp->blocks.2.mlp": "blocks.2.mlp",
            "blocks.1.mlp->": last,
            "no such site": last,
            "": last,
        }.items():
            assert f"site = '{site}'" in sample_queries(View(a, text, target))["Fullest polytopes"], target


def test_sample_queries_run(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        samples = sample_queries(View(a, a.catalog.network(IMAGE), FULL_SITE))
        sizes = {name: len(query.sql(a, text)) for name, text in samples.items()}
    page = open_page(address(server, "sql", network=IMAGE, target=FULL_SITE))
    for name in ("Fullest polytopes", "Most surprising", "Purity by depth", "Polytopes a site"):
        answered(page)
        page.get_by_role("button", name=name).click()
        expect(page.get_by_label("Query (")).to_have_value(samples[name])
        answered(page)
        no_error(page)
        expect(page.get_by_text(f"{sizes[name]:,} rows in")).to_be_visible()


def test_a_slow_query_is_stopped_and_stalls_no_other_session(server: str, open_page: OpenPage):
    slow = open_page(address(server, "sql", network=TEXT, query=SLOW, timeout=300))
    stop = slow.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_visible()
    photograph(slow, "sql-running")
    other = open_page(address(server, "sql", network=TEXT, query="select 42 as answer"))
    expect(other.get_by_text("1 row in")).to_be_visible()
    stop.click()
    expect(slow.get_by_text("Query: stopped.")).to_be_visible()
    answered(slow)
    slow.get_by_role("button", name="Start again").click()
    expect(stop).to_be_visible()
    drawn(slow)
    stop.click()
    expect(slow.get_by_text("Query: stopped.")).to_be_visible()


def test_two_slow_queries_of_two_sessions_stall_no_third(server: str, open_page: OpenPage):
    """One of them hears nothing while it computes a single value."""
    slow = [open_page(address(server, "sql", network=TEXT, query=text, timeout=300)) for text in (SLOW, DEAF)]
    for page in slow:
        expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    third = open_page(address(server, "sql", network=TEXT, query="select 42 as answer"))
    expect(third.get_by_text("1 row in")).to_be_visible()
    search = open_page(address(server, "search", network=TEXT, where="example_id % 2 = 0"))
    answered(search)
    expect(search.locator(".pa-context mark").first).to_be_visible()
    for page in slow:
        drawn(page)
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_text("Query: stopped.")).to_be_visible()


def test_rows_are_paged_and_download_whole(server: str, open_page: OpenPage):
    text = "select i + 5000 as n from range(450) t(i)"
    page = open_page(address(server, "sql", network=TEXT, query=text, page=3))
    answered(page)
    expect(page.get_by_text("450 rows in")).to_be_visible()
    says(page, "Rows 401 to 450 of 450")
    numbers = page.get_by_test_id("stDataFrame").locator("canvas td")
    expect(numbers.filter(has_text="5400")).to_have_count(1)
    page.get_by_test_id("stPagination").get_by_text("1", exact=True).click()
    says(page, "Rows 1 to 200 of 450")
    expect(numbers.filter(has_text="5000")).to_have_count(1)
    answered(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert Path(download.value.path()).read_text().split() == ["n", *(str(5000 + i) for i in range(450))]


def test_an_answer_that_is_too_large_to_show_says_so(server: str, open_page: OpenPage):
    wide = "select range(3000) as many from range(10000)"
    page = open_page(address(server, "sql", network=TEXT, query=wide, limit=10_000))
    answered(page)
    expect(page.locator(".pa-error")).to_contain_text("10,000 rows takes 240 MB, and the explorer shows at most 64")


def test_a_query_past_its_time_says_so(server: str, open_page: OpenPage):
    page = open_page(address(server, "sql", network=TEXT, query=SLOW, timeout=1))
    expect(page.locator(".pa-error")).to_contain_text("the query ran longer than 1 s and was stopped")


def test_rows_are_charted_and_the_figure_downloads(server: str, open_page: OpenPage, demo_atlas: Path):
    text = "select label, count(*) as n, avg(loss) as loss from examples group by label order by label"
    page = open_page(address(server, "sql", network=TEXT, query=text, show="Chart", x="label", y="n"))
    no_error(page)
    with atlas.open(demo_atlas) as a:
        rows = query.sql(a, text)
    expect(page.locator(".st-key-figure-query-chart .js-plotly-plot .barlayer .point")).to_have_count(len(rows))
    answered(page)
    photograph(page, "sql-chart")
    for kind in ("PNG", "SVG", "CSV"):
        with page.expect_download() as download:
            page.locator(".st-key-figure-query-chart").get_by_role("button", name=kind, exact=True).click()
        assert download.value.suggested_filename == f"query.{kind.lower()}"
        start = Path(download.value.path()).read_bytes()[:8]
        assert start == {"PNG": b"\x89PNG\r\n\x1a\n", "SVG": b"<svg cla", "CSV": b"label,n\n"}[kind]
