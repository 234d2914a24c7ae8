"""The explorer in a real browser: what it shows is what the query layer answers."""

from __future__ import annotations

import io
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
from PIL import Image
from playwright.sync_api import Page, expect
from sklearn.datasets import load_digits

import atlas
import query
from app.serve import command, serve
from atlas.errors import AtlasLocked, NotAnAtlas, UsageError
from atlas.network import Network
from ingest.images import decode_image
from query.clusters import latest_clustering
from tests.app.browsing import CHROMIUM, HOSTILE, STARTING, drawn, photograph, serving, wait_for

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or name it in the variable CHROMIUM"),
]

PAGES = {"": "Overview", "nearest": "Nearest", "clusters": "Clusters", "density": "Density", "sql": "SQL"}
TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"
OpenPage = Callable[[str], Page]


def address(server: str, page: str, **state: object) -> str:
    return f"{server}/{page}?{urlencode(state)}"


def cells(page: Page, column: int) -> list[str]:
    """A column of the first table of examples."""
    return page.locator(f".pa table tbody tr td:nth-child({column})").all_inner_texts()


def row_ids(page: Page) -> list[int]:
    """Example ids at the end of the rows of a table."""
    return [int(words) for words in page.locator(".pa table td:last-child a").all_inner_texts()]


def caption_ids(page: Page) -> list[int]:
    """Example ids under the pictures of a grid."""
    return [int(words) for words in page.locator(".pa-grid figcaption a[href^=nearest]").all_inner_texts()]


def no_error(page: Page) -> None:
    expect(page.locator('.pa-error, [data-testid="stException"], [data-testid="stAlert"]')).to_have_count(0)


