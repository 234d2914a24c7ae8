"""The clusters page: clusters from all sides, and the names that people give them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

import atlas
import query
from query.clustering.clusterings import latest_clustering
from query.clustering.distinctive import distinctive_gates
from query.experiments.intruders import intruder_scores
from tests.app.explorer.browsing import IN_BROWSER, OpenPage, address, address_says, answered, standing
from tests.app.explorer.running import column, errors, figures, ids, opened, words

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE = "demo-inceptionv1"


def test_a_chosen_cluster_shows_its_members(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        clustering = latest_clustering(a, a.catalog.target(site=SITE, network=TEXT)).clustering_id
        found = query.clusters(a, clustering=clustering).sort_values(
            "size", ascending=False, kind="stable", ignore_index=True
        )
        scores = intruder_scores(a, clustering=clustering).set_index("label")["intruder"]
        second = query.members(a, cluster=int(found["label"][1]), clustering=clustering)
        noise = query.members(a, cluster=-1, clustering=clustering, limit=20, offset=20)
    app = opened(demo_atlas, "clusters", network=TEXT, target=SITE)
    assert errors(app) == []
    assert app.header[-1].value == f"Cluster {found['label'][0]}: {found['size'][0]:,} members"
    grid = app.dataframe[0].value
    assert grid["label"].tolist() == found["label"].tolist()
    assert grid["intruder"].tolist() == pytest.approx(scores[found["label"]].tolist())
    app = opened(demo_atlas, "clusters", network=TEXT, target=SITE, cluster=found["label"][1])
    assert ids(app)[1:] == second["example_id"].tolist()[1:20]
    noisy = opened(demo_atlas, "clusters", network=TEXT, target=SITE, cluster="noise", page=2)
    assert noisy.header[-1].value == f"Noise: {noise.attrs['size']:,} members"
    assert "Name this cluster" not in [part.label for part in noisy.expander]
    assert "21 to 40 of" in words(noisy) and ids(noisy) == noise["example_id"].tolist()


def test_a_clusters_parts_answer(demo_atlas: Path):
    """Every part of a cluster answers from the atlas."""
    with atlas.open(demo_atlas) as a:
        number = latest_clustering(a, a.catalog.target(site="inception5a", network=IMAGE)).clustering_id
        largest = int(query.clusters(a, clustering=number).sort_values("size", kind="stable")["label"].iloc[-1])
        which = {"cluster": largest, "clustering": number}
        size = query.members(a, **which).attrs["size"]
        labels = query.member_counts(a, **which)
        gates = distinctive_gates(a, **which)
        near = query.near_clusters(a, **which)
        flow = query.member_flow(a, **which)

    def part(title: str):
        app = opened(demo_atlas, "clusters", network=IMAGE, target="inception5a", cluster=largest, part=title)
        assert errors(app) == []
        return app

    assert figures(part("Labels and tokens"))[0]["data"][0]["y"] == labels["value"].tolist()
    told = gates[gates["distinctive"]]
    assert column(part("Gates"), 1) == [str(gate) for gate in told["gate"]]
    assert column(part("Near clusters"), 1) == [str(c) for c in near["cluster"]]
    [figure] = figures(part("Flow"))
    assert len(figure["data"][0]["node"]["label"]) == 1 + flow["to_cluster"].nunique()
    assert f"{size:,} members of cluster {largest}, by their cluster at" in figure["layout"]["title"]["text"]
    assert "--space activations" in words(part("Against activations"))


class TestInABrowser:
    pytestmark = IN_BROWSER

    def test_a_click_chooses_the_cluster(self, server: str, open_page: OpenPage, demo_atlas: Path):
        """A click on a row chooses the cluster."""
        with atlas.open(demo_atlas) as a:
            clustering = latest_clustering(a, a.catalog.target(site=SITE, network=TEXT)).clustering_id
            found = query.clusters(a, clustering=clustering).sort_values("size", ascending=False, kind="stable")
        page = open_page(address(server, "clusters", network=TEXT, target=SITE))
        answered(page)
        grid = page.get_by_test_id("stDataFrame").first.locator("canvas").first
        standing(page, grid)
        # The box of the second row, under the heads: the grid is drawn on a canvas, under what scrolls it.
        grid.click(force=True, position={"x": 18, "y": 36 + 33 + 16})
        second = found["label"].tolist()[1]
        expect(page.locator("h2").last).to_have_text(re.compile(f"^Cluster {second}: "))
        address_says(page, cluster=second)
