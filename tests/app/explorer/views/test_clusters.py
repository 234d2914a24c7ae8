"""The clusters page: clusters from all sides, and the names that people give them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

import atlas
import query
from ingest.derived.clusters import cluster as cluster_again
from query.clustering.clusterings import latest_clustering
from query.experiments.intruders import distinctive_gates, intruder_scores
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
    photograph,
    serving,
    standing,
)

pytestmark = IN_BROWSER

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


def called(cluster: int, name: str, size: int | None = None) -> re.Pattern[str]:
    """The heading of a named cluster, which holds invisible word joiners."""
    shown = f"Cluster {cluster} · {name}: " + ("" if size is None else f"{size:,} members")
    return re.compile("\u2060?".join(map(re.escape, shown)))


def test_a_chosen_cluster_shows_its_members(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        clustering = latest_clustering(a, a.catalog.target(site=SITE, network=TEXT)).clustering_id
        found = query.clusters(a, clustering).sort_values("size", ascending=False, kind="stable", ignore_index=True)
        scores = intruder_scores(a, clustering).set_index("label")["intruder"]
        second = query.members(a, int(found["label"][1]), clustering)
        noise = query.members(a, -1, clustering, limit=20, offset=20)
    page = open_page(address(server, "clusters", network=TEXT, target=SITE))
    answered(page)
    heading = page.locator("h3").last
    expect(heading).to_have_text(f"Cluster {found['label'][0]}: {found['size'][0]:,} members")
    grid = page.get_by_test_id("stDataFrame").first.locator("canvas").first
    column = grid.locator('td[aria-colindex="7"]')
    expected = scores[found["label"]].tolist()

    def wrong() -> list[tuple[float, float]]:
        """Scores that are not as expected, of the rows that the grid has room for, which are some."""
        shown = [float(words) for words in column.all_text_contents()]
        pairs = zip(shown, expected[: len(shown) or 1], strict=True)
        return [(score, right) for score, right in pairs if score != pytest.approx(right, abs=0.006)]

    expect(column.first).to_be_attached()
    eventually(page, wrong, [])
    standing(page, grid)
    # The box of the second row, under the heads: the grid is drawn on a canvas, under what scrolls it.
    grid.click(force=True, position={"x": 18, "y": 36 + 33 + 16})
    expect(heading).to_have_text(f"Cluster {found['label'][1]}: {found['size'][1]:,} members")
    eventually(page, lambda: ids(page), second["example_id"].tolist()[:20])
    address_says(page, cluster=found["label"][1])

    size = noise.attrs["size"]
    noisy = open_page(address(server, "clusters", network=TEXT, target=SITE, cluster="noise"))
    expect(noisy.locator("h3").last).to_have_text(f"Noise: {size:,} members")
    answered(noisy)
    expect(noisy.get_by_text("Name this cluster")).to_have_count(0)
    noisy.get_by_test_id("stPagination").get_by_text("2", exact=True).click()
    expect(noisy.get_by_text("21 to 40 of")).to_be_visible()
    eventually(noisy, lambda: ids(noisy), noise["example_id"].tolist())


def test_every_part_of_a_cluster_answers_from_the_atlas(server: str, open_page: OpenPage, demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        number = latest_clustering(a, a.catalog.target(site="inception5a", network=IMAGE)).clustering_id
        largest = int(query.clusters(a, number).sort_values("size", kind="stable")["label"].iloc[-1])
        size = query.members(a, largest, number).attrs["size"]
        labels = query.member_counts(a, number, largest)
        gates = distinctive_gates(a, number, largest)
        near = query.near_clusters(a, number, largest)
        flow = query.member_flow(a, number, largest)
    page = open_page(address(server, "clusters", network=IMAGE, target="inception5a", cluster=largest))
    answered(page)
    expect(page.locator(".pa-grid img").first).to_be_visible()
    photograph(page, "clusters-images")

    def look(part: str) -> None:
        page.get_by_role("tab", name=part).click()
        page.wait_for_selector(f'[role="tab"][aria-selected="true"]:has-text("{part}")')
        answered(page)
        no_error(page)

    look("Labels and tokens")
    bars = page.locator(".st-key-figure-by-label .ytick text")
    eventually(page, bars.all_text_contents, labels["value"].tolist()[::-1])  # from the lowest bar up
    look("Gates")
    told = gates[gates["distinctive"]]
    firsts = page.locator(".pa table tbody tr td:first-child")
    eventually(page, firsts.all_inner_texts, [str(gate) for gate in told["gate"]])
    look("Near clusters")
    eventually(page, firsts.locator("a").all_inner_texts, [str(c) for c in near["cluster"]])
    look("Flow")
    expect(page.locator(".st-key-figure-flow .sankey-node")).to_have_count(1 + flow["to_cluster"].nunique())
    expect(page.get_by_text(f"{size:,} members of cluster {largest}, by their cluster at")).to_be_visible()
    page.locator(".st-key-figure-flow").scroll_into_view_if_needed()
    photograph(page, "clusters-flow")
    look("Against activations")
    expect(page.get_by_text("--space activations")).to_be_visible()
    expect(page).to_have_url(re.compile("part=Against"))


SCRIPT = """
import sys
from pathlib import Path
from app.explorer.main import main
from app.cli.serve import READ_ONLY
main(sys.argv[1:] + [READ_ONLY] * (Path(sys.argv[1]) / "quiet").exists())
"""
"""The explorer, in which names can't be written once a file of that name is there."""


