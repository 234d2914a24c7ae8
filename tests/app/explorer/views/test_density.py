"""The density page: measurements that are stored, one made now, and a pair gate by gate."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from playwright.sync_api import Page, expect

import atlas
import query
from query.experiments import load, run
from tests.app.explorer.browsing import IN_BROWSER, OpenPage, address, answered, cells, eventually, photograph, says

pytestmark = IN_BROWSER

IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


def number(value: float) -> str:
    return f"{value:#.4g}"


def means(page: Page, column: int) -> list[str]:
    """A column of the table of measurements, without its intervals."""
    return [cell.split(" [")[0] for cell in cells(page, column)]


def test_a_stored_measurement_is_there_at_once(measured_server: str, open_page: OpenPage, measured_atlas: Path):
    with atlas.open(measured_atlas) as a:
        table = load(a, 2).table
    page = open_page(address(measured_server, "density", network=IMAGE, target=FULL_SITE))
    expect(page.locator('.pa-error, [class*="st-key-job-"]')).to_have_count(0)
    expect(page.get_by_label("Measurement")).to_have_value("Experiment 2: pairs 60, resamples 60")
    eventually(page, lambda: cells(page, 1), table["span"].tolist())
    eventually(page, lambda: cells(page, 2), ["trained"] * len(table))
    eventually(page, lambda: means(page, 6), [number(ratio) for ratio in table["ratio"]])
    says(page, "Stored as experiment 2.")
    for part in ("--weights random:0 ", "--data builtin:digits-heldout ", "--full inception5a,inception5b "):
        expect(page.locator("code.language-sh").last).to_contain_text(part)
    photograph(page, "density-stored")


def test_a_link_measures_what_it_says(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        found = run(a, "density", network=IMAGE, pairs=200, seed=3).table
        pair = query.density(a, 2, 9, site=FULL_SITE, network=IMAGE)
        apart = query.gates_apart(a, 2, 9, site=FULL_SITE, network=IMAGE)
    page = open_page(address(server, "density", network=IMAGE, target=FULL_SITE, pairs=200, seed=3, x=2, y=9))
    answered(page)
    expect(page.locator(".pa-error")).to_have_count(0)
    eventually(page, lambda: cells(page, 1), found["span"].tolist())
    for column, name in ((4, "intra_mean"), (5, "inter_mean"), (6, "ratio")):
        eventually(page, partial(means, page, column), [number(value) for value in found[name]])
    values = page.get_by_test_id("stMetricValue")
    expect(values.first).to_have_text(number(pair.density))
    expect(values.nth(1)).to_have_text(f"{pair.hamming:,}")
    assert len(apart.gates) == pair.hamming
    [site] = apart.sites.to_dict("records")
    eventually(
        page,
        lambda: [cells(page, column, 1)[0] for column in (1, 3, 4, 5)],
        [FULL_SITE, f"{site['on_x']:,}", f"{site['on_y']:,}", f"{site['differ']:,}"],
    )
    signs = ["+" if on == 2 else "−" for on in apart.gates["on_in"][:3]]
    first = " ".join(f"{sign}{gate}" for sign, gate in zip(signs, apart.gates["gate"][:3], strict=True))
    eventually(page, lambda: cells(page, 6, 1)[0][: len(first)], first)
    photograph(page, "density-pair")


def test_what_has_no_density_is_explained(server: str, open_page: OpenPage):
    page = open_page(address(server, "density", network=IMAGE, target="inception5b"))
    answered(page)
    expect(page.locator(".pa-error")).to_have_count(1)
    expect(page.locator(".pa-error")).to_contain_text("inception5b of network demo-inceptionv1 has position codes")
    expect(page.locator(".pa table").first.locator("tbody tr")).not_to_have_count(0)  # the rest of the page is there
    eventually(page, lambda: cells(page, 1, 1), ["inception5b"])
