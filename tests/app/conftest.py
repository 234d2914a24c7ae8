"""An atlas of both shipped networks, a server that shows it, and a browser to look at it with."""

from __future__ import annotations

import argparse
import ast
import calendar
import csv
import difflib
import fractions
import inspect
import locale
import optparse
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.atlases import built_once
from tests.networks import shipped

pytest.register_assert_rewrite("tests.app.explorer.browsing")  # an assertion in there is to show what was read

from tests.app.explorer.browsing import CHROMIUM, HOSTILE, STARTING, OpenPage, drawn, serving  # noqa: E402

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LATE = ("inception4c", "inception4d", "inception4e", "inception5a", "inception5b")
"""Of the image network's twelve sites those that are read: each is clustered, indexed, and listed by every page."""

MAPPED = ("inception5b", "blocks.2.mlp")
"""Sites that have a map."""

WINDOW = {"width": 1280, "height": 800}

FORGET = "if (location.protocol === 'http:') localStorage.clear();"
"""Streamlit would remember from an earlier test that the sidebar was closed, and lay out every page for that."""


MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Streamlit's AppTest makes a page the `__main__` of the process, which children of later tests would run."""
    yield
    sys.modules["__main__"] = MAIN


@pytest.fixture
def small(built: Path, tmp_path: Path) -> Path:
    """A copy of the atlas of three small networks."""
    return Path(shutil.copytree(built, tmp_path / "three.atlas"))


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_once(tmp_path_factory, "texts", _write_texts)


def _write_texts(folder: Path) -> None:
    """Short texts with two labels: beginnings and middles of a few modules of Python, and a hostile one."""
    folder.mkdir()
    modules = (argparse, ast, calendar, csv, difflib, fractions, inspect, locale, optparse, textwrap)
    for label in ("beginning", "middle"):
        (folder / label).mkdir()
    for module in modules:
        code = inspect.getsource(module)
        (folder / "beginning" / f"{module.__name__}.txt").write_text(code[:700])
        (folder / "middle" / f"{module.__name__}.txt").write_text(code[len(code) // 2 :][:700])
    (folder / "middle" / "hostile.txt").write_text(HOSTILE)


@pytest.fixture(scope="session")
def untouched(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few texts and 100 digits, read, clustered and indexed as `polytope ingest` does it; to copy.

    Networks are loaded where it is built: processes that only look at it do without."""
    return built_once(tmp_path_factory, "demo.atlas", lambda path: _ingest_demo(path, texts))


@pytest.fixture(scope="session")
def demo_atlas(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(untouched, tmp_path_factory.mktemp("explorer") / "demo.atlas"))


def _ingest_demo(path: Path, texts: Path) -> None:
    from ingest.datasets.sources import open_dataset
    from ingest.derived.layouts import layout
    from ingest.run.plan import Choices
    from ingest.run.run import ingest
    from ingest.run.sampling import TokenSampling

    digits = open_dataset("builtin:digits-heldout", kind="image")
    ingest(path, shipped("demo:inceptionv1"), digits, Choices(sites=LATE, full=LATE[-2:], limit=100))
    tokens = TokenSampling(per_sequence=20, skip_first=0)
    ingest(path, shipped("demo:gpt2"), open_dataset(str(texts), kind="text"), Choices(tokens=tokens))
    for site in MAPPED:
        layout(path, site=site)


SLICED = {"span": "inception5a->:full", "a": 1, "b": 4, "c": 9, "size": 24}
"""The slice that `measured_atlas` stores."""


@pytest.fixture(scope="session")
def measured_atlas(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas with experiments of the image network stored in it, and a text network whose weights are gone."""
    built = built_once(tmp_path_factory, "measured.atlas", lambda path: _measure_demo(path, untouched))
    return Path(shutil.copytree(built, tmp_path_factory.mktemp("measured") / "measured.atlas"))


def _measure_demo(path: Path, demo: Path) -> None:
    import atlas
    from query.experiments import run, save

    shutil.copytree(demo, path)
    reader = shipped("demo:inceptionv1")
    with atlas.open(path) as a:
        about = {"network": reader.info.name}
        results = [
            run(a, "slice", reader=reader, **SLICED),
            run(a, "density", **about, pairs=60, resamples=60),
            run(a, "occupancy", **about),
        ]
    with atlas.open(path, writable=True) as a:
        for result in results:
            save(a, result)
        a.execute("update networks set weights = $1 where kind = 'text'", [str(path / "gone.safetensors")])


@pytest.fixture(scope="session")
def measured_server(measured_atlas: Path) -> Iterator[str]:
    with serving(measured_atlas) as address:
        yield address


@pytest.fixture(scope="session")
def server(demo_atlas: Path) -> Iterator[str]:
    with serving(demo_atlas) as address:
        yield address


@pytest.fixture(scope="session")
def tabs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A browser; all tests share its cache of Streamlit's scripts, since what they look at is in the address."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=CHROMIUM,
            headless=True,
            args=list(QUIET),
            viewport=WINDOW,
            color_scheme="light",
        )
        context.add_init_script(FORGET)
        yield context
        context.close()


@pytest.fixture
def open_page(tabs: BrowserContext) -> Iterator[OpenPage]:
    """Opens an address in a tab of its own and waits until the page is drawn. Nothing may be asked of other hosts."""
    opened, elsewhere = [], []

    def open_address(address: str) -> Page:
        page = tabs.new_page()
        opened.append(page)
        page.set_default_timeout(STARTING * 1000)
        page.on("request", lambda request: elsewhere.append(request.url) if _is_elsewhere(request.url) else None)
        page.goto(address)
        drawn(page)
        return page

    yield open_address
    for page in opened:
        page.close()
    assert not elsewhere


def _is_elsewhere(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
