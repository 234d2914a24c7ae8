"""The SQL page: one user's queries, and nobody else's trouble."""

from __future__ import annotations

import logging
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest

import atlas
import query
from app.explorer.parts.marked import places_of
from app.explorer.view import View
from app.explorer.views.sql import _shown, pins_of, sample_queries
from atlas.errors import SqlRefused
from query.layout.layouts import layout_of
from tests.app.explorer.browsing import IN_BROWSER, OpenPage, address
from tests.app.explorer.running import computed, errors, figures, opened, press, words

TEXT, IMAGE, FULL_SITE = "demo-gpt2", "demo-inceptionv1", "inception5b:full"

SLOW = "select count(*) from range(1000000000000) t(i) where i % 7 = 3"
"""Hours, unless it is stopped."""

DEAF = "select len(list_transform(range(20000000), lambda i: hash(i)::varchar)) as n"
"""Minutes, and one value: DuckDB looks neither at the clock nor for an interrupt."""


MIXED = """
select false::variant as mixed union all select []::integer[]::variant union all select 'a'::variant
"""


def test_a_mixed_column_is_text_unlogged(demo_atlas: Path) -> None:
    """A column of many kinds is shown as text and nothing is logged."""
    told: SimpleQueue[logging.LogRecord] = SimpleQueue()
    streamlit, listener = logging.getLogger("streamlit.dataframe_util"), QueueHandler(told)
    level = streamlit.level
    streamlit.setLevel(logging.DEBUG)
    streamlit.addHandler(listener)
    try:
        page = opened(demo_atlas, "sql", network=TEXT, query=MIXED)
    finally:
        streamlit.removeHandler(listener)
        streamlit.setLevel(level)
    assert told.empty()
    [shown] = [table.value for table in page.dataframe]
    assert shown["mixed"].tolist() == ["False", "[]", "a"]


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
def test_a_mixed_column_loses_no_value(values: list[object], texts: list[str | None]) -> None:
    """No value of a column of many kinds is lost."""
    rows = pd.DataFrame({"v": pd.Series(values, dtype=object), "n": range(len(values))})
    rows.columns = pd.Index(["v", "v"])
    shown, pictures = _shown(rows)
    assert [None if value is np.nan else value for value in shown["v"]] == texts
    assert shown["v (2)"].tolist() == [*range(len(values))] and not pictures
    pa.Table.from_pandas(shown)


@pytest.mark.parametrize("values", [["a", None], [b"\x01", None], [[1, None], []], [{"a": 1}, None], [1.5, None], []])
def test_a_plain_column_is_shown_as_it_is(values: list[object]) -> None:
    """A column of one kind is shown as it is."""
    rows = pd.DataFrame({"v": pd.Series(values, dtype=object)})
    expected = ["01", None] if b"\x01" in values else values
    assert [None if value is np.nan else value for value in _shown(rows)[0]["v"]] == expected


def test_samples_are_about_a_spans_last_site(demo_atlas: Path):
    """Sample queries are about the last site of a span."""
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


def test_sql_runs_and_refuses(demo_atlas: Path):
    attack = "select * from read_text('/etc/passwd')"
    with atlas.open(demo_atlas) as a:
        with pytest.raises(SqlRefused) as refusal:
            query.sql(a, attack)
        n = a.value("select count(*) from examples")
    app = opened(
        demo_atlas, "sql", network=TEXT, query="select count(*) as n, 'a' as word, 'b' as word from examples"
    )
    assert errors(app) == [] and "1 row in" in words(app)
    [shown] = [table.value for table in app.dataframe]
    assert list(shown.columns) == ["n", "word", "word_1"] and shown["n"].tolist() == [n]
    for text, said in (
        (attack, str(refusal.value)),
        ("select nonsense from examples", "nonsense"),
        ("select range(3000) as many from range(10000)", "takes 240 MB, and the explorer shows at most 64"),
        (SLOW, "the query ran longer than 1 s and was stopped"),
    ):
        app = opened(demo_atlas, "sql", network=TEXT, query=text, limit=10_000, timeout=1 if text == SLOW else 30)
        assert said in errors(app)[0] and not app.dataframe and "root:" not in words(app)


