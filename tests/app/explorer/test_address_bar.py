"""What an address asks for and a page does not have is said, and what is shown in its place; the rest of it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

import atlas
import query
from query.clustering.clusterings import latest_clustering
from tests.app.explorer.browsing import (
    IN_BROWSER,
    OpenPage,
    address,
    address_says,
    answered,
    drawn,
    eventually,
    ids,
    no_error,
    standing,
)
from tests.app.explorer.views_by_hand import IMAGE, SITE, TEXT

pytestmark = IN_BROWSER

REFUSED = {
    "search": (
        {"example": 999999, "k": 5000, "radius": "far", "by": "Smell", "label": "middle"},
        [
            "by Smell; expected one of Example, Text; shown is Example",
            "k 5000; expected a whole number from 1 to 200; shown is 10",
            "radius far; expected a whole number from 0 to 512; shown is any",
            "example 999999; expected an example of network demo-gpt2, 101 to ",
        ],
    ),
    "clusters": (
        {"clustering": 99, "cluster": 99, "part": "<b>", "page": -1},
        [
            "clustering 99; expected ",
            "cluster 99; expected one of ",
            "part <b>; expected one of Members, Labels",
            "page -1; expected a page from 1 to 10; shown is 1",
        ],
    ),
    "map": (
        {"layout": 99, "clustering": "x", "colour": "taste"},
        ["layout 99; expected ", "clustering x; expected ", "colour taste; expected one of cluster, label, density"],
    ),
    "neurons": (
        {"section": "Ranking", "order": "Best", "telling": "perhaps", "page": 99},
        [
            "order Best; expected one of Most clusters",
            "telling perhaps; expected true or false; shown is True",
            "page 99; expected ",
        ],
    ),
    "density": (
        {"x": 999999, "pairs": 1, "y": "y"},
        [
            "x 999999; expected an example of",
            "y y; expected an example",
            "pairs 1; expected a whole number from 10 to 20,000",
        ],
    ),
    "paths": (
        {"alpha": 9, "path": "Down"},
        ["alpha 9; expected a number from 0 to 2.5; shown is 1.0", "path Down; expected one of Scaling"],
    ),
    "slices": ({"size": 9999, "c": 0}, ["size 9999; expected a number from 2 to 256; shown is 48", "c 0; expected"]),
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_not_to_be_had_is_said(server: str, open_page: OpenPage, path: str):
    asked, sentences = REFUSED[path]
    page = open_page(address(server, path, network=TEXT, target=SITE, **asked))
    answered(page)  # what is computed draws the page anew, and the sentences stay
    shown = page.locator(".pa-error")
    expect(shown).to_have_count(len(sentences))
    for sentence in sentences:
        expect(shown.filter(has_text=f"the address asks for {sentence}")).to_have_count(1)


def test_experiments_that_are_not_there_are_said(measured_server: str, open_page: OpenPage):
    page = open_page(address(measured_server, "experiments", network=IMAGE, page=99, kind="nonsense"))
    answered(page)
    shown = page.locator(".pa-error")
    expect(shown).to_have_count(2)
    expect(shown.first).to_have_text(
        "the address asks for kind nonsense; expected one of all, density, slice, occupancy; shown is all"
    )
    expect(shown.last).to_have_text("the address asks for page 99; expected the only page, 1; shown is 1")


def test_a_sentence_goes_once_something_else_is_chosen(server: str, open_page: OpenPage):
    page = open_page(address(server, "search", network=TEXT, target=SITE, k=5000))
    answered(page)
    sentence = standing(page, page.locator(".pa-error"))
    assert sentence["y"] + sentence["height"] < standing(page, page.get_by_label("Nearest"))["y"], "a line of its own"
    page.get_by_label("Nearest").fill("7")
    page.get_by_label("Nearest").press("Enter")
    expect(page.locator(".pa-error")).to_have_count(0)
    address_says(page, k=7)


def test_the_page_of_members_is_in_the_address(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        clustering = latest_clustering(a, a.catalog.target(site=SITE, network=TEXT)).clustering_id
        second = query.members(a, -1, clustering, limit=20, offset=20)["example_id"].tolist()
    page = open_page(address(server, "clusters", network=TEXT, target=SITE, cluster="noise"))
    answered(page)
    page.get_by_test_id("stPagination").get_by_text("2", exact=True).click()
    address_says(page, page=2)
    again = open_page(page.url)
    answered(again)
    no_error(again)
    eventually(again, lambda: ids(again), second)
    again.get_by_role("combobox", name="Cluster", exact=True).click()
    again.get_by_role("option", name="0", exact=True).click()
    drawn(again)
    address_says(again, cluster=0, page=None)  # of another cluster the first page


def test_a_map_is_named_by_its_number(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        number = int(query.layouts(a).query("network == @TEXT", local_dict={"TEXT": TEXT})["layout_id"].iloc[-1])
    page = open_page(address(server, "map", network=TEXT, target=SITE, layout=number))
    answered(page)
    no_error(page)
    expect(page.get_by_role("combobox", name="Map")).to_have_value(f"{number}: codes, 15 neighbours, seed 0")


def test_a_span_may_be_typed_with_an_arrow(server: str, open_page: OpenPage):
    for path in ("example", "density", "paths"):
        page = open_page(address(server, path, network=IMAGE, target="inception5a→:full"))
        answered(page)
        no_error(page)
    expect(page.get_by_role("combobox", name="Space and gates")).to_have_value("inception5a->:full")
