"""Every table has the code that gives it, at its heading: it runs as it is shown, and gives what is shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.io
import pytest
from streamlit.testing.v1 import AppTest

import atlas
import query
from app.explorer.parts.code import call, script
from app.explorer.view import View as PageView
from query.store.contents import polytope_counts
from tests.app.explorer.running import opened, parts, scripts
from tests.app.explorer.views_by_hand import VIEWS

pytestmark = pytest.mark.slow

LINKS = re.compile(r'<a href="look\?[^"]*"[^>]*>(\d+)</a>')


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


def kinds(app: AppTest) -> list[str]:
    """The headings, tables and code of a page, in order."""
    found = []
    for part in parts(app.main):
        if part.type in ("header", "subheader"):
            found.append("heading")
        elif part.type == "code":
            found.append("code")
        elif part.type == "html" and ">Option<" in part.value:
            continue  # what an experiment can be asked with is no table of the atlas
        elif part.type == "dataframe" or (part.type == "html" and "<table" in part.value):
            found.append("table")
    return found


def without_code(kinds: list[str]) -> int:
    """How many headings have tables and no code, on a page that has none above its first heading."""
    whole, *sections = " ".join(["", *kinds]).split("heading")
    return 0 if "code" in whole else sum("table" in each and "code" not in each for each in [whole, *sections])


@pytest.mark.parametrize("name", VIEWS)
def test_every_table_has_code_that_gives_it(demo_atlas: Path, measured_atlas: Path, tmp_path: Path, name: str):
    view = VIEWS[name]
    app = opened(measured_atlas if view.measured else demo_atlas, view.page or "start", **view.state)
    assert without_code(kinds(app)) == 0
    python = [code for code in scripts(app, "python") if "atlas.open" in code]
    assert python or "table" not in kinds(app)
    with inside(tmp_path):
        found = [thing for code in python for thing in printed(code)]
    given = set().union(*map(ids_in, found))
    lists = [part.value for part in app.main.html if "<table" in part.value or "pa-grid" in part.value]
    shown = {int(number) for each in lists for number in LINKS.findall(each)}
    assert shown <= given


def test_code_names_importable_functions(demo_atlas: Path):
    """Code names functions as they can be imported."""
    with atlas.open(demo_atlas) as a:
        view = PageView(a, a.catalog.networks[0], "inception5b")
        one, other = call(query.nearest, example=3, site="inception5b", k=None), call(polytope_counts)
        code = script(view, one, f"{other}.head(2)")
    assert "query.nearest(a, example=3, site='inception5b')" in code
    assert code.startswith(
        "import atlas, query\nfrom query.store.contents import polytope_counts\n\nwith atlas.open("
    )
    nearest, counts = printed(code)
    assert len(nearest) == 10 and list(counts.columns)[:2] == ["network", "site"] and len(counts) == 2


def test_code_stands_at_its_heading():
    """One icon a heading, with all the code for what stands below it; none where there is no code."""
    app = AppTest.from_function(_page_with_headings).run()
    assert [(part.type, part.value) for part in parts(app.main) if part.type != "html"] == [
        ("title", "Page"),
        ("code", "first"),
        ("header", "Silent"),
        ("header", "Section"),
        ("code", "second"),
        ("code", "third"),
    ]
    assert len(app.get("popover")) == 2


def _page_with_headings() -> None:
    """Streamlit runs the text of this function by itself."""
    import streamlit as st

    from app.explorer.parts import code

    with code.under("Page"):
        st.html("<p>a table</p>")
        code.fold(None, "first")  # type: ignore[arg-type]  # no SQL, so no link
        code.heading("Silent")
        code.heading("Section")
        code.fold(None, "second")  # type: ignore[arg-type]
        code.fold(None, "third")  # type: ignore[arg-type]
