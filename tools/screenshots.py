"""Takes the pictures of docs/explorer.md: the seven places of the explorer, and ten tasks, on the demo's atlas.

    polytope demo demo.atlas
    python -m tools.screenshots demo.atlas docs/explorer

Needs Chromium and Playwright (extra ``dev``). The atlas is copied first: nothing is written to it.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pandas as pd
from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

import atlas
import query
from atlas import Atlas
from query.clustering.clusterings import clustering_of

WINDOW: ViewportSize = {"width": 1280, "height": 860}
COLOURS = 255
"""Of a picture's palette: a page has few, and a file of them takes a third of the bytes."""

TEXT, IMAGE = "demo-gpt2", "demo-inceptionv1"
DEEP, BLOCK = "blocks.3.mlp", "inception5b"
PASTED = "class Shelf:\n    def __init__(self, books):\n        self.books = books\n"

STARTING, COMPUTING = 120.0, 180_000
"""Seconds until a server answers, milliseconds until a page has computed."""

STILL = (
    '[data-testid="stApp"][data-test-script-state="notRunning"]:has(h1)'
    ':not(:has([data-testid="stSkeleton"], .pa-figure[aria-busy="true"]))'
)
JOB = '[class*="st-key-job-"]'


class Shot(NamedTuple):
    """A picture: its name, the page, what its address says, what is done there, and whether it waits for answers."""

    name: str
    page: str
    state: dict[str, object]
    act: Callable[[Page], None] | None = None
    waits: bool = True


def shots(a: Atlas) -> list[Shot]:
    """Every picture, for what this atlas holds."""
    text: dict[str, object] = {"network": TEXT, "target": DEEP}
    image: dict[str, object] = {"network": IMAGE, "target": BLOCK}
    deep, block = (
        clustering_of(a, a.catalog.target(site=site, network=network), None, "codes").clustering_id
        for site, network in ((DEEP, TEXT), (BLOCK, IMAGE))
    )
    names = query.made_names(a, clustering=deep)
    of_self = int(names.loc[names["title"].str.contains("self"), "cluster"].iloc[0])
    digits = query.clusters(a, clustering=block).sort_values("size", ascending=False)["label"].tolist()
    pictures = [
        int(number)
        for (number,) in a.rows(
            "select min(example_id) from examples join networks using (network_id) where name = $1 "
            "and label in ('3', '5', '8') group by label order by label",
            [IMAGE],
        )
    ]
    three = [f"example:{number}" for number in pictures]
    units = query.units(a, site=BLOCK, network=IMAGE)
    unit = int(units[units["top"] >= 10].sort_values("label_entropy", ascending=False)["unit"].iloc[0])
    query.name_cluster(a, "upright ones", clustering=block, cluster=digits[0])
    cluster = {"clustering": deep, "cluster": of_self}
    return [
        Shot("start", "start", image),
        Shot("look", "look", text),
        Shot("between", "between", {**image, "pin": three[:2]}),
        Shot("atlas", "atlas", image),
        Shot("neurons", "neurons", image),
        Shot("claims", "claims", image),
        Shot("sql", "sql", text),
        Shot("task-1-cluster", "cluster", {**text, **cluster}),
        Shot("task-2-two-tokens", "look", {**text, "text": PASTED, "token": 7}, two_tokens),
        Shot("task-3-drawn-digit", "look", image, upload),
        Shot("task-4-two-clusters", "between", {**image, "pin": [f"cluster:{block}:{n}" for n in digits[:2]]}),
        Shot("task-5-unit", "neurons", {**image, "unit": unit, "effect": "true"}),
        Shot("task-6-named", "atlas", {**image, "cluster": digits[0]}),
        Shot("task-7-region", "atlas", {**image, "within": region(a, block)}),
        Shot("task-8-chart", "sql", {**image, "show": "Chart", "query": PURITY}, to_figure),
        Shot("task-9-path", "between", {**image, "pin": three[:2], "part": "Path", "run": 1}, to_figure),
        Shot("task-9-slice", "between", {**image, "pin": three, "part": "Slice", "run": 1}, stopped, False),
        Shot("task-10-figure", "claims", {**image, "claim-density": "true"}, to_figure),
    ]