# --- every page ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_every_page_opens(server: str, open_page: OpenPage, path: str):
    page = open_page(address(server, path, network=TEXT, target=SITE))
    expect(page.locator("h1")).to_have_text(PAGES[path])
    no_error(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(300)  # the browser fades from one to the other
        photograph(page, f"{PAGES[path].lower()}-{scheme}")


def test_overview_shows_what_the_atlas_holds(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        held = query.info(a)
    page = open_page(address(server, "", network=IMAGE))
    sites = held["sites"]
    expected = [2, held["networks"]["n_examples"].sum(), (sites["n_codes"] > 0).sum(), sites["n_codes"].sum()]
    expect(page.get_by_test_id("stMetricValue")).to_have_text(
        [f"{number:,}" for number in [*expected, len(held["clusterings"])]]
    )
    assert cells(page, 1) == [IMAGE, TEXT]
    assert cells(page, 5) == [f"{count:,}" for count in held["networks"]["n_examples"]]
    empty = ((sites["network"] == IMAGE) & (sites["scope"] == "full") & (sites["n_codes"] == 0)).sum()
    assert f"{empty} full sites of demo-inceptionv1 hold no codes" in page.inner_text("body")
    bars = page.locator(".js-plotly-plot").first.locator(".bartext")
    expect(bars.first).to_be_visible()
    mine = sites[(sites["network"] == IMAGE) & (sites["scope"] == "position") & (sites["n_codes"] > 0)]
    assert bars.all_text_contents() == [f"{gates:,}" for gates in mine["n_gates"]]
    photograph(page, "overview-images")


def test_navigation_keeps_network_and_site(server: str, open_page: OpenPage):
    page = open_page(address(server, "", network=TEXT, target=SITE))
    page.get_by_test_id("stSidebarNav").get_by_text("Nearest").click()
    expect(page.locator("h1")).to_have_text("Nearest")
    drawn(page)
    assert f"network={TEXT}" in page.url and f"target={SITE}" in page.url
    expect(page.locator(".pa-context mark").first).to_be_visible()


# --- nearest ---------------------------------------------------------------------------------------------------


def test_nearest_of_an_example_shows_the_rows_of_the_query(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        example = a.value("select max(example_id) from examples where network_id = 2") - 3
        found = query.nearest(a, example=example, site=SITE, network=TEXT, k=7)
    page = open_page(address(server, "nearest", network=TEXT, target=SITE, example=example, k=7))
    no_error(page)
    assert cells(page, 2) == [f"{distance:,}" for distance in found["distance"]]
    assert row_ids(page) == found["example_id"].tolist()
    marks = page.locator(".pa table mark").all_inner_texts()
    assert [words.replace("⏎", "\n").strip() for words in marks] == [token.strip() for token in found["token"]]
    assert found.attrs["exact_note"][1:] in page.inner_text("body")

    page.get_by_role("button", name="Another at random").click()
    expect(page.get_by_label("Example (")).not_to_have_value(str(example))
    page.locator(".pa table tbody tr td:last-child a").first.click()  # whose neighbours are asked for next
    drawn(page)
    no_error(page)


def test_nearest_within_a_radius(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = query.nearest(a, example=5, site=FULL_SITE, network=IMAGE, k=10, radius=40)
    page = open_page(address(server, "nearest", network=IMAGE, target=FULL_SITE, example=5, radius=40))
    no_error(page)
    assert caption_ids(page) == found["example_id"].tolist()
    assert page.locator(".pa-grid img[src^='data:image/png']").count() == len(found)
    photograph(page, "nearest-images")


def test_nearest_over_a_typed_span(server: str, open_page: OpenPage, demo_atlas: Path):
    span = "blocks.0.mlp->blocks.2.mlp"
    with atlas.open(demo_atlas) as a:
        example = a.value("select min(example_id) from examples where network_id = 2")
        found = query.nearest(a, example=example, span=span, network=TEXT)
    page = open_page(address(server, "nearest", network=TEXT))
    field = page.get_by_test_id("stSidebar").get_by_role("combobox").last
    field.fill(span)
    field.press("Enter")
    expect(page.get_by_text("searched: all codes, block by block")).to_be_visible()
    drawn(page)
    assert row_ids(page) == found["example_id"].tolist()


def test_nearest_of_a_pasted_text(server: str, open_page: OpenPage, demo_atlas: Path, networks: dict[str, Network]):
    text = "import asyncio\n\nasync def main() -> None:\n    await"
    reader = networks["demo:gpt2"]
    n_tokens = len(reader.tokenize(text).ids)
    page = open_page(address(server, "nearest", network=TEXT, target=SITE, by="Text"))
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_label("Text", exact=True).press("Control+Enter")
    pills = page.get_by_test_id("stButtonGroup").last.get_by_role("radio")
    expect(pills).to_have_count(n_tokens, timeout=STARTING * 1000)  # the network is loaded first
    for token in (-1, 0):
        with atlas.open(demo_atlas) as a:
            found = query.nearest(a, text=text, token=token, site=SITE, network=TEXT, reader=reader)
        pills.nth(token).click()
        expect(page.locator(".pa", has_text=found.attrs["subject"][1:]).first).to_be_visible()
        drawn(page)
        assert row_ids(page) == found["example_id"].tolist()
        assert cells(page, 3) == [f"{density:#.4g}" for density in found["density"]]
    no_error(page)
    photograph(page, "nearest-text")

    again = open_page(page.url)
    assert again.get_by_label("Text", exact=True).input_value() == text
    assert row_ids(again) == found["example_id"].tolist()


def test_a_text_of_a_data_set_is_shown_as_its_characters(server: str, open_page: OpenPage, demo_atlas: Path):
    example = atlas_value(demo_atlas, "select min(example_id) from examples where starts_with(context, '<script>')")
    page = open_page(address(server, "nearest", network=TEXT, target=SITE, example=example))
    no_error(page)
    shown = page.locator(".pa-passage")
    assert HOSTILE.startswith(shown.inner_text())
    assert shown.locator("script, b, a").count() == 0
    assert page.title() != "hacked"


def test_nearest_of_an_uploaded_digit(
    server: str, open_page: OpenPage, demo_atlas: Path, networks: dict[str, Network]
):
    encoded = io.BytesIO()
    Image.fromarray((load_digits().images[3] * 255 / 16).astype("uint8")).save(encoded, "PNG")
    with atlas.open(demo_atlas) as a:
        image, reader = decode_image(encoded.getvalue()), networks["demo:inceptionv1"]
        found = query.nearest(a, image=image, site=FULL_SITE, network=IMAGE, reader=reader)
    page = open_page(address(server, "nearest", network=IMAGE, target=FULL_SITE, by="Image"))
    upload = page.locator("input[type=file]")
    upload.set_input_files({"name": "<b>three</b>.png", "mimeType": "image/png", "buffer": encoded.getvalue()})
    expect(page.locator(".pa-grid figure")).to_have_count(len(found), timeout=STARTING * 1000)
    assert caption_ids(page) == found["example_id"].tolist()
    expect(page.locator("figcaption", has_text="<b>three</b>.png")).to_be_visible()
    photograph(page, "nearest-upload")

    upload.set_input_files({"name": "broken.png", "mimeType": "image/png", "buffer": b"\x89PNG no more"})
    expect(page.locator(".pa-error")).to_contain_text("broken.png is no JPEG, PNG")


# --- clusters --------------------------------------------------------------------------------------------------


def test_a_chosen_cluster_shows_its_members(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        clustering = latest_clustering(a, a.catalog.target(site=SITE, network=TEXT)).clustering_id
        found = query.clusters(a, clustering).sort_values("size", ascending=False, kind="stable", ignore_index=True)
        second = query.members(a, int(found["label"][1]), clustering)
        noise = query.members(a, -1, clustering, limit=20, offset=20)
    page = open_page(address(server, "clusters", network=TEXT, target=SITE))
    heading = page.locator("h3").last
    expect(heading).to_have_text(f"Cluster {found['label'][0]}: {found['size'][0]:,} members")
    table = page.get_by_test_id("stDataFrame").first.locator("canvas").first
    # The box of the second row, under the heads: the grid is drawn on a canvas, under what scrolls it.
    table.click(force=True, position={"x": 18, "y": 36 + 33 + 16})
    expect(heading).to_have_text(f"Cluster {found['label'][1]}: {found['size'][1]:,} members")
    drawn(page)
    shown = row_ids(page)
    assert shown == second["example_id"].tolist()[:20]
    assert f"cluster={found['label'][1]}" in page.url

    size = noise.attrs["size"]
    noisy = open_page(address(server, "clusters", network=TEXT, target=SITE, cluster="noise"))
    expect(noisy.locator("h3").last).to_have_text(f"Noise: {size:,} members")
    noisy.get_by_test_id("stPagination").get_by_text("2", exact=True).click()
    expect(noisy.get_by_text("21 to 40 of")).to_be_visible()
    shown = row_ids(noisy)
    assert shown == noise["example_id"].tolist()
    photograph(noisy, "clusters-noise")


def test_clusters_of_images(server: str, open_page: OpenPage, demo_atlas: Path):
    page = open_page(address(server, "clusters", network=IMAGE, target=FULL_SITE))
    no_error(page)
    expect(page.locator(".pa-grid img").first).to_be_visible()
    page.locator("h3").last.scroll_into_view_if_needed()
    photograph(page, "clusters-images")


# --- density ---------------------------------------------------------------------------------------------------


def test_density_is_that_of_the_query(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = query.class_density(a, network=IMAGE, pairs=200, seed=3)
        pair = query.density(a, 2, 9, site=FULL_SITE, network=IMAGE)
    page = open_page(address(server, "density", network=IMAGE, target=FULL_SITE, pairs=200, seed=3, x=2, y=9))
    no_error(page)
    assert cells(page, 1) == found["span"].tolist()
    assert cells(page, 3)[0].startswith(f"{found['intra_mean'][0]:#.4g} [")
    assert cells(page, 4)[0].startswith(f"{found['inter_mean'][0]:#.4g} [")
    values = page.get_by_test_id("stMetricValue")
    expect(values.first).to_have_text(f"{pair.density:#.4g}")
    expect(values.nth(1)).to_have_text(f"{pair.hamming:,}")
    photograph(page, "density-images")


def test_what_has_no_density_is_explained(server: str, open_page: OpenPage):
    page = open_page(address(server, "density", network=IMAGE, target="inception5b"))
    expect(page.locator(".pa-error")).to_have_count(1)
    expect(page.locator(".pa-error")).to_contain_text("inception5b of network demo-inceptionv1 has position codes")
    assert cells(page, 1)  # the rest of the page is there


def atlas_value(path: Path, sql: str) -> object:
    with atlas.open(path) as a:
        return a.value(sql)


# --- state and errors ------------------------------------------------------------------------------------------


def test_an_address_reopens_the_same_view(server: str, open_page: OpenPage):
    page = open_page(address(server, "nearest", network=TEXT))
    page.get_by_label("Nearest").fill("4")
    page.get_by_label("Nearest").press("Enter")
    expect(page.locator(".pa table tbody tr")).to_have_count(4)
    assert "k=4" in page.url
    again = open_page(page.url)
    assert again.url == page.url
    assert row_ids(again) == row_ids(page)


def test_changing_the_network_leaves_no_stale_choice(server: str, open_page: OpenPage, demo_atlas: Path):
    last = atlas_value(demo_atlas, "select max(example_id) from examples")
    page = open_page(address(server, "nearest", network=TEXT, target=SITE, example=last))
    field = page.get_by_test_id("stSidebar").get_by_role("combobox").first
    field.click()
    page.get_by_role("option", name=IMAGE).click()
    expect(page.locator(".pa-grid figure").first).to_be_visible()
    drawn(page)
    no_error(page)
    assert SITE not in page.url and f"example={last}" not in page.url


def test_an_unknown_site_is_a_sentence(server: str, open_page: OpenPage):
    page = open_page(address(server, "nearest", network=TEXT, target="<b>blocks.9.mlp</b>"))
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
