"""Going on to another page while a bar asks how far its job is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, WebSocketRoute, expect

from tests.app.explorer.browsing import IN_BROWSER, address, address_says, answered, eventually, serving

pytestmark = IN_BROWSER

ASKING = """
import sys
import streamlit as st
from app.explorer import leaving, main as explorer
title, path, icon, _ = explorer.PAGES[0]
def asking(view):
    @st.fragment(run_every=0.1)
    def bar():
        st.write("Not done yet")
    if st.button("Go"):
        leaving.leave("look", {"k": "7"})
    bar()
explorer.PAGES[0] = title, path, icon, asking
explorer.main(sys.argv[1:])
"""
"""The explorer with a first page that asks for something all the time, and leads to Look."""


@pytest.mark.slow
def test_a_late_bar_blanks_no_page(tmp_path: Path, tabs: BrowserContext, built: Path):
    """A browser that hears late of a run asks for parts of the page before; the new page stays."""
    script = tmp_path / "asking.py"
    script.write_text(ASKING)
    sent: list[str | bytes] = []
    kept: list[str | bytes] | None = None

    def route(page: WebSocketRoute) -> None:
        server = page.connect_to_server()

        def up(message: str | bytes) -> None:
            sent.append(message)
            server.send(message)

        def down(message: str | bytes) -> None:
            if kept is None:
                page.send(message)
            else:
                kept.append(message)

        page.on_message(up)
        server.on_message(down)
        sockets.append(page)

    sockets: list[WebSocketRoute] = []
    with serving(built, script) as server:
        page = tabs.new_page()
        page.route_web_socket(re.compile("_stcore/stream"), route)
        page.goto(address(server, "", network="words"))
        expect(page.get_by_text("Not done yet")).to_be_visible()
        kept = []
        sent.clear()
        page.get_by_role("button", name="Go").click()
        eventually(page, lambda: len(sent) >= 3, True)  # the click, and what the bar asks
        late, kept = kept, None
        for message in late:
            sockets[-1].send(message)
        address_says(page, k=7, network="words")
        answered(page)
        expect(page.get_by_role("button", name="Next")).to_be_visible()
        page.close()
