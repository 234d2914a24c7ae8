"""A cluster's page: its name and members first, all its sides, tags, saved views; and the list of clusters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import expect

import atlas
import query
from app.explorer.parts.markup import markdown
from app.plain_text import cluster_title
from query.clustering.clusterings import latest_clustering
from query.clustering.distinctive import distinctive_gates
from query.experiments.intruders import intruder_scores
from tests.app.explorer.browsing import IN_BROWSER, OpenPage, address, address_says, answered, standing
from tests.app.explorer.running import column, computed, errors, figures, ids, opened, press, words

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
        names = query.made_names(a, clustering=clustering)["title"].tolist()
    titles = [cluster_title(number, names[number]) for number in found["label"]]
    app = opened(demo_atlas, "cluster", network=TEXT, target=SITE)
    assert errors(app) == []
    assert app.header[0].value == f"{markdown(titles[0])}: {found['size'][0]:,} members"
    listed = opened(demo_atlas, "atlas", network=TEXT, target=SITE, intruders="true")
    grid = listed.dataframe[0].value
    assert grid["title"].tolist() == titles
    assert grid["intruder"].tolist() == pytest.approx(scores[found["label"]].tolist())
    app = opened(demo_atlas, "cluster", network=TEXT, target=SITE, cluster=found["label"][1])
    assert ids(app) == second["example_id"].tolist()[:20]
    noisy = opened(demo_atlas, "cluster", network=TEXT, target=SITE, cluster="noise", page=2)
    assert noisy.header[0].value == f"Noise: {noise.attrs['size']:,} members"
    assert "Name this cluster" not in [part.label for part in noisy.expander]
    assert "21 to 40 of" in words(noisy) and ids(noisy) == noise["example_id"].tolist()


def test_a_clusters_parts_answer(demo_atlas: Path):
    """Every part of a cluster answers from the atlas."""
    with atlas.open(demo_atlas) as a:
        number = latest_clustering(a, a.catalog.target(site="inception5a", network=IMAGE)).clustering_id
        largest = int(query.clusters(a, clustering=number).sort_values("size", kind="stable")["label"].iloc[-1])
        which = {"cluster": largest, "clustering": number}
        labels = query.member_counts(a, **which)
        gates = distinctive_gates(a, **which)
        near = query.near_clusters(a, **which)
        flow = query.member_flow(a, **which)

    def part(title: str):
        app = opened(demo_atlas, "cluster", network=IMAGE, target="inception5a", cluster=largest, part=title)
        assert errors(app) == []
        return app

    assert figures(part("Labels and tokens"))[0]["data"][0]["y"] == labels["value"].tolist()
    told = gates[gates["distinctive"]]
    assert column(part("Gates"), 1) == [str(gate) for gate in told["gate"]]
    app = part("Near clusters")
    called, [rows] = column(app, 1), [each.value for each in app.html if "compare with this" in each.value]
    for other in near["cluster"]:
        both = f"of=cluster%3A{number}%3A{largest}&amp;of=cluster%3A{number}%3A{other}&amp;"
        assert f'data-pin="cluster:{number}:{other}"' in rows and both in rows
    assert [title.rpartition("#")[2] for title in called] == [str(number) for number in near["cluster"]]
    [figure] = figures(part("Flow"))
    assert len(figure["data"][0]["node"]["label"]) == 1 + flow["to_cluster"].nunique()
    assert f" #{largest}, by their cluster at" in figure["layout"]["title"]["text"]
    assert "--space activations" in words(part("Against activations"))


@pytest.fixture
def own(demo_atlas: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_atlas, tmp_path / "own.atlas"))


def test_chosen_examples_are_tagged(own: Path):
    """Those that are ticked, on whichever page; the tag then stands beside each."""
    app = opened(own, "cluster", network=TEXT, target=SITE)
    [field] = [field.key for field in app.text_input if str(field.key).startswith("tag-")]
    some = ids(app)[1:3]
    app.session_state[field.replace("tag", "gallery")] = {"chosen": some}
    computed(app)
    app.text_input(key=field).set_value("odd")
    press(app, "Put on")
    with atlas.open(own) as a:
        assert query.tags(a)[["tag", "example_id"]].values.tolist() == [["odd", example] for example in sorted(some)]
    [drawn] = [part.proto for part in app.get("bidi_component") if part.proto.component_name == "polytope_gallery"]
    assert [item["id"] for item in json.loads(drawn.json)["items"] if item["tags"] == ["odd"]] == some


def test_a_view_is_saved_and_offered(own: Path):
    """Under its name, with all that the address names."""
    app = opened(own, "cluster", network=TEXT, target=SITE, cluster=2)
    app.text_input(key="view-name").set_value("mine")
    press(app, "Save this view")
    with atlas.open(own) as a:
        [(name, where)] = query.saved_views(a)[["name", "address"]].values.tolist()
    asked = parse_qs(where.partition("?")[2])
    assert (name, asked["cluster"], asked["target"]) == ("mine", ["2"], [SITE]) and "clustering" in asked
    assert ">mine</a>" in "".join(part.value for part in app.html)


class TestInABrowser:
    pytestmark = IN_BROWSER

    def test_a_click_chooses_the_cluster(self, server: str, open_page: OpenPage, demo_atlas: Path):
        """A click on a row chooses the cluster; its name leads to its page, on which a member is ticked."""
        with atlas.open(demo_atlas) as a:
            clustering = latest_clustering(a, a.catalog.target(site=SITE, network=TEXT)).clustering_id
            found = query.clusters(a, clustering=clustering).sort_values("size", ascending=False, kind="stable")
        page = open_page(address(server, "atlas", network=TEXT, target=SITE))
        answered(page)
        grid = page.get_by_test_id("stDataFrame").first.locator("canvas").first
        standing(page, grid)
        # The box of the second row, under the heads: the grid is drawn on a canvas, under what scrolls it.
        grid.click(force=True, position={"x": 18, "y": 36 + 33 + 16})
        second = found["label"].tolist()[1]
        address_says(page, cluster=second)
        answered(page)
        page.go_back()
        expect(page.locator(".pa-brief")).to_have_count(0)
        page.go_forward()
        address_says(page, cluster=second)
        answered(page)
        page.locator(".pa-brief a").first.click()
        page.get_by_role("checkbox", name="Choose example").nth(1).check()
        expect(page.get_by_text("1 example chosen")).to_be_visible()
        page.get_by_role("button", name="Choose all of this page").click()
        expect(page.get_by_text("CSV of")).to_contain_text("chosen examples")
