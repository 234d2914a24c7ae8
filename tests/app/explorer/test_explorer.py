"""The explorer in a real browser: what it shows is what the query layer answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

import atlas
from app.cli.serve import arguments, serve
from atlas.errors import AtlasLocked, NotAnAtlas, UsageError
from query.clustering.clusterings import latest_clustering
from tests.app.explorer.browsing import (
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    drawn,
    no_error,
    photograph,
    says,
    serving,
)
from tests.app.explorer.running import computed, errors, ids, opened, words
from tests.ingest.runs import held

pytestmark = IN_BROWSER

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


def test_navigation_keeps_network_and_site(server: str, open_page: OpenPage, demo_atlas: Path):
    page = open_page(address(server, "overview", network=TEXT, target=SITE))
    expect(page.locator("h1")).to_have_text("Start")
    address_says(page, network=TEXT, target=SITE, about="true")
    page.get_by_role("textbox", name="An id, a token").fill("101")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Look")
    address_says(page, network=TEXT, target=SITE, example=101)
    expect(page.locator(".pa-context mark").first).to_be_visible()
    page.get_by_test_id("stSidebarNav").get_by_text("SQL").click()
    expect(page.locator("h1")).to_have_text("SQL")
    address_says(page, network=TEXT, target=SITE)
    with atlas.open(demo_atlas) as a:
        newest = latest_clustering(a, a.catalog.target(site=SITE, network=TEXT)).clustering_id
    page.goto(address(server, "cluster", network=TEXT, target=SITE))
    address_says(page, network=TEXT, target=SITE, clustering=newest)
    answered(page)
    steps, sent = page.evaluate("history.length"), list[int]()
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: sent.append(len(frame))))
    page.reload()
    drawn(page)
    assert 1_000 < sum(sent) < 1_000_000, "a page without a figure is not sent the script that draws figures"
    sizes = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.encodedBodySize)")
    assert 500_000 < sum(sizes) < 3_000_000, "what a new browser loads, Streamlit's own files among it"
    address_says(page, network=TEXT, target=SITE, clustering=newest)
    assert page.evaluate("history.length") == steps


# --- state and errors ------------------------------------------------------------------------------------------


def test_another_network_leaves_no_choice(demo_atlas: Path):
    """Changing the network leaves no stale choice."""
    with atlas.open(demo_atlas) as a:
        last = a.value("select max(example_id) from examples")
    app = opened(demo_atlas, "look", network=TEXT, target=SITE, example=last)
    app.selectbox(key="network").select(IMAGE)
    assert errors(computed(app)) == [] and ids(app)
    assert not {SITE, str(last)} & set(map(str, app.query_params.values()))


def test_an_unknown_site_is_a_sentence(demo_atlas: Path):
    page = opened(demo_atlas, "start", network=TEXT, target="<b>blocks.9.mlp</b>")
    assert "No such site or span in network demo-gpt2" in words(page)


BREAKABLE = """
import sys
from pathlib import Path
from app.explorer import main as explorer
title, path, icon, render = explorer.PAGES[0]
def breakable(view):
    if (view.path / "break").exists():
        raise RuntimeError("a detail for the log alone")
    render(view)
