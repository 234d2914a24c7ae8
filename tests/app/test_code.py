"""Under every table stands the code that gives it: it runs as it is shown, and gives what is shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.io
import pytest
from playwright.sync_api import Page

import atlas
import query
from app.code import call, script
from app.view import View as PageView
from query.info import polytope_counts
from tests.app.browsing import IN_BROWSER, OpenPage, address, answered, no_error
from tests.app.views import VIEWS

TABLES_WITHOUT_CODE = """() => {
    const things = document.querySelectorAll(
        '[data-testid="stMain"] :is(.pa table, [data-testid="stDataFrame"], h3, summary)'
    );
    const told = [...things].map(thing =>
        thing.matches("h3") ? "heading" : thing.matches("summary") ? thing.innerText.trim() : "table"
    );
    let missing = 0, open = 0;
    for (const thing of [...told, "heading"]) {
        if (thing === "table") open += 1;
        else if (thing.endsWith("Code for this")) open = 0;
        else if (thing === "heading") { missing += open; open = 0; }
    }
    return missing;
}"""
"""How many tables have no code below them, before the next heading."""

IDS = '[data-testid="stMain"] :is(.pa table, .pa-grid) a[href^="example?"]'


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def printed(code: str) -> list[Any]:
    """What a script prints, as the objects that they are; figures are not shown."""
    found: list[Any] = []
    renderer, plotly.io.renderers.default = plotly.io.renderers.default, ""
    try:
        exec(code, {"print": found.append, "__name__": "shown"})
    finally:
        plotly.io.renderers.default = renderer
    return found


def ids_in(thing: Any) -> set[int]:
    """All example ids in what was printed."""
    if isinstance(thing, pd.DataFrame):
        columns = [name for name in thing.columns if name in ("example_id", "medoid", "nearest")]
        return {int(value) for name in columns for value in thing[name].dropna()}
    if isinstance(thing, dict):
        return {number for value in thing.values() for number in ids_in(value)}
    return set()


def codes(page: Page, language: str) -> list[str]:
    return page.locator(f'[data-testid="stMain"] code.language-{language}').all_text_contents()


@pytest.mark.browser
@pytest.mark.skipif(IN_BROWSER[1].args[0], reason="no Chromium")
@pytest.mark.parametrize("name", VIEWS)
def test_every_table_has_code_that_gives_it(
    server: str, measured_server: str, open_page: OpenPage, tmp_path: Path, name: str
):
    view = VIEWS[name]
    page = open_page(address(measured_server if view.measured else server, view.page, **view.state))
    answered(page)
    no_error(page)
    assert page.evaluate(TABLES_WITHOUT_CODE) == 0
    scripts = [code for code in codes(page, "python") if "atlas.open" in code]
    assert scripts
    with inside(tmp_path):
        found = [thing for code in scripts for thing in printed(code)]
    given = set().union(*map(ids_in, found))
    shown = {int(words) for words in page.locator(IDS).all_inner_texts() if words.strip().isdecimal()}
    assert shown <= given


def test_code_names_functions_as_they_can_be_imported(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        view = PageView(a, a.catalog.networks[0], "inception5b")
        one, other = call(query.nearest, example=3, site="inception5b", k=None), call(polytope_counts)
        code = script(view, one, f"{other}.head(2)")
    assert "query.nearest(a, example=3, site='inception5b')" in code
    assert code.startswith("import atlas, query\nfrom query.info import polytope_counts\n\nwith atlas.open(")
    nearest, counts = printed(code)
    assert len(nearest) == 10 and list(counts.columns)[:2] == ["network", "site"] and len(counts) == 2
