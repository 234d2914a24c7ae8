"""The page of experiments: every stored result, what could be run, and the report as far as it is measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

import atlas
from query.experiments import EXPERIMENTS, load
from query.experiments.standing import stored_verdicts, unasked
from tests.app.browsing import CHROMIUM, COMPUTING, answered, photograph

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it, or name it in the variable CHROMIUM"),
]

IMAGE, TEXT = "demo-inceptionv1", "demo-gpt2"
OpenPage = Callable[[str], Page]


def address(server: str, **state: object) -> str:
    return f"{server}/experiments?{urlencode(state)}"


def cells(page: Page, column: int) -> list[str]:
    return page.locator(".pa table").first.locator(f"tbody tr td:nth-child({column})").all_inner_texts()


def test_a_stored_result_is_drawn_told_and_reproduced(
    measured_server: str, open_page: OpenPage, measured_atlas: Path
):
    with atlas.open(measured_atlas) as a:
        result = load(a, 1)
    page = open_page(address(measured_server, network=IMAGE))
    assert cells(page, 1) == ["3", "2", "1"] and cells(page, 2) == ["occupancy", "density", "slice"]
    assert cells(page, 4)[1:] == ["pairs 60, resamples 60", "a 1, b 4, c 9, size 24, span inception5a->:full"]
    assert cells(page, 5) == ["yes"] * 3
    page.locator(".pa table").first.get_by_role("link", name="1", exact=True).click()
    expect(page.locator("h3")).to_have_text("Experiment 1: slice")
    answered(page)
    expect(page.locator(".js-plotly-plot")).to_be_visible()
    text = page.inner_text("body").lower()
    assert all(note.lower()[:60] in text for note in result.notes)
    page.get_by_text("Code for this").click()
    line = page.locator("code.language-sh").inner_text()
    assert line.startswith("polytope experiment slice") and "--span 'inception5a->:full'" in line
    assert "--size 24" in line and str(measured_atlas) in line
    page.get_by_role("radio", name="grid").click()
    expect(page.get_by_text(f"The first 200 of {24 * 24} rows.")).to_be_visible()
    with page.expect_download() as download:
        page.locator(".st-key-table-csv button:visible").click()
    grid = pd.read_csv(download.value.path())
    assert grid["polytope"].tolist() == result.tables["grid"]["polytope"].tolist()
    assert "experiment=1" in page.url and "table=grid" in page.url
    photograph(page, "experiments-slice")


def test_what_is_not_stored_has_its_command(measured_server: str, open_page: OpenPage, measured_atlas: Path):
    with atlas.open(measured_atlas) as a:
        missing = unasked(a, TEXT).set_index("kind")
    page = open_page(address(measured_server, network=TEXT, show="Not stored", compute="occupancy"))
    many = f"{len(missing)} of {len(EXPERIMENTS)} experiments have no current result"
    expect(page.get_by_text(many)).to_be_visible()
    assert page.locator("code.language-sh").first.inner_text() == missing.loc["occupancy", "command"]
    expect(page.locator('[class*="st-key-job-"], .js-plotly-plot')).to_have_count(0)
    page.get_by_role("button", name="Compute").click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=COMPUTING)
    answered(page)
    assert "run=1" in page.url and "Computed now and not stored." in page.inner_text("body")
    unknown = open_page(address(measured_server, network=TEXT, experiment=1))
    expect(unknown.get_by_text("No result is stored for demo-gpt2")).to_be_visible()
    none = open_page(address(measured_server, network=IMAGE, experiment="7<b>"))
    expect(none.locator(".pa-error")).to_contain_text("no experiment 7<b> is stored of demo-inceptionv1")


def test_the_report_shows_verdicts_and_downloads_as_one_page(
    measured_server: str, open_page: OpenPage, measured_atlas: Path
):
    with atlas.open(measured_atlas) as a:
        found = stored_verdicts(a)
    page = open_page(address(measured_server, network=IMAGE, show="Report"))
    expect(page.locator(".pa table")).to_be_visible(timeout=COMPUTING)
    answered(page)
    assert [cell.split(" ", 1)[1] for cell in cells(page, 3)] == found["verdict"].tolist()
    assert [cell.split("\n")[0] for cell in cells(page, 2)] == found["network"].tolist()
    photograph(page, "experiments-report")
    page.get_by_role("button", name="Write the report").click()
    button = page.get_by_role("button", name="Download report.html")
    expect(button).to_be_visible(timeout=COMPUTING)
    with page.expect_download() as download:
        button.click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and all(f"id='{key}'" in text for key in found["section"])