def test_sample_queries_run(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        samples = sample_queries(View(a, a.catalog.network(IMAGE), FULL_SITE))
        sizes = {name: len(query.sql(a, text)) for name, text in samples.items()}
    app = opened(demo_atlas, "sql", network=IMAGE, target=FULL_SITE)
    for name in ("Fullest polytopes", "Most surprising", "Purity by depth", "Polytopes a site"):
        press(app, name)
        assert app.text_area(key="query").value == samples[name]
        assert errors(app) == [] and f"{sizes[name]:,} rows in" in words(app)


def test_rows_come_in_pages(demo_atlas: Path):
    text = "select i + 5000 as n from range(450) t(i)"
    app = opened(demo_atlas, "sql", network=TEXT, query=text, page=3)
    assert "450 rows in" in words(app) and "Rows 401 to 450 of 450" in words(app)
    assert app.dataframe[0].value["n"].tolist() == list(range(5400, 5450))
    cut = opened(demo_atlas, "sql", network=TEXT, query="select * from range(100000)")
    assert "The first 1,000 rows" in words(cut)


def test_rows_are_charted(demo_atlas: Path):
    text = "select label, count(*) as n, avg(loss) as loss from examples group by label order by label"
    with atlas.open(demo_atlas) as a:
        rows = query.sql(a, text)
    app = opened(demo_atlas, "sql", network=TEXT, query=text, show="Chart", x="label", y="n")
    [figure] = figures(app)
    assert errors(app) == [] and figure["data"][0]["x"] == rows["label"].tolist()
    assert figure["layout"]["title"]["text"] == f"n by label, n = {len(rows)} rows"


TWICE = "select * from (values ('a', 'x', 1, 0.5), ('a', 'y', 2, 0.75), ('b', 'x', 3, 1.0)) t(name, kind, n, share)"


def charted(path: Path, text: str, **address: object) -> tuple[dict[str, Any], AppTest]:
    app = opened(path, "sql", network=TEXT, query=text, show="Chart", **address)
    [figure] = figures(app)
    assert errors(app) == []
    return figure, app


def test_a_chart_never_sums_rows(demo_atlas: Path):
    """Rows of one name are told apart by another column, or each is a point, which the page says."""
    figure, app = charted(demo_atlas, TWICE)
    assert [(part["type"], part["name"], part["x"]) for part in figure["data"]] == [
        ("bar", "x", ["a", "b"]),
        ("bar", "y", ["a"]),
    ]
    assert figure["layout"]["yaxis"]["title"]["text"] == "n" and "Several rows" not in words(app)
    for text in (TWICE, TWICE.replace("'y'", "'x'")):  # not told apart, by choice or for want of a column
        figure, app = charted(demo_atlas, text, **({"by": "(none)"} if text == TWICE else {}))
        assert {part["type"] for part in figure["data"]} == {"scatter"}
        assert figure["data"][0]["mode"] == "markers" and "have the same name: each is a point" in words(app)


def test_samples_chart_what_they_name(demo_atlas: Path):
    """The purity of one clustering is one bar: where codes and activations are clustered, each has its own."""
    with atlas.open(demo_atlas) as a:
        samples = sample_queries(View(a, a.catalog.network(TEXT), "blocks.2.mlp"))
        purity = query.sql(a, samples["Purity by depth"])
    axes = {}
    for name, text in samples.items():
        figure, _ = charted(demo_atlas, text)
        axes[name] = tuple(figure["layout"][axis]["title"]["text"] for axis in ("xaxis", "yaxis"))
        if name == "Purity by depth":
            assert sum(len(part["x"]) for part in figure["data"]) == len(purity)
    assert axes == {
        "Labels where a gate is on": ("label", "share_on"),
        "Fullest polytopes": ("code_hash", "occupancy"),
        "Most surprising": ("token", "loss"),
        "Purity by depth": ("target", "purity"),
        "Polytopes a site": ("site", "polytopes"),
    }


class TestInABrowser:
    pytestmark = IN_BROWSER

    @pytest.mark.slow
    def test_slow_queries_stall_no_other(self, server: str, open_page: OpenPage):
        """Of two sessions, one of which hears nothing while it computes a single value."""
        slow = [open_page(address(server, "sql", network=TEXT, query=text, timeout=300)) for text in (SLOW, DEAF)]
        for page in slow:
            expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
        third = open_page(address(server, "sql", network=TEXT, query="select 42 as answer"))
        expect(third.get_by_text("1 row in")).to_be_visible()
        for page in slow:
            page.get_by_role("button", name="Stop", exact=True).click()
            expect(page.get_by_text("Query: stopped.")).to_be_visible()
        slow[0].get_by_role("button", name="Start again").click()
        slow[0].get_by_role("button", name="Stop", exact=True).click()
        expect(slow[0].get_by_text("Query: stopped.")).to_be_visible()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"example_id": [3, 5], "token": ["a", "b"]}, ["example:3", "example:5"]),
        ({"clustering_id": [4, 4], "cluster": [0, -1]}, ["cluster:4:0", "cluster:4:-1"]),
        ({"clustering_id": [4], "label": [2], "size": [7]}, ["cluster:4:2"]),
        ({"clustering_id": [4], "label": ["six"]}, []),
        ({"example_id": [3.5]}, []),
        ({"label": ["six"]}, []),
    ],
)
def test_rows_are_pinned_by_their_columns(rows: dict[str, list[Any]], expected: list[str]):
    assert [pin.word for pin in pins_of(pd.DataFrame(rows))] == expected


def test_chosen_rows_are_pinned(demo_atlas: Path):
    page = opened(demo_atlas, "sql", query="select example_id, label from examples order by example_id limit 5")
    assert page.button(key="pin-rows").disabled
    assert "marked=1%2C2%2C3%2C4%2C5" in "".join(part.value for part in page.html)
    page.session_state["rows"] = {"selection": {"rows": [1, 3], "columns": [], "cells": []}}
    computed(page)
    page.button(key="pin-rows").click()
    assert errors(computed(page)) == [] and page.query_params["pin"] == ["example:2", "example:4"]


def test_marked_examples_are_on_the_map(demo_atlas: Path):
    """The rows of a query, where the map has them; those that it lacks are counted."""
    with atlas.open(demo_atlas) as a:
        newest = layout_of(a, a.catalog.target(site="inception5b", network=IMAGE)).layout_id
        x, y = a.rows("select x, y from layout_points where layout_id = $1 and example_id = 7", [newest])[0]
        assert places_of(a, newest, [7, 999]) == {7: (x, y)}
    here = {"network": IMAGE, "target": "inception5b"}
    page = opened(demo_atlas, "atlas", **here, marked="7,9,999")
    assert errors(page) == [] and "2 examples marked, 1 not on this map" in words(page)
    wrong = opened(demo_atlas, "atlas", **here, marked="a,b")
    [sentence] = errors(wrong)
    assert sentence == "the address asks for marked a,b; expected ids of examples with commas between; shown is none"
