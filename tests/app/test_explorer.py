"""The explorer in a real browser: what it shows is what the query layer answers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

import atlas
from app.serve import command, serve
from atlas.errors import AtlasLocked, NotAnAtlas, UsageError
from tests.app.browsing import CHROMIUM, answered, drawn, photograph, serving, wait_for

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or name it in the variable CHROMIUM"),
]

PAGES = {
    "": "Overview",
    "example": "Example",
    "search": "Search",
    "clusters": "Clusters",
    "map": "Map",
    "neurons": "Neurons",
    "density": "Density",
    "paths": "Paths",
    "slices": "Slices",
    "sql": "SQL",
    "experiments": "Experiments",
}
TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"
OpenPage = Callable[[str], Page]


def address(server: str, page: str, **state: object) -> str:
    return f"{server}/{page}?{urlencode(state)}"


def no_error(page: Page) -> None:
    expect(page.locator('.pa-error, [data-testid="stException"], [data-testid="stAlert"]')).to_have_count(0)


# --- every page ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_every_page_opens(server: str, open_page: OpenPage, path: str):
    page = open_page(address(server, path, network=TEXT, target=SITE))
    expect(page.locator("h1")).to_have_text(PAGES[path])
    answered(page)
    no_error(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)  # the browser fades from one to the other
        photograph(page, f"{PAGES[path].lower()}-{scheme}")


def test_navigation_keeps_network_and_site(server: str, open_page: OpenPage):
    page = open_page(address(server, "", network=TEXT, target=SITE))
    page.get_by_test_id("stSidebarNav").get_by_text("Search").click()
    expect(page.locator("h1")).to_have_text("Search")
    drawn(page)
    assert f"network={TEXT}" in page.url and f"target={SITE}" in page.url
    expect(page.locator(".pa-context mark").first).to_be_visible()


def atlas_value(path: Path, sql: str) -> object:
    with atlas.open(path) as a:
        return a.value(sql)


# --- state and errors ------------------------------------------------------------------------------------------


def test_changing_the_network_leaves_no_stale_choice(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        last = a.value("select max(example_id) from examples")
    page = open_page(address(server, "search", network=TEXT, target=SITE, example=last))
    field = page.get_by_test_id("stSidebar").get_by_role("combobox").first
    field.click()
    page.get_by_role("option", name=IMAGE).click()
    expect(page.locator(".pa-grid figure").first).to_be_visible()
    drawn(page)
    no_error(page)
    assert SITE not in page.url and f"example={last}" not in page.url


def test_an_unknown_site_is_a_sentence(server: str, open_page: OpenPage):
    page = open_page(address(server, "search", network=TEXT, target="<b>blocks.9.mlp</b>"))
    expect(page.locator(".pa-error")).to_contain_text("no site '<b>blocks.9.mlp</b>' in network demo-gpt2")


BREAKABLE = """
import sys
from pathlib import Path
from app import explorer
title, path, icon, render = explorer.PAGES[0]
def breakable(view):
    if (view.path / "break").exists():
        raise RuntimeError("a detail for the log alone")
    render(view)
explorer.PAGES[0] = title, path, icon, breakable
explorer.main(sys.argv[1:])
"""
"""The explorer with a page that fails, for a reason that it did not foresee, once a file of that name is there."""


def test_errors_are_explained(tmp_path: Path, open_page: OpenPage, demo_atlas: Path):
    """A missing atlas, one that is being written, and a mistake of ours; each ends once its cause does."""
    path, script = tmp_path / "gone.atlas", tmp_path / "breakable.py"
    script.write_text(BREAKABLE)
    with serving(path, script) as server:
        page = open_page(server)
        with pytest.raises(NotAnAtlas) as missing:
            atlas.open(path)
        expect(page.locator(".pa-error")).to_have_text(str(missing.value).replace("`", ""))
        photograph(page, "error-missing")

        shutil.copytree(demo_atlas, path)
        page.reload()
        expect(page.get_by_test_id("stMetricValue").first).to_have_text("2")
        drawn(page)
        with writing(path):
            with pytest.raises(AtlasLocked) as locked:
                atlas.open(path)
            page.reload()
            expect(page.locator(".pa-error")).to_have_text(str(locked.value).replace("`", ""))
            assert "is being written by process" in str(locked.value)
            photograph(page, "error-locked")

        (path / "break").touch()
        page.reload()
        expect(page.locator(".pa-error")).to_contain_text("This page failed for a reason")
        shown = page.inner_text("body")
        assert "Traceback" not in shown and "a detail" not in shown and "RuntimeError" not in shown


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Another process holds the atlas for writing; that a tab is open on it is no obstacle."""
    script = "import sys, atlas\nwith atlas.open(sys.argv[1], writable=True): print('open', flush=True); input()"
    line = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdin is not None
        assert writer.stdout.readline() == "open\n"
        yield
        writer.stdin.write("\n")


# --- starting --------------------------------------------------------------------------------------------------


def test_serve_refuses_what_is_no_atlas(tmp_path: Path):
    with pytest.raises(NotAnAtlas):
        serve(tmp_path, open_browser=False)


def test_serve_refuses_a_port_in_use(server: str, demo_atlas: Path):
    with pytest.raises(UsageError, match=r"can't listen on 127\.0\.0\.1, port"):
        serve(demo_atlas, port=int(server.rsplit(":", 1)[1]), open_browser=False)


def test_ctrl_c_ends_the_server_with_status_0(demo_atlas: Path):
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = f"import sys; from app.serve import serve; sys.exit(serve({demo_atlas!r}, {port=}, open_browser=False))"
    line = [sys.executable, "-c", f"from pathlib import PosixPath, WindowsPath; {script}"]
    with subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL) as running:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", running)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(20) == 0
    with closing(socket.socket()) as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_only_loopback_names_are_served_on_loopback(demo_atlas: Path):
    line = command(demo_atlas, port=1, host="127.0.0.1", open_browser=False)
    assert "localhost" in line and line[-2:] == ["--", str(demo_atlas)]
    assert "--server.allowedHosts" not in command(demo_atlas, port=1, host="0.0.0.0", open_browser=False)
