"""What an address asks for and a page does not have is said, and what is shown in its place; the rest of it holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import atlas
import query
from ingest.derived.clusters import cluster
from query.clustering.clusterings import latest_clustering
from tests.app.explorer.running import computed, errors, figures, ids, opened, words
from tests.app.explorer.views_by_hand import IMAGE, SITE, TEXT

LAST = {TEXT: "blocks.3.mlp", IMAGE: "inception5b"}

REFUSED = {
    "look": (
        {"example": 999999, "k": 5000, "radius": "far", "label": "middle"},
        [
            "k 5000; expected a whole number from 1 to 200; shown is 10",
            "radius far; expected a whole number from 0 to 512; shown is any",
            "example 999999; expected an example of network demo-gpt2, 101 to ",
        ],
    ),
    "cluster": (
        {"clustering": 99, "cluster": 99, "part": "<b>", "page": -1},
        [
            "clustering 99; expected ",
            "cluster 99; expected the number of a cluster of clustering ",
            "part <b>; expected one of Members, Labels",
            "page -1; expected a page from 1 to 10; shown is 1",
        ],
    ),
    "atlas": (
        {"layout": 99, "clustering": "x", "colour": "taste"},
        ["layout 99; expected ", "clustering x; expected ", "colour taste; expected one of cluster, label, distance"],
    ),
    "neurons": (
        {"section": "Ranking", "order": "Best", "telling": "perhaps", "page": 99},
        [
            "order Best; expected one of Highest entropy of labels",
            "telling perhaps; expected true or false; shown is True",
            "page 99; expected ",
        ],
    ),
    "claims": ({"pairs": 1}, ["pairs 1; expected a whole number from 10 to 20,000"]),
    "between": ({"part": "Road"}, ["part Road; expected one of Gates, Path, Slice; shown is Gates"]),
    "between/slice": (
        {"part": "Slice", "size": 9999, "c": 0},
        ["c 0; expected", "size 9999; expected a number from 2 to 256; shown is 48"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("path", REFUSED)
def test_what_a_page_does_not_have_is_said(demo_atlas: Path, path: str):
    asked, sentences = REFUSED[path]
    app = opened(demo_atlas, path.partition("/")[0], network=TEXT, target=SITE, **asked)
    said = sorted(errors(app))
    assert len(said) == len(sentences)
    for shown, sentence in zip(said, sorted(sentences), strict=True):
        assert shown.startswith(f"the address asks for {sentence}")


def test_an_unknown_kind_is_said(measured_atlas: Path):
    """An unknown kind of experiment is said."""
    app = opened(measured_atlas, "claims", network=IMAGE, page=99, kind="nonsense")
    assert errors(app) == [
        "the address asks for kind nonsense; expected one of all, density, slice, occupancy; shown is all",
        "the address asks for page 99; expected the only page, 1; shown is 1",
    ]


def test_a_refusal_goes_with_a_choice(demo_atlas: Path):
    """A refusal goes once something is chosen."""
    app = opened(demo_atlas, "look", network=TEXT, target=SITE, k=5000)
    assert len(errors(app)) == 1
    app.number_input(key="k").set_value(7)
    assert errors(computed(app)) == []


def test_the_members_page_is_in_the_address(demo_atlas: Path):
    """The page of members is in the address."""
    with atlas.open(demo_atlas) as a:
        clustering = latest_clustering(a, a.catalog.target(site=SITE, network=TEXT)).clustering_id
        second = query.members(a, clustering=clustering, cluster=-1, limit=20, offset=20)["example_id"].tolist()
    app = opened(demo_atlas, "cluster", network=TEXT, target=SITE, cluster="noise", page=2)
    assert errors(app) == [] and ids(app) == second
    box = app.selectbox(key="cluster")
    box.select(next(title for title in box.options if title.endswith("#0")))
    computed(app)
    assert "page" not in app.query_params, "of another cluster the first page"
    chosen = box.value
    assert app.query_params["cluster"] == chosen.rpartition("#")[2], "a step of the browser's history"
    app.query_params["cluster"] = "noise"  # the browser goes back
    computed(app)
    assert app.selectbox(key="cluster").value == "noise"


def test_a_link_outlives_a_new_clustering(untouched: Path, tmp_path: Path):
    """The address names what was shown by default as well, and still does when the default is another."""
    path = Path(shutil.copytree(untouched, tmp_path / "again.atlas"))
    before = opened(path, "cluster")
    link, title = before.session_state["named-in-address"], before.selectbox(key="cluster").value
    assert link == link | {"network": IMAGE, "target": "inception5b", "cluster": title.rpartition("#")[2]}
    with atlas.open(path) as a:
        old = latest_clustering(a, a.catalog.target(site="inception5b", network=IMAGE)).clustering_id
    assert link["clustering"] == str(old)
    cluster(path, site="inception5b", network=IMAGE, min_cluster_size=8)
    assert opened(path, "cluster").selectbox(key="clustering").value.startswith(f"{old}: ") is False
    after = opened(path, "cluster", **link)
    assert errors(after) == [] and ids(after) == ids(before)
    assert after.selectbox(key="clustering").value.startswith(f"{old}: ")
    assert after.selectbox(key="cluster").value == title


@pytest.mark.slow
def test_a_link_to_look_names_a_clustering(untouched: Path, tmp_path: Path):
    """The cluster of an example is that of the clustering that the address names, also when another is newer. A
    number of none is refused, and one of another site is not asked for."""
    path = Path(shutil.copytree(untouched, tmp_path / "again.atlas"))
    here = {"network": IMAGE, "target": "inception5b", "example": 7}
    link = opened(path, "look", **here).session_state["named-in-address"]
    new = cluster(path, site="inception5b", network=IMAGE, min_cluster_size=8)
    old = int(link["clustering"])
    assert old < new
    for shown, number in ((opened(path, "look", **link), old), (opened(path, "look", **here), new)):
        assert errors(shown) == [] and f" of clustering {number}" in words(shown)
        assert shown.session_state["named-in-address"]["clustering"] == str(number)
    [sentence] = errors(opened(path, "look", **here, clustering=999))
    assert sentence.startswith(
        "the address asks for clustering 999; expected the number of a clustering of inception5b"
    )
    moved = opened(path, "look", **{**link, "target": "inception5a"})
    assert errors(moved) == [] and f" of clustering {old}" not in words(moved)


def test_a_map_is_named_by_its_number(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        held = query.layouts(a)
    number = int(held[held["network"] == TEXT]["layout_id"].iloc[-1])
    app = opened(demo_atlas, "atlas", network=TEXT, target=SITE, layout=number)
    assert errors(app) == []
    assert app.selectbox(key="layout").value == f"{number}: codes, 15 neighbours, seed 0"


@pytest.mark.slow
@pytest.mark.parametrize("network", [TEXT, IMAGE])
def test_pages_open_on_something(demo_atlas: Path, network: str):
    """Two examples that nobody pinned are compared; the first example lies in a cluster; where nothing is measured,
    what is quick is, and the claim on density unfolds."""
    between = opened(demo_atlas, "between", network=network)
    assert errors(between) == [] and len(figures(between)) == 1
    example = opened(demo_atlas, "look", network=network)
    number = example.number_input(key="example").value
    with atlas.open(demo_atlas) as a:
        last = latest_clustering(a, a.catalog.target(site=LAST[network], network=network)).clustering_id
        rows = "select label from cluster_labels where clustering_id = $1 and example_id = $2"
        assert a.value(rows, [last, number]) >= 0
    claims = opened(demo_atlas, "claims", network=network)
    assert errors(claims) == [] and len(figures(claims)) == 1
    assert len(claims.expander) == 4 and claims.segmented_control(key="show").value == "Claims"


@pytest.mark.parametrize("path", ["look", "between"])
def test_a_span_may_be_typed_with_an_arrow(demo_atlas: Path, path: str):
    assert errors(opened(demo_atlas, path, network=IMAGE, target="inception5a→:full")) == []
