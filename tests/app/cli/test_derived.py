"""Commands that store what is computed from an atlas or take it elsewhere, and filters of `polytope nearest`."""

import re
import shlex
from pathlib import Path

import pandas as pd

import atlas
import query
from query.layout.layouts import layout_of
from tests.app.cli.command import Run

SITE, IMAGE_SITE = "blocks.2.mlp", "inception5b"


def test_a_filtered_answer_is_the_querys(demo_atlas: Path, polytope: Run):
    with atlas.open(demo_atlas) as a:
        [(example, label)] = a.rows(
            "select example_id, label from examples where token is not null order by 1 limit 1"
        )
        wanted = {"label": label, "where": "position > 3 and token <> ''"}
        expected = query.nearest(a, example=example, site="blocks.1.mlp", k=4, **wanted)
    asked = ("nearest", demo_atlas, "--example", example, "--site", "blocks.1.mlp")
    answer = polytope(*asked, "--label", label, "--where", wanted["where"], "-k", 4, "--format", "json")
    assert [row["example_id"] for row in answer.rows()] == expected["example_id"].tolist()
    assert polytope(*asked, "--where", "colour = 1").refuses("where is 'colour = 1'")


def test_an_index_says_its_recall(own: Path, polytope: Run):
    """When it is built, and in what it answers; beside an exact index alone nothing is said."""
    built = polytope("index", own, "--kind", "ivf", "--site", "inception4c")
    printed = re.search(
        r"built ivf of inception4c: recall@10 (\S+), ties as hits \(\S+ of the very ten, .*\), measured on 50 codes",
        built.out,
    )
    assert built.status == 0 and printed is not None
    with atlas.open(own) as a:
        example = a.value("select min(example_id) from codes join sites using (site_id) where name = 'inception4c'")
        assert f"{a.value('select recall from indexes where recall is not null'):.4f}" == printed.group(1)
    asked = ("nearest", own, "--example", example, "--site", "inception4c")
    assert "approximate search with the ivf index (recall@10" in polytope(*asked).err
    assert "approximate" not in polytope(*asked, "--exact").err
    assert polytope("verify", own).status == 0
    assert polytope("index", own, "--kind", "flat").status == 0
    assert "approximate" not in polytope(*asked).err
    impossible = polytope("index", own, "--kind", "ivf", "--site", "inception4c", "--recall", 1.2)
    assert impossible.refuses("recall to reach is 1.2")


def test_neighbors_of_all_become_a_table(own: Path, polytope: Run):
    site = ("--site", "inception4c")
    stored = polytope("neighbors", own, "--all", *site, "-k", 3)
    assert stored.status == 0 and "stored 3 neighbours of each of 100 examples" in stored.out
    statement = "select * from neighbors order by example_id, rank limit 3"
    table = polytope("sql", own, statement, "--format", "csv").table()
    with atlas.open(own) as a:
        expected = query.nearest(a, example=int(table["example_id"][0]), site="inception4c", k=3)
    assert table["neighbor_id"].tolist() == expected["example_id"].tolist()
    listed = polytope("neighbors", own)
    assert listed.status == 0 and "inception4c" in listed.out and "yes" in listed.out
    assert polytope("neighbors", own, *site).refuses("add --all")
    assert polytope("neighbors", own, "--all", *site, "-k", 100).refuses("99 others for each")


def test_a_map_is_made_once_and_listed(own: Path, polytope: Run):
    asked = ("layout", own, "--site", SITE, "--space", "activations", "--neighbors", 8)
    made = polytope(*asked)
    assert made.status == 0 and "euclidean" in made.out and f"polytope app {own}, page Atlas" in made.err
    with atlas.open(own) as a:
        number = layout_of(a, a.catalog.target(site=SITE), "activations").layout_id
    again = polytope(*asked)
    assert again.status == 0 and again.out.startswith(f"layout {number}")
    listed = polytope("layout", own)
    assert listed.status == 0 and IMAGE_SITE in listed.out and "activations" in listed.out
    refused = polytope("layout", own, "--span", "blocks.0.mlp->", "--space", "activations")
    assert refused.refuses("has codes but no activations of its own")


def test_an_export_prints_what_opens_it(demo_atlas: Path, polytope: Run, tmp_path: Path):
    file = tmp_path / "a map.parquet"
    written = polytope("export", demo_atlas, "--site", SITE, "--embedding-atlas", file)
    with atlas.open(demo_atlas) as a:
        points = query.layout_points(a, layout_of(a, a.catalog.target(site=SITE)).layout_id)
    assert written.status == 0 and f"wrote {len(points):,} examples" in written.out
    options = "--x x --y y --text text --neighbors neighbors"
    assert shlex.split(written.out.splitlines()[-1]) == ["embedding-atlas", str(file), *options.split()]
    assert pd.read_parquet(file)["example_id"].tolist() == points["example_id"].tolist()
    missing = polytope("export", demo_atlas, "--site", "blocks.0.mlp", "--embedding-atlas", file)
    assert missing.refuses("polytope layout")
