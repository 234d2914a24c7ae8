"""The page of experiments: every stored result, what could be run, and the report as far as it is measured."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from playwright.sync_api import expect

import atlas
from query.experiments import EXPERIMENTS, load
from query.experiments.report import not_stored, stored_verdicts
from tests.app.explorer.browsing import (
    COMPUTING,
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    cells,
    eventually,
    photograph,
    says,
)

pytestmark = IN_BROWSER

IMAGE, TEXT = "demo-inceptionv1", "demo-gpt2"


def test_a_stored_result_is_drawn_told_and_reproduced(
    measured_server: str, open_page: OpenPage, measured_atlas: Path
):
    with atlas.open(measured_atlas) as a:
        result = load(a, 1)
    page = open_page(address(measured_server, "experiments", network=IMAGE))
    answered(page)
    eventually(page, lambda: cells(page, 1), ["3", "2", "1"])
    eventually(page, lambda: cells(page, 2), ["occupancy", "density", "slice"])
    asked = ["pairs 60, resamples 60", "a 1, b 4, c 9, size 24, span inception5a->:full"]
    eventually(page, lambda: cells(page, 4)[1:], asked)
    eventually(page, lambda: cells(page, 5), ["yes"] * 3)
    page.locator(".pa table").first.get_by_role("link", name="1", exact=True).click()
    expect(page.locator("h3")).to_have_text("Experiment 1: slice")
    answered(page)
    expect(page.locator(".js-plotly-plot")).to_be_visible()
    says(page, *(note[:60] for note in result.notes), ignore_case=True)
    page.get_by_text("Code for this").last.click()
    line = page.locator("code.language-sh")
    expect(line).to_have_text(re.compile("^polytope experiment slice"))
    for part in ("--span 'inception5a->:full'", "--size 24", str(measured_atlas)):
        expect(line).to_contain_text(part)
    page.get_by_role("radio", name="grid").click()
    expect(page.get_by_text(f"The first 200 of {24 * 24} rows.")).to_be_visible()
    answered(page)
    with page.expect_download() as download:
        page.locator(".st-key-table-csv button:visible").click()
    grid = pd.read_csv(download.value.path())
    assert grid["polytope"].tolist() == result.tables["grid"]["polytope"].tolist()
    address_says(page, experiment=1, table="grid")
    photograph(page, "experiments-slice")


def test_what_is_not_stored_has_its_command(measured_server: str, open_page: OpenPage, measured_atlas: Path):
    with atlas.open(measured_atlas) as a:
        missing = not_stored(a, TEXT).set_index("kind")
    page = open_page(address(measured_server, "experiments", network=TEXT, show="Not stored", compute="occupancy"))
    many = f"{len(missing)} of {len(EXPERIMENTS)} experiments have no current result"
    expect(page.get_by_text(many)).to_be_visible()
    eventually(page, page.locator("code.language-sh").first.inner_text, missing.loc["occupancy", "command"])
    answered(page)
    expect(page.locator('[class*="st-key-job-"], .js-plotly-plot')).to_have_count(0)
    page.get_by_role("button", name="Compute").click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=COMPUTING)
    answered(page)
    address_says(page, run=1)
    says(page, "Computed now and not stored.")
    unknown = open_page(address(measured_server, "experiments", network=TEXT, experiment=1))
    expect(unknown.get_by_text("No result is stored for demo-gpt2")).to_be_visible()
    none = open_page(address(measured_server, "experiments", network=IMAGE, experiment="7<b>"))
    expect(none.locator(".pa-error")).to_contain_text("no experiment 7<b> is stored of demo-inceptionv1")


def test_the_report_shows_verdicts_and_downloads_as_one_page(
    measured_server: str, open_page: OpenPage, measured_atlas: Path
):
    with atlas.open(measured_atlas) as a:
        found = stored_verdicts(a)
    page = open_page(address(measured_server, "experiments", network=IMAGE, show="Report"))
    expect(page.locator(".pa table")).to_be_visible(timeout=COMPUTING)
    answered(page)
    eventually(page, lambda: [cell.split(" ", 1)[1] for cell in cells(page, 3)], found["verdict"].tolist())
    eventually(page, lambda: [cell.split("\n")[0] for cell in cells(page, 2)], found["network"].tolist())
    photograph(page, "experiments-report")
    page.get_by_role("button", name="Write the report").click()
    button = page.get_by_role("button", name="Download report.html")
    expect(button).to_be_visible(timeout=COMPUTING)
    answered(page)
    with page.expect_download() as download:
        button.click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and all(f"id='{key}'" in text for key in found["section"])