PURITY = (
    "select target, purity, n_noise / n_examples as noise, n_clusters\n"
    "from clusterings join networks using (network_id)\n"
    "left join sites on sites.network_id = clusterings.network_id and sites.name = target\n"
    "where networks.name = 'demo-inceptionv1' and scope = 'position' and space = 'codes'\norder by ordinal"
)


def region(a: Atlas, clustering: int) -> str:
    """A box around a cluster of a map."""
    points: pd.DataFrame = a.frame(
        """
        select quantile_cont(x, 0.05) as x0, quantile_cont(y, 0.05) as y0,
            quantile_cont(x, 0.95) as x1, quantile_cont(y, 0.95) as y1
        from layout_points join layouts using (layout_id) join cluster_labels using (example_id)
        where clustering_id = $1 and target = $2 and label = 1
        """,
        [clustering, BLOCK],
    )
    return ",".join(f"{value:.2f}" for value in points.iloc[0])


# --- what is done on a page ------------------------------------------------------------------------------------


def two_tokens(page: Page) -> None:
    """Pin one token of the text, then another, and compare them."""
    page.get_by_role("button", name="Pin", exact=True).first.click()
    settled(page)
    page.get_by_role("radio", name="self", exact=True).click()
    settled(page)
    page.get_by_role("button", name="Pin", exact=True).first.click()
    settled(page)
    page.get_by_role("link", name="Compare").click()
    settled(page)


def upload(page: Page) -> None:
    """A digit as somebody draws it: strokes of a seven on 28 × 28 pixels."""
    drawn = Image.new("L", (28, 28))
    for step in range(16):
        drawn.paste(255, (6 + step, 5, 9 + step, 8))
        drawn.paste(255, (20 - step // 2, 6 + step, 23 - step // 2, 9 + step))
    file = io.BytesIO()
    drawn.save(file, "PNG")
    page.get_by_role("button", name="Upload an image").first.click()
    page.locator('input[type="file"]').first.set_input_files(
        {"name": "seven.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    page.wait_for_timeout(500)
    settled(page)
    page.keyboard.press("Escape")


def stopped(page: Page) -> None:
    """What takes long has a bar and a button to stop it."""
    page.wait_for_selector(JOB)
    page.get_by_role("button", name="Stop").first.click()
    settled(page)


def to_figure(page: Page) -> None:
    page.locator(".js-plotly-plot").first.evaluate("each => each.scrollIntoView({ block: 'center' })")


# --- taking them -----------------------------------------------------------------------------------------------


def settled(page: Page) -> None:
    """Wait until the page is drawn and nothing on it is being computed, at two looks."""
    while True:
        page.wait_for_selector(STILL, timeout=COMPUTING)
        page.wait_for_timeout(400)
        if page.locator(STILL).count() and not page.locator(JOB).count():
            return


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """The address of an explorer of the atlas."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    line = [sys.executable, "-m", "app.cli.main", "app", str(path), "--port", str(port), "--no-browser"]
    server, url = subprocess.Popen(line, stdout=subprocess.DEVNULL), f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + STARTING
        while not answers(url):
            if time.monotonic() > until or server.poll() is not None:
                raise TimeoutError(f"no explorer answers at {url}")
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


def take(page: Page, url: str, shot: Shot, folder: Path) -> None:
    begun = time.monotonic()
    page.goto(f"{url}/{shot.page}?{urlencode(shot.state, doseq=True)}")
    if shot.waits:
        settled(page)
    if shot.act is not None:
        shot.act(page)
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    small = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    file = folder / f"{shot.name}.png"
    small.save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB, {time.monotonic() - begun:.1f} s", flush=True)


def main(path: Path, folder: Path, only: list[str]) -> None:
    """``only``: names of pictures; all where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as temporary:
        copied = Path(shutil.copytree(path, Path(temporary) / "demo.atlas"))
        with atlas.open(copied) as a:
            wanted = [shot for shot in shots(a) if not only or shot.name in only]
        with serving(copied) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for shot in wanted:
                page = browser.new_page(viewport=WINDOW, color_scheme="light")
                take(page, url, shot, folder)
                page.close()
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