explorer.PAGES[0] = title, path, icon, breakable
explorer.main(sys.argv[1:])
"""
"""The explorer with a page that fails, for a reason that it did not foresee, once a file of that name is there."""


@pytest.mark.slow
def test_errors_are_explained(tmp_path: Path, open_page: OpenPage, demo_atlas: Path):
    """A missing atlas, one that is being written, and a mistake of ours; each ends once its cause does."""
    path, script = tmp_path / "gone.atlas", tmp_path / "breakable.py"
    script.write_text(BREAKABLE)
    with serving(path, script) as server:
        page = open_page(address(server, "", about="true"))
        with pytest.raises(NotAnAtlas) as missing:
            atlas.open(path)
        expect(page.locator(".pa-error")).to_have_text(str(missing.value).replace("`", ""))
        photograph(page, "error-missing")

        shutil.copytree(demo_atlas, path)
        page.reload()
        expect(page.get_by_test_id("stMetricValue").first).to_have_text("2")
        answered(page)  # what is computed reads the atlas meanwhile
        with held(path, writable=True):  # that a tab is open on it is no obstacle
            with pytest.raises(AtlasLocked) as locked:
                atlas.open(path)
            page.reload()
            expect(page.locator(".pa-error")).to_have_text(str(locked.value).replace("`", ""))
            assert "is being written by process" in str(locked.value)
            says(page, "This page opens by itself once it is free.")
            photograph(page, "error-locked")
        expect(page.get_by_test_id("stMetricValue").first).to_have_text("2")
        no_error(page)

        (path / "break").touch()
        page.reload()
        expect(page.locator(".pa-error")).to_contain_text("This page failed for a reason")
        drawn(page)
        for detail in ("Traceback", "a detail", "RuntimeError"):
            expect(page.locator("body")).not_to_contain_text(detail, use_inner_text=True)


FAILING = """
import sys
import streamlit as st
from app.explorer import main as explorer
from app.explorer.view import guarded
from atlas.errors import UsageError
@guarded
def fail(error):
    raise error
title, path, icon, render = explorer.PAGES[0]
def failing(view):
    st.button("Ask", on_click=fail, args=(UsageError("a region needs three corners, got <b>2</b>"),))
    st.button("Break", on_click=fail, args=(RuntimeError("a detail for the log alone"),))
    st.button("Go on")
explorer.PAGES[0] = title, path, icon, failing
choose = explorer.choose
def breakable(a, read_only):
    if "break" in st.query_params:
        raise RuntimeError("a detail for the log alone")
    return choose(a, read_only)
explorer.choose = breakable
explorer.main(sys.argv[1:])
"""
"""The explorer with a page whose buttons fail, and a sidebar that does."""


def test_a_callbacks_error_is_a_sentence(tmp_path: Path, open_page: OpenPage, demo_atlas: Path):
    """What a callback fails of is a sentence on the page that follows."""
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    with serving(demo_atlas, script) as server:
        page = open_page(server)

        def click(button: str) -> None:
            drawn(page)
            page.get_by_role("button", name=button, exact=True).click()

        click("Ask")
        expect(page.locator(".pa-error")).to_have_text("a region needs three corners, got <b>2</b>")
        expect(page.get_by_role("button", name="Go on")).to_be_visible()
        click("Break")
        expect(page.locator(".pa-error")).to_contain_text("This page failed for a reason")
        click("Go on")
        no_error(page)
        page = open_page(address(server, "", **{"break": "yes"}))
        expect(page.locator(".pa-error")).to_contain_text("This page failed for a reason")
        for detail in ("Traceback", "a detail", "RuntimeError"):
            expect(page.locator("body")).not_to_contain_text(detail, use_inner_text=True)


# --- starting --------------------------------------------------------------------------------------------------


def test_serve_refuses_what_is_no_atlas(tmp_path: Path):
    with pytest.raises(NotAnAtlas, match="make an atlas with"):
        serve(tmp_path, open_browser=False)


def test_serve_refuses_a_port_in_use(server: str, demo_atlas: Path):
    with pytest.raises(UsageError, match=r"can't listen on 127\.0\.0\.1, port"):
        serve(demo_atlas, port=int(server.rsplit(":", 1)[1]), open_browser=False)


def test_loopback_serves_loopback_names(demo_atlas: Path):
    """Only loopback names are served on loopback."""
    line = arguments(demo_atlas, port=1, host="127.0.0.1", open_browser=False)
    assert "localhost" in line and line[-2:] == ["--", str(demo_atlas)]
    assert "--server.allowedHosts" not in arguments(demo_atlas, port=1, host="0.0.0.0", open_browser=False)