@pytest.fixture
def own(demo_atlas: Path, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """An atlas that may be written, and the address of a server of its own."""
    path, script = tmp_path / "own.atlas", tmp_path / "script.py"
    shutil.copytree(demo_atlas, path)
    script.write_text(SCRIPT)
    with serving(path, script) as server:
        yield path, server


def test_names_are_seen_by_all_and_outlive_the_clustering(own: tuple[Path, str], open_page: OpenPage):
    path, server = own
    with atlas.open(path) as a:
        number = latest_clustering(a, a.catalog.target(site=FULL_SITE, network=IMAGE)).clustering_id
        label, size, medoid = a.rows(
            "select label, size, medoid from clusters where clustering_id = $1 order by size desc, label", [number]
        )[0]
    hostile = "<b>ovals</b> [x](y)"
    here = address(server, "clusters", network=IMAGE, target=FULL_SITE, cluster=label)
    one, other = open_page(here), open_page(here)
    for page, name in ((one, "first"), (other, hostile)):
        answered(page)
        page.get_by_text("Name this cluster").click()
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Note").fill(f"a note\nof {name}")
        page.get_by_role("button", name="Save").click()
        if page is other:  # which was drawn before the first name was saved, and would replace it unseen
            expect(page.locator(".pa-error")).to_contain_text(
                "Now the name is “first” and the note is “a note⏎of first”."
            )
            expect(page.locator("h3").last).to_have_text(called(label, "first", size))
            expect(page.get_by_label("Name", exact=True)).to_have_value(name)
            answered(page)
            page.get_by_role("button", name="Save").click()
        expect(page.locator("h3").last).to_have_text(called(label, name, size))
    drawn(other)
    photograph(other, "clusters-named")
    answered(one)
    one.reload()  # the last one wins, and both see it
    expect(one.locator("h3").last).to_have_text(called(label, hostile, size))
    expect(one.locator(".pa-written")).to_have_text(f"a note\nof {hostile}")

    for page in (one, other):
        answered(page)  # what is computed reads the atlas, which is about to be written
    again = cluster_again(path, site=FULL_SITE, network=IMAGE, min_cluster_size=4)
    with atlas.open(path) as a:
        borne = query.clusters(a, again).set_index("label")["name"].dropna()
        assert borne.tolist() == [hostile]
        assert medoid in query.members(a, int(borne.index[0]), again)["example_id"].tolist()
    anew = open_page(
        address(server, "clusters", network=IMAGE, target=FULL_SITE, cluster=borne.index[0], clustering=again)
    )
    expect(anew.locator("h3").last).to_have_text(called(borne.index[0], hostile))
    elsewhere = open_page(address(server, "example", network=IMAGE, target=FULL_SITE, example=medoid))
    expect(elsewhere.locator(".pa-path li.pa-here a")).to_have_text(f"{borne.index[0]} · {hostile}")

    for page in (anew, elsewhere):
        answered(page)
    with atlas.open(path):  # read by another process: nobody can write meanwhile
        anew.get_by_text("Change the name or note").click()
        anew.get_by_label("Name", exact=True).fill("typed in vain")
        anew.get_by_role("button", name="Save").click()
        expect(anew.locator(".pa-error")).to_contain_text("Not saved: ")
        expect(anew.locator(".pa-error")).to_contain_text("is being read or written by process")
        expect(anew.get_by_label("Name", exact=True)).to_have_value("typed in vain")
    answered(anew)
    anew.get_by_role("button", name="Save").click()
    expect(anew.locator("h3").last).to_contain_text("typed in vain")

    (path / "quiet").touch()
    quiet = open_page(address(server, "clusters", network=IMAGE, target=FULL_SITE, cluster=label))
    expect(quiet.locator("h3").last).to_contain_text(f"Cluster {label}")
    expect(quiet.get_by_text("Change the name or note")).to_have_count(0)
